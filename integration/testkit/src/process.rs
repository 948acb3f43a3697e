use std::{
    fmt,
    io::{Read, Write},
    os::fd::AsFd,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// No command of a test takes longer; one that hangs is killed, and the test fails with what it had said. Longer than what
/// a test waits for, so that a command that waits for the same can say why it came to nothing.
const LIMIT: Duration = Duration::from_secs(180);

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Finished {
    pub command: String,
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// The output without surrounding space; panics unless the command succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.status.success(), "{self}");
        self.stdout.trim().to_owned()
    }

    /// What it complained about; panics if it succeeded.
    #[track_caller]
    pub fn err(self) -> String {
        assert!(!self.status.success(), "should have failed: {self}");
        self.stderr.trim().to_owned()
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\nstdout: {}\nstderr: {}", self.command, self.status, self.stdout, self.stderr)
    }
}

/// Runs a command to its end, feeding it `input`.
#[track_caller]
pub fn run(mut command: Command, input: &[u8]) -> Finished {
    command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
    let mut running = Running::start(command);
    if let Some(mut stdin) = running.child.stdin.take() {
        let input = input.to_vec();
        // A command may end without reading all of it.
        std::thread::spawn(move || drop(stdin.write_all(&input)));
    }
    running.finish()
}

/// A command that goes on in the background; killed when dropped.
pub struct Running {
    text: String,
    pub child: Child,
    stdout: Option<Output>,
    stderr: Option<Output>,
}

impl Running {
    #[track_caller]
    pub fn start(mut command: Command) -> Self {
        let text = format!("{command:?}");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{text}: {error}"));
        let stdout = child.stdout.take().map(Output::collect);
        let stderr = child.stderr.take().map(Output::collect);
        Self { text, child, stdout, stderr }
    }

    /// Takes charge of a child whose output goes elsewhere.
    pub(crate) fn adopt(text: &str, child: Child) -> Self {
        Self { text: text.to_owned(), child, stdout: None, stderr: None }
    }

    /// What it has written to standard output by now.
    pub fn said(&self) -> String {
        self.stdout.as_ref().map_or(String::new(), Output::so_far)
    }

    /// What it has written to standard error by now.
    pub fn complained(&self) -> String {
        self.stderr.as_ref().map_or(String::new(), Output::so_far)
    }

    /// Waits for its end; panics, and kills it, after three minutes.
    #[track_caller]
    pub fn finish(mut self) -> Finished {
        let deadline = Instant::now() + LIMIT;
        let status = loop {
            let late = Instant::now() >= deadline;
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                break Some(status);
            }
            if late {
                break None;
            }
            ends_within(self.child.id(), 100);
        };
        if status.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        let text = |output: Option<Output>| output.map_or(String::new(), Output::whole);
        let (stdout, stderr) = (text(self.stdout.take()), text(self.stderr.take()));
        let Some(status) = status else {
            panic!("{} hung for {} s\nstdout: {stdout}\nstderr: {stderr}", self.text, LIMIT.as_secs())
        };
        Finished { command: self.text.clone(), status, stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Whether a process has ended with all its threads, and so has closed all that it had open; waits so many milliseconds
/// for it.
fn ends_within(pid: u32, milliseconds: u8) -> bool {
    use std::os::fd::{FromRawFd, OwnedFd};
    // SAFETY: pidfd_open takes plain numbers; the descriptor it returns is ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH);
    }
    // SAFETY: see above.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], PollTimeout::from(milliseconds))
        .is_ok_and(|n| n > 0)
}

/// Whether a process has ended. Its command line is gone earlier: it may serve a socket until then.
pub fn has_ended(pid: i32) -> bool {
    ends_within(pid.unsigned_abs(), 0)
}

/// One of a command's streams, read by a thread.
struct Output {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Output {
    fn collect(mut from: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let theirs = bytes.clone();
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 8192];
            loop {
                match from.read(&mut piece) {
                    Ok(count @ 1..) => theirs
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .extend_from_slice(&piece[..count]),
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    _ => break,
                }
            }
        });
        Self { bytes, reader }
    }

    fn so_far(&self) -> String {
        written(&self.bytes)
    }

    fn whole(self) -> String {
        let _ = self.reader.join();
        written(&self.bytes)
    }
}

fn written(bytes: &Mutex<Vec<u8>>) -> String {
    String::from_utf8_lossy(&bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}
