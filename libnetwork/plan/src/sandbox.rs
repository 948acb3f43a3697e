use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, LazyLock},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use libnetwork_model::{Intent, NamespaceKind, Protocol, Sandbox};

use crate::{
    Base, Chain, ChainKind, Desired, Expr, Family, Hook, Key, Ns, Object, Route, Rule, Ruleset, Table,
    priority,
};

/// The port in a sandbox that the resolver listens on, at 127.0.0.11, UDP and TCP. Port 53 of that address is redirected
/// to it, so that port 53 itself stays free for the container's own programs.
pub const DNS_PORT: u16 = 61053;

/// The resolver's address inside every sandbox, Docker's.
pub const DNS_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// What a sandbox needs besides its endpoints: its namespace, the rules that lead 127.0.0.11:53 to [`DNS_PORT`], and its
/// default routes. Nothing for a sandbox that is the host.
pub fn sandbox_objects(intent: &Intent, sandbox: &Sandbox, out: &mut Desired) {
    if sandbox.namespace == NamespaceKind::Host {
        return;
    }
    let ns = Ns::Sandbox(sandbox.id.clone());
    out.insert(Key::Namespace(sandbox.id.clone()), Object::Namespace { loopback: true });
    let table = DNS_RULES.table.clone();
    out.insert(Key::Ruleset { ns: ns.clone(), table }, Object::Ruleset(DNS_RULES.clone()));
    for ipv6 in [false, true] {
        if let Some((key, route)) = default_route(intent, sandbox, &ns, ipv6) {
            out.insert(key, Object::Route(route));
        }
    }
}

/// By way of the gateway of the subnet that the endpoint's lease is from.
fn default_route(intent: &Intent, sandbox: &Sandbox, ns: &Ns, ipv6: bool) -> Option<(Key, Route)> {
    let endpoint = intent.gateway_endpoint(&sandbox.id, ipv6)?;
    let network = intent.network(&endpoint.network)?;
    let lease = endpoint.addresses().find(|a| a.is_ipv6() == ipv6)?;
    let gateway = network.subnets.iter().find(|s| s.subnet.contains(&lease))?.way_out()?;
    let destination = if ipv6 { IpNet::V6(Ipv6Net::default()) } else { IpNet::V4(Ipv4Net::default()) };
    let route = Route { link: endpoint.ifname.as_str().into(), gateway: Some(gateway), source: None };
    // IPv6 routes cannot have metric 0: the kernel makes it 1024 (IP6_RT_PRIO_USER, net/ipv6_route.h).
    let metric = if ipv6 { 1024 } else { 0 };
    Some((Key::Route { ns: ns.clone(), destination, metric }, route))
}

/// Ports are rewritten without state: a NAT rule would switch connection tracking on for all of a container's packets,
/// and a container whose own firewall drops what is not tracked must still reach its resolver, hence no tracking.
static DNS_RULES: LazyLock<Arc<Ruleset>> = LazyLock::new(|| {
    let address = IpAddr::V4(DNS_ADDRESS);
    let mut rules = Vec::new();
    for protocol in [Protocol::Udp, Protocol::Tcp] {
        let transport = protocol.number();
        rules.push(Rule::new(
            format!("{protocol} queries to the resolver"),
            [
                Expr::Destination(address),
                Expr::Transport(transport),
                Expr::DestinationPort(53),
                Expr::RewriteDestinationPort { transport, port: DNS_PORT },
                Expr::NoTrack,
            ],
        ));
        rules.push(Rule::new(
            format!("{protocol} answers from the resolver"),
            [
                Expr::Source(address),
                Expr::Transport(transport),
                Expr::SourcePort(DNS_PORT),
                Expr::RewriteSourcePort { transport, port: 53 },
                Expr::NoTrack,
            ],
        ));
    }
    Arc::new(Ruleset {
        table: Table { family: Family::Ipv4, name: "causeway".into() },
        sets: Vec::new(),
        chains: vec![Chain {
            name: "resolver".into(),
            base: Some(Base { kind: ChainKind::Filter, hook: Hook::Output, priority: priority::RAW }),
            rules,
        }],
    })
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Thing;

    #[test]
    fn the_resolver_s_rules_are_these() {
        assert_eq!(DNS_RULES.to_string(), include_str!("../testdata/resolver.txt"));
    }

    #[test]
    fn rules_hang_on_the_namespace() {
        let id = libnetwork_model::SandboxId::from_bytes([1; 32]);
        let key = Key::Ruleset { ns: Ns::Sandbox(id.clone()), table: DNS_RULES.table.clone() };
        assert_eq!(Object::Ruleset(DNS_RULES.clone()).requires(&key), [Thing::Namespace(id)]);
    }
}
