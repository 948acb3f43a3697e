//! The table that keeps a container to its own addresses. Its rules are constant; what a port may send from is elements
//! of its sets, keyed by the host's end of its veth pair.
//!
//! It looks at frames as they enter a bridge, before anybody is told of them: a container that forges its source, or
//! answers ARP or neighbour discovery for somebody else, is heard by nobody. Bridges and ports that are not ours pass.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, LazyLock},
};

use ipnet::IpNet;
use libnetwork_model::{Endpoint, MacAddress};
use libnetwork_plan::{
    Base, Chain, ChainKind, Datum, Desired, Expr, Family, Field, Hook, Key, MapType, Name, Ns, Object, Rule,
    Ruleset, Set, SetType, Table, Value, Verdict, priority,
};

use crate::links;

/// Ports of the segments beyond a network's first, guarded or not.
const SEGMENTED: &str = "segmented";
/// Ports that are kept from each other: endpoints of networks without icc, and what leads to those of other segments.
const WALLED: &str = "walled";
/// The host's ends of guarded endpoints.
const PORTS: &str = "ports";
/// Those of them on bridges of ours, where nobody listens for who is in which multicast group.
const HUSHED: &str = "hushed";
/// What each of them may send from.
const MACS: &str = "macs";
const SOURCES_IPV4: &str = "sources4";
const SOURCES_IPV6: &str = "sources6";
/// Whose each address is.
const HOMES_IPV4: &str = "homes4";
const HOMES_IPV6: &str = "homes6";

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
/// IEEE 802.1Q: a customer's and a service's tag.
const TAG: u16 = 0x8100;
const SERVICE_TAG: u16 = 0x88a8;
/// RFC 4861: what only a router says, and what says where an address is.
const ROUTER_ADVERTISEMENT: u8 = 134;
pub(crate) const NEIGHBOUR_SOLICITATION: u8 = 135;
pub(crate) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;
pub(crate) const ICMPV6: u8 = 58;
/// RFC 3376. MLD's messages are ICMPv6's (RFC 2710, RFC 3810).
const IGMP: u8 = 2;

pub(crate) static RULES: LazyLock<Arc<Ruleset>> = LazyLock::new(|| {
    let map = |name: &str, key: SetType| Set {
        name: name.into(),
        key: vec![key],
        data: Some(MapType::Mac),
        ranges: false,
    };
    let set =
        |name: &str, key: &[SetType]| Set { name: name.into(), key: key.to_vec(), data: None, ranges: false };
    Arc::new(Ruleset {
        table: Table { family: Family::Bridge, name: "causeway".into() },
        sets: [
            set(SEGMENTED, &[SetType::Ifname]),
            set(WALLED, &[SetType::Ifname]),
            set(PORTS, &[SetType::Ifname]),
            set(HUSHED, &[SetType::Ifname]),
            set(MACS, &[SetType::Ifname, SetType::Mac]),
            set(SOURCES_IPV4, &[SetType::Ifname, SetType::V4]),
            set(SOURCES_IPV6, &[SetType::Ifname, SetType::V6]),
            map(HOMES_IPV4, SetType::V4),
            map(HOMES_IPV6, SetType::V6),
        ]
        .into_iter()
        .chain(links::sets())
        .collect(),
        chains: vec![prerouting(), resolution(), input(), forward(), apart()],
    })
});

pub(crate) fn key() -> Key {
    Key::Ruleset { ns: Ns::Host, table: RULES.table.clone() }
}

/// The element that stands for a port on which membership of multicast groups is not said.
pub(crate) fn hushed(port: &Name) -> Key {
    element(HUSHED, vec![Datum::Ifname(port.clone())])
}

/// The element that stands for a port that is kept from others of its network.
pub(crate) fn walled(port: &Name) -> Key {
    element(WALLED, vec![Datum::Ifname(port.clone())])
}

/// The element that stands for a port of a segment beyond a network's first.
pub(crate) fn segmented(port: &Name) -> Key {
    element(SEGMENTED, vec![Datum::Ifname(port.clone())])
}

pub(crate) fn element(set: &str, element: Vec<Datum>) -> Key {
    Key::SetElement { ns: Ns::Host, table: RULES.table.clone(), set: set.into(), element }
}

/// What an endpoint may send from; with `local_ipv6` its link has an address that the kernel gave it.
pub(crate) fn elements(endpoint: &Endpoint, link: &Name, local_ipv6: bool, out: &mut Desired) {
    let mut put = |set: &str, datum: Option<Datum>| {
        let parts = std::iter::once(Datum::Ifname(link.clone())).chain(datum).collect();
        out.insert(element(set, parts), Object::SetElement(None));
    };
    let Some(mac) = endpoint.mac else { return };
    put(PORTS, None);
    put(MACS, Some(Datum::Mac(mac)));
    let leases = endpoint.ipv4.map(IpNet::V4).into_iter().chain(endpoint.ipv6.map(IpNet::V6));
    for net in leases.chain(endpoint.link_local.iter().copied()) {
        match net {
            IpNet::V4(net) => put(SOURCES_IPV4, Some(Datum::V4(net.addr()))),
            IpNet::V6(net) => put(SOURCES_IPV6, Some(Datum::V6(net.addr()))),
        }
    }
    if local_ipv6 {
        put(SOURCES_IPV6, Some(Datum::V6(link_local(mac))));
    }
}

/// Where an address is that may be asked for. No two networks have the same one: their subnets do not overlap.
pub(crate) fn home(address: IpAddr, mac: MacAddress, out: &mut Desired) {
    let (set, datum) = match address {
        IpAddr::V4(address) => (HOMES_IPV4, Datum::V4(address)),
        IpAddr::V6(address) => (HOMES_IPV6, Datum::V6(address)),
    };
    out.insert(element(set, vec![datum]), Object::SetElement(Some(Value::Mac(mac))));
}

/// The address that the kernel gives an interface by itself (RFC 4291, appendix A).
fn link_local(MacAddress([a, b, c, d, e, f]): MacAddress) -> Ipv6Addr {
    let pair = |high: u8, low: u8| u16::from(high) << 8 | u16::from(low);
    Ipv6Addr::new(0xfe80, 0, 0, 0, pair(a ^ 2, b), pair(c, 0xff), pair(0xfe, d), pair(e, f))
}

/// Who asks where an address is (ARP, neighbour discovery) asks who has it, and not everybody: with thousands on a network,
/// a question to all is work for all. The answer is still the holder's own, so one that is gone gives none. What nobody of
/// ours has is asked for as on any Ethernet.
fn resolution() -> Chain {
    let from_container = || port(PORTS, false);
    let arp = || [from_container(), Expr::EtherType(ARP), Expr::ArpRequest];
    let own = Expr::Lookup {
        fields: vec![Field::InputName, Field::ArpTarget],
        set: SOURCES_IPV4.into(),
        not: false,
    };
    let to_holder = |field: Field, map: &str| Expr::EtherDestination { fields: vec![field], map: map.into() };
    let solicitation =
        [Expr::EtherType(IPV6), Expr::Transport(ICMPV6), Expr::Icmpv6Type(NEIGHBOUR_SOLICITATION)];
    let rules = vec![
        // RFC 5227: who asks for its own address tells everybody.
        Rule::new("an announcement", arp().into_iter().chain([own, Expr::Verdict(Verdict::Return)])),
        Rule::new("ARP asks the holder", arp().into_iter().chain([to_holder(Field::ArpTarget, HOMES_IPV4)])),
        Rule::new(
            "neighbour discovery asks the holder",
            [from_container()]
                .into_iter()
                .chain(solicitation)
                .chain([to_holder(Field::NdTarget, HOMES_IPV6)]),
        ),
    ];
    // After what drops forged questions.
    let base = Base { kind: ChainKind::Filter, hook: Hook::Prerouting, priority: priority::RAW + 1 };
    Chain { name: "resolution".into(), base: Some(base), rules }
}

/// The host itself is on a network's first bridge alone. On any other it would answer ARP for all of its addresses, and
/// route what it is sent past what is said of the network.
fn input() -> Chain {
    let rule =
        Rule::new("the host is not on this segment", [port(SEGMENTED, false), Expr::Verdict(Verdict::Drop)]);
    let base = Base { kind: ChainKind::Filter, hook: Hook::Input, priority: priority::RAW };
    Chain { name: "input".into(), base: Some(base), rules: vec![rule] }
}

/// Most of those that are kept apart are isolated ports, whose frames to others do not come this far.
fn forward() -> Chain {
    let walled = |field: Field| Expr::Lookup { fields: vec![field], set: WALLED.into(), not: false };
    let rule = Rule::new(
        "both are kept apart",
        [
            walled(Field::InputName),
            walled(Field::OutputName),
            Expr::Verdict(Verdict::Goto(links::APART.into())),
        ],
    );
    let base = Base { kind: ChainKind::Filter, hook: Hook::Forward, priority: priority::RAW };
    Chain { name: "forward".into(), base: Some(base), rules: vec![rule] }
}

fn apart() -> Chain {
    let arp = Rule::new("ARP", [Expr::EtherType(ARP), Expr::Verdict(Verdict::Accept)]);
    links::chain(Some(arp), |ipv6| Expr::EtherType(if ipv6 { IPV6 } else { IPV4 }))
}

fn port(set: &str, not: bool) -> Expr {
    Expr::Lookup { fields: vec![Field::InputName], set: set.into(), not }
}

fn prerouting() -> Chain {
    let not_in = |field: Field, set: &str| Expr::Lookup {
        fields: vec![Field::InputName, field],
        set: set.into(),
        not: true,
    };
    let drop = || Expr::Verdict(Verdict::Drop);
    let pass = || Expr::Verdict(Verdict::Return);
    let icmpv6 = |reason: &str, number: u8, more: Vec<Expr>| {
        let mut all = vec![Expr::EtherType(IPV6), Expr::Transport(ICMPV6), Expr::Icmpv6Type(number)];
        all.extend(more);
        all.push(drop());
        Rule::new(reason, all)
    };
    let mld = |reason: &str, number: u8| {
        let frame = [Expr::EtherType(IPV6), Expr::Transport(ICMPV6), Expr::Icmpv6Type(number), drop()];
        Rule::new(reason, [port(HUSHED, false)].into_iter().chain(frame))
    };
    let rules = vec![
        // Where bridged frames are tracked (br_netfilter), a connection that is seen on a segment first would count as
        // settled when it comes to the gateway, and not be masqueraded.
        Rule::new("tracked by the network's first bridge", [port(SEGMENTED, false), Expr::NoTrack]),
        Rule::new("not from a guarded container", [port(PORTS, true), pass()]),
        // What bridges say to each other. A container is none, and the host is not to hear it.
        Rule::new("to bridges", [Expr::ToBridges, drop()]),
        // The kernel has taken off one tag. Below a second one every packet hides from what comes next, and is unpacked by
        // whoever gets it where both tags are of VLAN 0.
        Rule::new("a second tag", [Expr::EtherType(TAG), drop()]),
        Rule::new("a second tag, a service's", [Expr::EtherType(SERVICE_TAG), drop()]),
        // Each interface that comes up says to all, several times, which groups it is in. Only routers of multicast listen,
        // and bridges, once somebody asks as such a router would: neither is a container's business.
        Rule::new("IGMP", [port(HUSHED, false), Expr::EtherType(IPV4), Expr::Transport(IGMP), drop()]),
        mld("MLD, a query", 130),
        mld("MLD, a report", 131),
        mld("MLD, done", 132),
        mld("MLDv2, a report", 143),
        Rule::new("a forged MAC", [not_in(Field::EtherSource, MACS), drop()]),
        Rule::new(
            "a forged IPv4 source",
            [Expr::EtherType(IPV4), not_in(Field::Source4, SOURCES_IPV4), drop()],
        ),
        Rule::new("a forged MAC in ARP", [Expr::EtherType(ARP), not_in(Field::ArpSenderMac, MACS), drop()]),
        // Who asks whether an address is free says no address of its own (RFC 5227), and is believed by nobody.
        Rule::new(
            "an ARP probe",
            [Expr::EtherType(ARP), Expr::Is(Field::ArpSender, Datum::V4(Ipv4Addr::UNSPECIFIED)), pass()],
        ),
        Rule::new(
            "a forged address in ARP",
            [Expr::EtherType(ARP), not_in(Field::ArpSender, SOURCES_IPV4), drop()],
        ),
        icmpv6("a container is no router", ROUTER_ADVERTISEMENT, Vec::new()),
        icmpv6("a container redirects nobody", REDIRECT, Vec::new()),
        icmpv6("a forged neighbour", NEIGHBOUR_ADVERTISEMENT, vec![not_in(Field::NdTarget, SOURCES_IPV6)]),
        Rule::new(
            "an ND probe",
            [Expr::EtherType(IPV6), Expr::Is(Field::Source6, Datum::V6(Ipv6Addr::UNSPECIFIED)), pass()],
        ),
        Rule::new(
            "a forged IPv6 source",
            [Expr::EtherType(IPV6), not_in(Field::Source6, SOURCES_IPV6), drop()],
        ),
    ];
    let base = Base { kind: ChainKind::Filter, hook: Hook::Prerouting, priority: priority::RAW };
    Chain { name: "prerouting".into(), base: Some(base), rules }
}
