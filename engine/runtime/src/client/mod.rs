//! Talking to shims.

mod attach;
mod connection;
mod runtime;
mod spawn;
mod stats;
mod task;
mod update;

pub use attach::{Attach, AttachInput, AttachOptions, AttachOutput, Output, Stream};
pub use runtime::{Runtime, RuntimeConfig};
pub use stats::{BlkioEntry, Stats};
pub use task::{ExecTask, ExitStatus, Task};
