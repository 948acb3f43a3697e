//! The table that all bridge networks of a host share. Its rules are constant.

use std::sync::{Arc, LazyLock};

use libnetwork_plan::{
    Base, Chain, ChainKind, Datum, Element, Expr, Family, Field, Hook, Key, MapType, Name, Ns,
    PUBLISHED_MARK, Rule, Ruleset, Set, SetType, Table, Verdict, priority,
};

use crate::{links, publish};

/// Every bridge of ours.
pub(crate) const BRIDGES: &str = "bridges";
/// A bridge paired with itself: what containers of one network may do among each other by way of the host.
pub(crate) const WITHIN: &str = "within";
/// Bridges of networks without a way in or out.
pub(crate) const INTERNAL: &str = "internal";
/// Bridges whose containers appear outside as the host, by family.
pub(crate) const MASQUERADE: [&str; 2] = ["masquerade4", "masquerade6"];
/// And as which address of the host, where that was chosen.
pub(crate) const SOURCE_NAT: [&str; 2] = ["snat4", "snat6"];
/// Bridges whose containers the outside reaches by their own addresses, by family.
pub(crate) const UNPROTECTED: [&str; 2] = ["unprotected4", "unprotected6"];
/// Bridges whose containers everyone reaches by their own addresses at published ports, by family.
pub(crate) const ROUTED: [&str; 2] = ["routed4", "routed6"];
/// And those where only the outside does.
pub(crate) const DIRECT: &str = "direct";
/// And those where one link of the host does: that link, and the bridge.
pub(crate) const TRUSTED: &str = "trusted";
/// The ports that the last three are about, by family: address, protocol, ports.
pub(crate) const OPEN: [&str; 2] = ["open4", "open6"];

/// ICMP and ICMPv6 (IANA protocol numbers).
const ICMP: [u8; 2] = [1, 58];

/// The host's table, as the rules of all bridge networks. There are 32 of it: a family that the host forwards only because of
/// us is closed to what is none of our business, ports are published by it or by others, and a family may be without rules.
pub(crate) fn table(closed: [bool; 2], publishes: bool, ruled: [bool; 2]) -> Arc<Ruleset> {
    let bits = [closed[0], closed[1], publishes, ruled[0], ruled[1]];
    RULES[bits.into_iter().rev().fold(0, |number, bit| number << 1 | usize::from(bit))].clone()
}

static RULES: LazyLock<[Arc<Ruleset>; 32]> = LazyLock::new(|| {
    std::array::from_fn(|number| {
        let [closed4, closed6, publishes, ruled4, ruled6] = [0, 1, 2, 3, 4].map(|bit| number >> bit & 1 == 1);
        Arc::new(ruleset([closed4, closed6], publishes, [ruled4, ruled6]))
    })
});

static TABLE: LazyLock<Table> = LazyLock::new(|| Table { family: Family::Inet, name: "causeway".into() });

fn ruleset(closed: [bool; 2], publishes: bool, ruled: [bool; 2]) -> Ruleset {
    // A published port is everybody's; clients on the same network appear as the gateway.
    let apart = links::chain(publishes.then(publish::accept), |ipv6| Expr::Nfproto { ipv6 });
    let (mut sets, mut chains) = (sets(), vec![forward(closed, publishes), postrouting(publishes), apart]);
    if publishes {
        sets.extend(publish::sets());
        chains.extend(publish::chains());
    }
    // The sets alone do nothing.
    if ruled == [false; 2] {
        chains.clear();
    }
    let hands_off = [false, true].into_iter().filter(|ipv6| !ruled[usize::from(*ipv6)]).map(|ipv6| {
        let family = if ipv6 { "IPv6" } else { "IPv4" };
        Rule::new(
            format!("{family} is the host's to rule"),
            [Expr::Nfproto { ipv6 }, Expr::Verdict(Verdict::Return)],
        )
    });
    for chain in &mut chains {
        chain.rules.splice(0..0, hands_off.clone());
    }
    Ruleset { table: TABLE.clone(), sets, chains }
}

fn sets() -> Vec<Set> {
    let mut sets = vec![
        set(BRIDGES, &[SetType::Ifname], None),
        set(WITHIN, &[SetType::Ifname, SetType::Ifname], Some(MapType::Verdict)),
        set(INTERNAL, &[SetType::Ifname], None),
        set(DIRECT, &[SetType::Ifname], None),
        set(TRUSTED, &[SetType::Ifname, SetType::Ifname], None),
    ];
    for (family, (address, nat)) in
        [(SetType::V4, MapType::V4), (SetType::V6, MapType::V6)].into_iter().enumerate()
    {
        let links =
            [MASQUERADE, UNPROTECTED, ROUTED].map(|names| set(names[family], &[SetType::Ifname], None));
        sets.extend(links);
        sets.push(set(SOURCE_NAT[family], &[SetType::Ifname], Some(nat)));
        let open = set(OPEN[family], &[address, SetType::Protocol, SetType::Port], None);
        sets.push(Set { ranges: true, ..open });
    }
    sets.extend(links::sets());
    sets
}

/// The table's key.
pub(crate) fn key() -> Key {
    Key::Ruleset { ns: Ns::Host, table: TABLE.clone() }
}

/// The key of a set's element that stands for a bridge.
pub(crate) fn element(set: &str, bridge: &Name) -> Key {
    let times = if set == WITHIN { 2 } else { 1 };
    element_of(set, vec![Datum::Ifname(bridge.clone()); times])
}

pub(crate) fn element_of(set: &str, element: Element) -> Key {
    Key::SetElement { ns: Ns::Host, table: TABLE.clone(), set: set.into(), element }
}

/// An `accept` here ends this chain alone: what the host's other tables refuse stays refused.
fn forward(closed: [bool; 2], publishes: bool) -> Chain {
    let mut rules: Vec<Rule> =
        [false, true].into_iter().filter(|ipv6| closed[usize::from(*ipv6)]).map(no_router).collect();
    rules.extend([
        Rule::new(
            "neither side is a bridge of ours",
            [
                lookup(&[Field::InputName], BRIDGES, true),
                lookup(&[Field::OutputName], BRIDGES, true),
                Expr::Verdict(Verdict::Return),
            ],
        ),
        Rule::new(
            "within one network",
            [Expr::VerdictMap { fields: vec![Field::InputName, Field::OutputName], map: WITHIN.into() }],
        ),
        Rule::new(
            "out of an internal network",
            [lookup(&[Field::InputName], INTERNAL, false), Expr::Verdict(Verdict::Drop)],
        ),
        Rule::new(
            "into an internal network",
            [lookup(&[Field::OutputName], INTERNAL, false), Expr::Verdict(Verdict::Drop)],
        ),
        Rule::new("answers", [Expr::Established, Expr::Verdict(Verdict::Accept)]),
        match publishes {
            true => publish::accept(),
            false => {
                Rule::new("published ports", [Expr::Mark(PUBLISHED_MARK), Expr::Verdict(Verdict::Accept)])
            }
        },
    ]);
    for ipv6 in [false, true] {
        rules.extend(by_address(ipv6));
    }
    rules.extend([Rule::new(
        "unasked, from outside or from another network",
        [lookup(&[Field::OutputName], BRIDGES, false), Expr::Verdict(Verdict::Drop)],
    )]);
    let base = Base { kind: ChainKind::Filter, hook: Hook::Forward, priority: priority::FILTER };
    Chain { name: "forward".into(), base: Some(base), rules }
}

/// As Docker's drop policy for a host whose forwarding it turned on.
fn no_router(ipv6: bool) -> Rule {
    let family = if ipv6 { "IPv6" } else { "IPv4" };
    Rule::new(
        format!("the host is no router of {family} for others"),
        [
            Expr::Nfproto { ipv6 },
            lookup(&[Field::InputName], BRIDGES, true),
            lookup(&[Field::OutputName], BRIDGES, true),
            Expr::Verdict(Verdict::Drop),
        ],
    )
}

/// What reaches containers by their own addresses though none of them asked.
fn by_address(ipv6: bool) -> Vec<Rule> {
    let family = usize::from(ipv6);
    let name = if ipv6 { "IPv6" } else { "IPv4" };
    let destination = if ipv6 { Field::Destination6 } else { Field::Destination4 };
    let rule = |reason: &str, conditions: Vec<Expr>| {
        let all = [Expr::Nfproto { ipv6 }].into_iter().chain(conditions);
        Rule::new(format!("{name} {reason}"), all.chain([Expr::Verdict(Verdict::Accept)]))
    };
    let to = |set: &str| lookup(&[Field::OutputName], set, false);
    let from_outside = || lookup(&[Field::InputName], BRIDGES, true);
    let open = || lookup(&[destination, Field::Transport, Field::DestinationPort], OPEN[family], false);
    vec![
        rule("from outside, unprotected", vec![to(UNPROTECTED[family]), from_outside()]),
        rule("to published ports, routed", vec![to(ROUTED[family]), open()]),
        rule("ICMP, routed", vec![to(ROUTED[family]), Expr::Transport(ICMP[family])]),
        rule("to published ports, from outside", vec![to(DIRECT), from_outside(), open()]),
        rule(
            "to published ports, from a trusted link",
            vec![lookup(&[Field::InputName, Field::OutputName], TRUSTED, false), open()],
        ),
    ]
}

fn postrouting(publishes: bool) -> Chain {
    let masquerade = |ipv6: bool| {
        Rule::new(
            if ipv6 { "IPv6 to the outside" } else { "IPv4 to the outside" },
            [
                Expr::Nfproto { ipv6 },
                lookup(&[Field::InputName], MASQUERADE[usize::from(ipv6)], false),
                lookup(&[Field::OutputName], BRIDGES, true),
                Expr::Masquerade,
            ],
        )
    };
    let as_address = |ipv6: bool| {
        let map = SOURCE_NAT[usize::from(ipv6)].into();
        Rule::new(
            if ipv6 { "IPv6 to the outside, as an address" } else { "IPv4 to the outside, as an address" },
            [
                Expr::Nfproto { ipv6 },
                lookup(&[Field::OutputName], BRIDGES, true),
                Expr::SourceNat { fields: vec![Field::InputName], map, ipv6 },
            ],
        )
    };
    let base = Base { kind: ChainKind::Nat, hook: Hook::Postrouting, priority: priority::SRCNAT };
    let published = publish::sources().into_iter().filter(|_| publishes);
    let leaving = [false, true].into_iter().flat_map(|ipv6| [masquerade(ipv6), as_address(ipv6)]);
    let rules = published.chain(leaving).collect();
    Chain { name: "postrouting".into(), base: Some(base), rules }
}

pub(crate) fn lookup(fields: &[Field], set: &str, not: bool) -> Expr {
    Expr::Lookup { fields: fields.to_vec(), set: set.into(), not }
}

pub(crate) fn set(name: &str, key: &[SetType], data: Option<MapType>) -> Set {
    Set { name: name.into(), key: key.to_vec(), data, ranges: false }
}
