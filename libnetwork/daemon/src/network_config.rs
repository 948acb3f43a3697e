//! The file of `--network-config`: what `daemon.json` and dockerd's flags say about networks, under Docker's own keys.

use std::{collections::BTreeMap, net::IpAddr, path::Path};

use driver_bridge::BridgeDriver;
use ipnet::IpNet;
use libnetwork_core::Defaults;
use libnetwork_ipam::{Pool, default_pools};
use libnetwork_model::Subnet;
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct File {
    /// The default bridge's link; `none`: there is no default bridge.
    bridge: String,
    bip: String,
    bip6: String,
    fixed_cidr: String,
    fixed_cidr_v6: String,
    default_gateway: String,
    default_gateway_v6: String,
    default_address_pools: Vec<PoolEntry>,
    icc: Option<bool>,
    /// Where ports are published when the client named no address.
    ip: String,
    ip_masq: Option<bool>,
    /// In bytes; 0: the host's.
    mtu: u32,
    ipv6: bool,
    /// Whether the host is made to forward; by itself it is.
    ip_forward: Option<bool>,
    /// Whether the host may route between others where it is made to forward.
    ip_forward_no_drop: bool,
    /// Whether there are rules of ours about a family; by themselves there are.
    iptables: Option<bool>,
    ip6tables: Option<bool>,
    /// Whether published ports are reached by the containers' own addresses, too.
    allow_direct_routing: bool,
    default_network_opts: BTreeMap<String, BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PoolEntry {
    base: String,
    size: u8,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read it")]
    Read(#[from] std::io::Error),
    #[error("cannot understand it")]
    Parse(#[from] serde_json::Error),
    #[error("{key} is {value:?}, must be {expected}")]
    Value { key: &'static str, value: String, expected: &'static str },
}

/// What the file comes to.
#[derive(Debug)]
pub(crate) struct Configured {
    pub(crate) defaults: Defaults,
    pub(crate) pools: Vec<Pool>,
    pub(crate) bridge: BridgeDriver,
    /// What it says something about.
    pub(crate) keys: Vec<String>,
}

/// What the file says. Without a file, what Docker does without one.
pub(crate) fn read(path: Option<&Path>) -> Result<Configured, ConfigError> {
    match path {
        None => parse(b"{}"),
        Some(path) => parse(&std::fs::read(path)?),
    }
}

fn parse(text: &[u8]) -> Result<Configured, ConfigError> {
    let file: File = serde_json::from_slice(text)?;
    let keys: BTreeMap<String, serde::de::IgnoredAny> = serde_json::from_slice(text)?;
    let forwarding = file.ip_forward.unwrap_or(true);
    let mut options = BTreeMap::new();
    let mut option = |key: &str, value: Option<String>| {
        options.extend(value.map(|value| (key.to_owned(), value)));
    };
    option("com.docker.network.bridge.enable_icc", file.icc.map(|b| b.to_string()));
    option("com.docker.network.bridge.enable_ip_masquerade", file.ip_masq.map(|b| b.to_string()));
    option("com.docker.network.driver.mtu", (file.mtu != 0).then(|| file.mtu.to_string()));
    if let Some(address) = address("ip", &file.ip)? {
        // Of either family, in spite of its name.
        option("com.docker.network.bridge.host_binding_ipv4", Some(address.to_string()));
    }
    let no_bridge = file.bridge == "none";
    let named = Some(file.bridge.clone()).filter(|name| !name.is_empty() && !no_bridge);
    option("com.docker.network.bridge.name", named);

    let subnets = [
        subnet([("bip", &file.bip), ("fixed-cidr", &file.fixed_cidr)], false)?,
        subnet([("bip6", &file.bip6), ("fixed-cidr-v6", &file.fixed_cidr_v6)], true)?,
    ];
    let routers = [
        router("default-gateway", &file.default_gateway, false)?,
        router("default-gateway-v6", &file.default_gateway_v6, true)?,
    ];
    let mut pools = file.default_address_pools.iter().map(pool).collect::<Result<Vec<_>, _>>()?;
    if !pools.iter().any(|pool| pool.base.addr().is_ipv4()) {
        pools.extend(default_pools());
    }
    let defaults = Defaults {
        no_bridge,
        bridge_options: options,
        bridge_subnets: subnets.into_iter().flatten().collect(),
        bridge_routers: routers,
        bridge_ipv6: file.ipv6,
        network_options: file.default_network_opts,
    };
    Ok(Configured {
        defaults,
        pools,
        bridge: BridgeDriver {
            direct_routing: file.allow_direct_routing,
            forwarding,
            ruled: [file.iptables.unwrap_or(true), file.ip6tables.unwrap_or(true)],
            router: file.ip_forward_no_drop,
            ..BridgeDriver::default()
        },
        keys: keys.into_keys().collect(),
    })
}

/// The default bridge's subnet of a family from the keys that tell of it; a range without a `bip` is all of it.
fn subnet(keys: [(&'static str, &String); 2], ipv6: bool) -> Result<Option<Subnet>, ConfigError> {
    let [bip, range] = keys.map(|(key, text)| net(key, text, ipv6));
    let (bip, range) = (bip?, range?);
    let Some(whole) = bip.or(range) else { return Ok(None) };
    Ok(Some(Subnet {
        subnet: whole.trunc(),
        gateway: bip.map(|net| net.addr()).filter(|a| *a != whole.network()),
        gateway_chosen: false,
        ip_range: bip.and(range).map(|range| range.trunc()),
        auxiliary: BTreeMap::new(),
        requested: true,
    }))
}

fn router(key: &'static str, text: &str, ipv6: bool) -> Result<Option<IpAddr>, ConfigError> {
    match address(key, text)? {
        Some(address) if address.is_ipv6() != ipv6 => {
            Err(wrong(key, text, if ipv6 { "an IPv6 address" } else { "an IPv4 address" }))
        }
        address => Ok(address),
    }
}

fn pool(entry: &PoolEntry) -> Result<Pool, ConfigError> {
    let refuse =
        |expected| wrong("default-address-pools", &format!("{}, {}", entry.base, entry.size), expected);
    let base: IpNet = entry.base.parse().map_err(|_| refuse("a prefix like 10.10.0.0/16 with a size"))?;
    Pool::new(base, entry.size).map_err(refuse)
}

fn net(key: &'static str, text: &str, ipv6: bool) -> Result<Option<IpNet>, ConfigError> {
    if text.is_empty() {
        return Ok(None);
    }
    let expected = if ipv6 {
        "an IPv6 address with its prefix length"
    } else {
        "an IPv4 address with its prefix length"
    };
    let net: IpNet = text.parse().map_err(|_| wrong(key, text, expected))?;
    if net.addr().is_ipv6() == ipv6 { Ok(Some(net)) } else { Err(wrong(key, text, expected)) }
}

fn address(key: &'static str, text: &str) -> Result<Option<IpAddr>, ConfigError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| wrong(key, text, "an IP address"))
}

fn wrong(key: &'static str, value: &str, expected: &'static str) -> ConfigError {
    ConfigError::Value { key, value: value.to_owned(), expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_s_keys_are_read() {
        let text = br#"{
            "bip": "10.200.0.1/24", "fixed-cidr": "10.200.0.128/25", "default-gateway": "10.200.0.254",
            "default-address-pools": [{"base": "10.210.0.0/16", "size": 24}],
            "icc": false, "ip": "127.0.0.1", "ip-masq": false, "mtu": 1400,
            "iptables": false, "ip-forward-no-drop": true, "ip-forward": false, "allow-direct-routing": true, "ipv6": true, "fixed-cidr-v6": "fd00:200::/64",
            "default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "1300"}}
        }"#;
        let Configured { defaults, pools, bridge, keys } = parse(text).unwrap();
        assert!(bridge.direct_routing && !bridge.forwarding && bridge.router);
        assert_eq!(bridge.ruled, [false, true]);
        assert_eq!(keys.len(), 15);
        let v4 = &defaults.bridge_subnets[0];
        assert_eq!(v4.subnet.to_string(), "10.200.0.0/24");
        assert_eq!(v4.gateway, "10.200.0.1".parse().ok());
        assert_eq!(v4.ip_range, "10.200.0.128/25".parse().ok());
        assert_eq!(defaults.bridge_routers, ["10.200.0.254".parse().ok(), None]);
        assert_eq!(defaults.bridge_subnets[1].subnet.to_string(), "fd00:200::/64");
        assert_eq!(pools, [Pool { base: "10.210.0.0/16".parse().unwrap(), size: 24 }]);
        assert_eq!(defaults.bridge_options.len(), 4);
        let nothing = parse(b"{}").unwrap();
        assert_eq!((nothing.defaults, nothing.pools), (Defaults::default(), default_pools()));
        assert!(nothing.bridge.forwarding && nothing.keys.is_empty());
    }

    #[test]
    fn a_wrong_key_or_value_is_named() {
        for (text, named) in [
            (r#"{"bipp": "10.0.0.1/8"}"#, "bipp"),
            (r#"{"bip": "10.0.0.300/8"}"#, "bip"),
            (r#"{"bip": "fd00::1/64"}"#, "bip"),
            (r#"{"default-gateway": "fd00::1"}"#, "default-gateway"),
            (r#"{"default-address-pools": [{"base": "10.0.0.0/16", "size": 8}]}"#, "default-address-pools"),
            (r#"{"default-address-pools": [{"base": "224.0.0.0/4", "size": 24}]}"#, "default-address-pools"),
            (r#"{"default-address-pools": [{"base": "::/0", "size": 0}]}"#, "default-address-pools"),
        ] {
            let error = libnetwork_core::chain(&parse(text.as_bytes()).unwrap_err());
            assert!(error.contains(named), "{error}");
        }
    }
}
