use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::NetworkId;

/// A network as a person made it. What its driver does with it is compiled from this and from nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    pub id: NetworkId,
    /// Unique on this host.
    pub name: String,
    /// The driver's name: `bridge`, `host`, `none`, …
    pub driver: String,
    /// When it was made, in nanoseconds since the Unix epoch.
    pub created_ns: u64,
    pub ipv4: bool,
    pub ipv6: bool,
    /// No way out: neither a default route in its sandboxes nor masquerade.
    pub internal: bool,
    pub attachable: bool,
    /// Made at start by the daemon itself (`bridge`, `host`, `none`); it cannot be removed.
    pub predefined: bool,
    /// Nothing but a set of options for other networks to be made from: it has no link and no endpoint.
    #[serde(default)]
    pub config_only: bool,
    /// The name of the network whose options these are copies of.
    #[serde(default)]
    pub config_from: Option<String>,
    /// Its link was there before, made by somebody else: it is used as it is, and never made, changed or removed. Settled
    /// when the network is made, and at starts, so that a link that is not there for a while becomes nobody's other.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub foreign_link: bool,
    /// Settled at creation: when none was asked for, the ones chosen from the pools.
    pub subnets: Vec<Subnet>,
    /// Asked for, of a family that is off: shown as they were asked for, and used by nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub idle_subnets: Vec<Subnet>,
    pub labels: BTreeMap<String, String>,
    /// Driver options as they were given; the driver validates the ones under its own prefixes.
    pub options: BTreeMap<String, String>,
    pub ipam_options: BTreeMap<String, String>,
}

/// A range of addresses of a network (one entry of Docker's `IPAM.Config`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// Network address and prefix length; host bits are zero.
    pub subnet: IpNet,
    /// The host's own address on the network; none for a network that has no gateway.
    pub gateway: Option<IpAddr>,
    /// Nobody asked for it: it was chosen.
    #[serde(default)]
    pub gateway_chosen: bool,
    /// Where addresses are leased from, when not from the whole subnet.
    pub ip_range: Option<IpNet>,
    /// Addresses that are never leased, by the name they were reserved under.
    #[serde(default)]
    pub auxiliary: BTreeMap<String, IpAddr>,
    /// Whether a person gave the subnet, rather than the pools.
    #[serde(default)]
    pub requested: bool,
}

impl Subnet {
    /// Where a sandbox's default route leads: the host's own address, unless an auxiliary address was given for it under
    /// Docker's name.
    pub fn way_out(&self) -> Option<IpAddr> {
        self.auxiliary.get(self.router_name()).copied().or(self.gateway)
    }

    /// Docker's name for the auxiliary address of a router that is not the host.
    pub fn router_name(&self) -> &'static str {
        if self.subnet.addr().is_ipv6() { "DefaultGatewayIPv6" } else { "DefaultGatewayIPv4" }
    }
}

impl Network {
    /// The first subnet of a family: the one that addresses are leased from when none is asked for.
    pub fn subnet(&self, ipv6: bool) -> Option<&Subnet> {
        self.subnets.iter().find(|s| matches!(s.subnet, IpNet::V6(_)) == ipv6)
    }
}

/// The spellings of true and false that Docker takes in options (Go's `strconv.ParseBool`).
pub fn parse_flag(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
