//! Containers: create, start, stop, remove, exec, attach, logs, events. What the Docker API calls a container is made
//! here of an image's root filesystem, volumes, a sandbox of causewayd's and a task of the runtime's.
//!
//! [`Containers`] is the way in.
//!
//! *Invariants*: what a person asked for is on disk before anybody is told that it is done; what runs is known from the
//! shims and from causewayd, so that nothing is lost with this process; an operation that fails leaves nothing, because
//! starting takes everything back that a stopped container has not, rather than what it remembers to have made.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod archive;
mod attach;
mod change;
pub mod config;
mod connect;
mod container;
mod copy;
mod create;
mod defaults;
mod endpoint_settings;
mod error;
pub mod events;
mod exec;
mod exit;
mod files;
mod follow;
mod health;
mod inspect;
mod links;
mod list;
mod load;
mod log_options;
mod logs;
mod merge;
mod moment;
mod mounts;
mod names;
mod network;
mod networks;
mod openings;
mod options;
mod ports;
mod publish;
mod record;
mod remove;
mod request;
mod reserve;
mod resolv_conf;
mod service;
mod signals;
mod spec;
mod start;
mod stats;
mod stop;
mod sysctls;
mod top;
mod validate;
mod wishes;

pub use attach::{Attached, Input};
pub use defaults::{Defaults, DefaultsError};
pub use error::{Error, Result};
pub use options::{
    AttachOptions, CommitOptions, Counts, ExecCreate, ExecStart, ListOptions, LogOptions, LogRecord, Outcome,
    PutOptions, RemoveOptions, WaitCondition,
};
pub use resolv_conf::DnsOptions;
pub use service::{ByteStream, Containers, Logs, OutputStream, Parts, Settings, Wait, detached};
pub use spec::DEFAULT_RUNTIME;
// What attaching, logs and exec hand out.
pub use engine_runtime::{Output, SeccompProfile, Stream as StdStream, TerminalSize};
