//! Containers: create, start, stop, remove, exec, attach, logs, events. What the Docker API calls a container is made
//! here of an image's root filesystem, volumes, a sandbox of causewayd's and a task of the runtime's.
//!
//! [`Containers`] is the way in.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod config;
mod error;
pub mod events;
mod filters;
mod options;
mod service;

pub use error::{Error, Result};
pub use filters::Filters;
pub use options::{
    AttachOptions, CommitOptions, Counts, ExecCreate, ExecStart, ListOptions, LogOptions, LogRecord, Outcome,
    PutOptions, RemoveOptions, WaitCondition,
};
pub use service::{Attached, ByteStream, Containers, Input, Logs, OutputStream, Parts, Wait};
// What attaching, logs and exec hand out.
pub use engine_runtime::{Output, Stream as StdStream, TerminalSize};
