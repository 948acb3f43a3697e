//! Starts daemons, starts the ones that die again, ends them all on a signal.
//!
//! One thread and one `poll`: the process forks, which only a process without threads may do, and it stays small.

use std::{
    ffi::CString,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        resource::{Resource, getrlimit, setrlimit},
        signal::{SigSet, Signal, kill},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, execve, fork, getpid, setpgid},
};

use super::{notify::Notifications, reload::Reload};
use crate::paths::PathError;

/// systemd's first passed descriptor (sd_listen_fds(3)).
const FIRST_PASSED_FD: i32 = 3;
/// A daemon that lived at least this long is started again without delay.
const HEALTHY: Duration = Duration::from_secs(1);
/// The longest pause before starting one that keeps dying.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a daemon may take over SIGTERM before it is killed; containers and their network live on either way.
const GRACE: Duration = Duration::from_secs(10);

/// A program with the listening sockets it is handed, and with what it gave us to keep.
pub(crate) struct Daemon {
    name: &'static str,
    command: Vec<String>,
    sockets: Vec<OwnedFd>,
    notifications: Notifications,
    state: State,
    ready: bool,
    pause: Duration,
    /// The command line that it was last ready with, while another is tried.
    proven: Option<Vec<String>>,
    reload: Option<Reload>,
}

enum State {
    Running {
        pid: Pid,
        since: Instant,
    },
    /// To be started at this time.
    Waiting {
        until: Instant,
    },
    Ended,
}

/// sysexits.h (EX_CONFIG), and what clap exits with: another start by the same command line would end the same way.
const MISCONFIGURED: [i32; 2] = [78, 2];

#[derive(Debug, thiserror::Error)]
pub(crate) enum SuperviseError {
    #[error("cannot {operation}")]
    System {
        operation: &'static str,
        #[source]
        source: Errno,
    },
    #[error("{name} cannot run as it is configured: its last words are above")]
    Misconfigured { name: &'static str },
}

impl Daemon {
    pub(crate) fn new(
        name: &'static str,
        command: Vec<String>,
        sockets: Vec<OwnedFd>,
        run_dir: &Path,
        reload: Option<Reload>,
    ) -> Result<Self, PathError> {
        let notifications = Notifications::open(run_dir.join(format!("{name}.notify")))?;
        let state = State::Waiting { until: Instant::now() };
        Ok(Self {
            name,
            command,
            sockets,
            notifications,
            state,
            ready: false,
            pause: Duration::ZERO,
            proven: None,
            reload,
        })
    }

    /// Runs by this command line from now on.
    fn follow(&mut self, command: Vec<String>) {
        if command == self.command {
            return;
        }
        let before = std::mem::replace(&mut self.command, command);
        let reloads = self.reload.as_ref().is_some_and(|reload| reload.offer(&before, &self.command));
        if self.ready {
            self.proven = Some(before);
            self.ready = false;
        }
        if reloads {
            end_process(self, Signal::SIGHUP);
            return;
        }
        eprintln!("causeway: {} is started again with the new settings", self.name);
        end_process(self, Signal::SIGTERM);
    }

    fn start(&mut self, limit: DescriptorLimit) -> Result<(), SuperviseError> {
        // The last words of the one that ended: it may have given us something to keep.
        self.notifications.read();
        let command = strings(self.command.iter().cloned())?;
        let inherited = std::env::vars().filter(|(k, _)| !k.starts_with("LISTEN_") && k != "NOTIFY_SOCKET");
        let passed = self.sockets.iter().map(|socket| ("listen", socket.as_raw_fd()));
        let (names, sockets): (Vec<&str>, Vec<i32>) = passed.chain(self.notifications.kept()).unzip();
        let own = [
            ("NOTIFY_SOCKET".to_owned(), self.notifications.path().display().to_string()),
            ("LISTEN_FDS".to_owned(), sockets.len().to_string()),
            ("LISTEN_FDNAMES".to_owned(), names.join(":")),
        ];
        let mut environment = strings(inherited.chain(own).map(|(k, v)| format!("{k}={v}")))?;
        let parent = getpid();
        // SAFETY: this process has one thread, so the child may allocate and call anything.
        match unsafe { fork() }.map_err(|source| SuperviseError::System { operation: "fork", source })? {
            ForkResult::Parent { child } => {
                self.state = State::Running { pid: child, since: Instant::now() };
                Ok(())
            }
            ForkResult::Child => {
                let error = become_daemon(parent, &sockets, limit, &command, &mut environment);
                eprintln!("causeway: cannot start {}: {error}", self.name);
                // SAFETY: ends the child without running the parent's destructors.
                unsafe { nix::libc::_exit(127) }
            }
        }
    }

    /// Takes note that the process ended, and when to start it again. Not at all when that would be in vain.
    fn ended(&mut self, status: WaitStatus, stopping: bool) -> Result<(), SuperviseError> {
        let State::Running { since, .. } = self.state else { return Ok(()) };
        if stopping {
            self.state = State::Ended;
            return Ok(());
        }
        if let WaitStatus::Exited(_, code) = status
            && MISCONFIGURED.contains(&code)
        {
            let Some(proven) = self.proven.take() else {
                self.state = State::Ended;
                return Err(SuperviseError::Misconfigured { name: self.name });
            };
            eprintln!("causeway: {} goes on with the settings that it had", self.name);
            self.command = proven;
            self.state = State::Waiting { until: Instant::now() };
            return Ok(());
        }
        let how = match status {
            WaitStatus::Signaled(_, signal, _) => format!("was killed by {signal}"),
            WaitStatus::Exited(_, code) => format!("exited with status {code}"),
            _ => "ended".to_owned(),
        };
        self.pause = match self.pause {
            _ if since.elapsed() >= HEALTHY => Duration::ZERO,
            Duration::ZERO => Duration::from_millis(100),
            pause => (pause * 2).min(LONGEST_PAUSE),
        };
        eprintln!("causeway: {} {how}; starting it again in {} ms", self.name, self.pause.as_millis());
        self.state = State::Waiting { until: Instant::now() + self.pause };
        Ok(())
    }
}

/// Runs the daemons until SIGTERM or SIGINT, or until one of them cannot run as it is configured. `ready` is called once,
/// when all have said that they are ready; `reload` on each SIGHUP, for the command lines in the daemons' order, or for none
/// when all stays.
pub(crate) fn run(
    mut daemons: Vec<Daemon>,
    ready: impl FnOnce(),
    mut reload: impl FnMut() -> Vec<Vec<String>>,
) -> Result<(), SuperviseError> {
    let limit =
        raise_descriptors().map_err(|source| SuperviseError::System { operation: "raise limits", source })?;
    let mut watched = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD, Signal::SIGHUP] {
        watched.add(signal);
    }
    watched.thread_block().map_err(|source| SuperviseError::System { operation: "block signals", source })?;
    let signals = SignalFd::with_flags(&watched, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .map_err(|source| SuperviseError::System { operation: "watch signals", source })?;

    let mut ready = Some(ready);
    let mut stop: Option<Instant> = None;
    let mut killed = false;
    let mut failed = None;
    loop {
        if stop.is_none() {
            for daemon in &mut daemons {
                if matches!(daemon.state, State::Waiting { until } if until <= Instant::now()) {
                    daemon.start(limit)?;
                }
            }
        }
        wait(&signals, &daemons, stop)?;

        for daemon in &mut daemons {
            if daemon.notifications.read() {
                daemon.ready = true;
                daemon.proven = None;
            }
        }
        if daemons.iter().all(|d| d.ready)
            && let Some(ready) = ready.take()
        {
            ready();
        }
        while let Ok(Some(signal)) = signals.read_signal() {
            let asked = signal.ssi_signo as i32;
            if asked == Signal::SIGHUP as i32 && stop.is_none() {
                for (daemon, command) in daemons.iter_mut().zip(reload()) {
                    daemon.follow(command);
                }
            }
            if (asked == Signal::SIGTERM as i32 || asked == Signal::SIGINT as i32) && stop.is_none() {
                stop = Some(Instant::now());
                // The engine first: it asks causewayd for the last time.
                for daemon in daemons.iter_mut().rev() {
                    end(daemon, Signal::SIGTERM);
                }
            }
        }
        if let Err(error) = reap(&mut daemons, stop.is_some()) {
            failed = failed.or(Some(error));
            stop = stop.or_else(|| Some(Instant::now()));
            for daemon in daemons.iter_mut().rev() {
                end(daemon, Signal::SIGTERM);
            }
        }
        if let Some(since) = stop {
            if daemons.iter().all(|d| matches!(d.state, State::Ended)) {
                return failed.map_or(Ok(()), Err);
            }
            if since.elapsed() >= GRACE && !killed {
                killed = true;
                for daemon in &mut daemons {
                    eprintln!(
                        "causeway: {} did not end within {} s: killing it",
                        daemon.name,
                        GRACE.as_secs()
                    );
                    end(daemon, Signal::SIGKILL);
                }
            }
        }
    }
}

/// A soft and a hard limit of open descriptors.
type DescriptorLimit = (u64, u64);

/// Allows this process as many descriptors as the system lets it have, and answers what it had: what daemons give us to
/// keep is soon more than the usual 1,024.
fn raise_descriptors() -> Result<DescriptorLimit, Errno> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok((soft, hard))
}

/// For good.
fn end(daemon: &mut Daemon, signal: Signal) {
    end_process(daemon, signal);
    if matches!(daemon.state, State::Waiting { .. }) {
        daemon.state = State::Ended;
    }
}

fn end_process(daemon: &Daemon, signal: Signal) {
    // A process that is gone already is reaped on its SIGCHLD.
    if let State::Running { pid, .. } = daemon.state {
        let _ = kill(pid, signal);
    }
}

/// Sleeps until a signal, a notification, a start that is due, or the end of the grace period.
fn wait(signals: &SignalFd, daemons: &[Daemon], stop: Option<Instant>) -> Result<(), SuperviseError> {
    let due = daemons.iter().filter_map(|d| match d.state {
        State::Waiting { until } => Some(until),
        _ => None,
    });
    let patience = stop.map(|since| since + GRACE).filter(|at| *at > Instant::now());
    let deadline = due.chain(patience).min();
    let timeout = match deadline {
        None => PollTimeout::NONE,
        // One millisecond more, since poll rounds down.
        Some(at) => {
            let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        }
    };
    let mut fds: Vec<PollFd> = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    fds.extend(daemons.iter().map(|d| PollFd::new(d.notifications.as_fd(), PollFlags::POLLIN)));
    match poll(&mut fds, timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(source) => Err(SuperviseError::System { operation: "wait for the daemons", source }),
    }
}

fn reap(daemons: &mut [Daemon], stopping: bool) -> Result<(), SuperviseError> {
    loop {
        let status = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(_) => return Ok(()),
            Ok(status) => status,
        };
        if !matches!(status, WaitStatus::Exited(..) | WaitStatus::Signaled(..)) {
            continue;
        }
        let gone = status.pid();
        if let Some(daemon) =
            daemons.iter_mut().find(|d| matches!(d.state, State::Running { pid, .. } if Some(pid) == gone))
        {
            daemon.ended(status, stopping)?;
        }
    }
}

/// In the child: only returns when the program cannot be started.
fn become_daemon(
    parent: Pid,
    sockets: &[i32],
    (soft, hard): DescriptorLimit,
    command: &[CString],
    environment: &mut Vec<CString>,
) -> io::Error {
    let mut prepare = || -> Result<(), io::Error> {
        // A group of its own, so that Ctrl-C in the terminal reaches the supervisor alone and the order of the end holds.
        setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
        // Without the supervisor nobody would restart it: `causeway up` again must find the sockets free.
        prctl::set_pdeathsig(Signal::SIGTERM)?;
        if nix::unistd::getppid() != parent {
            return Err(io::Error::other("the supervisor is gone"));
        }
        SigSet::empty().thread_set_mask()?;
        pass(sockets)?;
        // As we found it: what containers inherit is not ours to change.
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
        environment.push(CString::new(format!("LISTEN_PID={}", getpid()))?);
        Ok(())
    };
    if let Err(error) = prepare() {
        return error;
    }
    match execve(&command[0], command, environment) {
        Err(error) => error.into(),
        Ok(never) => match never {},
    }
}

/// Puts the sockets at 3, 4, … and lets them through exec.
fn pass(sockets: &[i32]) -> Result<(), io::Error> {
    let above = FIRST_PASSED_FD + sockets.len() as i32;
    // First out of the way: a source may sit where another one has to go.
    let moved = sockets
        .iter()
        .map(|&fd| {
            // SAFETY: the supervisor keeps these open for its whole life.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(above))
        })
        .collect::<Result<Vec<_>, _>>()?;
    for (index, fd) in moved.into_iter().enumerate() {
        // SAFETY: dup2 on numbers this child owns; the copy has no close-on-exec flag.
        if unsafe { nix::libc::dup2(fd, FIRST_PASSED_FD + index as i32) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

fn strings(values: impl Iterator<Item = String>) -> Result<Vec<CString>, SuperviseError> {
    values.map(CString::new).collect::<Result<_, _>>().map_err(|_| SuperviseError::System {
        operation: "pass an argument with a NUL byte",
        source: Errno::EINVAL,
    })
}
