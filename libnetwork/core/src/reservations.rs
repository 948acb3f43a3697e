//! Addresses that are kept for containers that do not run.

use std::{collections::BTreeSet, net::IpAddr};

use libnetwork_model::{Change, Endpoint, Intent, Mutation, NetworkId, Reservation};

use crate::{
    draft::{Desk, Draft, Subject, resolve},
    request::{EndpointSpec, Reserve},
};

impl Desk<'_> {
    /// Never refused: what cannot be kept is passed over, as Docker lets a container be created with an address that
    /// another one has, and refuses only its start.
    pub(crate) fn reserve(&mut self, request: &Reserve) -> Draft {
        let id = &request.sandbox;
        let found = |(reference, address): &(String, IpAddr)| {
            let network = resolve(self.intent, reference).ok()?;
            let inside = network.subnets.iter().any(|s| s.subnet.contains(address));
            inside.then(|| (network.id.clone(), *address))
        };
        let fixed = request.fixed.iter().filter_map(found).map(|place| (place, true));
        let preferred = request.preferred.iter().filter_map(found).map(|place| (place, false));
        let mut wanted: BTreeSet<(NetworkId, IpAddr)> = BTreeSet::new();
        let mut change = Vec::new();
        for ((network, address), fixed) in fixed.chain(preferred) {
            let holder = self.intent.lease(&network, address).and_then(|e| self.intent.endpoint(e));
            let reserved = self.intent.reservation(&network, address);
            let others = reserved.is_some_and(|r| r.sandbox != *id && (r.fixed || !fixed));
            if holder.is_some_and(|e| e.sandbox != *id)
                || others
                || !wanted.insert((network.clone(), address))
            {
                continue;
            }
            let reservation = Reservation { network, address, sandbox: id.clone(), fixed };
            if reserved != Some(&reservation) {
                change.push(Mutation::Reserve(reservation));
            }
        }
        let dropped = self.intent.reservations_of(id);
        let dropped = dropped.filter(|r| !wanted.contains(&(r.network.clone(), r.address)));
        change.extend(dropped.map(release));
        let subject = Subject::Sandbox(id.clone());
        Draft {
            change: Change(change),
            undo: None,
            subjects: BTreeSet::new(),
            holds: vec![subject.clone()],
            events: Vec::new(),
            about: subject,
            object: format!("the addresses of container {}", id.short()),
        }
    }
}

/// What an endpoint's container asked for, which is its own from here on.
pub(crate) fn asked_for(spec: &EndpointSpec, endpoint: &Endpoint) -> impl Iterator<Item = Reservation> {
    let asked = [spec.ipv4.map(IpAddr::V4), spec.ipv6.map(IpAddr::V6)];
    let (network, sandbox) = (endpoint.network.clone(), endpoint.sandbox.clone());
    asked.into_iter().flatten().map(move |address| Reservation {
        network: network.clone(),
        address,
        sandbox: sandbox.clone(),
        fixed: true,
    })
}

/// What is kept of an endpoint that goes while its container may come back.
pub(crate) fn kept_of<'a>(
    intent: &'a Intent,
    endpoint: &'a Endpoint,
) -> impl Iterator<Item = Reservation> + 'a {
    let fixed = |r: &Reservation| r.fixed && r.sandbox == endpoint.sandbox;
    endpoint.addresses().filter(move |a| !intent.reservation(&endpoint.network, *a).is_some_and(fixed)).map(
        |address| Reservation {
            network: endpoint.network.clone(),
            address,
            sandbox: endpoint.sandbox.clone(),
            fixed: false,
        },
    )
}

/// What makes these reservations what they were in `before`.
pub(crate) fn put_back(before: &Intent, reservations: &[Reservation]) -> Vec<Mutation> {
    let old = |r: &Reservation| match before.reservation(&r.network, r.address) {
        Some(old) => Mutation::Reserve(old.clone()),
        None => release(r),
    };
    reservations.iter().map(old).collect()
}

pub(crate) fn release(reservation: &Reservation) -> Mutation {
    Mutation::Release { network: reservation.network.clone(), address: reservation.address }
}
