use std::{net::IpAddr, sync::Arc};

use libnetwork_model::{MacAddress, SandboxId};

use crate::{Name, Ns, Ruleset, Table, Verdict};

/// What a [`crate::Key`] names: all that the planner compares.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// A namespace, and whether its loopback is up.
    Namespace {
        loopback: bool,
    },
    /// The value, without the newline.
    Sysctl(Name),
    Ruleset(Arc<Ruleset>),
    /// A set's element carries nothing, a verdict map's element a verdict.
    SetElement(Option<Verdict>),
    Link(Link),
    /// An address carries nothing but its key.
    Address,
    Route(Route),
    Neighbour(Neighbour),
    /// A static forwarding entry carries nothing but its key.
    Fdb,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub kind: LinkKind,
    /// Whose it is: a network's or an endpoint's id. Written into the link's alias.
    pub id: Name,
    /// In bytes.
    pub mtu: u32,
    /// None: whichever the kernel chose.
    pub mac: Option<MacAddress>,
    pub up: bool,
    /// The bridge that it is a port of.
    pub master: Option<Name>,
    /// As a port: frames reach the bridge itself and ports that are not isolated, no other isolated port.
    pub isolated: bool,
    pub ipv6: Ipv6,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkKind {
    Bridge,
    /// A pair: this end, and its peer. An observed pair whose peer is not where it was put has none.
    Veth {
        peer: Option<Peer>,
    },
    /// A kind that we do not make, by the kernel's name for it.
    Other(Name),
}

/// The far end of a veth pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub ns: Ns,
    pub name: Name,
    pub mtu: u32,
    pub mac: Option<MacAddress>,
    pub up: bool,
    pub ipv6: Ipv6,
}

/// How a link takes part in IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipv6 {
    /// Not at all (`disable_ipv6` 1).
    Off,
    /// With a link-local address and what it is given; no router advertisement is believed (`accept_ra` 0), and no
    /// address waits for duplicate detection (`accept_dad` 0): leases are unique by construction.
    Static,
    /// As the kernel or someone else set it.
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub link: Name,
    /// None: the destination is on the link itself.
    pub gateway: Option<IpAddr>,
    /// The address that packets leave with, when it is not for the kernel to choose.
    pub source: Option<IpAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    pub mac: MacAddress,
}

/// What one object needs of another. An object whose thing is not there cannot be; one whose thing goes, goes with it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Thing {
    Namespace(SandboxId),
    Link(Ns, Name),
    Table(Ns, Table),
}
