//! What a client asks for on a network: read, completed, and refused where the network cannot give it.

use std::net::IpAddr;

use libnetwork_rpc::v1;

use crate::{Error, Result, config::EndpointSettings, sysctls};

/// What is asked for on a network, with the network's name and id filled in.
pub(crate) fn settled(
    network: &v1::Network,
    mut settings: EndpointSettings,
) -> Result<(String, EndpointSettings)> {
    if matches!(network.name.as_str(), "bridge" | "host" | "none") {
        return predefined(network.name.clone(), settings);
    }
    let mut problems = malformed(&settings);
    if problems.is_empty() {
        problems.extend(outside(&settings, network));
    }
    if !problems.is_empty() {
        return Err(refuse(&network.name, &problems));
    }
    settings.network_id.clone_from(&network.id);
    Ok((network.name.clone(), settings))
}

pub(crate) fn predefined(name: String, settings: EndpointSettings) -> Result<(String, EndpointSettings)> {
    let mut problems = Vec::new();
    let ipam = settings.ipam_config.as_ref();
    if ipam.is_some_and(|c| !c.ipv4_address.is_empty() || !c.ipv6_address.is_empty()) {
        problems.push("user specified IP address is supported on user defined networks only".to_owned());
    }
    if settings.aliases.as_ref().is_some_and(|a| !a.is_empty()) {
        let rule = "network-scoped alias is supported only for containers in user defined networks";
        problems.push(rule.to_owned());
    }
    problems.extend(malformed(&settings));
    if problems.is_empty() { Ok((name, settings)) } else { Err(refuse(&name, &problems)) }
}

/// The settings that a client gives must be some, even if they are empty.
pub(crate) fn given(network: &str, settings: Option<EndpointSettings>) -> Result<EndpointSettings> {
    settings.ok_or_else(|| {
        Error::Invalid(format!("invalid config for network {network}: EndpointsConfig is nil"))
    })
}

/// Only what a client may ask for.
pub(crate) fn requested(settings: EndpointSettings) -> EndpointSettings {
    let EndpointSettings { ipam_config, links, aliases, mac_address, driver_opts, gw_priority, .. } =
        settings;
    EndpointSettings {
        ipam_config,
        links,
        aliases,
        mac_address,
        driver_opts,
        gw_priority,
        ..Default::default()
    }
}

pub(crate) fn refuse(network: &str, problems: &[String]) -> Error {
    let text = match problems {
        [one] => one.clone(),
        many => many.iter().map(|p| format!("* {p}")).collect::<Vec<_>>().join("\n"),
    };
    Error::Invalid(format!("invalid config for network {network}: invalid endpoint settings:\n{text}"))
}

pub(crate) fn malformed(settings: &EndpointSettings) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some(ipam) = &settings.ipam_config {
        if !ipam.ipv4_address.is_empty() && !matches!(ipam.ipv4_address.parse(), Ok(IpAddr::V4(_))) {
            problems.push(format!("invalid IPv4 address: {}", ipam.ipv4_address));
        }
        if !ipam.ipv6_address.is_empty() && !matches!(ipam.ipv6_address.parse(), Ok(IpAddr::V6(_))) {
            problems.push(format!("invalid IPv6 address: {}", ipam.ipv6_address));
        }
    }
    if let Some(ipam) = &settings.ipam_config {
        for address in ipam.link_local_ips.iter().flatten() {
            // Any other may be a neighbour's.
            if !address.parse().is_ok_and(is_link_local) {
                problems.push(format!("invalid link-local IP address: {address}"));
            }
        }
    }
    for link in settings.links.iter().flatten().filter(|link| link.split(':').nth(2).is_some()) {
        problems.push(format!("bad format for links: {link}"));
    }
    problems.extend(sysctls::malformed(settings.driver_opts.as_ref()));
    if !settings.mac_address.is_empty()
        && settings.mac_address.parse::<libnetwork_model::MacAddress>().is_err()
    {
        problems.push(format!("invalid MAC address: {}", settings.mac_address));
    }
    problems
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// Addresses that a network cannot give, each with Docker's words for why.
fn outside(settings: &EndpointSettings, network: &v1::Network) -> Vec<String> {
    let configured: Vec<(ipnet::IpNet, bool)> = (network.subnets.iter().filter(|subnet| !subnet.from_pool))
        .filter_map(|subnet| Some((subnet.subnet.parse().ok()?, subnet.idle)))
        .collect();
    let refused = |ip: IpAddr| {
        if !configured.iter().any(|(subnet, _)| subnet.addr().is_ipv4() == ip.is_ipv4()) {
            let rule = "user specified IP address is supported only when connecting to networks with user configured subnets";
            return Some(rule.to_owned());
        }
        let outside = !configured.iter().any(|(subnet, idle)| !idle && subnet.contains(&ip));
        outside.then(|| format!("no configured subnet or ip-range contain the IP address {ip}"))
    };
    let ipam = settings.ipam_config.iter();
    ipam.flat_map(|ipam| [&ipam.ipv4_address, &ipam.ipv6_address])
        .filter_map(|text| refused(text.parse().ok()?))
        .collect()
}
