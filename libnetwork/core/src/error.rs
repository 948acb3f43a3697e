//! Why a command was refused.

use std::sync::Arc;

use libnetwork_ipam::{LeaseError, PoolError, PortError as PortChoiceError, SubnetError};
use libnetwork_model::{ErrorKind, HasKind};
use libnetwork_plan::{DriverError, KernelError};

use crate::{NameError, PortError, StoreError};

/// What a command answers with when it was not carried out. Nothing of it is left then.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("network {reference} not found")]
    NetworkNotFound { reference: String },
    #[error("{count} matches found based on ID prefix: network {reference} is ambiguous")]
    NetworkAmbiguous { reference: String, count: usize },
    #[error("network with name {name} already exists")]
    NetworkExists { name: String },
    #[error("invalid network name {name:?}: give at most 255 bytes, of characters that can be seen")]
    NetworkName { name: String },
    #[error("invalid name: name is empty")]
    NoName,
    #[error("operation is not permitted on predefined {name} network")]
    NetworkReserved { name: String },
    #[error("{name} is a pre-defined network and cannot be removed")]
    NetworkPredefined { name: String },
    /// Something that Docker answers with 403; the text says what and names the thing.
    #[error("{what}")]
    Forbidden { what: String },
    #[error("configuration network {name:?} does not exist")]
    ConfigurationNotFound { name: String },
    #[error("configuration network {name:?} is in use by network {user}")]
    ConfigurationInUse { name: String, user: String },
    #[error("only one instance of \"{driver}\" network is allowed")]
    OneInstance { driver: String },
    /// Docker's words.
    #[error(
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm \
         and try again."
    )]
    NoSwarm,
    #[error("plugin {name:?} not found")]
    UnknownPlugin { name: String },
    #[error("IPv4 or IPv6 must be enabled")]
    NoFamily,
    #[error("error while removing network: network {name} has active endpoints ({endpoints})")]
    ActiveEndpoints { name: String, endpoints: String },
    #[error("sandbox {id} not found")]
    SandboxNotFound { id: String },
    #[error("endpoint with name {sandbox} already exists in network {network}")]
    EndpointExists { sandbox: String, network: String },
    #[error("container {sandbox} is not connected to the network {network}")]
    NotConnected { sandbox: String, network: String },
    #[error("network {name} has {endpoints} endpoints, and takes no more: use another network")]
    NetworkFull { name: String, endpoints: u32 },
    /// Of a network whose bridge somebody else made.
    #[error(
        "bridge {bridge} of network {network} is not there: it was made by somebody else, who has to make it again, with \
         its addresses"
    )]
    BridgeAway { network: String, bridge: String },
    /// A request that contradicts itself or a rule; the text says which and names the thing.
    #[error("{what}")]
    Invalid { what: String },
    #[error(transparent)]
    Driver(DriverError),
    #[error("invalid network config:\n{0}")]
    Config(SubnetError),
    #[error(transparent)]
    Subnet(SubnetError),
    #[error(transparent)]
    Pool(PoolError),
    #[error(transparent)]
    Lease(LeaseError),
    #[error(transparent)]
    Port(PortChoiceError),
    /// A port that another sandbox publishes, or that this one asks for twice.
    #[error("{error}: {by} publishes {port}")]
    PortTaken { error: PortChoiceError, by: String, port: String },
    #[error("container {sandbox} has the network of another: it publishes no ports of its own")]
    NoPorts { sandbox: String },
    /// It was tried, refused by the kernel, and taken back.
    #[error("cannot set up {object}")]
    Refused {
        object: String,
        #[source]
        cause: Arc<Cause>,
    },
    /// It is gone from the intent; what the kernel still holds of it is tried again until it is gone.
    #[error("{object} is removed, but not all of it could be taken down yet")]
    Lingers {
        object: String,
        #[source]
        cause: Arc<Cause>,
    },
    #[error("cannot record it")]
    Store(#[source] Arc<StoreError>),
    #[error("cannot read what went through the ports")]
    Figures(#[source] Arc<PortError>),
    #[error("causewayd is stopping")]
    Stopping,
}

/// What the world said no to.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    #[error(transparent)]
    Kernel(KernelError),
    #[error(transparent)]
    Port(PortError),
    #[error(transparent)]
    Name(NameError),
}

impl HasKind for Cause {
    fn kind(&self) -> ErrorKind {
        match self {
            Cause::Kernel(error) => error.kind(),
            Cause::Port(error) => error.kind,
            Cause::Name(_) => ErrorKind::Internal,
        }
    }
}

impl HasKind for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Error::NetworkNotFound { .. }
            | Error::ConfigurationNotFound { .. }
            | Error::SandboxNotFound { .. }
            | Error::NotConnected { .. }
            | Error::UnknownPlugin { .. } => ErrorKind::NotFound,
            Error::NetworkExists { .. } => ErrorKind::Conflict,
            Error::NetworkAmbiguous { .. }
            | Error::NetworkName { .. }
            | Error::NoFamily
            | Error::NoName
            | Error::NoPorts { .. }
            | Error::Invalid { .. } => ErrorKind::Invalid,
            Error::NetworkReserved { .. }
            | Error::NetworkPredefined { .. }
            | Error::OneInstance { .. }
            | Error::Forbidden { .. }
            | Error::NoSwarm
            | Error::ConfigurationInUse { .. }
            | Error::ActiveEndpoints { .. }
            | Error::EndpointExists { .. } => ErrorKind::InUse,
            Error::NetworkFull { .. } => ErrorKind::Exhausted,
            Error::Driver(error) => error.kind(),
            Error::Config(error) | Error::Subnet(error) => error.kind(),
            Error::Pool(error) => error.kind(),
            Error::Lease(error) => error.kind(),
            Error::Port(error) | Error::PortTaken { error, .. } => error.kind(),
            Error::Refused { cause, .. } | Error::Lingers { cause, .. } => cause.kind(),
            // Docker answers 500.
            Error::BridgeAway { .. } | Error::Store(_) => ErrorKind::Internal,
            Error::Figures(error) => error.kind,
            Error::Stopping => ErrorKind::Unavailable,
        }
    }
}

/// An error with everything that led to it, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
