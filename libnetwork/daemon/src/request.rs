//! From messages to what the core is asked. Only the form is judged here.

use std::net::IpAddr;

use libnetwork_core::{CreateNetwork, EndpointSpec, Join, Reserve};
use libnetwork_model::{
    ErrorKind, NamespaceKind, Opening, PortRange, PortWish, Protocol, ProtocolError, SandboxId,
};
use libnetwork_rpc::{address, mac, resolver, status, subnet, v1};
use tonic::Status;

pub(crate) fn create_network(message: v1::CreateNetworkRequest) -> Result<CreateNetwork, Status> {
    Ok(CreateNetwork {
        // Docker's preface to whatever is wrong with them.
        subnets: message
            .subnets
            .iter()
            .map(subnet)
            .collect::<Result<_, _>>()
            .map_err(|error| invalid(format!("invalid network config:\n{error}")))?,
        name: message.name,
        driver: message.driver,
        ipv4: message.ipv4,
        ipv6: message.ipv6,
        internal: message.internal,
        attachable: message.attachable,
        labels: message.labels.into_iter().collect(),
        options: message.options.into_iter().collect(),
        ipam_driver: message.ipam_driver,
        ipam_options: message.ipam_options.into_iter().collect(),
        config_only: message.config_only,
        config_from: Some(message.config_from).filter(|name| !name.is_empty()),
    })
}

pub(crate) fn join(message: v1::JoinRequest) -> Result<Join, Status> {
    Ok(Join {
        id: sandbox_id(&message.id)?,
        name: message.name,
        namespace: if message.host_namespace { NamespaceKind::Host } else { NamespaceKind::Own },
        resolver: message.resolver.as_ref().map(resolver).transpose()?.unwrap_or_default(),
        endpoints: message.endpoints.into_iter().map(endpoint).collect::<Result<_, _>>()?,
        ports: ports(&message.ports)?,
    })
}

pub(crate) fn endpoint(message: v1::EndpointSpec) -> Result<EndpointSpec, Status> {
    let (ipv4, ipv6) = (address("IPv4 address", &message.ipv4)?, address("IPv6 address", &message.ipv6)?);
    let wrong = |text: &str, family| invalid(format!("invalid {family} address: {text}"));
    Ok(EndpointSpec {
        ipv4: match ipv4 {
            None => None,
            Some(std::net::IpAddr::V4(address)) => Some(address),
            Some(_) => return Err(wrong(&message.ipv4, "IPv4")),
        },
        ipv6: match ipv6 {
            // As in Docker, not even one that was asked for.
            _ if message.without_ipv6 => None,
            None => None,
            Some(std::net::IpAddr::V6(address)) => Some(address),
            Some(_) => return Err(wrong(&message.ipv6, "IPv6")),
        },
        mac: mac("MAC address", &message.mac)?,
        network: message.network,
        aliases: message.aliases,
        links: message.links.into_iter().collect(),
        openings: openings(&message.openings)?,
        gateway_priority: message.gateway_priority,
        without_ipv6: message.without_ipv6,
        link_local: addresses("link-local address", &message.link_local)?,
        options: message.options.into_iter().collect(),
    })
}

pub(crate) fn reserve(message: v1::ReserveRequest) -> Result<Reserve, Status> {
    let places = |specs: Vec<v1::EndpointSpec>| -> Result<Vec<(String, IpAddr)>, Status> {
        let mut places = Vec::new();
        for spec in specs {
            let both = [address("IPv4 address", &spec.ipv4)?, address("IPv6 address", &spec.ipv6)?];
            places.extend(both.into_iter().flatten().map(|address| (spec.network.clone(), address)));
        }
        Ok(places)
    };
    Ok(Reserve {
        sandbox: sandbox_id(&message.id)?,
        fixed: places(message.endpoints)?,
        preferred: places(message.preferred)?,
    })
}

fn addresses(field: &'static str, texts: &[String]) -> Result<Vec<IpAddr>, Status> {
    let mut addresses = Vec::with_capacity(texts.len());
    for text in texts {
        addresses.extend(address(field, text)?);
    }
    Ok(addresses)
}

pub(crate) fn sandbox_id(text: &str) -> Result<SandboxId, Status> {
    text.parse().map_err(|error: libnetwork_model::IdError| invalid(error.to_string()))
}

pub(crate) fn ports(messages: &[v1::PortSpec]) -> Result<Vec<PortWish>, Status> {
    messages.iter().map(port).collect()
}

pub(crate) fn openings(messages: &[v1::Opening]) -> Result<Vec<Opening>, Status> {
    messages.iter().map(opening).collect()
}

fn opening(message: &v1::Opening) -> Result<Opening, Status> {
    let (first, last) = (number("port", message.first)?, number("port", message.last)?);
    Ok(Opening {
        sandbox: sandbox_id(&message.sandbox_id)?,
        protocol: protocol(&message.protocol)?,
        ports: PortRange::new(first, last)
            .ok_or_else(|| invalid(format!("invalid range of ports {first}-{last}")))?,
    })
}

fn number(what: &str, value: u32) -> Result<u16, Status> {
    u16::try_from(value).map_err(|_| invalid(format!("invalid {what} {value}: ports end at 65535")))
}

fn protocol(text: &str) -> Result<Protocol, Status> {
    text.parse().map_err(|error: ProtocolError| invalid(error.to_string()))
}

fn port(message: &v1::PortSpec) -> Result<PortWish, Status> {
    let (first, last) = (number("host port", message.host_first)?, number("host port", message.host_last)?);
    let last = if last == 0 { first } else { last };
    let host_ports = match (first, last) {
        (0, 0) => None,
        (first, last) => Some(
            PortRange::new(first, last)
                .ok_or_else(|| invalid(format!("invalid range of host ports {first}-{last}")))?,
        ),
    };
    Ok(PortWish {
        protocol: protocol(&message.protocol)?,
        host_ip: address("host IP", &message.host_ip)?,
        host_ports,
        container_port: number("container port", message.container_port)?,
        count: number("count of ports", message.count)?.max(1),
    })
}

fn invalid(message: String) -> Status {
    status(ErrorKind::Invalid, message)
}
