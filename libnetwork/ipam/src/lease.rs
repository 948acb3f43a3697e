//! Which address an endpoint gets.

use std::net::IpAddr;

use ipnet::IpNet;
use libnetwork_model::{ErrorKind, HasKind, Intent, Network, NetworkId, SandboxId, Subnet};

use crate::{
    range::{address, bounds, number},
    subnet::is_edge,
};

/// What an endpoint wants of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// This address and no other.
    Exactly(IpAddr),
    /// The one that was kept for the sandbox; otherwise the lowest that is free. Addresses that are kept for others
    /// without being asked for are given away when there is nothing else. `from` is a promise of the caller's that every
    /// address of the first subnet below it is leased or reserved: it saves the search, and may always be none.
    Lowest { from: Option<IpAddr> },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    #[error("no configured subnet or ip-range contain the IP address {address}")]
    Outside { address: IpAddr },
    #[error("Address already in use: {address} is {role} of subnet {subnet}")]
    Reserved { address: IpAddr, role: &'static str, subnet: IpNet },
    #[error("Address already in use")]
    Taken { address: IpAddr },
    #[error("no available {family} addresses on this network's address pools: {name} ({})", network.short())]
    Exhausted { family: &'static str, name: String, network: NetworkId },
}

impl HasKind for LeaseError {
    fn kind(&self) -> ErrorKind {
        match self {
            LeaseError::Outside { .. } => ErrorKind::Invalid,
            // Docker's, whose daemon answers it with 403.
            LeaseError::Reserved { .. } | LeaseError::Taken { .. } => ErrorKind::InUse,
            LeaseError::Exhausted { .. } => ErrorKind::Exhausted,
        }
    }
}

/// The address for one more endpoint of `sandbox` on `network`, with the subnet's prefix length.
pub fn lease(
    intent: &Intent,
    network: &Network,
    ipv6: bool,
    sandbox: &SandboxId,
    wish: Wish,
) -> Result<IpNet, LeaseError> {
    let subnets = || network.subnets.iter().filter(|s| matches!(s.subnet, IpNet::V6(_)) == ipv6);
    match wish {
        Wish::Exactly(address) => {
            let subnet =
                subnets().find(|s| s.subnet.contains(&address)).ok_or(LeaseError::Outside { address })?;
            if let Some(role) = reserved(subnet, address) {
                return Err(LeaseError::Reserved { address, role, subnet: subnet.subnet });
            }
            let other = intent.reservation(&network.id, address).filter(|r| r.sandbox != *sandbox);
            if intent.lease(&network.id, address).is_some() || other.is_some_and(|r| r.fixed) {
                return Err(LeaseError::Taken { address });
            }
            Ok(with_prefix(subnet, address))
        }
        Wish::Lowest { from } => kept(intent, network, ipv6, sandbox)
            .or_else(|| lowest_of(subnets(), intent, network, Avoid::Reserved { from }))
            .or_else(|| lowest_of(subnets(), intent, network, Avoid::Fixed))
            .ok_or_else(|| LeaseError::Exhausted {
                family: if ipv6 { "IPv6" } else { "IPv4" },
                name: network.name.clone(),
                network: network.id.clone(),
            }),
    }
}

/// What was kept for the sandbox, if it can still have it.
fn kept(intent: &Intent, network: &Network, ipv6: bool, sandbox: &SandboxId) -> Option<IpNet> {
    let own = intent.reservations_of(sandbox).filter(|r| r.network == network.id);
    own.filter(|r| r.address.is_ipv6() == ipv6)
        .find_map(|r| lease(intent, network, ipv6, sandbox, Wish::Exactly(r.address)).ok())
}

/// Which reservations stand in the way, besides the leases.
#[derive(Clone, Copy)]
enum Avoid {
    /// All of them; and no address of the first subnet below `from` is free.
    Reserved { from: Option<IpAddr> },
    /// Those that somebody asked for.
    Fixed,
}

fn lowest_of<'a>(
    mut subnets: impl Iterator<Item = &'a Subnet>,
    intent: &Intent,
    network: &Network,
    avoid: Avoid,
) -> Option<IpNet> {
    subnets.find_map(|subnet| lowest(intent, network, subnet, avoid).map(|a| with_prefix(subnet, a)))
}

/// Walks the ordered leases, the ordered reservations and the candidate together, so that it costs the length of the run
/// of addresses that are not free after `from`, not the size of the subnet.
fn lowest(intent: &Intent, network: &Network, subnet: &Subnet, avoid: Avoid) -> Option<IpAddr> {
    let (first, last) = bounds(subnet.ip_range.unwrap_or(subnet.subnet));
    let from = if let Avoid::Reserved { from } = avoid { from } else { None };
    let from = from.filter(|a| subnet.subnet.contains(a)).map_or(first, number);
    let mut candidate = first.max(from);
    let start = address(subnet.subnet, candidate);
    let mut leases = intent.leases_from(&network.id, start).map(|(a, _)| a).peekable();
    let mut reservations = intent
        .reservations_from(&network.id, start)
        .filter(|r| r.fixed || matches!(avoid, Avoid::Reserved { .. }))
        .map(|r| r.address)
        .peekable();
    while candidate <= last {
        let chosen = address(subnet.subnet, candidate);
        let leased = leases.next_if_eq(&chosen).is_some();
        let kept = reservations.next_if_eq(&chosen).is_some();
        if !leased && !kept && reserved(subnet, chosen).is_none() {
            return Some(chosen);
        }
        candidate = candidate.checked_add(1)?;
    }
    None
}

/// What an address is set aside for, in words that follow "is"; none for one that can be leased.
fn reserved(subnet: &Subnet, address: IpAddr) -> Option<&'static str> {
    if subnet.gateway == Some(address) {
        Some("the gateway")
    } else if is_edge(subnet.subnet, address) {
        Some("the network or broadcast address")
    } else if subnet.auxiliary.values().any(|a| *a == address) {
        Some("an auxiliary address")
    } else {
        None
    }
}

fn with_prefix(subnet: &Subnet, address: IpAddr) -> IpNet {
    IpNet::new(address, subnet.subnet.prefix_len()).unwrap_or_else(|_| address.into())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc};

    use libnetwork_model::{Change, Endpoint, EndpointId, Mutation, Reservation};
    use proptest::prelude::*;

    use super::*;

    fn network(subnet: &str, range: Option<&str>) -> Network {
        let subnet = Subnet {
            subnet: subnet.parse().unwrap(),
            gateway: None,
            gateway_chosen: false,
            ip_range: range.map(|r| r.parse().unwrap()),
            auxiliary: [("router".to_owned(), "10.1.0.5".parse().unwrap())].into(),
            requested: true,
        };
        Network {
            id: NetworkId::from_bytes([1; 32]),
            name: "web".into(),
            driver: "bridge".into(),
            created_ns: 0,
            ipv4: true,
            ipv6: false,
            internal: false,
            attachable: false,
            predefined: false,
            config_only: false,
            config_from: None,
            foreign_link: false,
            subnets: vec![crate::complete(subnet).unwrap()],
            idle_subnets: Vec::new(),
            labels: Default::default(),
            options: Default::default(),
            ipam_options: Default::default(),
        }
    }

    fn with(intent: &Intent, network: &Network, address: IpNet, number: u8) -> Intent {
        let IpNet::V4(ipv4) = address else { panic!("IPv4 expected") };
        intent.apply(&Change(vec![Mutation::PutEndpoint(Arc::new(Endpoint {
            id: EndpointId::from_bytes([number; 32]),
            network: network.id.clone(),
            sandbox: SandboxId::from_bytes([number; 32]),
            ifname: "eth0".into(),
            mac: None,
            ipv4: Some(ipv4),
            ipv6: None,
            aliases: Vec::new(),
            links: Default::default(),
            openings: Vec::new(),
            gateway_priority: 0,
            segment: 0,
            link_local: Vec::new(),
            options: Default::default(),
        }))]))
    }

    fn sandbox(number: u8) -> SandboxId {
        SandboxId::from_bytes([number; 32])
    }

    fn reserve(intent: &Intent, network: &Network, address: &str, number: u8, fixed: bool) -> Intent {
        intent.apply(&Change(vec![Mutation::Reserve(Reservation {
            network: network.id.clone(),
            address: address.parse().unwrap(),
            sandbox: sandbox(number),
            fixed,
        })]))
    }

    #[test]
    fn what_is_kept_for_another_is_given_away_last_and_what_he_asked_for_never() {
        let network = network("10.1.0.0/29", None);
        let mut intent = reserve(&Intent::default(), &network, "10.1.0.2", 1, true);
        intent = reserve(&intent, &network, "10.1.0.3", 2, false);
        let next = |intent: &Intent, who: u8| {
            let given = lease(intent, &network, false, &sandbox(who), Wish::Lowest { from: None });
            given.ok().map(|net| net.addr().to_string())
        };
        assert_eq!(next(&intent, 1).as_deref(), Some("10.1.0.2"));
        assert_eq!(next(&intent, 2).as_deref(), Some("10.1.0.3"));
        let exactly = Wish::Exactly("10.1.0.2".parse().unwrap());
        assert!(matches!(
            lease(&intent, &network, false, &sandbox(9), exactly),
            Err(LeaseError::Taken { .. })
        ));
        // .1 is the gateway, .5 is auxiliary.
        for expected in ["10.1.0.4", "10.1.0.6", "10.1.0.3"] {
            assert_eq!(next(&intent, 9).as_deref(), Some(expected));
            let address = format!("{expected}/29").parse().unwrap();
            intent = with(&intent, &network, address, expected.as_bytes()[7]);
        }
        assert_eq!(next(&intent, 9), None);
        assert_eq!(next(&intent, 2), None);
        assert_eq!(next(&intent, 1).as_deref(), Some("10.1.0.2"));
    }

    #[test]
    fn an_asked_for_address_is_checked_against_every_rule() {
        let network = network("10.1.0.0/28", None);
        let intent = with(&Intent::default(), &network, "10.1.0.2/28".parse().unwrap(), 1);
        let ask =
            |text: &str| lease(&intent, &network, false, &sandbox(9), Wish::Exactly(text.parse().unwrap()));
        assert_eq!(ask("10.1.0.3"), Ok("10.1.0.3/28".parse().unwrap()));
        assert_eq!(ask("10.1.0.2").unwrap_err().to_string(), "Address already in use");
        for reserved in ["10.1.0.0", "10.1.0.1", "10.1.0.5", "10.1.0.15"] {
            assert!(matches!(ask(reserved), Err(LeaseError::Reserved { .. })), "{reserved}");
        }
        assert_eq!(ask("10.2.0.1").unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[test]
    fn a_full_network_is_named() {
        let network = network("10.1.0.0/30", None);
        let intent = with(&Intent::default(), &network, "10.1.0.2/30".parse().unwrap(), 1);
        let error = lease(&intent, &network, false, &sandbox(9), Wish::Lowest { from: None }).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("no available IPv4 addresses on this network's address pools: web (")
        );
    }

    proptest! {
        /// Against a set: leases come and go, the lowest address that the set does not have is given, no address twice.
        #[test]
        fn leases_agree_with_a_set(
            steps in prop::collection::vec((0u8..20, any::<bool>()), 1..120), ranged in any::<bool>()
        ) {
            let network = network("10.1.0.0/27", ranged.then_some("10.1.0.16/28"));
            let pool: Vec<IpAddr> = network.subnets[0]
                .subnet
                .hosts()
                .filter(|a| !ranged || "10.1.0.16/28".parse::<IpNet>().unwrap().contains(a))
                .filter(|a| Some(*a) != network.subnets[0].gateway && a.to_string() != "10.1.0.5")
                .collect();
            let mut intent = Intent::default();
            let mut model: BTreeSet<IpAddr> = BTreeSet::new();
            for (number, add) in steps {
                let id = EndpointId::from_bytes([number; 32]);
                let old = intent.endpoint(&id).and_then(|e| e.ipv4).map(|n| IpAddr::V4(n.addr()));
                if add && old.is_none() {
                    let expected = pool.iter().find(|a| !model.contains(a)).copied();
                    let hint = expected.filter(|_| number % 2 == 0);
                    let given = lease(&intent, &network, false, &sandbox(99), Wish::Lowest { from: hint });
                    prop_assert_eq!(given.as_ref().ok().map(|n| n.addr()), expected);
                    if let Ok(given) = given {
                        intent = with(&intent, &network, given, number);
                        prop_assert!(model.insert(given.addr()));
                    }
                } else if let Some(old) = old {
                    intent = intent.apply(&Change(vec![Mutation::RemoveEndpoint(id)]));
                    model.remove(&old);
                }
            }
        }
    }
}
