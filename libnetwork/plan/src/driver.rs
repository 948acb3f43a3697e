use std::{net::IpAddr, sync::Arc};

use libnetwork_model::{Endpoint, ErrorKind, HasKind, HostFacts, Intent, Network, Opening, PublishedPort};

use crate::{Desired, Name};

/// Compiles networks of one kind to kernel objects. It holds no socket, no store, no lock: the same input gives the same
/// output. Every object lies under a key that no other network or endpoint uses, except for [`Driver::host_objects`] and
/// for sysctls, which are never removed.
pub trait Driver: Send + Sync {
    /// Refuses options that are unknown under the driver's own prefixes, wrong, or in contradiction with the network.
    ///
    /// The network's subnets need not be settled: those of a request without any are still empty.
    fn validate(&self, network: &Network, host: &HostFacts) -> Result<(), DriverError>;

    /// Refuses options of an endpoint that are wrong.
    fn validate_endpoint(&self, network: &Network, endpoint: &Endpoint) -> Result<(), DriverError> {
        let _ = (network, endpoint);
        Ok(())
    }

    /// What all networks of the driver share on this host. Desired as soon as one network of the driver exists.
    fn host_objects(&self, host: &HostFacts, out: &mut Desired) {
        let _ = (host, out);
    }

    /// What the network needs by itself, without any endpoint.
    fn network_objects(&self, network: &Network, host: &HostFacts, out: &mut Desired);

    /// How the endpoints of a network are shared out, for drivers whose networks have parts that do not hold all of them.
    fn segments(&self) -> Option<Segments> {
        None
    }

    /// What a segment beyond the first needs: made with its first endpoint, removed with its last. Each stands by itself.
    fn segment_objects(&self, network: &Network, segment: u16, host: &HostFacts, out: &mut Desired) {
        let _ = (network, segment, host, out);
    }

    /// What one endpoint adds to it, in the host and in its sandbox. The sandbox's own objects (namespace, default
    /// routes, DNS rules) are [`crate::sandbox_objects`].
    fn endpoint_objects(&self, network: &Network, endpoint: &Endpoint, host: &HostFacts, out: &mut Desired);

    /// What one of an endpoint's openings needs, to another endpoint of the network. It goes with either of them.
    fn opening_objects(
        &self,
        network: &Network,
        from: &Endpoint,
        to: &Endpoint,
        opening: &Opening,
        out: &mut Desired,
    ) {
        let _ = (network, from, to, opening, out);
    }

    /// Where published ports of an endpoint lead, for drivers whose networks can publish.
    fn attachment(&self, network: &Network, endpoint: &Endpoint, host: &HostFacts) -> Option<Attachment> {
        let _ = (network, endpoint, host);
        None
    }

    /// Whether clients reach published ports of a family by the container's own address alone. Then they take no port of
    /// the host.
    fn routes_ports(&self, network: &Network, ipv6: bool) -> bool {
        let _ = (network, ipv6);
        false
    }

    /// What published ports need of the endpoint whose network is the way out of a family, beside the mapping of the host's
    /// ports to them. `published`: the ports of that family, at least one. `beside`: the bridges of the sandbox's other
    /// networks, by which it answers clients there.
    fn port_objects(
        &self,
        network: &Network,
        endpoint: &Endpoint,
        ipv6: bool,
        published: &[PublishedPort],
        beside: &[Name],
        out: &mut Desired,
    ) {
        let _ = (network, endpoint, ipv6, published, beside, out);
    }

    /// Names of host links that the network takes for itself: the core refuses a network that wants one of another's.
    fn link_names(&self, network: &Network) -> Vec<Name> {
        let _ = network;
        Vec::new()
    }

    /// Networks among which are all of the driver's that take this name, found without looking at every one there is. A driver
    /// that has link names says this, too.
    fn link_holders<'a>(&self, intent: &'a Intent, name: &str) -> Vec<&'a Arc<Network>> {
        let _ = (intent, name);
        Vec::new()
    }

    /// Whether a name is one of [`Driver::link_names`].
    fn takes_link(&self, network: &Network, name: &str) -> bool {
        self.link_names(network).iter().any(|own| **own == *name)
    }

    /// Whether the host has an address on the network, of a family.
    fn has_gateway(&self, network: &Network, ipv6: bool) -> bool {
        let _ = (network, ipv6);
        true
    }

    /// The start of interface names in sandboxes; a number follows.
    fn interface_prefix<'a>(&self, network: &'a Network) -> &'a str {
        let _ = network;
        "eth"
    }

    /// The host address that ports are published on when the client named none. None: all of them.
    fn host_binding(&self, network: &Network, ipv6: bool) -> Option<IpAddr> {
        let _ = (network, ipv6);
        None
    }

    /// Whether addresses are to be leased on networks of this driver (`host` and `none` have none).
    fn leases_addresses(&self) -> bool {
        true
    }
}

/// What the parts of a network hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segments {
    /// How many endpoints one takes.
    pub endpoints: u32,
    /// How many a network has at most.
    pub most: u16,
}

/// The host's side of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The host's end of the veth pair.
    pub link: Name,
    /// None while somebody else's is away: no ports lead by it until it is back.
    pub bridge: Option<Name>,
    /// It is kept from the network's other endpoints.
    pub apart: bool,
}

/// Why a driver refuses a network. Each names the option or the thing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    #[error("unknown option {option:?} of driver {driver}; it knows {}", list(known))]
    UnknownOption { driver: &'static str, option: String, known: Vec<&'static str> },
    #[error("option {option} is {value:?}, must be {expected}")]
    Value { option: String, value: String, expected: &'static str },
    #[error("{what}")]
    Contradiction { what: String },
    /// Docker's words.
    #[error("{driver} driver doesn't support multiple subnets")]
    ManySubnets { driver: &'static str },
}

impl HasKind for DriverError {
    fn kind(&self) -> ErrorKind {
        match self {
            // Docker answers 403 here.
            DriverError::ManySubnets { .. } => ErrorKind::InUse,
            _ => ErrorKind::Invalid,
        }
    }
}

fn list(known: &[&str]) -> String {
    if known.is_empty() { "none".into() } else { known.join(", ") }
}
