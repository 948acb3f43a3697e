use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use ipnet::IpNet;
use libnetwork_model::{MacAddress, PortRange, Protocol, SandboxId};

/// A link's, set's or chain's name.
pub type Name = Arc<str>;

/// A network namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ns {
    /// The one that causewayd runs in.
    Host,
    Sandbox(SandboxId),
}

/// Names one kernel object. The order is an order of creation that the kernel accepts; its reverse is an order of
/// deletion. Rules and set elements stand before links, so that no packet ever flows without them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A network namespace, kept by a bind mount, with its loopback.
    Namespace(SandboxId),
    /// A setting below /proc/sys of a namespace, by its path there: `net/ipv4/ip_forward`. Shared with the rest of the
    /// host: written when it differs, never undone.
    Sysctl { ns: Ns, name: Name },
    /// One nftables table with its chains, rules and (empty) sets.
    Ruleset { ns: Ns, table: Table },
    /// One element of a set or map of a table.
    SetElement { ns: Ns, table: Table, set: Name, element: Element },
    /// A link; a veth pair is one link, named by its end in `ns`.
    Link { rank: LinkRank, ns: Ns, name: Name },
    /// A setting of one link, by its path below /proc/sys: `net/ipv4/conf/eth0/arp_ignore`.
    LinkSysctl { ns: Ns, link: Name, name: Name },
    /// An address with its prefix length.
    Address { ns: Ns, link: Name, address: IpNet },
    /// A route of the main table, by what tells routes apart in the kernel.
    Route { ns: Ns, destination: IpNet, metric: u32 },
    /// A permanent neighbour entry (ARP, ND).
    Neighbour { ns: Ns, link: Name, address: IpAddr },
    /// A static forwarding entry of a bridge port.
    Fdb { ns: Ns, link: Name, mac: MacAddress },
}

/// Kinds of links in the order that they can be made in: what another is attached to comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LinkRank {
    Bridge,
    Veth,
    /// Nothing that we make; observed so that a name that is taken is seen.
    Other,
}

/// An nftables table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table {
    pub family: Family,
    pub name: Name,
}

/// An nftables family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    Inet,
    Ipv4,
    Ipv6,
    Bridge,
}

/// The key of a set element: one value, or several concatenated.
pub type Element = Vec<Datum>;

/// One value of a set element, of the type that the set has at its place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Datum {
    Ifname(Name),
    V4(Ipv4Addr),
    V6(Ipv6Addr),
    Mac(MacAddress),
    Protocol(Protocol),
    /// Only in sets of ranges.
    Ports(PortRange),
}

impl Key {
    /// The namespace that the object is in; a namespace is in the host.
    pub fn ns(&self) -> &Ns {
        match self {
            Key::Namespace(_) => &Ns::Host,
            Key::Sysctl { ns, .. }
            | Key::Ruleset { ns, .. }
            | Key::SetElement { ns, .. }
            | Key::Link { ns, .. }
            | Key::LinkSysctl { ns, .. }
            | Key::Address { ns, .. }
            | Key::Route { ns, .. }
            | Key::Neighbour { ns, .. }
            | Key::Fdb { ns, .. } => ns,
        }
    }
}

impl fmt::Display for Ns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ns::Host => f.write_str("host"),
            Ns::Sandbox(id) => write!(f, "sandbox {}", id.short()),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Namespace(id) => write!(f, "namespace {}", id.short()),
            Key::Sysctl { name, .. } | Key::LinkSysctl { name, .. } => write!(f, "sysctl {name}"),
            Key::Ruleset { table, .. } => write!(f, "table {table}"),
            Key::SetElement { table, set, element, .. } => {
                write!(f, "element {} of {table} {set}", ElementText(element))
            }
            Key::Link { name, .. } => write!(f, "link {name}"),
            Key::Address { link, address, .. } => write!(f, "address {address} on {link}"),
            Key::Route { destination, .. } => write!(f, "route {destination}"),
            Key::Neighbour { link, address, .. } => write!(f, "neighbour {address} on {link}"),
            Key::Fdb { link, mac, .. } => write!(f, "forwarding entry {mac} on {link}"),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family, self.name)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Inet => "inet",
            Family::Ipv4 => "ip",
            Family::Ipv6 => "ip6",
            Family::Bridge => "bridge",
        })
    }
}

impl fmt::Display for Datum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Datum::Ifname(name) => write!(f, "\"{name}\""),
            Datum::V4(address) => write!(f, "{address}"),
            Datum::V6(address) => write!(f, "{address}"),
            Datum::Mac(mac) => write!(f, "{mac}"),
            Datum::Protocol(protocol) => write!(f, "{protocol}"),
            Datum::Ports(range) if range.count() == 1 => write!(f, "{}", range.first()),
            Datum::Ports(range) => write!(f, "{}-{}", range.first(), range.last()),
        }
    }
}

struct ElementText<'a>(&'a [Datum]);

impl fmt::Display for ElementText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, datum) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(" . ")?;
            }
            write!(f, "{datum}")?;
        }
        Ok(())
    }
}
