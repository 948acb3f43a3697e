//! Published ports in eBPF: loads, attaches and pins the programs of `ebpf/programs`, and keeps their maps.
//!
//! Nothing of it needs this process once it is set up: packets are moved by the programs alone, and the maps and links
//! are pinned to a private bpffs, where the next process finds them. The maps are the only record of what is published;
//! whoever opens them knows all of it.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod bpffs;
mod error;
mod figures;
mod filters;
mod host;
mod host_port;
mod judge;
mod kernel_types;
mod links;
mod mapper;
mod netlink;
mod object;
mod prefixes;
mod pressure;
mod probe;
mod qdisc;
mod succession;
mod sys;
mod tables;
mod uplinks;
mod wanted;

pub use host_port::host_port_in_use;
pub use mapper::{BpfPortMapper, Options, purge};
pub use pressure::{Flood, Watch};
