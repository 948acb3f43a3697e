//! Kernel objects as data, the [`Driver`] trait that compiles networks to them, and the planner that compares what
//! should be with what is.
//!
//! *Invariant*: nothing here knows that netlink exists, no clock, no file, no async. The adapter to the kernel is
//! `libnetwork-kernel`; [`fake`] (feature `fake`) is its stand-in for tests, refusing what the kernel refuses.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod driver;
mod error;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod key;
mod object;
mod operation;
mod planner;
#[cfg(test)]
mod properties;
mod render;
mod ruleset;
mod sandbox;

use std::collections::BTreeMap;

pub use driver::{Attachment, Driver, DriverError, Segments};
pub use error::{Cause, Drift, Drifted, KernelError};
pub use key::{Datum, Element, Family, Key, LinkRank, Name, Ns, Table};
pub use object::{BridgePort, Ipv6, Link, LinkKind, Neighbour, Object, Peer, Route, Thing};
pub use operation::{Operation, Plan};
pub use planner::{Scope, plan};
pub use render::render;
pub use ruleset::{
    Base, Chain, ChainKind, Expr, Field, Hook, MapType, Rule, Ruleset, Set, SetType, Value, Verdict, priority,
};
pub use sandbox::{DNS_ADDRESS, DNS_PORT, sandbox_objects};

/// What should be.
pub type Desired = BTreeMap<Key, Object>;

/// What is, and whose.
pub type Observed = BTreeMap<Key, (Owner, Object)>;

/// Whose an object is, as written in the kernel itself (a link's group, a route's protocol, our own table), so that
/// any process can tell after any crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    Ours,
    /// Someone else's: never changed and never removed, even when its name is one that we want.
    Foreign,
}

/// Packets that carry this bit of the mark were translated by our own published-port programs: the forward chain lets
/// them pass to a container although nobody in it asked for them.
pub const PUBLISHED_MARK: u32 = 0x0100_0000;
