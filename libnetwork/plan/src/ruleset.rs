//! nftables tables as data: rendered for people, compiled to netlink by the kernel adapter.

use std::net::{IpAddr, SocketAddr};

use libnetwork_model::MacAddress;

use crate::{Datum, Name, Table};

/// A table with everything in it but the elements of its sets.
#[derive(Debug, Clone, PartialEq)]
pub struct Ruleset {
    pub table: Table,
    pub sets: Vec<Set>,
    pub chains: Vec<Chain>,
}

/// A set, or a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    pub name: Name,
    /// The types of a key, concatenated when there are several.
    pub key: Vec<SetType>,
    /// What a key leads to; none in a set.
    pub data: Option<MapType>,
    /// Keys stand for ranges ([`Datum::Ports`]), which do not overlap. Only for concatenated keys.
    pub ranges: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapType {
    Verdict,
    Mac,
    V4,
    V6,
    /// An address with a port.
    V4Port,
    V6Port,
}

/// What an element of a map leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Verdict(Verdict),
    Mac(MacAddress),
    Address(IpAddr),
    AddressPort(SocketAddr),
}

impl Value {
    pub fn map_type(&self) -> MapType {
        match self {
            Value::Verdict(_) => MapType::Verdict,
            Value::Mac(_) => MapType::Mac,
            Value::Address(IpAddr::V4(_)) => MapType::V4,
            Value::Address(IpAddr::V6(_)) => MapType::V6,
            Value::AddressPort(SocketAddr::V4(_)) => MapType::V4Port,
            Value::AddressPort(SocketAddr::V6(_)) => MapType::V6Port,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetType {
    Ifname,
    V4,
    V6,
    Mac,
    Protocol,
    Port,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    pub name: Name,
    /// Where packets enter it; none for a chain that is only jumped to.
    pub base: Option<Base>,
    pub rules: Vec<Rule>,
}

/// Base chains always accept by policy: what is not ours is for others to judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    pub kind: ChainKind,
    pub hook: Hook,
    pub priority: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    Filter,
    Nat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

/// Priorities by the names that nft gives them (linux/netfilter_ipv4.h).
pub mod priority {
    pub const RAW: i32 = -300;
    pub const DSTNAT: i32 = -100;
    pub const FILTER: i32 = 0;
    pub const SRCNAT: i32 = 100;
}

/// One rule. Rules are compared by their tag, which is kept as the rule's comment in the kernel: the reason for people,
/// and a hash of the expressions so that a changed rule is a different one.
#[derive(Debug, Clone)]
pub struct Rule {
    tag: String,
    expressions: Vec<Expr>,
}

/// What a rule does, in order; each goes on only when the one before matched.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// The concatenated fields are in the set, or with `not` are not.
    Lookup {
        fields: Vec<Field>,
        set: Name,
        not: bool,
    },
    /// The verdict that the map has for the fields; goes on where it has none.
    VerdictMap {
        fields: Vec<Field>,
        map: Name,
    },
    /// The connection is established or related.
    Established,
    /// All bits of the mask are set in the packet's mark.
    Mark(u32),
    /// The frame's EtherType (in a `bridge` table).
    EtherType(u16),
    /// The frame is to one of the addresses that are for bridges themselves: 01:80:c2:00:00:00 to 0f (IEEE 802.1D,
    /// table 7-10).
    ToBridges,
    /// A field has this value, of the type that the field is.
    Is(Field, Datum),
    /// An ARP message asks where an address is.
    ArpRequest,
    /// The type of an ICMPv6 message.
    Icmpv6Type(u8),
    /// The layer 3 protocol (in an `inet` table).
    Nfproto {
        ipv6: bool,
    },
    /// The packet's source or destination is this address.
    Source(IpAddr),
    Destination(IpAddr),
    /// The transport protocol, by IANA number.
    Transport(u8),
    SourcePort(u16),
    DestinationPort(u16),
    Verdict(Verdict),
    /// The frame goes to the Ethernet address that the map has for the fields; goes on where it has none.
    EtherDestination {
        fields: Vec<Field>,
        map: Name,
    },
    /// Rewrites the source to the leaving interface's address, for the whole connection.
    Masquerade,
    /// Rewrites the source to the address that the map has for the fields, for the whole connection; goes on where it has
    /// none.
    SourceNat {
        fields: Vec<Field>,
        map: Name,
        ipv6: bool,
    },
    /// The same for the destination; with `port`, the map has a port, too. Without, the port stays.
    DestinationNat {
        fields: Vec<Field>,
        map: Name,
        ipv6: bool,
        port: bool,
    },
    /// The connection's destination was rewritten.
    Redirected,
    /// The destination is an address of this host.
    ToHost,
    /// From or to 127.0.0.0/8.
    FromLoopback,
    ToLoopback,
    /// Rewrites a port of this packet alone; the transport protocol says where the checksum is.
    RewriteSourcePort {
        transport: u8,
        port: u16,
    },
    RewriteDestinationPort {
        transport: u8,
        port: u16,
    },
    /// The packet is none of connection tracking's business.
    NoTrack,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    InputName,
    OutputName,
    /// The frame's source address.
    EtherSource,
    Source4,
    Source6,
    Destination4,
    Destination6,
    /// The transport protocol.
    Transport,
    SourcePort,
    DestinationPort,
    /// Who an ARP message says that it is from.
    ArpSenderMac,
    ArpSender,
    /// Whom an ARP message is about.
    ArpTarget,
    /// The address that a neighbour solicitation or advertisement is about.
    NdTarget,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Accept,
    Drop,
    Return,
    /// On to another chain of the table, and not back.
    Goto(Name),
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.tag == other.tag
    }
}

impl Rule {
    /// A rule and the reason for it.
    pub fn new(reason: impl Into<String>, expressions: impl IntoIterator<Item = Expr>) -> Self {
        let mut rule = Rule { tag: reason.into(), expressions: expressions.into_iter().collect() };
        let hash = fnv1a(rule.to_string().as_bytes());
        rule.tag.push_str(&format!(" [{hash:08x}]"));
        rule
    }

    /// A rule as found in the kernel, known by its tag alone.
    pub fn observed(tag: String) -> Self {
        Rule { tag, expressions: Vec::new() }
    }

    /// At most 128 bytes, as a comment may be (NFTNL_UDATA_COMMENT_MAXLEN).
    pub fn tag(&self) -> &str {
        &self.tag
    }

    pub fn expressions(&self) -> &[Expr] {
        &self.expressions
    }
}

/// FNV-1a, 32 bits: stable between versions of the compiler, as tags must be, since they outlive the process.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
