//! The table that all bridge networks of a host share. Its rules are constant.

use std::sync::{Arc, LazyLock};

use libnetwork_plan::{
    Base, Chain, ChainKind, Datum, Expr, Family, Field, Hook, Key, Name, Ns, PUBLISHED_MARK, Rule, Ruleset,
    Set, SetType, Table, Verdict, priority,
};

/// Every bridge of ours.
pub(crate) const BRIDGES: &str = "bridges";
/// A bridge paired with itself: what containers of one network may do among each other by way of the host.
pub(crate) const WITHIN: &str = "within";
/// Bridges of networks without a way in or out.
pub(crate) const INTERNAL: &str = "internal";
/// Bridges whose containers appear outside as the host, by family.
pub(crate) const MASQUERADE_IPV4: &str = "masquerade4";
pub(crate) const MASQUERADE_IPV6: &str = "masquerade6";

/// Bridges whose containers the outside reaches by their own addresses, by family.
pub(crate) const UNPROTECTED_IPV4: &str = "unprotected4";
pub(crate) const UNPROTECTED_IPV6: &str = "unprotected6";

/// The host's table, as the rules of all bridge networks. There are four of it: a family that the host forwards only
/// because of us is closed to what is none of our business.
pub(crate) fn table(closed: [bool; 2]) -> Arc<Ruleset> {
    RULES[usize::from(closed[0]) | usize::from(closed[1]) << 1].clone()
}

static RULES: LazyLock<[Arc<Ruleset>; 4]> = LazyLock::new(|| {
    [[false, false], [true, false], [false, true], [true, true]].map(|closed| Arc::new(ruleset(closed)))
});

static TABLE: LazyLock<Table> = LazyLock::new(|| Table { family: Family::Inet, name: "causeway".into() });

fn ruleset(closed: [bool; 2]) -> Ruleset {
    Ruleset {
        table: TABLE.clone(),
        sets: vec![
            set(BRIDGES, &[SetType::Ifname], false),
            set(WITHIN, &[SetType::Ifname, SetType::Ifname], true),
            set(INTERNAL, &[SetType::Ifname], false),
            set(MASQUERADE_IPV4, &[SetType::Ifname], false),
            set(MASQUERADE_IPV6, &[SetType::Ifname], false),
            set(UNPROTECTED_IPV4, &[SetType::Ifname], false),
            set(UNPROTECTED_IPV6, &[SetType::Ifname], false),
        ],
        chains: vec![forward(closed), postrouting()],
    }
}

/// The table's key.
pub(crate) fn key() -> Key {
    Key::Ruleset { ns: Ns::Host, table: TABLE.clone() }
}

/// The key of a set's element that stands for a bridge.
pub(crate) fn element(set: &str, bridge: &Name) -> Key {
    let times = if set == WITHIN { 2 } else { 1 };
    let element = vec![Datum::Ifname(bridge.clone()); times];
    Key::SetElement { ns: Ns::Host, table: TABLE.clone(), set: set.into(), element }
}

/// An `accept` here ends this chain alone: what the host's other tables refuse stays refused.
fn forward(closed: [bool; 2]) -> Chain {
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
        Rule::new("published ports", [Expr::Mark(PUBLISHED_MARK), Expr::Verdict(Verdict::Accept)]),
        unprotected(false, UNPROTECTED_IPV4),
        unprotected(true, UNPROTECTED_IPV6),
        Rule::new(
            "unasked, from outside or from another network",
            [lookup(&[Field::OutputName], BRIDGES, false), Expr::Verdict(Verdict::Drop)],
        ),
    ]);
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

/// From outside, not from another network.
fn unprotected(ipv6: bool, set: &str) -> Rule {
    Rule::new(
        if ipv6 { "IPv6 from outside, unprotected" } else { "IPv4 from outside, unprotected" },
        [
            Expr::Nfproto { ipv6 },
            lookup(&[Field::OutputName], set, false),
            lookup(&[Field::InputName], BRIDGES, true),
            Expr::Verdict(Verdict::Accept),
        ],
    )
}

fn postrouting() -> Chain {
    let masquerade = |ipv6: bool, set: &str| {
        Rule::new(
            if ipv6 { "IPv6 to the outside" } else { "IPv4 to the outside" },
            [
                Expr::Nfproto { ipv6 },
                lookup(&[Field::InputName], set, false),
                lookup(&[Field::OutputName], BRIDGES, true),
                Expr::Masquerade,
            ],
        )
    };
    let base = Base { kind: ChainKind::Nat, hook: Hook::Postrouting, priority: priority::SRCNAT };
    let rules = vec![masquerade(false, MASQUERADE_IPV4), masquerade(true, MASQUERADE_IPV6)];
    Chain { name: "postrouting".into(), base: Some(base), rules }
}

fn lookup(fields: &[Field], set: &str, not: bool) -> Expr {
    Expr::Lookup { fields: fields.to_vec(), set: set.into(), not }
}

fn set(name: &str, key: &[SetType], verdicts: bool) -> Set {
    Set { name: name.into(), key: key.to_vec(), verdicts }
}
