//! Adapters of the core's `Store`: the embedded one, for one host.
//!
//! What a person made (networks) is in a redb file below the state directory and reaches the disk before a commit
//! returns. What dies with the kernel anyway (sandboxes, endpoints) is in a journal below the run directory that is
//! written and never synced: it survives a killed process, and is void after a reboot.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod durable;
mod embedded;
mod journal;

pub use embedded::EmbeddedStore;
