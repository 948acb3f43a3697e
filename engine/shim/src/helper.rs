//! Children that do the work of an OCI runtime and report back, so that the shim itself stays small and never blocks.
//!
//! A helper is a fork of the shim. It writes lines of JSON into a pipe: the process id that it made, or why it
//! could not. The process that it made holds the pipe open until it executes its program, so the end of the pipe
//! says that this has happened.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{AsRawFd, FromRawFd, RawFd},
};

use engine_protocol::{Failure, FailureCause};
use nix::{
    errno::Errno,
    fcntl::OFlag,
    libc,
    sys::signal::{SigSet, SigmaskHow, sigprocmask},
    unistd::{ForkResult, fork, pipe2},
};
use serde::{Deserialize, Serialize};

use crate::console::Console;

/// One line of a helper's report.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    Pid(i32),
    Failed(Failure),
    Done,
}

/// The writing end, in the helper.
#[derive(Clone, Copy)]
pub(crate) struct Reporter(pub(crate) RawFd);

impl Reporter {
    pub(crate) fn send(self, report: &Report) {
        let mut line = serde_json::to_vec(report).unwrap_or_default();
        line.push(b'\n');
        // SAFETY: the helper keeps the descriptor open until it exits; the file is not dropped.
        let mut pipe = std::mem::ManuallyDrop::new(unsafe { File::from_raw_fd(self.0) });
        // A shim that is gone needs no report. A line is shorter than what a pipe takes at once.
        let _ = pipe.write_all(&line);
    }

    pub(crate) fn fail(self, cause: FailureCause, message: impl Into<String>) {
        self.send(&Report::Failed(Failure { cause, message: message.into() }));
    }
}

/// What a helper was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Create,
    /// Start the container by a runtime binary.
    Start,
    /// Run the exec with this key.
    Exec(u32),
    /// Remove what a runtime binary keeps.
    Cleanup,
}

/// A helper at work.
pub(crate) struct Helper {
    pub(crate) pid: i32,
    pub(crate) purpose: Purpose,
    pub(crate) pipe: Option<File>,
    buffer: Vec<u8>,
    /// Where the process sends its terminal's master.
    pub(crate) console: Option<Console>,
    /// It has said what it had to say.
    pub(crate) reported: bool,
    pub(crate) exited: bool,
}

impl Helper {
    /// Forks. The child runs `work`, with no descriptor but the standard ones, the report's and `keep`, and exits.
    pub(crate) fn spawn(
        purpose: Purpose,
        keep: &[RawFd],
        console: Option<Console>,
        work: impl FnOnce(Reporter),
    ) -> nix::Result<Self> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        // SAFETY: the shim has one thread.
        match unsafe { fork()? } {
            ForkResult::Parent { child } => {
                nix::fcntl::fcntl(&read, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
                Ok(Self {
                    pid: child.as_raw(),
                    purpose,
                    pipe: Some(read.into()),
                    buffer: Vec::new(),
                    console,
                    reported: false,
                    exited: false,
                })
            }
            ForkResult::Child => {
                let reporter = Reporter(write.as_raw_fd());
                let mut keep = keep.to_vec();
                keep.push(write.as_raw_fd());
                close_all_but(keep);
                let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
                work(reporter);
                // SAFETY: ends the process without running what belongs to the shim.
                unsafe { libc::_exit(0) }
            }
        }
    }

    /// Reads the pipe: what was reported, and whether it has ended.
    pub(crate) fn read(&mut self) -> (Vec<Report>, bool) {
        let mut ended = false;
        let mut chunk = [0; 4096];
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(&mut chunk) {
                Ok(0) => ended = true,
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(error) if error.raw_os_error() == Some(Errno::EINTR as i32) => {}
                Err(error) if error.raw_os_error() == Some(Errno::EAGAIN as i32) => break,
                Err(_) => ended = true,
            }
            if ended {
                self.pipe = None;
            }
        }
        let mut reports = Vec::new();
        while let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.buffer.drain(..=end).collect();
            reports.extend(serde_json::from_slice::<Report>(&line).ok());
        }
        (reports, ended)
    }
}

/// Closes every descriptor but the first three and those in `keep`: a helper's descendants must not hold the shim's
/// connections open.
fn close_all_but(mut keep: Vec<RawFd>) {
    keep.sort_unstable();
    let mut next = 3;
    for fd in keep.into_iter().filter(|&fd| fd >= 3).chain([RawFd::MAX]) {
        if fd > next {
            // SAFETY: the child never returns to the code that owns these descriptors.
            unsafe { libc::close_range(next as libc::c_uint, (fd - 1) as libc::c_uint, 0) };
        }
        next = fd.saturating_add(1);
    }
}
