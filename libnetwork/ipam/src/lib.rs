//! Allocation, pure: which subnet a network gets, which address an endpoint, which host port a published port.
//!
//! What is taken is read off the [`Intent`](libnetwork_model::Intent): an address is leased because an endpoint has it,
//! and for no other reason, so nothing here can leak or be restored wrongly.
//!
//! *Invariant*: no clock, no file, no randomness, no memory. What has to vary between calls comes in as an argument.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod lease;
mod pool;
mod port;
mod range;
mod subnet;

pub use lease::{LeaseError, Wish, lease};
pub use pool::{Pool, PoolError, choose, choose_ula, default_pools};
pub use port::{Busy, EPHEMERAL, PortError, allocate as allocate_ports, routed as routed_port};
pub use subnet::{SubnetError, complete, validate};
