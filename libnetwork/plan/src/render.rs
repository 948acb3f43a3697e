//! Objects in words, rulesets in nft's own language: for people and for golden files.

use std::fmt;

use crate::{
    Base, BridgePort, Chain, ChainKind, Expr, Field, Hook, Ipv6, Key, Link, LinkKind, MapType, Name, Object,
    Peer, Route, Rule, Ruleset, Set, SetType, Value, Verdict, priority,
};

/// One line per object in the order of creation; tables are written out, one rule a line.
pub fn render<'a>(objects: impl IntoIterator<Item = (&'a Key, &'a Object)>) -> String {
    let mut text = String::new();
    for (key, object) in objects {
        text.push_str(&format!("{}: {key}{object}\n", key.ns()));
    }
    text
}

/// What follows the key.
impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Object::Namespace { loopback } => write!(f, ", loopback {}", state(*loopback)),
            Object::Sysctl(value) => write!(f, " = {value}"),
            Object::Ruleset(ruleset) => write!(f, "\n{}", ruleset.to_string().trim_end()),
            Object::SetElement(None) | Object::Address | Object::Fdb => Ok(()),
            Object::SetElement(Some(Value::Verdict(verdict))) => write!(f, " : {verdict}"),
            Object::SetElement(Some(Value::Mac(mac))) => write!(f, " : {mac}"),
            Object::SetElement(Some(Value::Address(address))) => write!(f, " : {address}"),
            Object::SetElement(Some(Value::AddressPort(address))) => {
                write!(f, " : {} . {}", address.ip(), address.port())
            }
            Object::Link(link) => link.fmt(f),
            Object::Route(route) => route.fmt(f),
            Object::Neighbour(neighbour) => write!(f, " at {}", neighbour.mac),
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            LinkKind::Bridge => "bridge",
            LinkKind::Veth { .. } => "veth",
            LinkKind::Other(name) => name,
        };
        write!(f, ", {kind}, mtu {}", self.mtu)?;
        if let Some(mac) = self.mac {
            write!(f, ", mac {mac}")?;
        }
        write!(f, ", {}, {}", state(self.up), self.ipv6)?;
        if let Some(master) = &self.master {
            write!(f, ", port of {master}")?;
        }
        let BridgePort { isolated, known_only, hairpin, forwards_reserved } = self.port;
        for (on, word) in [
            (isolated, "isolated"),
            (known_only, "known only"),
            (hairpin, "hairpin"),
            (forwards_reserved, "forwards reserved"),
        ] {
            if on {
                write!(f, ", {word}")?;
            }
        }
        if let LinkKind::Veth { peer: Some(peer) } = &self.kind {
            write!(f, "; {peer}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "peer {} in {}, mtu {}", self.name, self.ns, self.mtu)?;
        if let Some(mac) = self.mac {
            write!(f, ", mac {mac}")?;
        }
        write!(f, ", {}, {}", state(self.up), self.ipv6)?;
        match &self.master {
            Some(master) => write!(f, ", port of {master}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Ipv6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ipv6::Off => "no IPv6",
            Ipv6::Static => "static IPv6",
            Ipv6::Other => "any IPv6",
        })
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        write!(f, " on {}", self.link)?;
        match self.source {
            Some(source) => write!(f, " from {source}"),
            None => Ok(()),
        }
    }
}

fn state(up: bool) -> &'static str {
    if up { "up" } else { "down" }
}

impl fmt::Display for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table {} {{", self.table)?;
        for set in &self.sets {
            writeln!(f, "{set}")?;
        }
        for chain in &self.chains {
            writeln!(f, "{chain}")?;
        }
        writeln!(f, "}}")
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.data.is_some() { "map" } else { "set" };
        write!(f, "\t{word} {} {{ type {}", self.name, Joined(&self.key))?;
        f.write_str(match self.data {
            None => "",
            Some(MapType::Verdict) => " : verdict",
            Some(MapType::Mac) => " : ether_addr",
            Some(MapType::V4) => " : ipv4_addr",
            Some(MapType::V6) => " : ipv6_addr",
            Some(MapType::V4Port) => " : ipv4_addr . inet_service",
            Some(MapType::V6Port) => " : ipv6_addr . inet_service",
        })?;
        f.write_str(if self.ranges { "; flags interval; }" } else { "; }" })
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\tchain {} {{", self.name)?;
        if let Some(base) = &self.base {
            writeln!(f, "\t\t{base}")?;
        }
        for rule in &self.rules {
            writeln!(f, "\t\t{rule} comment \"{}\"", rule.tag())?;
        }
        f.write_str("\t}")
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ChainKind::Filter => "filter",
            ChainKind::Nat => "nat",
        };
        write!(f, "type {kind} hook {} priority ", self.hook)?;
        match self.priority {
            priority::RAW => f.write_str("raw")?,
            priority::DSTNAT => f.write_str("dstnat")?,
            priority::FILTER => f.write_str("filter")?,
            priority::SRCNAT => f.write_str("srcnat")?,
            other => write!(f, "{other}")?,
        }
        f.write_str("; policy accept;")
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Words(self.expressions()).fmt(f)
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = |address: &std::net::IpAddr| if address.is_ipv6() { "ip6" } else { "ip" };
        match self {
            Expr::Lookup { fields, set, not } => lookup(f, fields, set, *not),
            Expr::VerdictMap { fields, map } => write!(f, "{} vmap @{map}", Joined(fields)),
            Expr::Established => f.write_str("ct state established,related"),
            Expr::Mark(mask) => write!(f, "meta mark & {mask:#010x} == {mask:#010x}"),
            Expr::EtherType(number) => write!(f, "ether type {number:#06x}"),
            Expr::Is(field, datum) => write!(f, "{field} {datum}"),
            Expr::ToBridges => f.write_str("ether destination 01:80:c2:00:00:00/44"),
            Expr::ArpRequest => f.write_str("arp operation request"),
            Expr::Icmpv6Type(number) => write!(f, "icmpv6 type {number}"),
            Expr::Nfproto { ipv6 } => write!(f, "meta nfproto {}", if *ipv6 { "ipv6" } else { "ipv4" }),
            Expr::Source(address) => write!(f, "{} saddr {address}", family(address)),
            Expr::Destination(address) => write!(f, "{} daddr {address}", family(address)),
            Expr::Transport(number) => write!(f, "meta l4proto {}", transport(*number)),
            Expr::SourcePort(port) => write!(f, "th sport {port}"),
            Expr::DestinationPort(port) => write!(f, "th dport {port}"),
            Expr::Verdict(verdict) => verdict.fmt(f),
            Expr::EtherDestination { fields, map } => {
                write!(f, "ether daddr set {} map @{map}", Joined(fields))
            }
            Expr::Masquerade => f.write_str("masquerade"),
            Expr::SourceNat { fields, map, ipv6 } => {
                let family = if *ipv6 { "ip6" } else { "ip" };
                write!(f, "snat {family} to {} map @{map}", Joined(fields))
            }
            Expr::DestinationNat { fields, map, ipv6, port: _ } => {
                let family = if *ipv6 { "ip6" } else { "ip" };
                write!(f, "dnat {family} to {} map @{map}", Joined(fields))
            }
            Expr::Redirected => f.write_str("ct status dnat"),
            Expr::ToHost => f.write_str("fib daddr type local"),
            Expr::FromLoopback => f.write_str("ip saddr 127.0.0.0/8"),
            Expr::ToLoopback => f.write_str("ip daddr 127.0.0.0/8"),
            Expr::RewriteSourcePort { transport: number, port } => {
                write!(f, "{} sport set {port}", transport(*number))
            }
            Expr::RewriteDestinationPort { transport: number, port } => {
                write!(f, "{} dport set {port}", transport(*number))
            }
            Expr::NoTrack => f.write_str("notrack"),
        }
    }
}

fn lookup(f: &mut fmt::Formatter<'_>, fields: &[Field], set: &Name, not: bool) -> fmt::Result {
    write!(f, "{} {}@{set}", Joined(fields), if not { "!= " } else { "" })
}

/// IANA's names for the protocols that are rewritten; the number otherwise.
fn transport(number: u8) -> String {
    match number {
        6 => "tcp".into(),
        17 => "udp".into(),
        other => other.to_string(),
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Field::InputName => "iifname",
            Field::OutputName => "oifname",
            Field::EtherSource => "ether saddr",
            Field::Source4 => "ip saddr",
            Field::Source6 => "ip6 saddr",
            Field::Destination4 => "ip daddr",
            Field::Destination6 => "ip6 daddr",
            Field::Transport => "meta l4proto",
            Field::SourcePort => "th sport",
            Field::DestinationPort => "th dport",
            Field::ArpSenderMac => "arp saddr ether",
            Field::ArpSender => "arp saddr ip",
            Field::ArpTarget => "arp daddr ip",
            Field::NdTarget => "icmpv6 taddr",
        })
    }
}

impl fmt::Display for SetType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SetType::Ifname => "ifname",
            SetType::V4 => "ipv4_addr",
            SetType::V6 => "ipv6_addr",
            SetType::Mac => "ether_addr",
            SetType::Protocol => "inet_proto",
            SetType::Port => "inet_service",
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Accept => f.write_str("accept"),
            Verdict::Drop => f.write_str("drop"),
            Verdict::Return => f.write_str("return"),
            Verdict::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

/// As nft joins the parts of a concatenation.
struct Joined<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for Joined<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        separated(f, self.0, " . ")
    }
}

struct Words<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for Words<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        separated(f, self.0, " ")
    }
}

fn separated<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: &[T], between: &str) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            f.write_str(between)?;
        }
        item.fmt(f)?;
    }
    Ok(())
}
