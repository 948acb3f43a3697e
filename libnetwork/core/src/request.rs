//! What can be asked of the core, parsed and not yet judged.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use libnetwork_model::{MacAddress, NamespaceKind, Opening, PortWish, Resolver, SandboxId, Subnet};

#[derive(Debug, Clone)]
pub struct CreateNetwork {
    pub name: String,
    /// Empty: `bridge`.
    pub driver: String,
    /// None: as the option of the same meaning says, else true.
    pub ipv4: Option<bool>,
    /// None: as the option of the same meaning says, else false.
    pub ipv6: Option<bool>,
    pub internal: bool,
    pub attachable: bool,
    /// Asked-for subnets; of a family without any, one is chosen.
    pub subnets: Vec<Subnet>,
    pub labels: BTreeMap<String, String>,
    pub options: BTreeMap<String, String>,
    /// Empty or `default`.
    pub ipam_driver: String,
    pub ipam_options: BTreeMap<String, String>,
    /// Nothing but a set of options, for others' `config_from`.
    pub config_only: bool,
    /// The config-only network whose options, subnets and families this one takes.
    pub config_from: Option<String>,
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
    /// Names for this sandbox alone, each with the name that it stands for on the network.
    pub links: BTreeMap<String, String>,
    /// What it reaches where the network keeps its endpoints apart.
    pub openings: Vec<Opening>,
    pub gateway_priority: i32,
    /// It gets no IPv6 address, whatever the network has.
    pub without_ipv6: bool,
    /// Addresses that the interface gets besides.
    pub link_local: Vec<IpAddr>,
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

/// Addresses to keep for a container, whether or not it runs. Replaces what was reserved for it before.
#[derive(Debug, Clone)]
pub struct Reserve {
    pub sandbox: SandboxId,
    /// By network reference: those that somebody asked for.
    pub fixed: Vec<(String, IpAddr)>,
    /// Those it had last without asking for them.
    pub preferred: Vec<(String, IpAddr)>,
}

#[derive(Debug, Clone)]
pub(crate) enum Command {
    CreateNetwork(CreateNetwork),
    RemoveNetwork { reference: String },
    Join(Join),
    Leave { sandbox: SandboxId, keep: bool },
    Reserve(Reserve),
    SetNetwork { reference: String, settings: BTreeMap<String, String> },
    Connect { sandbox: SandboxId, endpoint: EndpointSpec },
    Disconnect { sandbox: SandboxId, network: String },
    Rename { sandbox: SandboxId, name: String },
    SetPorts { sandbox: SandboxId, ports: Vec<PortWish> },
    SetOpenings { sandbox: SandboxId, network: String, openings: Vec<Opening> },
}
