//! What has to hold of a world, whatever happened to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use libnetwork_core::Publication;
use libnetwork_model::{Endpoint, Intent, NamespaceKind, Sandbox, SandboxId};
use libnetwork_plan::{Desired, Key, Link, LinkKind, Object, Owner, Scope, sandbox_objects};

use super::{SEGMENTS, World, drivers};

impl World {
    /// Everything is as the intent says, and nothing else is there. Compares worlds, and asks no planner.
    pub(crate) fn check(&self, intent: &Intent) -> Result<(), String> {
        self.check_kernel(intent)?;
        self.check_names(intent)?;
        self.check_ports(intent)
    }

    fn check_kernel(&self, intent: &Intent) -> Result<(), String> {
        let mut desired = Desired::new();
        let (drivers, host) = (drivers(), self.host.lock().unwrap().clone());
        for network in intent.networks().filter(|n| !n.config_only) {
            drivers.of(network).unwrap().host_objects(&host, &mut desired);
            drivers.of(network).unwrap().network_objects(network, &host, &mut desired);
            let segments: BTreeSet<u16> = intent.endpoints_on(&network.id).map(|e| e.segment).collect();
            for segment in segments.into_iter().filter(|segment| *segment > 0) {
                drivers.of(network).unwrap().segment_objects(network, segment, &host, &mut desired);
            }
            for endpoint in intent.endpoints_on(&network.id) {
                let driver = drivers.of(network).unwrap();
                driver.endpoint_objects(network, endpoint, &host, &mut desired);
                for (opening, other) in endpoint
                    .openings
                    .iter()
                    .flat_map(|o| intent.endpoints_in(&o.sandbox).map(move |other| (o, other)))
                    .filter(|(_, other)| other.network == network.id)
                {
                    driver.opening_objects(network, endpoint, other, opening, &mut desired);
                }
            }
        }
        for sandbox in intent.sandboxes() {
            sandbox_objects(intent, sandbox, &mut desired);
        }
        let kernel = self.kernel.lock().unwrap();
        // A setting that nobody wrote has a value all the same.
        let settings = desired.keys().filter(|k| matches!(k, Key::Sysctl { .. } | Key::LinkSysctl { .. }));
        let settings = kernel.observe(&Scope::Keys(settings.cloned().collect()));
        for (key, want) in &desired {
            match settings.get(key).or_else(|| kernel.objects().get(key)) {
                None => return Err(format!("{key} in {} is missing", key.ns())),
                Some((_, have)) if !satisfies(want, have) => {
                    return Err(format!("{key} in {} is {have:?}, not {want:?}", key.ns()));
                }
                Some(_) => {}
            }
        }
        let surplus = kernel.objects().iter().find(|(key, (owner, object))| {
            *owner == Owner::Ours && !matches!(object, Object::Sysctl(_)) && !desired.contains_key(key)
        });
        if let Some((key, _)) = surplus {
            return Err(format!("{key} in {} is left over", key.ns()));
        }
        Ok(())
    }

    fn check_names(&self, intent: &Intent) -> Result<(), String> {
        let own = |s: &&Arc<Sandbox>| s.namespace == NamespaceKind::Own;
        let open: BTreeSet<SandboxId> = intent.sandboxes().filter(own).map(|s| s.id.clone()).collect();
        let names = self.names.lock().unwrap();
        if names.open != open {
            return Err(format!("resolvers are open in {:?}, not {open:?}", names.open));
        }
        if names.intent != *intent {
            return Err("names answer for another intent".into());
        }
        Ok(())
    }

    fn check_ports(&self, intent: &Intent) -> Result<(), String> {
        let (drivers, host) = (drivers(), self.host.lock().unwrap().clone());
        // Ports lead by a bridge that is there.
        let leads = |e: &Endpoint| {
            let network = intent.network(&e.network).unwrap();
            drivers.of(network).unwrap().attachment(network, e, &host).is_some_and(|a| a.bridge.is_some())
        };
        let publishes = |s: &&Arc<Sandbox>| {
            !s.ports.is_empty() && intent.gateway_endpoint(&s.id, false).is_some_and(|e| leads(e))
        };
        let wanted: BTreeSet<&SandboxId> = intent.sandboxes().filter(publishes).map(|s| &s.id).collect();
        let ports = self.ports.lock().unwrap();
        if ports.set.keys().collect::<BTreeSet<_>>() != wanted {
            return Err(format!("ports are published for {:?}, not {wanted:?}", ports.set.keys()));
        }
        for (id, Publication { mappings, beside }) in &ports.set {
            let endpoint = intent.gateway_endpoint(id, false).unwrap();
            let address = endpoint.ipv4.unwrap().addr();
            let listed = &intent.sandbox(id).unwrap().ports;
            let is_led = mappings.iter().all(|m| m.ipv4.as_ref().is_some_and(|t| t.address == address));
            let ways: Vec<IpAddr> = [false, true]
                .into_iter()
                .filter_map(|ipv6| {
                    intent.gateway_endpoint(id, ipv6)?.addresses().find(|a| a.is_ipv6() == ipv6)
                })
                .collect();
            let internal = |e: &Arc<Endpoint>| intent.network(&e.network).is_some_and(|n| n.internal);
            let others = intent.endpoints_in(id).filter(|e| !internal(e) && leads(e));
            let mut addresses: BTreeSet<IpAddr> =
                others.flat_map(|e| e.addresses().collect::<Vec<_>>()).collect();
            addresses.retain(|address| !ways.contains(address));
            let beside_is_right = beside.iter().map(|t| t.address).collect::<BTreeSet<_>>() == addresses;
            if !is_led || mappings.len() != listed.len() || !beside_is_right {
                return Err(format!("ports of {id:?} lead to {mappings:?} and beside to {beside:?}"));
            }
        }
        Ok(())
    }
}

/// What holds of every intent, whatever happened.
pub(crate) fn check_intent(intent: &Intent) -> Result<(), String> {
    let mut leases = BTreeSet::new();
    for endpoint in intent.endpoints() {
        let network = intent.network(&endpoint.network).ok_or("an endpoint without its network")?;
        intent.sandbox(&endpoint.sandbox).ok_or("an endpoint without its sandbox")?;
        for address in endpoint.addresses() {
            if !leases.insert((endpoint.network.clone(), address)) {
                return Err(format!("{address} is leased twice on {}", network.name));
            }
            if network.subnets.iter().any(|s| s.gateway == Some(address)) {
                return Err(format!("{address} is the gateway of {}", network.name));
            }
        }
    }
    for network in intent.networks() {
        let mut populations: BTreeMap<u16, u32> = BTreeMap::new();
        for endpoint in intent.endpoints_on(&network.id) {
            *populations.entry(endpoint.segment).or_default() += 1;
        }
        if !intent.segments_of(&network.id).eq(populations.keys().copied()) {
            return Err(format!("the segments of {} are not those of its endpoints", network.name));
        }
        for (segment, population) in populations {
            let counted = intent.population(&network.id, segment);
            if counted != population || population > SEGMENTS.endpoints {
                return Err(format!("segment {segment} of {} has {population}", network.name));
            }
        }
    }
    for kept in intent.reservations() {
        let network = intent.network(&kept.network).ok_or("an address kept on a network that is gone")?;
        let holder = intent.lease(&network.id, kept.address).and_then(|e| intent.endpoint(e));
        if kept.fixed && holder.is_some_and(|e| e.sandbox != kept.sandbox) {
            return Err(format!("{} is kept for one and leased to another", kept.address));
        }
    }
    let ports: Vec<_> = intent.ports().collect();
    for (i, (_, a)) in ports.iter().enumerate() {
        if ports[..i].iter().any(|(_, b)| a.collides(b)) {
            return Err(format!("{a:?} is published twice"));
        }
    }
    let networks: Vec<_> = intent.networks().collect();
    for (i, a) in networks.iter().enumerate() {
        for b in &networks[..i] {
            let clash = !a.config_only
                && !b.config_only
                && a.subnets.iter().any(|s| b.subnets.iter().any(|t| s.subnet.contains(&t.subnet)));
            if clash || a.name == b.name {
                return Err(format!("{} and {} overlap", a.name, b.name));
            }
        }
    }
    Ok(())
}

/// Equal, but for what was left to the kernel.
fn satisfies(want: &Object, have: &Object) -> bool {
    let (Object::Link(want), Object::Link(have)) = (want, have) else { return want == have };
    let mut have: Link = have.clone();
    if want.mac.is_none() {
        have.mac = None;
    }
    if let (LinkKind::Veth { peer: Some(want) }, LinkKind::Veth { peer: Some(have) }) =
        (&want.kind, &mut have.kind)
        && want.mac.is_none()
    {
        have.mac = None;
    }
    *want == have
}
