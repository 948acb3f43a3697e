//! The Docker Engine API over HTTP: routes, wire types, streams, one error mapping.
//!
//! [`router`] makes an axum router of an [`Engine`]; [`serve`] runs it on listeners. Requests may carry a version prefix
//! (`/v1.24` to `/v1.51`). What the CLI, Compose and the SDKs see (paths, JSON, texts, stream framing) is Docker 28.5's.
//!
//! *Invariant*: nothing below this crate knows HTTP, and nothing here decides what a container, image or network does.
#![forbid(unsafe_code)]
// The answer to `info` is one literal.
#![recursion_limit = "256"]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod engine;
mod error;
mod frames;
mod gojson;
mod hijack;
mod json;
mod query;
mod relay;
mod routes;
mod server;
mod shutdown;
mod socket;
mod stream;
mod tls;
mod upload;
mod version;

pub use engine::Engine;
pub use error::ApiError;
pub use relay::relay_network_events;
pub use routes::identity;
pub use server::{Listener, router, serve};
pub use tls::{Tls, TlsError, TlsFiles};

/// The newest API version spoken, and the one that answers without a prefix get.
pub const API_VERSION: &str = "1.51";
/// The oldest API version accepted.
pub const MIN_API_VERSION: &str = "1.24";
