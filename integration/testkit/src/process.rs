use std::{
    fmt,
    io::{Read, Write},
    os::fd::AsFd,
    process::{Child, Command, ExitStatus, Stdio},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// No command of a test takes longer; one that hangs is killed, and the test fails with what it had said.
const LIMIT: Duration = Duration::from_secs(120);

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
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
}

impl Running {
    #[track_caller]
    pub fn start(mut command: Command) -> Self {
        let text = format!("{command:?}");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{text}: {error}"));
        let stdout = child.stdout.take().map(collect);
        let stderr = child.stderr.take().map(collect);
        Self { text, child, stdout, stderr }
    }

    /// Takes charge of a child whose output goes elsewhere.
    pub(crate) fn adopt(text: &str, child: Child) -> Self {
        Self { text: text.to_owned(), child, stdout: None, stderr: None }
    }

    /// Waits for its end; panics, and kills it, after two minutes.
    #[track_caller]
    pub fn finish(mut self) -> Finished {
        let deadline = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                break Some(status);
            }
            if Instant::now() > deadline {
                break None;
            }
            wait_a_little(&self.child);
        };
        if status.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        let text = |thread: Option<JoinHandle<String>>| {
            thread.map_or(String::new(), |t| t.join().unwrap_or_default())
        };
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

/// Sleeps until the child ends, 100 ms at most.
fn wait_a_little(child: &Child) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::{FromRawFd, OwnedFd};
    // SAFETY: pidfd_open takes plain numbers; the descriptor it returns is ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) };
    if fd < 0 {
        return;
    }
    // SAFETY: see above.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let _ = poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], PollTimeout::from(100u8));
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
