//! Published ports in eBPF: loads, attaches and pins the programs, and keeps their maps.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod host_port;
mod mapper;

pub use host_port::host_port_in_use;
pub use mapper::{BpfPortMapper, Options, purge};
