//! The one adapter to netlink, nftables, sysctls and network namespaces.
//!
//! *Invariants*: no process is spawned, nothing forks, and no thread that anything else runs on changes its namespace. What
//! is ours is marked in the kernel itself (see `ownership`); what is not ours is never changed. What an operation did is
//! in the kernel when it is answered.
//!
//! The thread that is started by [`LinuxKernel::new`] owns every socket and does all the work, one request after the
//! other; it may be left to end at any time, since whatever it has not done yet the next process does.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod apply;
mod apply_links;
mod before;
mod facts;
mod flows;
mod handle;
mod inet;
mod link;
mod netlink;
mod nft;
mod nsid;
mod observe;
mod ownership;
mod purge;
mod reaper;
mod resolvers;
mod sockets;
mod spaces;
mod state;
mod sysctl;
mod thread;
mod watch;

pub use facts::ephemeral_ports;
pub use handle::{Config, LinuxKernel};
pub use nft::{InputChain, input_chains};
pub use purge::purge;
pub use sockets::{BoundSocket, bound_sockets};
