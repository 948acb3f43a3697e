//! Published ports by nftables, for kernels that cannot run the BPF programs: maps from host ports to containers, a range
//! of ports an element. Where the container's ports have other numbers, each port is one: the kernel adds no difference.
//!
//! What this way cannot do, the other can: clients on the same network (without br_netfilter), those on other networks of
//! the container, and those on the host that come by 127.0.0.1, appear as the gateway; with br_netfilter, clients on the
//! same network reach nothing where icc is off; ::1 reaches nothing; and the host's own input rules are not asked, as with
//! Docker.

use std::net::{IpAddr, SocketAddr};

use libnetwork_model::{Endpoint, PortRange, PublishedPort};
use libnetwork_plan::{
    Base, Chain, ChainKind, Datum, Desired, Expr, Field, Hook, Key, MapType, Name, Ns, Object, Rule, Set,
    SetType, Value, Verdict, priority,
};

use crate::rules;

/// By family: ports of one address of the host, and ports of all. Each for ranges that keep their numbers, which lead to an
/// address, and for single ports that get another, which lead to an address and a port.
const AT: [&str; 2] = ["published4", "published6"];
const AT_TO: [&str; 2] = ["published4_to", "published6_to"];
const ANY: [&str; 2] = ["published_any4", "published_any6"];
const ANY_TO: [&str; 2] = ["published_any4_to", "published_any6_to"];
/// A bridge paired with itself.
const OWN: &str = "own";
/// An address that publishes ports, paired with itself, by family. Where bridges hand their frames to these rules
/// (br_netfilter), what stays on one bridge has no input interface when it leaves.
const SELF: [&str; 2] = ["self4", "self6"];
/// The bridges of a publishing container's other networks, each with the address that its ports lead to, by family. The
/// container would answer clients there by that network, and not this way.
const BESIDE: [&str; 2] = ["beside4", "beside6"];

pub(crate) fn sets() -> Vec<Set> {
    let map = |name: &str, key: &[SetType], data| Set {
        name: name.into(),
        key: key.to_vec(),
        data: Some(data),
        ranges: true,
    };
    let mut sets = vec![rules::set(OWN, &[SetType::Ifname, SetType::Ifname], None)];
    for (family, (address, to, to_port)) in
        [(SetType::V4, MapType::V4, MapType::V4Port), (SetType::V6, MapType::V6, MapType::V6Port)]
            .into_iter()
            .enumerate()
    {
        let (at, any) = ([address, SetType::Protocol, SetType::Port], [SetType::Protocol, SetType::Port]);
        sets.push(rules::set(SELF[family], &[address, address], None));
        sets.push(rules::set(BESIDE[family], &[SetType::Ifname, address], None));
        sets.push(map(AT[family], &at, to));
        sets.push(map(AT_TO[family], &at, to_port));
        sets.push(map(ANY[family], &any, to));
        sets.push(map(ANY_TO[family], &any, to_port));
    }
    sets
}

/// Before routing. A bridge may send to 127.0.0.0/8 as far as the kernel cares ([`localhost`]), so that is refused here.
pub(crate) fn chains() -> Vec<Chain> {
    let base = |kind, hook, priority| Some(Base { kind, hook, priority });
    let forged = Rule::new(
        "a container has no business on the loopback",
        [
            rules::lookup(&[Field::InputName], rules::BRIDGES, false),
            Expr::ToLoopback,
            Expr::Verdict(Verdict::Drop),
        ],
    );
    // What the host sends there itself was led on its way out. What comes by a link is forged, which the kernel finds out
    // if it is not led elsewhere before.
    let martian = Rule::new(
        "nobody else is led by an address of the loopback",
        [Expr::ToLoopback, Expr::Verdict(Verdict::Return)],
    );
    vec![
        Chain {
            name: "loopback".into(),
            base: base(ChainKind::Filter, Hook::Prerouting, priority::RAW),
            rules: vec![forged],
        },
        Chain {
            name: "prerouting".into(),
            base: base(ChainKind::Nat, Hook::Prerouting, priority::DSTNAT),
            rules: std::iter::once(martian).chain(redirections()).collect(),
        },
        Chain {
            name: "output".into(),
            base: base(ChainKind::Nat, Hook::Output, priority::DSTNAT),
            rules: redirections(),
        },
    ]
}

fn redirections() -> Vec<Rule> {
    let mut rules = Vec::new();
    for ipv6 in [false, true] {
        let family = usize::from(ipv6);
        let name = if ipv6 { "IPv6" } else { "IPv4" };
        let destination = if ipv6 { Field::Destination6 } else { Field::Destination4 };
        let at = [destination, Field::Transport, Field::DestinationPort];
        let mut lead = |reason: &str, fields: &[Field], map: &str, port, to_host: &[Expr]| {
            let lead = Expr::DestinationNat { fields: fields.to_vec(), map: map.into(), ipv6, port };
            let all = [Expr::Nfproto { ipv6 }].into_iter().chain(to_host.iter().cloned()).chain([lead]);
            rules.push(Rule::new(format!("{name} {reason}"), all));
        };
        lead("ports of an address", &at, AT[family], false, &[]);
        lead("ports of an address, to others", &at, AT_TO[family], true, &[]);
        lead("ports of the host", &at[1..], ANY[family], false, &[Expr::ToHost]);
        lead("ports of the host, to others", &at[1..], ANY_TO[family], true, &[Expr::ToHost]);
    }
    rules
}

/// In the forward chain, in place of the mark that the BPF programs set.
pub(crate) fn accept() -> Rule {
    Rule::new("published ports", [Expr::Redirected, Expr::Verdict(Verdict::Accept)])
}

/// In the postrouting chain: answers must come back this way.
pub(crate) fn sources() -> [Rule; 6] {
    let beside = |ipv6: bool| {
        let (name, to) = match ipv6 {
            false => ("clients on the container's other networks, IPv4", Field::Destination4),
            true => ("clients on the container's other networks, IPv6", Field::Destination6),
        };
        let lookup = rules::lookup(&[Field::InputName, to], BESIDE[usize::from(ipv6)], false);
        Rule::new(name, [Expr::Nfproto { ipv6 }, lookup, Expr::Redirected, Expr::Masquerade])
    };
    let itself = |ipv6: bool| {
        let (name, ends) = match ipv6 {
            false => ("a container that is its own client, IPv4", [Field::Source4, Field::Destination4]),
            true => ("a container that is its own client, IPv6", [Field::Source6, Field::Destination6]),
        };
        let lookup = rules::lookup(&ends, SELF[usize::from(ipv6)], false);
        Rule::new(name, [Expr::Nfproto { ipv6 }, lookup, Expr::Redirected, Expr::Masquerade])
    };
    [
        itself(false),
        itself(true),
        beside(false),
        beside(true),
        Rule::new(
            "clients on the loopback",
            [
                Expr::FromLoopback,
                rules::lookup(&[Field::OutputName], rules::BRIDGES, false),
                Expr::Masquerade,
            ],
        ),
        Rule::new(
            "clients on the same network",
            [
                rules::lookup(&[Field::InputName, Field::OutputName], OWN, false),
                Expr::Redirected,
                Expr::Masquerade,
            ],
        ),
    ]
}

/// What a network adds, whether or not anything on it publishes a port.
pub(crate) fn network_elements(bridge: &Name, ipv4: bool, out: &mut Desired) {
    let pair = vec![Datum::Ifname(bridge.clone()); 2];
    out.insert(rules::element_of(OWN, pair), Object::SetElement(None));
    if ipv4 {
        localhost(bridge, true, out);
    }
}

/// Whether what a process sends from 127.0.0.1 may leave by the bridge, once it was redirected. Said either way: with it, and
/// without the rules that are there for it, a container could reach what listens on the host's loopback.
pub(crate) fn localhost(bridge: &Name, leaves: bool, out: &mut Desired) {
    let name = format!("net/ipv4/conf/{bridge}/route_localnet");
    let key = Key::LinkSysctl { ns: Ns::Host, link: bridge.clone(), name: name.into() };
    out.insert(key, Object::Sysctl(if leaves { "1" } else { "0" }.into()));
}

/// `published`: those of a family, on ports of the host. `beside`: the bridges of the container's other networks.
pub(crate) fn endpoint_elements(
    endpoint: &Endpoint,
    ipv6: bool,
    published: &[PublishedPort],
    beside: &[Name],
    out: &mut Desired,
) {
    let family = usize::from(ipv6);
    let Some(address) = endpoint.addresses().find(|a| a.is_ipv6() == ipv6) else { return };
    let itself = vec![datum(address); 2];
    out.insert(rules::element_of(SELF[family], itself), Object::SetElement(None));
    for bridge in beside {
        let pair = vec![Datum::Ifname(bridge.clone()), datum(address)];
        out.insert(rules::element_of(BESIDE[family], pair), Object::SetElement(None));
    }
    for port in published.iter().filter(|port| !port.routed) {
        let on = port.host_ip.filter(|ip| !ip.is_unspecified());
        let (map, map_to) = if on.is_some() { (AT, AT_TO) } else { (ANY, ANY_TO) };
        let mut lead = |map: &str, range, value| {
            let mut element: Vec<Datum> = on.into_iter().map(datum).collect();
            element.extend([Datum::Protocol(port.protocol), Datum::Ports(range)]);
            out.insert(rules::element_of(map, element), Object::SetElement(Some(value)));
        };
        if port.container_port == port.host_ports.first() {
            lead(map[family], port.host_ports, Value::Address(address));
            continue;
        }
        let inside = port.container_ports().into_iter().flat_map(|r| r.first()..=r.last());
        for (outside, inside) in (port.host_ports.first()..=port.host_ports.last()).zip(inside) {
            let value = Value::AddressPort(SocketAddr::new(address, inside));
            if let Some(one) = PortRange::one(outside) {
                lead(map_to[family], one, value);
            }
        }
    }
}

pub(crate) fn datum(address: IpAddr) -> Datum {
    match address {
        IpAddr::V4(address) => Datum::V4(address),
        IpAddr::V6(address) => Datum::V6(address),
    }
}
