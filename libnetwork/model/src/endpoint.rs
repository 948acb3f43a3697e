use std::{collections::BTreeMap, net::IpAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::{EndpointId, MacAddress, NetworkId, PortRange, Protocol, SandboxId};

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
    /// What it reaches on a network that keeps its endpoints apart (`--link` without icc). Ranges of one sandbox and protocol
    /// do not overlap.
    #[serde(default)]
    pub openings: Vec<Opening>,
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

/// Ports of another sandbox that an endpoint reaches on their network, wherever that sandbox is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Opening {
    pub sandbox: SandboxId,
    pub protocol: Protocol,
    pub ports: PortRange,
}

impl Opening {
    /// The same ports, in order, of each sandbox and protocol as few ranges as there can be.
    pub fn merged(openings: &[Opening]) -> Vec<Opening> {
        let mut sorted = openings.to_vec();
        sorted.sort();
        let mut merged: Vec<Opening> = Vec::with_capacity(sorted.len());
        for next in sorted {
            let alike = |last: &&mut Opening| {
                (&last.sandbox, last.protocol) == (&next.sandbox, next.protocol)
                    && next.ports.first() <= last.ports.last().saturating_add(1)
            };
            match merged.last_mut().filter(alike) {
                Some(last) => last.ports = last.ports.up_to(next.ports.last()),
                None => merged.push(next),
            }
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_overlap_or_touch_are_one() {
        let opening = |sandbox: u8, protocol, first, last| Opening {
            sandbox: SandboxId::from_bytes([sandbox; 32]),
            protocol,
            ports: PortRange::new(first, last).unwrap(),
        };
        let tcp = |first, last| opening(1, Protocol::Tcp, first, last);
        let given = [
            tcp(90, 95),
            tcp(1, 65535),
            opening(2, Protocol::Tcp, 81, 85),
            tcp(80, 80),
            opening(2, Protocol::Tcp, 80, 80),
            opening(2, Protocol::Tcp, 83, 84),
            opening(2, Protocol::Tcp, 87, 87),
            opening(2, Protocol::Udp, 80, 80),
        ];
        let expected = [
            tcp(1, 65535),
            opening(2, Protocol::Tcp, 80, 85),
            opening(2, Protocol::Tcp, 87, 87),
            opening(2, Protocol::Udp, 80, 80),
        ];
        assert_eq!(Opening::merged(&given), expected);
    }
}
