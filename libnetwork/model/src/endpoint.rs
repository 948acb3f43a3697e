use std::{collections::BTreeMap, net::IpAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::{EndpointId, MacAddress, NetworkId, SandboxId};

/// One attachment of a sandbox to a network. Its addresses *are* the leases: there is no other record of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub id: EndpointId,
    pub network: NetworkId,
    pub sandbox: SandboxId,
    /// Which part of its network it is on: 0 is the one with the gateway, and there are more only where one does not hold
    /// all (see `Driver::segments`).
    #[serde(default)]
    pub segment: u16,
    /// The interface's name inside the sandbox, `eth0` and on.
    pub ifname: String,
    pub mac: Option<MacAddress>,
    /// The lease with the subnet's prefix length.
    pub ipv4: Option<Ipv4Net>,
    pub ipv6: Option<Ipv6Net>,
    /// Addresses that the interface has besides, as they were asked for (`--link-local-ip`): nobody leases them.
    #[serde(default)]
    pub link_local: Vec<IpNet>,
    /// Names that the network's other sandboxes reach it by (`--network-alias`, the short container id, and the like).
    pub aliases: Vec<String>,
    /// Names that this sandbox alone knows on the network, each with the name that it stands for there (`--link`).
    #[serde(default)]
    pub links: BTreeMap<String, String>,
    /// Which endpoint's network gives a sandbox its default route: the highest wins, then the network's name in order.
    pub gateway_priority: i32,
    /// `com.docker.network.endpoint.*` and what else was given, as given.
    pub options: BTreeMap<String, String>,
}

impl Endpoint {
    /// The leased addresses, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.ipv4.map(|net| IpAddr::V4(net.addr()));
        let v6 = self.ipv6.map(|net| IpAddr::V6(net.addr()));
        v4.into_iter().chain(v6)
    }
}
