//! What the network should be, as plain data: networks, endpoints, sandboxes, published ports, and the [`Intent`]
//! that holds them.
//!
//! *Invariant*: this crate knows no kernel, no clock, no file and no async. Every other crate of libnetwork speaks in
//! these types; the engine meets them only through `libnetwork-rpc`.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod dns;
mod endpoint;
mod error;
mod host;
mod id;
mod intent;
mod mac;
mod network;
mod network_index;
mod port;
mod port_index;
mod sandbox;

pub use dns::{DnsOptionError, DnsOptions};
pub use endpoint::{Endpoint, Opening};
pub use error::{ErrorKind, HasKind};
pub use host::{HostFacts, Uplink};
pub use id::{EndpointId, IdError, NetworkId, SandboxId};
pub use intent::{Change, Intent, Mutation, Reservation, Revision, precedence};
pub use mac::{MacAddress, MacError};
pub use network::{Network, Subnet, parse_flag};
pub use port::{PortRange, PortWish, Protocol, ProtocolError, PublishedPort};
pub use port_index::PortIndex;
pub use sandbox::{NamespaceKind, Resolver, Sandbox};
