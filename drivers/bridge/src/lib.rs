//! The bridge driver: a Linux bridge per network, a veth pair per endpoint, and one nftables table for all of them.
//!
//! *Invariant*: a compiler, with nothing but its arguments to go by. The rules of the table are the same whatever the
//! networks are; what differs are elements of its sets, keyed by the bridge's name, so that a packet costs the same with
//! one network as with a thousand.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod driver;
#[cfg(test)]
mod golden;
mod guard;
mod links;
mod options;
mod ports;
mod publish;
mod rules;
mod segment;

pub use driver::BridgeDriver;
