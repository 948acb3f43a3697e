//! What a publication comes to in the maps.

use ebpf_layouts::{ANY_IPV4, ANY_IPV6, APART, Address, BESIDE, Target, is_ipv4};
use libnetwork_core::{Families, PortError, PortMapping, PortTarget, Publication};
use libnetwork_model::{ErrorKind, Protocol, PublishedPort};

use crate::{
    error::OnError,
    host::{self, Framing, Interfaces},
    probe::Range,
    tables::Sandbox,
};

/// A published range in one family.
pub(crate) struct Wanted {
    pub target: Target,
    /// For clients on other networks of the sandbox.
    pub beside: Vec<Target>,
}

/// One for each family that a mapping has a way in.
pub(crate) fn targets(
    interfaces: &Interfaces,
    sandbox: Sandbox,
    publication: &Publication,
) -> Result<Vec<Wanted>, PortError> {
    let mut targets = Vec::new();
    for PortMapping { port, ipv4, ipv6 } in &publication.mappings {
        check(port)?;
        for (way, any) in [(ipv4, ANY_IPV4), (ipv6, ANY_IPV6)] {
            let Some(way) = way else { continue };
            let host = match port.host_ip {
                None => any,
                Some(ip) if ip.is_ipv4() == way.address.is_ipv4() => host::address(ip),
                Some(_) => continue,
            };
            let others = publication.beside.iter().filter(|w| w.address.is_ipv4() == way.address.is_ipv4());
            let beside = others.map(|way| {
                let target = target(interfaces, sandbox, port, way, host)?;
                Ok(Target { kind: target.kind | BESIDE, ..target })
            });
            let beside = beside.collect::<Result<_, PortError>>()?;
            targets.push(Wanted { target: target(interfaces, sandbox, port, way, host)?, beside });
        }
    }
    Ok(targets)
}

/// All the interfaces in the sandbox that something leads to.
pub(crate) fn ways(publication: &Publication) -> impl Iterator<Item = &PortTarget> {
    let own = publication.mappings.iter().flat_map(|mapping| [&mapping.ipv4, &mapping.ipv6]).flatten();
    own.chain(publication.beside.iter().filter(|_| !publication.mappings.is_empty()))
}

/// What the host's filter may be asked about a published range.
pub(crate) fn range(wanted: &Wanted) -> Option<Range> {
    let Target { protocol, host, first, last, .. } = wanted.target;
    let all = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let protocol = all.into_iter().find(|p| p.number() == protocol)?;
    Some(Range { protocol, host, first, last })
}

/// The same of one that is not published.
pub(crate) fn ranges_of(port: &PublishedPort, families: Families) -> impl Iterator<Item = Range> {
    let hosts = [(ANY_IPV4, families != Families::Ipv6), (ANY_IPV6, families != Families::Ipv4)];
    let (protocol, first, last) = (port.protocol, port.host_ports.first(), port.host_ports.last());
    let host_ip = port.host_ip.map(host::address);
    let hosts = hosts.into_iter().filter_map(move |(any, asked)| {
        let host = match host_ip {
            Some(host) if is_ipv4(&host) != is_ipv4(&any) => return None,
            Some(host) => host,
            None => any,
        };
        asked.then_some(host)
    });
    hosts.map(move |host| Range { protocol, host, first, last })
}

fn target(
    interfaces: &Interfaces,
    sandbox: Sandbox,
    port: &PublishedPort,
    way: &PortTarget,
    host: Address,
) -> Result<Target, PortError> {
    let bridge_mac = match interfaces.framing(&way.bridge).on("find interface", &way.bridge)? {
        Framing::Ethernet(mac) => mac,
        Framing::Bare | Framing::Other => [0; 6],
    };
    Ok(Target {
        address: host::address(way.address),
        gateway: host::address(way.gateway),
        sandbox,
        host,
        link: interfaces.index(&way.link).on("find interface", &way.link)?,
        bridge: interfaces.index(&way.bridge).on("find interface", &way.bridge)?,
        lineage: 0,
        first: port.host_ports.first(),
        last: port.host_ports.last(),
        container_port: port.container_port,
        mac: way.mac.0,
        bridge_mac,
        protocol: port.protocol.number(),
        kind: if way.apart { APART } else { 0 },
    })
}

fn check(port: &PublishedPort) -> Result<(), PortError> {
    let refuse = |kind, why: &'static str| {
        let (first, last) = (port.host_ports.first(), port.host_ports.last());
        let object = format!("{first}-{last}/{}", port.protocol);
        Err(PortError { operation: "publish", object, kind, source: why.into() })
    };
    if port.protocol == Protocol::Sctp && port.container_port != port.host_ports.first() {
        return refuse(
            ErrorKind::Unimplemented,
            "an SCTP port can be published under its own number alone (its checksum, a CRC, is of the ports too)",
        );
    }
    if port.container_port.checked_add(port.host_ports.last() - port.host_ports.first()).is_none() {
        return refuse(ErrorKind::Invalid, "the container's range ends past port 65535");
    }
    Ok(())
}
