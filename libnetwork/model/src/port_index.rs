use std::{net::IpAddr, ops::Bound};

use imbl::OrdMap;

use crate::{PortRange, Protocol, PublishedPort, SandboxId};

/// Published ports by where they are published, so that who has a port is found without a look at all of them. Cheap to
/// clone. Ports of one index do not collide with each other; routed ones take none of the host's, and are left out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PortIndex(OrdMap<Place, (PortRange, SandboxId)>);

/// Protocol, host address, first port: what is on one address lies side by side.
type Place = (Protocol, Option<IpAddr>, u16);

impl PortIndex {
    pub fn insert(&mut self, port: &PublishedPort, sandbox: &SandboxId) {
        if !port.routed {
            self.0.insert(place(port), (port.host_ports, sandbox.clone()));
        }
    }

    pub fn remove(&mut self, port: &PublishedPort) {
        if !port.routed {
            self.0.remove(&place(port));
        }
    }

    /// A range that collides with this one ([`PublishedPort::collides`]), and whose it is. Costs in proportion to the
    /// number of different host addresses that ports are published on.
    pub fn collision(&self, asked: &PublishedPort) -> Option<(PortRange, &SandboxId)> {
        let last = asked.host_ports.last();
        let mut from = (asked.protocol, None, 0);
        loop {
            let (&(protocol, ip, _), _) = self.0.range(from..).next()?;
            if protocol != asked.protocol {
                return None;
            }
            // Those of one address lie apart: if any reaches into the range, the last that begins before its end does.
            if let Some((place, (range, holder))) = self.0.range(..=(protocol, ip, last)).next_back()
                && (place.0, place.1) == (protocol, ip)
                && (PublishedPort { host_ip: ip, host_ports: *range, ..asked.clone() }).collides(asked)
            {
                return Some((*range, holder));
            }
            let next = (Bound::Excluded((protocol, ip, u16::MAX)), Bound::Unbounded);
            from = *self.0.range(next).next()?.0;
        }
    }
}

fn place(port: &PublishedPort) -> Place {
    (port.protocol, port.host_ip, port.host_ports.first())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(ip: Option<&str>, first: u16, last: u16) -> PublishedPort {
        PublishedPort {
            protocol: Protocol::Tcp,
            host_ip: ip.map(|ip| ip.parse().unwrap()),
            host_ports: PortRange::new(first, last).unwrap(),
            container_port: 80,
            routed: false,
        }
    }

    #[test]
    fn a_collision_is_found_by_address_protocol_and_range() {
        let owner = |n| SandboxId::from_bytes([n; 32]);
        let mut index = PortIndex::default();
        let all = [
            (port(None, 80, 80), 1),
            (port(None, 1000, 65535), 2),
            (port(Some("10.0.0.1"), 90, 99), 3),
            (port(Some("10.0.0.2"), 90, 90), 4),
            (port(Some("0.0.0.0"), 500, 500), 5),
            (port(Some("::"), 500, 501), 6),
        ];
        for (port, n) in &all {
            index.insert(port, &owner(*n));
        }
        for (asked, holder) in [
            (port(None, 80, 80), Some(1)),
            (port(Some("10.0.0.9"), 70, 80), Some(1)),
            (port(None, 65535, 65535), Some(2)),
            (port(Some("10.0.0.1"), 95, 95), Some(3)),
            (port(Some("10.0.0.2"), 90, 99), Some(4)),
            (port(Some("0.0.0.0"), 98, 120), Some(3)),
            (port(Some("10.0.0.1"), 500, 500), Some(5)),
            (port(Some("fe80::1"), 501, 501), Some(6)),
            (port(Some("10.0.0.2"), 91, 99), None),
            (port(Some("10.0.0.1"), 501, 501), None),
            (port(None, 81, 89), None),
            (PublishedPort { protocol: Protocol::Udp, ..port(None, 1, 65535) }, None),
        ] {
            let found = index.collision(&asked).map(|(_, id)| id.clone());
            assert_eq!(found, holder.map(owner), "{asked:?}");
        }
        index.remove(&all[1].0);
        assert_eq!(index.collision(&port(None, 1000, 65535)), None);
    }
}
