//! The gRPC contract of causewayd: messages, server, client, one error mapping.
//!
//! The engine meets libnetwork through this crate and `libnetwork-model` alone. What a call means is said in
//! `proto/causeway.proto`.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod client;
mod convert;
mod error;

pub use convert::{
    FieldError, address, cidr, mac, network_fields, port_to_v1, resolver, resolver_to_v1, subnet,
    subnet_to_v1,
};
pub use error::{is_transport, kind, status};

/// The messages and services of `proto/causeway.proto`.
#[allow(clippy::all, clippy::pedantic, unreachable_pub)]
pub mod v1 {
    tonic::include_proto!("causeway.network.v1");
}
