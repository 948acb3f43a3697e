use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use crate::PortRange;

/// What drivers and allocation may know of the host. Gathered once by the kernel adapter, handed in as a value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// The links that outside traffic arrives on, by name: those with an address that are not ours and not loopback.
    pub uplinks: BTreeMap<String, Uplink>,
    /// Bridges that somebody else made, by name, with their addresses (without link-local ones).
    pub bridges: BTreeMap<String, Vec<IpNet>>,
    /// Prefixes that addresses and routes of the host cover (without the default routes): never handed out as pools.
    pub taken: Vec<IpNet>,
    /// The MTU in bytes of the link that the default route leaves by; 1500 where there is none.
    pub mtu: u32,
    /// The host's own resolvers, from its resolv.conf.
    pub resolvers: Vec<IpAddr>,
    pub search: Vec<String>,
    /// By family, IPv4 first: the host forwards, or will, for no other reason than that we told it to. It was no router,
    /// and must not become one for others.
    pub closed: [bool; 2],
    /// Where the host takes ports from that nobody asked for by number (`net.ipv4.ip_local_port_range`). None: not known.
    pub ephemeral: Option<PortRange>,
    /// By family, IPv4 first: how many neighbours the kernel remembers, for all namespaces together (gc_thresh3). None: it
    /// is not for this namespace to say.
    pub neighbours: [Option<u32>; 2],
    /// How many packets wait for a CPU before more are dropped (`net.core.netdev_max_backlog`). None: as with neighbours.
    pub backlog: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    pub index: u32,
    pub mtu: u32,
    pub addresses: Vec<IpNet>,
}
