//! What of a creation can be judged by the client's own words only, before the image's are added, and by the version of the
//! API that it speaks.

use crate::{
    Result,
    config::{ContainerConfig, HostConfig},
    validate::refuse,
};

/// From these versions of the API on, MAC addresses and settings of interfaces belong to endpoints.
pub(crate) const MACS_OF_ENDPOINTS: u32 = 44;
const SYSCTLS_OF_ENDPOINTS: u32 = 48;

/// `api` is the minor version.
pub(crate) fn check(host: &HostConfig, config: &ContainerConfig, api: u32) -> Result<()> {
    let joins = host.network_mode.starts_with("container:");
    if joins && config.exposed_ports.as_ref().is_some_and(|ports| !ports.is_empty()) {
        return refuse("conflicting options: port exposing and the container type network mode");
    }
    let of_an_interface = |name: &&String| {
        let words: Vec<&str> = name.splitn(5, '.').collect();
        matches!(words[..], ["net", _, _, interface, _] if interface.starts_with("eth"))
    };
    let owns = !joins && host.network_mode != "host" && api >= SYSCTLS_OF_ENDPOINTS;
    match host.sysctls.iter().flatten().map(|(name, _)| name).find(of_an_interface).filter(|_| owns) {
        Some(name) => refuse(format!(
            "interface specific sysctl setting {name:?} must be supplied using driver option \
             'com.docker.network.endpoint.sysctls'"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PortSet;

    #[test]
    fn a_joined_namespace_and_its_interfaces_are_not_changed_from_here() {
        let expose = ContainerConfig {
            exposed_ports: Some(PortSet::from_iter(["80/tcp"])),
            ..ContainerConfig::default()
        };
        let mode = |mode: &str| HostConfig { network_mode: mode.into(), ..HostConfig::default() };
        assert!(check(&mode("container:c"), &expose, 51).is_err());
        assert!(check(&mode("bridge"), &expose, 51).is_ok());
        let says = |name: &str, network: &str, api: u32| {
            let sysctls = Some([(name.to_owned(), "1".to_owned())].into());
            let host = HostConfig { sysctls, ..mode(network) };
            check(&host, &ContainerConfig::default(), api).map_err(|error| error.to_string())
        };
        assert_eq!(
            says("net.ipv4.conf.eth0.forwarding", "bridge", 48).unwrap_err(),
            "interface specific sysctl setting \"net.ipv4.conf.eth0.forwarding\" must be supplied using driver option \
             'com.docker.network.endpoint.sysctls'"
        );
        for (name, network, api) in [
            ("net.ipv4.conf.eth0.forwarding", "bridge", 47),
            ("net.ipv4.conf.eth0.forwarding", "host", 51),
            ("net.ipv4.conf.all.forwarding", "bridge", 51),
            ("net.ipv4.conf.eth0", "bridge", 51),
        ] {
            assert_eq!(says(name, network, api), Ok(()));
        }
    }
}
