//! What the engine and a container's shim say to each other, and what both know of the kernel's cgroups.
//!
//! A shim serves a unix socket. Whoever connects sends [`Request`]s and gets one [`Reply`] for each, in any order,
//! matched by the id; see [`frame`] for the bytes. A connection that sends [`Request::Attach`] becomes a stream of
//! stdio frames once the reply says so.
//!
//! *Invariant*: this crate has no socket, no async runtime and no thread, so that the shim stays small.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod cgroup;
pub mod config;
pub mod frame;
pub mod message;

pub use config::{LogFile, OciRuntime, ShimConfig, Stdin, TerminalSize};
pub use frame::{Frame, FrameError, FrameReader, Kind};
pub use message::{
    AttachRequest, ExecProcess, ExecState, Exit, Failure, FailureCause, Reply, Request, State, Status, Target,
};

/// The layout of a shim's directory (`RUN/shims/<container id>`).
pub mod layout {
    /// The socket that the shim serves.
    pub const SOCKET: &str = "shim.sock";
    /// The shim's own process id, decimal.
    pub const PID: &str = "shim.pid";
    /// The shim's configuration, a [`crate::ShimConfig`] as JSON. The shim holds it locked (flock) from when it reads
    /// it until its process id is in [`PID`]; who removes the container removes this file first, under the same lock,
    /// so that no shim begins to work afterwards.
    pub const CONFIG: &str = "shim.json";
    /// The OCI spec. The shim's directory is the bundle.
    pub const SPEC: &str = "config.json";
    /// A [`crate::State`] as JSON, written once the container has exited and before anybody is told.
    pub const EXIT: &str = "exit.json";
    /// What the OCI runtime keeps (libcontainer's or runc's `--root`).
    pub const RUNTIME_ROOT: &str = "runtime";
    /// What the shim has to complain about.
    pub const LOG: &str = "shim.log";
}
