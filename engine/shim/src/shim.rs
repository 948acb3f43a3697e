//! The loop, and what the shim knows.

use std::{
    collections::BTreeMap,
    io,
    os::{fd::AsFd, unix::net::UnixListener},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use engine_protocol::{ExecProcess, Exit, Failure, ShimConfig, Stdin, cgroup::Hierarchies};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};

use crate::{
    client::Client,
    helper::{Helper, Purpose},
    log::{Log, Source},
    stdio::{MOST_INPUT, Stdio},
};

/// The key of the container's first process.
pub(crate) const INIT: u32 = 0;
/// How long a shim whose container has exited waits for an engine. What there is to know is in the exit file.
const LINGER: Duration = Duration::from_secs(10);

/// A request that will be answered later: the client's key and the request's id.
pub(crate) type Waiter = (u64, u64);

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Phase {
    /// Nothing runs: the container is being created, or an exec was prepared.
    Prepared,
    /// The process exists and waits for its start.
    Waiting,
    /// On its way to execute its program.
    Starting,
    Running,
    Exited(Exit),
    /// It could not be made.
    Broken,
}

pub(crate) struct Process {
    /// The exec's name; empty for the first process.
    pub(crate) name: String,
    pub(crate) pid: i32,
    pub(crate) phase: Phase,
    pub(crate) io: Stdio,
    /// Who waits for the exit.
    pub(crate) waiters: Vec<Waiter>,
    /// Who waits for the start.
    pub(crate) starters: Vec<Waiter>,
    /// What an exec runs.
    pub(crate) spec: Option<ExecProcess>,
}

impl Process {
    pub(crate) fn new(name: String, io: Stdio, spec: Option<ExecProcess>) -> Self {
        Self { name, pid: 0, phase: Phase::Prepared, io, waiters: Vec::new(), starters: Vec::new(), spec }
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Exited(_) | Phase::Broken)
    }
}

pub(crate) struct Shim {
    pub(crate) config: ShimConfig,
    listener: UnixListener,
    signals: SignalFd,
    pub(crate) hierarchies: Hierarchies,
    pub(crate) log: Option<Log>,
    /// Where what a client does not take may wait.
    pub(crate) spill: PathBuf,
    /// The first process and the execs.
    pub(crate) processes: BTreeMap<u32, Process>,
    pub(crate) next_process: u32,
    pub(crate) clients: BTreeMap<u64, Client>,
    next_client: u64,
    pub(crate) helpers: Vec<Helper>,
    /// Children that ended before the helper that made them said what they are.
    pub(crate) strays: Vec<(i32, i32)>,
    pub(crate) started_at: Option<u64>,
    pub(crate) creators: Vec<Waiter>,
    pub(crate) create_failure: Option<Failure>,
    /// Who asked for the end, once somebody has.
    pub(crate) deleter: Option<Waiter>,
    pub(crate) cleaned: bool,
    /// The runtime's binary was asked to remove what it keeps.
    pub(crate) cleanup_tried: bool,
    /// Since when nobody is connected.
    lonely: Instant,
    /// Output passes through here.
    buffer: Vec<u8>,
}

/// What a descriptor that `poll` found ready is.
#[derive(Clone, Copy)]
enum Ready {
    Listener,
    Signals,
    Helper(i32),
    Output(u32, Source),
    Input(u32),
    Client(u64),
}

impl Shim {
    pub(crate) fn new(config: ShimConfig, listener: UnixListener) -> io::Result<Self> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let log = config.log.clone().map(Log::open).transpose()?;
        let beside_log = config.log.as_ref().and_then(|log| log.path.parent()).map(Path::to_owned);
        let mut shim = Self {
            listener,
            signals,
            hierarchies: Hierarchies::detect()?,
            log,
            spill: beside_log.unwrap_or_else(|| ".".into()),
            processes: BTreeMap::new(),
            next_process: INIT + 1,
            clients: BTreeMap::new(),
            next_client: 0,
            helpers: Vec::new(),
            strays: Vec::new(),
            started_at: None,
            creators: Vec::new(),
            create_failure: None,
            deleter: None,
            cleaned: false,
            cleanup_tried: false,
            lonely: Instant::now(),
            buffer: vec![0; 32 << 10],
            config,
        };
        shim.create()?;
        Ok(shim)
    }

    /// Until the container has been deleted, or has exited and nobody asks for it.
    pub(crate) fn run(mut self) -> io::Result<()> {
        loop {
            let ready = self.wait()?;
            for (what, flags) in ready {
                match what {
                    Ready::Listener => self.accept(),
                    Ready::Signals => self.reap(),
                    Ready::Helper(pid) => self.hear(pid),
                    Ready::Output(process, source) => self.read_output(process, source),
                    Ready::Input(process) => self.drain_input(process),
                    Ready::Client(client) => self.serve(client, flags),
                }
            }
            self.finish_outputs();
            self.clean_up();
            self.drop_clients();
            if self.is_over() {
                return Ok(());
            }
        }
    }

    fn is_over(&self) -> bool {
        if !self.cleaned {
            return false;
        }
        let all_said = self.clients.values().all(Client::is_drained);
        let asked = self.deleter.is_some() && all_said;
        asked || self.clients.is_empty() && self.lonely.elapsed() >= LINGER
    }

    fn wait(&self) -> io::Result<Vec<(Ready, PollFlags)>> {
        let mut what = Vec::new();
        let mut fds = Vec::new();
        let mut add = |ready, fd, flags| {
            what.push(ready);
            fds.push(PollFd::new(fd, flags));
        };
        // Helpers before signals: what a helper said is known before its end, or its process's, is looked at.
        for helper in &self.helpers {
            if let Some(pipe) = &helper.pipe {
                add(Ready::Helper(helper.pid), pipe.as_fd(), PollFlags::POLLIN);
            }
        }
        for (&key, process) in &self.processes {
            // Somebody too far behind holds up this process only, and only as long as it makes progress.
            let held_up = self.clients.values().any(|client| client.holds_up(key));
            let outputs = [(&process.io.stdout, Source::Stdout), (&process.io.stderr, Source::Stderr)];
            for (fd, source) in outputs {
                if let Some(fd) = fd
                    && !held_up
                {
                    add(Ready::Output(key, source), fd.as_fd(), PollFlags::POLLIN);
                }
            }
            if let Some(fd) = process.io.input_fd()
                && !process.io.input.is_empty()
            {
                add(Ready::Input(key), fd, PollFlags::POLLOUT);
            }
        }
        add(Ready::Signals, self.signals.as_fd(), PollFlags::POLLIN);
        add(Ready::Listener, self.listener.as_fd(), PollFlags::POLLIN);
        for (&key, client) in &self.clients {
            let mut flags = PollFlags::empty();
            let full = client.attached.is_some_and(|attached| {
                self.processes.get(&attached.process).is_some_and(|p| p.io.input.len() >= MOST_INPUT)
            });
            if !full && !client.read_closed {
                flags |= PollFlags::POLLIN;
            }
            if !client.is_drained() {
                flags |= PollFlags::POLLOUT;
            }
            add(Ready::Client(key), client.socket.as_fd(), flags);
        }
        let timeout = if self.cleaned || self.clients.values().any(|client| !client.is_drained()) {
            PollTimeout::from(1000_u16)
        } else {
            PollTimeout::NONE
        };
        loop {
            match poll(&mut fds, timeout) {
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => break,
            }
        }
        let flags: Vec<PollFlags> = fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty())).collect();
        drop(fds);
        Ok(what.into_iter().zip(flags).filter(|(_, flags)| !flags.is_empty()).collect())
    }

    fn accept(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            if socket.set_nonblocking(true).is_ok() {
                self.clients.insert(self.next_client, Client::new(socket.into()));
                self.next_client += 1;
            }
        }
    }

    fn serve(&mut self, key: u64, flags: PollFlags) {
        let Some(client) = self.clients.get_mut(&key) else { return };
        if flags.contains(PollFlags::POLLOUT) {
            client.drain();
        }
        if !flags.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
            return;
        }
        let open = !client.read_closed && client.receive();
        self.take_frames(key);
        if open {
            return;
        }
        let Some(client) = self.clients.get_mut(&key) else { return };
        match &mut client.attached {
            // Half closed: it has no more input, and goes on to take output.
            Some(attached) if !flags.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) => {
                client.read_closed = true;
                let (process, left) = (attached.process, attached.stdin && !attached.input_ended);
                attached.input_ended = true;
                if left {
                    self.input_left(process);
                }
            }
            _ => client.gone = true,
        }
    }

    fn drop_clients(&mut self) {
        let mut gone = Vec::new();
        for (&key, client) in &mut self.clients {
            client.check_patience();
            if client.gone || client.last_word && client.is_drained() {
                gone.push(key);
            }
        }
        for key in gone {
            if let Some(client) = self.clients.remove(&key)
                && let Some(attached) = client.attached
                && attached.stdin
                && !attached.input_ended
            {
                self.input_left(attached.process);
            }
            self.lonely = Instant::now();
        }
    }

    /// An attacher that brought input has ended it, or has left without saying so.
    pub(crate) fn input_left(&mut self, key: u32) {
        let once = key != INIT || self.config.stdin == Stdin::Once;
        let Some(process) = self.processes.get_mut(&key) else { return };
        if once && !process.io.terminal {
            process.io.input_ends = true;
            process.io.drain_input();
        }
    }

    fn drain_input(&mut self, key: u32) {
        if let Some(process) = self.processes.get_mut(&key) {
            process.io.drain_input();
        }
    }

    /// Reads what there is of one stream, and hands it to the log and whoever is attached. Bounded, so that a busy
    /// container does not keep its shim from anything else.
    fn read_output(&mut self, key: u32, source: Source) {
        for _ in 0..4 {
            if !self.read_some(key, source) {
                return;
            }
        }
    }

    /// Reads everything that was written before the process ended.
    pub(crate) fn read_rest(&mut self, key: u32) {
        for source in [Source::Stdout, Source::Stderr] {
            while self.read_some(key, source) {}
        }
        if let Some(process) = self.processes.get_mut(&key) {
            process.io.close_output();
        }
    }

    /// One read; false when there is no more for the moment.
    fn read_some(&mut self, key: u32, source: Source) -> bool {
        let Some(process) = self.processes.get_mut(&key) else { return false };
        let stream = match source {
            Source::Stdout => &mut process.io.stdout,
            Source::Stderr => &mut process.io.stderr,
        };
        let Some(fd) = stream.as_ref() else { return false };
        let count = loop {
            match nix::unistd::read(fd, &mut self.buffer) {
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return false,
                Ok(0) => break 0,
                Ok(count) => break count,
                // A terminal whose last user has gone.
                Err(_) => break 0,
            }
        };
        if count == 0 {
            *stream = None;
            if process.io.terminal {
                process.io.close_output();
            }
            return false;
        }
        let data = &self.buffer[..count];
        if key == INIT
            && let Some(log) = &mut self.log
            && let Err(error) = log.write(source, data)
        {
            eprintln!("the log is incomplete: {error}");
        }
        for client in self.clients.values_mut() {
            client.output(key, source, data, &self.spill);
        }
        true
    }

    /// Tells attachers of processes that have ended.
    fn finish_outputs(&mut self) {
        for client in self.clients.values_mut() {
            let Some(attached) = client.attached else { continue };
            if self.processes.get(&attached.process).is_none_or(Process::has_ended) {
                client.end(&self.spill);
            }
        }
    }

    pub(crate) fn helper_at_work(&self, purpose: Purpose) -> bool {
        self.helpers.iter().any(|helper| helper.purpose == purpose)
    }

    /// One pending signal; all of them say the same.
    pub(crate) fn signals_read(&mut self) -> nix::Result<Option<nix::sys::signalfd::siginfo>> {
        self.signals.read_signal()
    }
}
