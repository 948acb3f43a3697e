//! Endpoints of a network without icc, and the openings between them (`--link`).
//!
//! The bridge itself keeps isolated ports apart, without a rule. A port that has openings is not isolated, so that it and
//! others reach each other at all; from then on rules keep it apart, in the bridge family what is bridged and in the inet
//! family what goes by way of the gateway (or is bridged where br_netfilter is there). As with Docker a link opens ports
//! and not a connection, so it is asked of every packet, and forgotten with the link. What names no port stays out: all
//! fragments of a datagram but the first, and errors of ICMP.

use std::net::IpAddr;

use libnetwork_model::{Endpoint, Opening};
use libnetwork_plan::{Chain, Datum, Desired, Expr, Field, Object, Rule, Set, SetType, Verdict};

use crate::{
    guard::{self, ICMPV6, NEIGHBOUR_ADVERTISEMENT, NEIGHBOUR_SOLICITATION},
    rules,
};

/// By family, IPv4 first: who reaches which port of whom.
const LINKED: [&str; 2] = ["linked4", "linked6"];

/// The chain for what is within a network without icc.
pub(crate) const APART: &str = "apart";

/// What the inet table does with packets within a network without icc. Where it has no rules, nobody asks, and there is no
/// chain to go to.
pub(crate) fn within(ruled: [bool; 2]) -> Verdict {
    if ruled == [false; 2] { Verdict::Drop } else { Verdict::Goto(APART.into()) }
}

pub(crate) fn sets() -> impl Iterator<Item = Set> {
    LINKED.into_iter().zip([SetType::V4, SetType::V6]).map(|(name, address)| {
        let key = [address, address, SetType::Protocol, SetType::Port];
        Set { ranges: true, ..rules::set(name, &key, None) }
    })
}

/// Where frames, or packets, between endpoints of a network without icc end. `is_of`: that one is of IPv6, or of IPv4.
pub(crate) fn chain(before: Option<Rule>, is_of: impl Fn(bool) -> Expr) -> Chain {
    // Who is linked has to learn where the other is. That tells nobody more than with Docker.
    let neighbour = |reason: &str, number: u8| {
        let of = [is_of(true), Expr::Transport(ICMPV6), Expr::Icmpv6Type(number)];
        Rule::new(reason, of.into_iter().chain([Expr::Verdict(Verdict::Accept)]))
    };
    let mut all: Vec<Rule> = before.into_iter().collect();
    all.push(neighbour("a neighbour is asked for", NEIGHBOUR_SOLICITATION));
    all.push(neighbour("a neighbour answers", NEIGHBOUR_ADVERTISEMENT));
    for ipv6 in [false, true] {
        let (family, name) = (usize::from(ipv6), if ipv6 { "IPv6" } else { "IPv4" });
        let (source, destination) = match ipv6 {
            true => (Field::Source6, Field::Destination6),
            false => (Field::Source4, Field::Destination4),
        };
        let rule = |reason: &str, from: Field, to: Field, port: Field| {
            let linked = rules::lookup(&[from, to, Field::Transport, port], LINKED[family], false);
            Rule::new(format!("{name} {reason}"), [is_of(ipv6), linked, Expr::Verdict(Verdict::Accept)])
        };
        all.push(rule("to whom it is linked", source, destination, Field::DestinationPort));
        all.push(rule("answers to who is linked", destination, source, Field::SourcePort));
    }
    all.push(Rule::new("without icc", [Expr::Verdict(Verdict::Drop)]));
    Chain { name: APART.into(), base: None, rules: all }
}

pub(crate) fn objects(from: &Endpoint, to: &Endpoint, opening: &Opening, out: &mut Desired) {
    for source in from.addresses() {
        for destination in to.addresses() {
            let (set, addresses) = match (source, destination) {
                (IpAddr::V4(a), IpAddr::V4(b)) => (LINKED[0], [Datum::V4(a), Datum::V4(b)]),
                (IpAddr::V6(a), IpAddr::V6(b)) => (LINKED[1], [Datum::V6(a), Datum::V6(b)]),
                _ => continue,
            };
            let ports = [Datum::Protocol(opening.protocol), Datum::Ports(opening.ports)];
            let element: Vec<Datum> = addresses.into_iter().chain(ports).collect();
            for key in [guard::element(set, element.clone()), rules::element_of(set, element)] {
                out.insert(key, Object::SetElement(None));
            }
        }
    }
}
