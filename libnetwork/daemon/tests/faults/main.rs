//! Faults put before every single thing that causewayd changes in the world: netlink messages, nftables transactions,
//! mounts, settings, BPF maps and pins, the store's and the journal's writes. The daemon is the real one; a filter on
//! its system calls lets the tests have a word before each. What is not ours stands as it stood.
#![allow(clippy::unwrap_used, clippy::panic)]

mod changes;
#[path = "../host/mod.rs"]
mod host;
mod killed;
mod picture;
mod process;
mod refused;
mod walk;
