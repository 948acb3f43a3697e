//! OCI bundles and specs, and the client of the shim.
//!
//! [`Runtime::create`] turns a [`ContainerSpec`] into an OCI bundle, spawns a `causeway-shim` for it and returns a
//! [`Task`]. The shim outlives the engine; [`Runtime::adopt`] finds it again.
//!
//! Tasks (in tokio's sense) owned here: one per open connection to a shim, which moves frames between the socket and
//! whoever waits for a reply. It ends when the last handle is dropped or the shim goes away, and may be cancelled at
//! any moment, because the shim keeps all that matters.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod client;
mod error;
mod purge;
pub mod spec;

pub use client::{
    Attach, AttachInput, AttachOptions, AttachOutput, BlkioEntry, ExecTask, ExitStatus, Output, Runtime,
    RuntimeConfig, Stats, Stream, Task,
};
pub use engine_protocol::{ExecState, LogFile, State, Status, Stdin, TerminalSize};
pub use error::{RuntimeError, StartFailure};
pub use purge::purge;
pub use spec::{
    CgroupMode, ContainerSpec, DeviceSpec, ExecSpec, IoConfig, MountKind, MountSpec, NamespaceMode,
    NetworkNamespace, Propagation, Resources, SeccompProfile, Ulimit,
};
