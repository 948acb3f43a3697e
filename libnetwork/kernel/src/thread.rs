//! Work inside another network namespace, on a thread that is thrown away: no thread that anything else runs on ever
//! changes its namespace.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
    path::Path,
    thread::Builder,
};

use libnetwork_plan::Cause;
use nix::sched::{CloneFlags, setns};

/// Small: these threads make a handful of system calls.
const STACK: usize = 128 * 1024;

/// Runs `work` on a thread of its own in a namespace.
pub(crate) fn inside<T: Send>(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> T + Send,
) -> Result<T, Cause> {
    apart(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|errno| Cause::Errno(errno as i32))?;
        Ok(work())
    })
}

/// Runs `work` on a thread of its own, which may do with its namespaces what it likes.
pub(crate) fn apart<T: Send>(work: impl FnOnce() -> Result<T, Cause> + Send) -> Result<T, Cause> {
    std::thread::scope(|scope| {
        let thread = Builder::new().name("netns".into()).stack_size(STACK).spawn_scoped(scope, work);
        match thread.map_err(cause)?.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// An open namespace.
pub(crate) fn open(path: &Path) -> Result<OwnedFd, Cause> {
    std::fs::File::open(path).map(OwnedFd::from).map_err(cause)
}

pub(crate) fn cause(error: io::Error) -> Cause {
    match error.raw_os_error() {
        Some(errno) => Cause::Errno(errno),
        None => Cause::Answer(error.to_string()),
    }
}
