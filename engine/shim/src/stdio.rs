//! The shim's ends of a process's standard streams.

use std::{
    collections::VecDeque,
    fs::File,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use engine_protocol::TerminalSize;
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    libc,
    unistd::{Uid, fchown, pipe2},
};

/// Input that may wait for the process before its attachers are made to wait. Bytes.
pub(crate) const MOST_INPUT: usize = 64 << 10;

/// Our ends. All are non-blocking.
#[derive(Default)]
pub(crate) struct Stdio {
    pub(crate) terminal: bool,
    /// Pipe to the process, or none: with a terminal input goes to `stdout`, which is the terminal's master.
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    /// Input that the process has not taken yet.
    pub(crate) input: VecDeque<u8>,
    /// Close the input once what waits has been taken.
    pub(crate) input_ends: bool,
    /// Input that comes is for nobody.
    pub(crate) input_closed: bool,
}

/// The process's ends.
pub(crate) struct ProcessEnds {
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

impl Stdio {
    /// Pipes. The process's user owns them, so that it may open `/dev/stdout` anew.
    pub(crate) fn pipes(with_input: bool, uid: u32) -> std::io::Result<(Self, ProcessEnds)> {
        let (stdin_theirs, stdin_ours) = if with_input {
            let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
            set_nonblocking(write.as_fd())?;
            (read, Some(write))
        } else {
            (File::open("/dev/null")?.into(), None)
        };
        let (stdout_ours, stdout_theirs) = pipe2(OFlag::O_CLOEXEC)?;
        let (stderr_ours, stderr_theirs) = pipe2(OFlag::O_CLOEXEC)?;
        for end in [&stdout_ours, &stderr_ours] {
            set_nonblocking(end.as_fd())?;
        }
        let owner = Some(Uid::from_raw(uid));
        if with_input {
            fchown(stdin_theirs.as_fd(), owner, None)?;
        }
        for end in [&stdout_theirs, &stderr_theirs] {
            fchown(end.as_fd(), owner, None)?;
        }
        let ours = Self {
            stdin: stdin_ours,
            stdout: Some(stdout_ours),
            stderr: Some(stderr_ours),
            input_closed: !with_input,
            ..Self::default()
        };
        Ok((ours, ProcessEnds { stdin: stdin_theirs, stdout: stdout_theirs, stderr: stderr_theirs }))
    }

    /// A terminal whose master will come from the process that is set up.
    pub(crate) fn terminal() -> Self {
        Self { terminal: true, ..Self::default() }
    }

    /// Takes the terminal's master.
    pub(crate) fn set_master(&mut self, master: OwnedFd, size: TerminalSize, uid: u32) -> nix::Result<()> {
        set_nonblocking(master.as_fd())?;
        resize(master.as_fd(), size)?;
        // The slave belongs to whoever opened it, which was root; its user must be able to open it by name.
        // SAFETY: an ioctl that takes flags by value and returns a descriptor.
        let slave =
            unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, libc::O_RDWR | libc::O_NOCTTY) };
        if slave >= 0 {
            use std::os::fd::FromRawFd;
            // SAFETY: the kernel has just opened it for us.
            let slave = unsafe { OwnedFd::from_raw_fd(slave) };
            let _ = fchown(slave.as_fd(), Some(Uid::from_raw(uid)), None);
        }
        self.stdout = Some(master);
        Ok(())
    }

    /// Where input goes, as long as it is open.
    pub(crate) fn input_fd(&self) -> Option<BorrowedFd<'_>> {
        if self.input_closed {
            return None;
        }
        if self.terminal {
            self.stdout.as_ref().map(AsFd::as_fd)
        } else {
            self.stdin.as_ref().map(AsFd::as_fd)
        }
    }

    /// Writes as much input as the process takes.
    pub(crate) fn drain_input(&mut self) {
        while !self.input.is_empty() {
            let Some(fd) = self.input_fd() else {
                if self.input_closed {
                    self.input.clear();
                }
                return;
            };
            match nix::unistd::write(fd, self.input.as_slices().0) {
                Ok(count) => drop(self.input.drain(..count)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                // The process has closed its end: what comes is for nobody.
                Err(_) => self.close_input(),
            }
        }
        self.input.shrink_to(0);
        if self.input_ends && (self.stdin.is_some() || self.input_closed) {
            self.close_input();
        }
    }

    pub(crate) fn close_input(&mut self) {
        // A terminal has no end of input that is apart from its output.
        if !self.terminal {
            self.stdin = None;
            self.input_closed = true;
        }
        self.input.clear();
        self.input_ends = false;
    }

    /// Nothing more will be read.
    pub(crate) fn close_output(&mut self) {
        self.stdout = None;
        self.stderr = None;
        self.stdin = None;
        self.input_closed = true;
        self.input = VecDeque::new();
    }
}

/// Sets a terminal's size.
pub(crate) fn resize(master: BorrowedFd<'_>, size: TerminalSize) -> nix::Result<()> {
    let size = libc::winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel reads a winsize, which outlives the call.
    Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &size) }).map(drop)
}

fn set_nonblocking(fd: BorrowedFd<'_>) -> nix::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}
