//! Exposed and published ports: Docker's texts, causewayd's ranges.

use std::{collections::BTreeSet, fmt, net::IpAddr, str::FromStr};

use libnetwork_model::Protocol;
use libnetwork_rpc::v1;

use crate::{
    Error, Result,
    config::{ContainerConfig, HostConfig, Port, PortBinding, PortMap, PortSet, port_run::HostPort},
};

/// `80/tcp`. Ordered as Docker sorts them for people: by number, then protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ContainerPort {
    pub(crate) number: u16,
    pub(crate) protocol: Protocol,
}

impl FromStr for ContainerPort {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = || Error::Invalid(format!("invalid port specification: {text:?}"));
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = if protocol.is_empty() { "tcp" } else { protocol };
        Ok(Self {
            number: number.parse().ok().filter(|n| *n != 0).ok_or_else(invalid)?,
            protocol: protocol.parse().map_err(|_| invalid())?,
        })
    }
}

impl fmt::Display for ContainerPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)
    }
}

/// The ports of a set such as `ExposedPorts`, in which a key may also be a range (`8000-8010/tcp`).
pub(crate) fn exposed(set: &Option<PortSet>) -> Result<Vec<ContainerPort>> {
    let Some(set) = set else { return Ok(Vec::new()) };
    let mut ports: Vec<ContainerPort> = set.ranges().iter().flat_map(|range| range.each()).collect();
    for text in set.other() {
        let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        match numbers.split_once('-') {
            None => ports.push(text.parse()?),
            Some((first, last)) => {
                let first: ContainerPort = format!("{first}/{protocol}").parse()?;
                let last: ContainerPort = format!("{last}/{protocol}").parse()?;
                ports.extend((first.number..=last.number).map(|number| ContainerPort { number, ..first }));
            }
        }
    }
    ports.sort();
    ports.dedup();
    Ok(ports)
}

/// A `HostPort`: first and last; 0 and 0 for any free port.
pub(crate) fn host_range(text: &str) -> Result<(u16, u16)> {
    let invalid = || Error::Invalid(format!("invalid port specification: {text:?}"));
    let port = |text: &str| text.parse::<u16>().map_err(|_| invalid());
    let (first, last) = match text.split_once('-') {
        _ if text.is_empty() => (0, 0),
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(text)?, port(text)?),
    };
    if first > last { Err(invalid()) } else { Ok((first, last)) }
}

/// Checks what can be checked before the container starts.
pub(crate) fn check(host: &HostConfig) -> Result<()> {
    let Some(bindings) = &host.port_bindings else { return Ok(()) };
    for place in bindings.runs().iter().flat_map(|run| run.places.iter().flatten()) {
        if let HostPort::Each(text) = &place.host_port {
            host_range(text)?;
        }
        host_ip(&place.host_ip)?;
    }
    for (port, bindings) in bindings.other() {
        port.parse::<ContainerPort>()?;
        for binding in bindings.iter().flatten() {
            host_range(&binding.host_port)?;
            host_ip(&binding.host_ip)?;
        }
    }
    Ok(())
}

pub(crate) fn host_ip(text: &str) -> Result<Option<IpAddr>> {
    // IPv6 addresses may come in brackets, as in `-p [::1]:80:80`, and IPv4 ones as IPv6 writes them (`::ffff:127.0.0.1`).
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    if bare.is_empty() {
        return Ok(None);
    }
    let ip = bare.parse::<IpAddr>().map_err(|_| Error::Invalid(format!("invalid IP address: {text}")))?;
    Ok(Some(ip.to_canonical()))
}

/// A container's port and one place on the host where it is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Publication {
    pub(crate) port: ContainerPort,
    pub(crate) binding: PortBinding,
}

/// `[HOST_IP:][HOST_PORT[-LAST]:]PORT[-LAST][/PROTOCOL]`, as `docker run -p` takes it, port by port. A range of host
/// ports for one container port is a choice.
pub(crate) fn publications(text: &str) -> Result<Vec<Publication>> {
    let invalid = |problem: &str| Error::Invalid(format!("invalid published port {text:?}: {problem}"));
    let (numbers, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.parse::<Protocol>().map_err(|error| invalid(&error.to_string()))?;
    let (host, container) = numbers.rsplit_once(':').unwrap_or(("", numbers));
    let (ip, host) = host.rsplit_once(':').unwrap_or(("", host));
    let ip = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
    host_ip(ip)?;
    let (first, last) = host_range(container).map_err(|_| invalid("container ports are from 1 to 65535"))?;
    if first == 0 {
        return Err(invalid("container ports are from 1 to 65535"));
    }
    let (host_first, host_last) = host_range(host).map_err(|_| invalid("host ports are from 0 to 65535"))?;
    let choice = first == last && host_first != host_last;
    if host_last != 0 && !choice && host_last - host_first != last - first {
        return Err(invalid("the two ranges are not equally long"));
    }
    let publication = |number: u16| {
        let host_port = match host_last {
            0 => String::new(),
            _ if choice => format!("{host_first}-{host_last}"),
            _ => (host_first + (number - first)).to_string(),
        };
        let binding = PortBinding { host_ip: ip.to_owned(), host_port };
        Publication { port: ContainerPort { number, protocol }, binding }
    };
    Ok((first..=last).map(publication).collect())
}

/// Whether a sandbox publishes a container's port on this host port, by a binding with this host address.
pub(crate) fn leads(sandbox: &v1::Sandbox, port: &ContainerPort, ip: &str, host_port: &str) -> bool {
    let (Ok(host_port), Ok(ip)) = (host_port.parse::<u32>(), host_ip(ip)) else { return false };
    sandbox.ports.iter().any(|p| {
        let offset = u32::from(port.number).checked_sub(p.container_port).filter(|o| *o < p.count.max(1));
        p.protocol == port.protocol.to_string()
            && offset.is_some_and(|offset| p.host_port + offset == host_port)
            && ip.is_none_or(|ip| host_ip(&p.host_ip).ok().flatten() == Some(ip))
    })
}

/// Whether a sandbox publishes what is wished for and nothing else, as far as the wishes say.
pub(crate) fn meet(wishes: &[v1::PortSpec], sandbox: &v1::Sandbox) -> bool {
    let met = |wish: &v1::PortSpec| {
        let hosts = if wish.host_first == 0 { 1..=u32::MAX } else { wish.host_first..=wish.host_last };
        sandbox.ports.iter().any(|p| {
            p.protocol == wish.protocol
                && p.container_port == wish.container_port
                && p.count == wish.count.max(1)
                && p.host_port != 0
                && hosts.contains(&p.host_port)
                && hosts.contains(&(p.host_port + p.count - 1))
                && (wish.host_ip.is_empty() || p.host_ip == wish.host_ip)
        })
    };
    sandbox.ports.len() == wishes.len() && wishes.iter().all(met)
}

/// Every published port as Docker lists it: one entry per port and family.
fn each(sandbox: &v1::Sandbox) -> impl Iterator<Item = (ContainerPort, &str, u16)> {
    sandbox.ports.iter().flat_map(|port| {
        let protocol = port.protocol.parse().unwrap_or(Protocol::Tcp);
        let ips: &[&str] = if port.host_ip.is_empty() { &["0.0.0.0", "::"] } else { &[] };
        let ips = ips.iter().copied().chain((!port.host_ip.is_empty()).then_some(port.host_ip.as_str()));
        (0..port.count.max(1)).flat_map(move |offset| {
            let number = (port.container_port + offset) as u16;
            // None of a routed network.
            let host = if port.host_port == 0 { 0 } else { (port.host_port + offset) as u16 };
            ips.clone().map(move |ip| (ContainerPort { number, protocol }, ip, host))
        })
    })
}

/// Exposed ports, as Docker shows them: where a network could publish them, because it leads out.
fn reachable(config: &ContainerConfig, sandbox: &v1::Sandbox) -> Vec<ContainerPort> {
    let leads_out = |endpoint: &v1::Endpoint| !endpoint.gateway4.is_empty() || !endpoint.gateway6.is_empty();
    match sandbox.endpoints.iter().any(leads_out) {
        true => exposed(&config.exposed_ports).unwrap_or_default(),
        false => Vec::new(),
    }
}

/// `NetworkSettings.Ports`: published ports where they are, exposed ones with `null`.
pub(crate) fn map(config: &ContainerConfig, sandbox: &v1::Sandbox) -> PortMap {
    let mut map = PortMap::new();
    for port in reachable(config, sandbox) {
        map.insert(port.to_string(), None);
    }
    for (port, ip, host) in each(sandbox) {
        map.entry(port.to_string()).or_default().get_or_insert_default().push(PortBinding {
            host_ip: ip.to_owned(),
            host_port: if host == 0 { String::new() } else { host.to_string() },
        });
    }
    map
}

/// The `Ports` of `ps`.
pub(crate) fn list(config: &ContainerConfig, sandbox: &v1::Sandbox) -> Vec<Port> {
    let mut ports: Vec<Port> = each(sandbox)
        .map(|(port, ip, host)| Port {
            ip: ip.to_owned(),
            private_port: port.number,
            public_port: Some(host).filter(|host| *host != 0),
            r#type: port.protocol.to_string(),
        })
        .collect();
    let published: BTreeSet<ContainerPort> = each(sandbox).map(|(port, ..)| port).collect();
    for port in reachable(config, sandbox) {
        let r#type = port.protocol.to_string();
        if !published.contains(&port) {
            ports.push(Port { ip: String::new(), private_port: port.number, public_port: None, r#type });
        }
    }
    ports.sort_by(|a, b| {
        (a.private_port, &a.r#type, a.public_port).cmp(&(b.private_port, &b.r#type, b.public_port))
    });
    ports
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What publishes these: container port, host address, host port.
    pub(crate) fn host(bindings: &[(&str, &str, &str)]) -> HostConfig {
        let mut map = PortMap::new();
        for (port, ip, host) in bindings {
            map.entry((*port).to_owned())
                .or_default()
                .get_or_insert_default()
                .push(PortBinding { host_ip: (*ip).to_owned(), host_port: (*host).to_owned() });
        }
        HostConfig { port_bindings: Some(map.into()), ..HostConfig::default() }
    }

    #[test]
    fn a_published_port_reads_as_docker_reads_it() {
        let read = |text| {
            let all = publications(text).map_err(|e| e.to_string())?;
            let one = |p: &Publication| format!("{}>{}>{}", p.binding.host_ip, p.binding.host_port, p.port);
            Ok::<_, String>(all.iter().map(one).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(read("80").unwrap(), ">>80/tcp");
        assert_eq!(read("0:80").unwrap(), ">>80/tcp");
        assert_eq!(read("8080:80/udp").unwrap(), ">8080>80/udp");
        assert_eq!(read("127.0.0.1::80").unwrap(), "127.0.0.1>>80/tcp");
        assert_eq!(read("[::1]:8080:80").unwrap(), "::1>8080>80/tcp");
        assert_eq!(read("8000-8001:80-81").unwrap(), ">8000>80/tcp >8001>81/tcp");
        assert_eq!(read("8000-8009:80").unwrap(), ">8000-8009>80/tcp");
        assert_eq!(publications("1-65535:1-65535").unwrap().len(), 65_535);
        for bad in ["", "0", "x", "80/foo", "8000-8001:80-82", "70000:1", "a:1:1", "9-8", "8080:0", ":"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_bad_port_is_named() {
        for (port, ip, text) in [
            ("80/foo", "", "80"),
            ("0", "", "80"),
            ("x", "", ""),
            ("80", "", "bad"),
            ("80", "", "9-8"),
            ("80", "", " 8090"),
            ("80", "z", ""),
        ] {
            assert!(check(&host(&[(port, ip, text)])).is_err(), "{port} {ip} {text}");
        }
        let error = check(&host(&[("80", "", "99999")])).unwrap_err();
        assert_eq!(error.to_string(), "invalid port specification: \"99999\"");
    }

    #[test]
    fn a_published_range_is_listed_port_by_port_and_family_by_family() {
        let sandbox = v1::Sandbox {
            ports: vec![v1::PublishedPort {
                protocol: "udp".into(),
                host_ip: String::new(),
                host_port: 9000,
                container_port: 53,
                count: 2,
                ..Default::default()
            }],
            endpoints: vec![v1::Endpoint { gateway4: "10.0.0.1".into(), ..v1::Endpoint::default() }],
            ..v1::Sandbox::default()
        };
        let config = ContainerConfig {
            exposed_ports: Some(PortSet::from_iter(["80/tcp"])),
            ..ContainerConfig::default()
        };
        let nowhere = v1::Sandbox::default();
        assert_eq!((list(&config, &nowhere), self::map(&config, &nowhere)), (Vec::new(), PortMap::new()));
        let ports = list(&config, &sandbox);
        assert_eq!(ports.len(), 5);
        assert_eq!((ports[1].ip.as_str(), ports[1].public_port), ("::", Some(9000)));
        let map = map(&config, &sandbox);
        assert_eq!(map["80/tcp"], None);
        assert_eq!(map["54/udp"].as_ref().unwrap().len(), 2);
    }
}
