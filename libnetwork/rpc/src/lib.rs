//! The gRPC contract of causewayd: messages, server, client, one error mapping.

/// The messages and services of `proto/causeway.proto`.
#[allow(clippy::all, clippy::pedantic, unreachable_pub)]
pub mod v1 {
    tonic::include_proto!("causeway.network.v1");
}
