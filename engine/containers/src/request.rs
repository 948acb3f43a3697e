//! What of a creation can be judged by the client's own words only, before the image's are added, and by the version of the
//! API that it speaks. What older ones say of the container and now belongs to an endpoint is brought there.

use std::collections::BTreeMap;

use crate::{
    Result,
    config::{ContainerConfig, EndpointSettings, HostConfig},
    sysctls::OF_ENDPOINT,
    validate::refuse,
};

/// From these versions of the API on, MAC addresses and settings of interfaces belong to endpoints, and one of several
/// networks can be preferred.
const MACS_OF_ENDPOINTS: u32 = 44;
const SYSCTLS_OF_ENDPOINTS: u32 = 48;
pub(crate) const GATEWAY_PRIORITIES: u32 = 48;

/// What is asked for, by the network's name or id.
pub(crate) type Asked = BTreeMap<String, Option<EndpointSettings>>;

/// Answers the warnings. `api` is the minor version.
pub(crate) fn settle(
    host: &mut HostConfig,
    config: &mut ContainerConfig,
    asked: &mut Asked,
    api: u32,
) -> Result<Vec<String>> {
    let joins = host.network_mode.starts_with("container:");
    if joins && config.exposed_ports.as_ref().is_some_and(|ports| !ports.is_empty()) {
        return refuse("conflicting options: port exposing and the container type network mode");
    }
    let mut warnings = Vec::new();
    if api < MACS_OF_ENDPOINTS {
        single_endpoint(host, config, asked)?;
    } else if !config.mac_address.is_empty() {
        let text = "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.";
        warnings.push(text.to_owned());
    }
    if api < GATEWAY_PRIORITIES {
        asked.values_mut().flatten().for_each(|settings| settings.gw_priority = 0);
    }
    warnings.extend(sysctls(host, asked, api)?);
    Ok(warnings)
}

/// As it was when a container was made on one network: whose MAC address is the container's, wherever that is.
fn single_endpoint(host: &HostConfig, config: &mut ContainerConfig, asked: &mut Asked) -> Result<()> {
    if asked.len() > 1 {
        let names: Vec<&str> = asked.keys().map(String::as_str).collect();
        return refuse(format!(
            "Container cannot be created with multiple network endpoints: {}",
            names.join(", ")
        ));
    }
    let mode = host.network_mode.as_str();
    if !config.mac_address.is_empty() && (matches!(mode, "host" | "none") || mode.starts_with("container:")) {
        return refuse("conflicting options: mac-address and the network mode");
    }
    if let Some(settings) = asked.values_mut().flatten().next() {
        settings.mac_address = std::mem::take(&mut config.mac_address);
    }
    Ok(())
}

/// Settings of `eth0` are the main network's; which network another interface would be on, nobody knows.
fn sysctls(host: &mut HostConfig, asked: &mut Asked, api: u32) -> Result<Option<String>> {
    let mode = match host.network_mode.as_str() {
        "host" => return Ok(None),
        joins if joins.starts_with("container:") => return Ok(None),
        "" | "default" => "bridge",
        mode => mode,
    };
    let Some(sysctls) = &mut host.sysctls else { return Ok(None) };
    let mut moved = Vec::new();
    for (name, value) in &*sysctls {
        let words: Vec<&str> = name.splitn(5, '.').collect();
        let ["net", family, kind, interface, setting] = words[..] else { continue };
        if !interface.starts_with("eth") {
            continue;
        }
        if api >= SYSCTLS_OF_ENDPOINTS {
            return refuse(format!(
                "interface specific sysctl setting {name:?} must be supplied using driver option '{OF_ENDPOINT}'"
            ));
        }
        if interface != "eth0" {
            return refuse(format!(
                "unable to determine network endpoint for sysctl {name}, use driver option '{OF_ENDPOINT}' to set \
                 per-interface sysctls"
            ));
        }
        moved.push((name.clone(), format!("net.{family}.{kind}.IFNAME.{setting}={value}")));
    }
    let Some((first, _)) = moved.first() else { return Ok(None) };
    let default = (mode == "bridge" && asked.contains_key("default")).then_some("default");
    let endpoint = if asked.is_empty() {
        asked.entry(mode.to_owned()).or_insert_with(|| Some(EndpointSettings::default())).as_mut()
    } else if api < MACS_OF_ENDPOINTS {
        asked.values_mut().next().and_then(Option::as_mut)
    } else if let Some(endpoint) = asked.get_mut(default.unwrap_or(mode)) {
        endpoint.as_mut()
    } else {
        return refuse(format!(
            "unable to find a network for sysctl {first}: HostConfig.NetworkMode must match the identity of a network in \
             NetworkSettings.Networks"
        ));
    };
    // One that is null is refused as such, later.
    let Some(endpoint) = endpoint else { return Ok(None) };
    let (names, settings): (Vec<String>, Vec<String>) = moved.into_iter().unzip();
    sysctls.retain(|name, _| !names.contains(name));
    let settings = settings.join(",");
    let warning =
        format!("Migrated sysctl {:?} to DriverOpts{{{OF_ENDPOINT:?}:{settings:?}}}.", names.join(","));
    // What is said of the endpoint comes last, and so counts.
    let options = endpoint.driver_opts.get_or_insert_default();
    let all = match options.get(OF_ENDPOINT) {
        Some(said) => format!("{settings},{said}"),
        None => settings,
    };
    options.insert(OF_ENDPOINT.to_owned(), all);
    Ok(Some(warning))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PortSet;

    fn mode(mode: &str) -> HostConfig {
        HostConfig { network_mode: mode.into(), ..HostConfig::default() }
    }

    #[test]
    fn a_joined_namespace_exposes_no_ports_from_here() {
        let mut expose = ContainerConfig {
            exposed_ports: Some(PortSet::from_iter(["80/tcp"])),
            ..ContainerConfig::default()
        };
        assert!(settle(&mut mode("container:c"), &mut expose, &mut Asked::new(), 51).is_err());
        assert!(settle(&mut mode("bridge"), &mut expose, &mut Asked::new(), 51).is_ok());
    }

    /// What is kept of these sysctls, what the endpoints are asked for, and the warnings.
    fn settled(
        names: &[&str],
        network: &str,
        asked: &[(&str, &str)],
        api: u32,
    ) -> std::result::Result<[Vec<String>; 3], String> {
        let sysctls = names.iter().map(|name| ((*name).to_owned(), "1".to_owned())).collect();
        let mut host = HostConfig { sysctls: Some(sysctls), ..mode(network) };
        let settings = |said: &str| EndpointSettings {
            driver_opts: (!said.is_empty()).then(|| [(OF_ENDPOINT.to_owned(), said.to_owned())].into()),
            ..EndpointSettings::default()
        };
        let mut asked: Asked =
            asked.iter().map(|(name, said)| ((*name).to_owned(), Some(settings(said)))).collect();
        let warnings = settle(&mut host, &mut ContainerConfig::default(), &mut asked, api);
        let warnings = warnings.map_err(|error| error.to_string())?;
        let said = |(name, settings): (String, Option<EndpointSettings>)| {
            let options = settings.unwrap().driver_opts?;
            Some(format!("{name}: {}", options[OF_ENDPOINT]))
        };
        let kept = host.sysctls.unwrap().into_keys().collect();
        Ok([kept, asked.into_iter().filter_map(said).collect(), warnings])
    }

    #[test]
    fn older_clients_settings_of_the_first_interface_are_the_main_network_s() {
        let (all, one) = ("net.ipv4.conf.all.forwarding", "net.ipv4.conf.eth0.log_martians");
        let words = "Migrated sysctl \"net.ipv4.conf.eth0.log_martians\" to \
                     DriverOpts{\"com.docker.network.endpoint.sysctls\":\"net.ipv4.conf.IFNAME.log_martians=1\"}.";
        for (network, asked, api, said) in [
            ("", &[][..], 47, "bridge: net.ipv4.conf.IFNAME.log_martians=1"),
            ("net", &[], 24, "net: net.ipv4.conf.IFNAME.log_martians=1"),
            ("default", &[("default", "")], 47, "default: net.ipv4.conf.IFNAME.log_martians=1"),
            ("net", &[("a", ""), ("net", "x=1")], 47, "net: net.ipv4.conf.IFNAME.log_martians=1,x=1"),
            ("net", &[("id", "")], 43, "id: net.ipv4.conf.IFNAME.log_martians=1"),
        ] {
            let [kept, endpoints, warnings] = settled(&[all, one], network, asked, api).unwrap();
            assert_eq!(
                (kept, endpoints, warnings),
                (vec![all.into()], vec![said.into()], vec![words.into()])
            );
        }
    }

    #[test]
    fn settings_of_interfaces_that_nobody_knows_the_network_of_are_refused() {
        let refused = |name: &str, asked: &[(&str, &str)], api, says: &str| {
            let said = settled(&[name], "net", asked, api).unwrap_err();
            assert!(said.contains(says), "{said}");
        };
        refused(
            "net.ipv4.conf.eth0.x",
            &[],
            48,
            "\"net.ipv4.conf.eth0.x\" must be supplied using driver option",
        );
        refused(
            "net.ipv4.conf.eth1.x",
            &[],
            47,
            "unable to determine network endpoint for sysctl net.ipv4.conf.eth1.x",
        );
        refused("net.ipv4.conf.eth0.x", &[("id", "")], 47, "unable to find a network for sysctl");
        for (name, network) in
            [("net.ipv4.conf.eth1.x", "host"), ("net.ipv4.conf.all.x", "net"), ("net.ipv4.conf.eth0", "net")]
        {
            assert_eq!(settled(&[name], network, &[], 51).unwrap()[0], [name]);
        }
    }

    #[test]
    fn before_there_could_be_several_endpoints_there_is_one_with_the_container_s_mac_address() {
        let of = |mac: &str| {
            Some(EndpointSettings { mac_address: mac.into(), gw_priority: 3, ..Default::default() })
        };
        let settled = |network: &str, mac: &str, asked: &[&str], api| {
            let mut config = ContainerConfig { mac_address: mac.into(), ..ContainerConfig::default() };
            let mut asked: Asked = asked.iter().map(|name| ((*name).to_owned(), of("own"))).collect();
            settle(&mut mode(network), &mut config, &mut asked, api).map_err(|error| error.to_string())?;
            let endpoints: Vec<_> =
                asked.into_values().flatten().map(|e| (e.mac_address, e.gw_priority)).collect();
            Ok::<_, String>(endpoints)
        };
        assert_eq!(
            settled("net", "", &["a", "b"], 43).unwrap_err(),
            "Container cannot be created with multiple network endpoints: a, b"
        );
        for network in ["host", "none", "container:c"] {
            let said = settled(network, "wide", &[], 43).unwrap_err();
            assert_eq!(said, "conflicting options: mac-address and the network mode");
            assert!(settled(network, "wide", &[], 44).is_ok());
        }
        let one = |mac: &str, priority| Ok(vec![(mac.to_owned(), priority)]);
        assert_eq!(settled("net", "", &["net"], 43), one("", 0));
        assert_eq!(settled("net", "wide", &["net"], 43), one("wide", 0));
        assert_eq!(settled("net", "", &["net"], 47), one("own", 0));
        assert_eq!(settled("net", "", &["net"], 48), one("own", 3));
    }
}
