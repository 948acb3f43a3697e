//! Between the messages and the model: texts parsed once, at the edge, with the field's name in the error.

use std::{collections::BTreeMap, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use libnetwork_model::{ErrorKind, HasKind, MacAddress, Network, PublishedPort, Resolver, Subnet};
use tonic::Status;

use crate::{status, v1};

/// A field of a message whose text does not parse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {field} {text}: {problem}")]
pub struct FieldError {
    pub field: &'static str,
    pub text: String,
    pub problem: String,
}

impl HasKind for FieldError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

impl From<FieldError> for Status {
    fn from(error: FieldError) -> Status {
        status(ErrorKind::Invalid, error.to_string())
    }
}

/// An address, or none where the field is empty.
pub fn address(field: &'static str, text: &str) -> Result<Option<IpAddr>, FieldError> {
    optional(field, text, "not an IP address")
}

/// A prefix such as `10.1.0.0/16`, or none where the field is empty. Host bits are kept.
pub fn cidr(field: &'static str, text: &str) -> Result<Option<IpNet>, FieldError> {
    optional(field, text, "not an address with a prefix length, like 10.1.0.0/16")
}

/// An Ethernet address, or none where the field is empty.
pub fn mac(field: &'static str, text: &str) -> Result<Option<MacAddress>, FieldError> {
    optional(field, text, "not a unicast MAC address like 02:42:ac:11:00:02")
}

/// A subnet as it was asked for, host bits kept: `libnetwork-ipam` refuses them in Docker's words.
pub fn subnet(message: &v1::Subnet) -> Result<Subnet, FieldError> {
    let malformed = || refuse("subnet", &message.subnet, "invalid CIDR block notation");
    // Some read 010 as eight, and some as ten: IpNet does, and IpAddr takes neither.
    let written = message.subnet.split_once('/').and_then(|(address, _)| address.parse::<IpAddr>().ok());
    let net: IpNet = message.subnet.parse().ok().filter(|_| written.is_some()).ok_or_else(malformed)?;
    let auxiliary = message
        .auxiliary
        .iter()
        .map(|(name, text)| match text.parse() {
            Ok(address) => Ok((name.clone(), address)),
            Err(_) => Err(refuse("auxiliary address", name, "invalid address")),
        })
        .collect::<Result<BTreeMap<_, _>, _>>()?;
    Ok(Subnet {
        subnet: net,
        gateway: optional("gateway", &message.gateway, "invalid address")?,
        gateway_chosen: false,
        ip_range: optional("ip-range", &message.ip_range, "invalid CIDR block notation")?,
        auxiliary,
        requested: true,
    })
}

pub fn subnet_to_v1(subnet: &Subnet) -> v1::Subnet {
    v1::Subnet {
        subnet: subnet.subnet.to_string(),
        gateway: text(subnet.gateway),
        ip_range: text(subnet.ip_range),
        auxiliary: subnet
            .auxiliary
            .iter()
            .map(|(name, address)| (name.clone(), address.to_string()))
            .collect(),
        gateway_unsaid: false,
        idle: false,
        from_pool: !subnet.requested,
    }
}

pub fn resolver(message: &v1::Resolver) -> Result<Resolver, FieldError> {
    let mut servers = Vec::with_capacity(message.servers.len());
    for text in &message.servers {
        servers.extend(address("dns server", text)?);
    }
    Ok(Resolver { servers, search: message.search.clone(), options: message.options.clone() })
}

pub fn resolver_to_v1(resolver: &Resolver) -> v1::Resolver {
    v1::Resolver {
        servers: resolver.servers.iter().map(IpAddr::to_string).collect(),
        search: resolver.search.clone(),
        options: resolver.options.clone(),
    }
}

pub fn port_to_v1(port: &PublishedPort) -> v1::PublishedPort {
    v1::PublishedPort {
        protocol: port.protocol.to_string(),
        host_ip: text(port.host_ip),
        host_port: if port.routed { 0 } else { port.host_ports.first().into() },
        container_port: port.container_port.into(),
        count: port.host_ports.count().into(),
        ..Default::default()
    }
}

/// Docker tells of a gateway that somebody asked for, and of one that it chose with the subnet.
fn shown(network: &Network, subnet: &Subnet) -> v1::Subnet {
    let gateway_unsaid = subnet.gateway_chosen && subnet.requested && !network.predefined;
    v1::Subnet { gateway_unsaid, ..subnet_to_v1(subnet) }
}

/// As Docker orders them: first those that were asked for.
fn subnets(network: &Network) -> Vec<v1::Subnet> {
    let used = network.subnets.iter().map(|subnet| (subnet, shown(network, subnet)));
    let idle = network.idle_subnets.iter();
    let idle = idle.map(|subnet| (subnet, v1::Subnet { idle: true, ..subnet_to_v1(subnet) }));
    let mut all: Vec<_> = used.chain(idle).collect();
    all.sort_by_key(|(subnet, _)| (!subnet.requested, subnet.subnet.addr().is_ipv6()));
    all.into_iter().map(|(_, shown)| shown).collect()
}

/// The message of a network without its endpoints.
pub fn network_fields(network: &Network) -> v1::Network {
    v1::Network {
        id: network.id.to_string(),
        name: network.name.clone(),
        driver: network.driver.clone(),
        created_ns: network.created_ns,
        ipv4: network.ipv4,
        ipv6: network.ipv6,
        internal: network.internal,
        attachable: network.attachable,
        predefined: network.predefined,
        subnets: subnets(network),
        labels: network.labels.clone().into_iter().collect(),
        options: network.options.clone().into_iter().collect(),
        ipam_options: network.ipam_options.clone().into_iter().collect(),
        endpoints: Vec::new(),
        config_only: network.config_only,
        config_from: network.config_from.clone().unwrap_or_default(),
    }
}

fn text<T: ToString>(value: Option<T>) -> String {
    value.map(|v| v.to_string()).unwrap_or_default()
}

fn optional<T: FromStr>(field: &'static str, text: &str, problem: &str) -> Result<Option<T>, FieldError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| refuse(field, text, problem))
}

fn refuse(field: &'static str, text: &str, problem: &str) -> FieldError {
    FieldError { field, text: text.chars().take(80).collect(), problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_survives_the_round_trip() {
        let message = v1::Subnet {
            subnet: "10.1.2.0/24".into(),
            gateway: "10.1.2.1".into(),
            ip_range: "10.1.2.128/25".into(),
            auxiliary: [("router".to_owned(), "10.1.2.5".to_owned())].into(),
            gateway_unsaid: false,
            idle: false,
            from_pool: false,
        };
        assert_eq!(subnet_to_v1(&subnet(&message).unwrap()), message);
    }

    #[test]
    fn an_unreadable_subnet_is_named() {
        let error = subnet(&v1::Subnet { subnet: "10.1.2.0/40".into(), ..Default::default() }).unwrap_err();
        assert_eq!(error.field, "subnet");
        assert!(error.to_string().contains("10.1.2.0/40"), "{error}");
    }
}
