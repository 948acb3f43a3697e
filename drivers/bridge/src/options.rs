//! The options that the driver knows, as Docker names them.

use std::net::{IpAddr, Ipv4Addr};

use libnetwork_model::{Endpoint, Network, parse_flag};
use libnetwork_plan::DriverError;

pub(crate) const DRIVER: &str = "bridge";

pub(crate) const NAME: &str = "com.docker.network.bridge.name";
pub(crate) const ICC: &str = "com.docker.network.bridge.enable_icc";
pub(crate) const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
pub(crate) const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
pub(crate) const HOST_BINDING_IPV6: &str = "com.docker.network.bridge.host_binding_ipv6";
pub(crate) const INHIBIT_IPV4: &str = "com.docker.network.bridge.inhibit_ipv4";
pub(crate) const DEFAULT_BRIDGE: &str = "com.docker.network.bridge.default_bridge";
pub(crate) const GATEWAY_MODE_IPV4: &str = "com.docker.network.bridge.gateway_mode_ipv4";
pub(crate) const GATEWAY_MODE_IPV6: &str = "com.docker.network.bridge.gateway_mode_ipv6";
pub(crate) const TRUSTED: &str = "com.docker.network.bridge.trusted_host_interfaces";
/// The host's address that containers have outside, by family.
pub(crate) const HOST_IPV4: &str = "com.docker.network.host_ipv4";
pub(crate) const HOST_IPV6: &str = "com.docker.network.host_ipv6";
pub(crate) const MTU: &str = "com.docker.network.driver.mtu";
pub(crate) const PREFIX: &str = "com.docker.network.container_iface_prefix";

/// Ours: `false` lets containers send from addresses that are not their own, as those must that route for others.
pub(crate) const ANTI_SPOOFING: &str = "causeway.bridge.anti_spoofing";
/// Of an endpoint: settings of its interface, `net.ipv4.conf.IFNAME.log_martians=1,…`.
pub(crate) const SYSCTLS: &str = "com.docker.network.endpoint.sysctls";

/// Of Docker's prefixes Docker itself takes any name, and files that were written for it have names that do nothing.
/// Of ours a name that nobody knows is a typo.
const OWN_PREFIX: &str = "causeway.bridge.";

/// IFNAMSIZ less its final zero (linux/if.h).
const NAME_LENGTH: usize = 15;
/// RFC 791 and RFC 8200: what every link of the family must carry.
const MTU_IPV4: u32 = 68;
const MTU_IPV6: u32 = 1280;
/// The largest that a bridge takes (ETH_MAX_MTU, linux/if_ether.h).
const MTU_MOST: u32 = 65535;

/// A network's options, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options<'a> {
    /// None: named after the network's id.
    pub(crate) bridge: Option<&'a str>,
    /// Whether containers of the network reach each other.
    pub(crate) icc: bool,
    pub(crate) masquerade: bool,
    /// By family, IPv4 first: the address that packets leave the host with, where masquerade does not choose it.
    pub(crate) host_addresses: [Option<IpAddr>; 2],
    /// Links from which published ports are reached by the containers' own addresses.
    pub(crate) trusted: Vec<&'a str>,
    pub(crate) host_binding: Option<IpAddr>,
    pub(crate) host_binding_ipv6: Option<IpAddr>,
    /// By family, IPv4 first.
    pub(crate) gateway_modes: [GatewayMode; 2],
    pub(crate) anti_spoofing: bool,
    /// The bridge gets no IPv4 address.
    pub(crate) inhibit_ipv4: bool,
    /// None: the host's.
    pub(crate) mtu: Option<u32>,
    pub(crate) prefix: &'a str,
}

impl<'a> Options<'a> {
    pub(crate) fn read(network: &'a Network) -> Result<Self, DriverError> {
        let unknown = |option: &&String| option.starts_with(OWN_PREFIX) && *option != ANTI_SPOOFING;
        if let Some(option) = network.options.keys().find(unknown) {
            let known = vec![ANTI_SPOOFING];
            return Err(DriverError::UnknownOption { driver: DRIVER, option: option.clone(), known });
        }
        let gateway_modes =
            [gateway_mode(network, GATEWAY_MODE_IPV4)?, gateway_mode(network, GATEWAY_MODE_IPV6)?];
        flag(network, DEFAULT_BRIDGE, false)?;
        Ok(Options {
            bridge: link_name(network, NAME, NAME_LENGTH)?,
            icc: flag(network, ICC, true)?,
            masquerade: flag(network, MASQUERADE, true)?,
            host_addresses: [address(network, HOST_IPV4)?, address(network, HOST_IPV6)?],
            trusted: trusted(network)?,
            host_binding: address(network, HOST_BINDING)?,
            host_binding_ipv6: address(network, HOST_BINDING_IPV6)?,
            gateway_modes,
            anti_spoofing: flag(network, ANTI_SPOOFING, true)?,
            inhibit_ipv4: flag(network, INHIBIT_IPV4, false)?,
            mtu: mtu(network)?,
            // A number of up to four digits follows.
            prefix: link_name(network, PREFIX, NAME_LENGTH - 4)?.unwrap_or("eth"),
        })
    }

    /// Options that were accepted once: what cannot be read any more is as if it had not been given.
    pub(crate) fn of(network: &'a Network) -> Self {
        Self::read(network).unwrap_or(Options {
            bridge: None,
            icc: true,
            masquerade: true,
            host_addresses: [None; 2],
            trusted: Vec::new(),
            host_binding: None,
            host_binding_ipv6: None,
            gateway_modes: [GatewayMode::Nat; 2],
            anti_spoofing: true,
            inhibit_ipv4: false,
            mtu: None,
            prefix: "eth",
        })
    }
}

/// Options that Docker does not take empty: a variable that was not set, most often.
const FILLED: [&str; 10] = [
    ICC,
    MASQUERADE,
    HOST_BINDING,
    INHIBIT_IPV4,
    DEFAULT_BRIDGE,
    GATEWAY_MODE_IPV4,
    GATEWAY_MODE_IPV6,
    HOST_IPV4,
    HOST_IPV6,
    MTU,
];

/// What a new network is refused for, and one that was made before is not.
pub(crate) fn refuse_empty(network: &Network) -> Result<(), DriverError> {
    let empty = |option: &&&str| network.options.get(**option).is_some_and(String::is_empty);
    match FILLED.iter().find(empty) {
        None => Ok(()),
        Some(option) => Err(refused(option, "", "a value; leave the option out for what it is by default")),
    }
}

/// An option's value; an empty one counts as not given.
fn text<'a>(network: &'a Network, option: &str) -> Option<&'a str> {
    network.options.get(option).map(String::as_str).filter(|value| !value.is_empty())
}

fn refused(option: &str, value: &str, expected: &'static str) -> DriverError {
    DriverError::Value { option: option.into(), value: value.into(), expected }
}

fn flag(network: &Network, option: &str, default: bool) -> Result<bool, DriverError> {
    match text(network, option) {
        None => Ok(default),
        Some(value) => parse_flag(value).ok_or_else(|| refused(option, value, "true or false")),
    }
}

fn mtu(network: &Network) -> Result<Option<u32>, DriverError> {
    let Some(value) = text(network, MTU) else { return Ok(None) };
    let (least, expected) = if network.ipv6 {
        (MTU_IPV6, "a number of bytes from 1280 to 65535 on a network with IPv6")
    } else {
        (MTU_IPV4, "a number of bytes from 68 to 65535")
    };
    match value.parse::<u32>() {
        // Docker's "as the host has it".
        Ok(0) => Ok(None),
        Ok(mtu) if (least..=MTU_MOST).contains(&mtu) => Ok(Some(mtu)),
        _ => Err(refused(MTU, value, expected)),
    }
}

/// An address of the host. 0.0.0.0 means any of them, like none, of either family.
fn address(network: &Network, option: &str) -> Result<Option<IpAddr>, DriverError> {
    let Some(value) = text(network, option) else { return Ok(None) };
    let ipv6 = matches!(option, HOST_BINDING_IPV6 | HOST_IPV6);
    match value.parse::<IpAddr>() {
        // Docker's default binding has IPv4 in its name alone: `::` is any address of IPv6, and none of IPv4.
        Ok(address) if option == HOST_BINDING => Ok(Some(address).filter(|a| *a != Ipv4Addr::UNSPECIFIED)),
        Ok(address) if address.is_ipv6() == ipv6 => Ok(Some(address).filter(|a| !a.is_unspecified())),
        _ if option == HOST_BINDING => Err(refused(option, value, "an address of the host")),
        _ => Err(refused(option, value, if ipv6 { "an IPv6 address" } else { "an IPv4 address" })),
    }
}

/// Separated by colons, as Docker has them. The links need not be there yet.
fn trusted(network: &Network) -> Result<Vec<&str>, DriverError> {
    let Some(value) = text(network, TRUSTED) else { return Ok(Vec::new()) };
    let is_link = |name: &&str| {
        (1..=NAME_LENGTH).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
    };
    let names: Vec<&str> = value.split(':').collect();
    match names.iter().all(is_link) {
        true => Ok(names),
        false => Err(refused(TRUSTED, value, "interface names separated by colons, as in eth0:wg0")),
    }
}

/// A name that can neither leave a path it is put in nor be taken for an option or a pattern.
fn link_name<'a>(network: &'a Network, option: &str, most: usize) -> Result<Option<&'a str>, DriverError> {
    let Some(value) = text(network, option) else { return Ok(None) };
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let starts = value.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    if value.len() <= most
        && starts
        && value.chars().all(allowed)
        && !matches!(value, "all" | "default" | "lo")
    {
        return Ok(Some(value));
    }
    let expected = if option == PREFIX {
        "the start of an interface name: at most 11 letters, digits, _, - and ., beginning with a letter or digit"
    } else {
        "an interface name: at most 15 letters, digits, _, - and ., beginning with a letter or digit"
    };
    Err(refused(option, value, expected))
}

/// How a family of a network and the outside meet at the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GatewayMode {
    /// Containers go out as the host; of them, the outside reaches published ports.
    Nat,
    /// And every port of theirs by their own addresses, if it knows a route.
    NatUnprotected,
    /// Containers go out as themselves; of them, who knows a route reaches published ports by their own addresses, and
    /// nobody by the host's.
    Routed,
    /// There is no gateway: the host has no address on the network.
    Isolated,
}

fn gateway_mode(network: &Network, option: &str) -> Result<GatewayMode, DriverError> {
    match text(network, option) {
        None | Some("nat") => Ok(GatewayMode::Nat),
        Some("nat-unprotected") => Ok(GatewayMode::NatUnprotected),
        Some("isolated") if network.internal => Ok(GatewayMode::Isolated),
        Some("isolated") => {
            // Docker's words.
            let what = format!("gateway mode 'isolated' can only be used for an internal network ({option})");
            Err(DriverError::Contradiction { what })
        }
        Some("routed") => Ok(GatewayMode::Routed),
        Some(value) => Err(refused(option, value, "one of nat, nat-unprotected, routed, isolated")),
    }
}

/// The settings of an endpoint's interface, as paths below /proc/sys and values.
pub(crate) fn sysctls(endpoint: &Endpoint) -> Result<Vec<(String, String)>, DriverError> {
    let Some(value) = endpoint.options.get(SYSCTLS).filter(|value| !value.is_empty()) else {
        return Ok(Vec::new());
    };
    let expected = "a list like net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.IFNAME.accept_ra=2";
    value.split(',').map(|one| sysctl(one, &endpoint.ifname).ok_or(refused(SYSCTLS, one, expected))).collect()
}

/// None of the parts can lead anywhere else: they are plain words.
fn sysctl(text: &str, ifname: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    let parts: Vec<&str> = name.trim().split('.').collect();
    let ["net", family @ ("ipv4" | "ipv6" | "mpls"), kind @ ("conf" | "neigh"), link, setting] = parts[..]
    else {
        return None;
    };
    // The docker CLI sends options of `--network` in small letters.
    if !link.eq_ignore_ascii_case("IFNAME") {
        return None;
    }
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let plain = !setting.is_empty() && setting.chars().all(word) && !value.contains(['\n', '\0']);
    plain.then(|| (format!("net/{family}/{kind}/{ifname}/{setting}"), value.trim().to_owned()))
}
