use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

/// A transport protocol whose ports can be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown protocol {text:?}: one of tcp, udp, sctp")]
pub struct ProtocolError {
    pub text: String,
}

impl Protocol {
    /// The number in the IP header (IANA protocol numbers).
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }
}

impl FromStr for Protocol {
    type Err = ProtocolError;
    fn from_str(text: &str) -> Result<Self, ProtocolError> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Protocol::Tcp),
            "udp" => Ok(Protocol::Udp),
            "sctp" => Ok(Protocol::Sctp),
            _ => Err(ProtocolError { text: text.chars().take(40).collect() }),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

/// `count` consecutive ports from `first` on; never empty, never past 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// None when `first` is 0 or greater than `last`.
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first != 0 && first <= last { Some(Self { first, last }) } else { None }
    }

    pub fn one(port: u16) -> Option<Self> {
        Self::new(port, port)
    }

    pub fn first(self) -> u16 {
        self.first
    }

    pub fn last(self) -> u16 {
        self.last
    }

    /// With all ports up to `last`, where it does not reach that far.
    pub(crate) fn up_to(self, last: u16) -> Self {
        Self { first: self.first, last: self.last.max(last) }
    }

    /// From 1 to 65535.
    pub fn count(self) -> u16 {
        self.last - self.first + 1
    }

    pub fn overlaps(self, other: PortRange) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// `count` consecutive ports of a sandbox to publish, and where on the host they may go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortWish {
    pub protocol: Protocol,
    /// None: every address of both families.
    pub host_ip: Option<IpAddr>,
    /// The host ports to choose the run from. None: the ephemeral ones.
    pub host_ports: Option<PortRange>,
    pub container_port: u16,
    /// At least 1.
    pub count: u16,
}

/// Ports of the host that lead to ports of a sandbox, one to one: a range is one entry, whatever its length.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PublishedPort {
    pub protocol: Protocol,
    /// The host address it listens on. None: every address of both families.
    pub host_ip: Option<IpAddr>,
    pub host_ports: PortRange,
    /// The first port in the sandbox; as many follow as `host_ports` has.
    pub container_port: u16,
    /// Clients reach it by the sandbox's own address: no port of the host leads to it, and none is taken. `host_ports` are
    /// those that it would have, and `host_ip` says the family.
    #[serde(default)]
    pub routed: bool,
}

impl PublishedPort {
    /// The ports in the sandbox; none for what is no published port (they would not end by 65535).
    pub fn container_ports(&self) -> Option<PortRange> {
        PortRange::new(self.container_port, self.container_port.checked_add(self.host_ports.count() - 1)?)
    }

    /// Whether it is of a family: without an address, it is of both.
    pub fn is_of(&self, ipv6: bool) -> bool {
        self.host_ip.is_none_or(|ip| ip.is_ipv6() == ipv6)
    }

    /// Whether a client could not tell the two apart: same protocol, a common host port, a common host address.
    /// `0.0.0.0` covers every IPv4 address and `::` every IPv6 one; no address covers both.
    pub fn collides(&self, other: &PublishedPort) -> bool {
        let covers = |a: Option<IpAddr>, b: Option<IpAddr>| match (a, b) {
            (None, _) | (_, None) => true,
            (Some(a), Some(b)) => {
                a == b || (a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified()))
            }
        };
        !self.routed
            && !other.routed
            && self.protocol == other.protocol
            && self.host_ports.overlaps(other.host_ports)
            && covers(self.host_ip, other.host_ip)
    }
}
