//! Talking to shims.

mod attach;
mod runtime;
mod stats;
mod task;

pub use attach::{Attach, AttachInput, AttachOptions, AttachOutput, Output, Stream};
pub use runtime::{Runtime, RuntimeConfig};
pub use stats::{BlkioEntry, Stats};
pub use task::{ExecTask, ExitStatus, Task};
