//! What can be asked of the core, parsed and not yet judged.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use libnetwork_ipam::PortWish;
use libnetwork_model::{MacAddress, NamespaceKind, Resolver, SandboxId, Subnet};

#[derive(Debug, Clone)]
pub struct CreateNetwork {
    pub name: String,
    /// Empty: `bridge`.
    pub driver: String,
    pub ipv4: bool,
    pub ipv6: bool,
    pub internal: bool,
    pub attachable: bool,
    /// Asked-for subnets; of a family without any, one is chosen.
    pub subnets: Vec<Subnet>,
    pub labels: BTreeMap<String, String>,
    pub options: BTreeMap<String, String>,
    /// Empty or `default`.
    pub ipam_driver: String,
    pub ipam_options: BTreeMap<String, String>,
}

/// One endpoint that a sandbox is to have.
#[derive(Debug, Clone, Default)]
pub struct EndpointSpec {
    /// Full id, name, or unambiguous id prefix.
    pub network: String,
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    pub mac: Option<MacAddress>,
    pub aliases: Vec<String>,
    pub gateway_priority: i32,
    pub options: BTreeMap<String, String>,
}

/// A sandbox with all that it is to have.
#[derive(Debug, Clone)]
pub struct Join {
    pub id: SandboxId,
    pub name: String,
    pub namespace: NamespaceKind,
    pub resolver: Resolver,
    pub endpoints: Vec<EndpointSpec>,
    /// Without meaning, and ignored as Docker does, in the host's namespace.
    pub ports: Vec<PortWish>,
}

#[derive(Debug, Clone)]
pub(crate) enum Command {
    CreateNetwork(CreateNetwork),
    RemoveNetwork { reference: String },
    Join(Join),
    Leave { sandbox: SandboxId },
    Connect { sandbox: SandboxId, endpoint: EndpointSpec },
    Disconnect { sandbox: SandboxId, network: String },
    Rename { sandbox: SandboxId, name: String },
    SetPorts { sandbox: SandboxId, ports: Vec<PortWish> },
}
