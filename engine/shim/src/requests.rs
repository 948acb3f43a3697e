//! What clients ask for.

use std::collections::BTreeMap;

use engine_protocol::{
    AttachRequest, ExecProcess, ExecState, Failure, FailureCause, Kind, OciRuntime, Reply, Request, State,
    Status, Target, frame, layout,
};
use nix::libc;

use crate::{
    client::Attached,
    create,
    shim::{INIT, Phase, Process, Shim, Waiter},
    stdio::{self, Stdio},
};

fn failed(cause: FailureCause, message: impl Into<String>) -> Reply {
    Reply::Failed(Failure { cause, message: message.into() })
}

impl Shim {
    /// Works off what a client has sent.
    pub(crate) fn take_frames(&mut self, key: u64) {
        loop {
            let Some(client) = self.clients.get_mut(&key) else { return };
            let (kind, payload) = match client.reader.next_frame() {
                Ok(Some(frame)) => (frame.kind, frame.payload.to_vec()),
                Ok(None) => return,
                Err(error) => {
                    eprintln!("a client is cut off: {error}");
                    client.gone = true;
                    return;
                }
            };
            match (kind, client.attached) {
                (Kind::Request, None) => match frame::message::<Request>(&payload) {
                    Ok((id, request)) => self.request((key, id), request),
                    Err(error) => {
                        eprintln!("a client is cut off: {error}");
                        client.gone = true;
                    }
                },
                (Kind::Stdin, Some(attached)) if attached.stdin && !attached.input_ended => {
                    if let Some(process) = self.processes.get_mut(&attached.process)
                        && !process.io.input_closed
                        && !process.io.input_ends
                    {
                        process.io.input.extend(&payload);
                        process.io.drain_input();
                    }
                }
                (Kind::StdinEnd | Kind::Detach, Some(mut attached)) => {
                    let told = !attached.stdin || attached.input_ended;
                    attached.input_ended = true;
                    client.attached = Some(attached);
                    if kind == Kind::Detach {
                        client.gone = true;
                    } else if !told {
                        self.input_left(attached.process);
                    }
                }
                _ => {}
            }
        }
    }

    pub(crate) fn reply(&mut self, (client, id): Waiter, reply: &Reply) {
        if let Some(client) = self.clients.get_mut(&client) {
            client.reply(id, reply, &self.spill);
        }
    }

    pub(crate) fn reply_all(&mut self, waiters: Vec<Waiter>, reply: &Reply) {
        for waiter in waiters {
            self.reply(waiter, reply);
        }
    }

    fn request(&mut self, from: Waiter, request: Request) {
        let reply = match request {
            Request::State => Some(Reply::State(self.state())),
            Request::Created => self.when_created(from),
            Request::Start => self.start(from),
            Request::Signal { target, signal, all } => Some(self.signal(&target, signal, all)),
            Request::Wait { target } => self.wait_for(from, &target),
            Request::ExecCreate { exec, process } => Some(self.prepare_exec(exec, process)),
            Request::ExecStart { exec } => self.start_exec(from, &exec),
            Request::ExecForget { exec } => Some(self.forget_exec(&exec)),
            Request::Resize { target, size } => Some(match self.find(&target) {
                Err(reply) => reply,
                Ok(key) => self.resize(key, size),
            }),
            Request::Attach(request) => Some(self.attach(from, &request)),
            Request::CloseStdin { target } => Some(match self.find(&target) {
                Err(reply) => reply,
                Ok(key) => {
                    if let Some(process) = self.processes.get_mut(&key) {
                        process.io.input_ends = true;
                        process.io.drain_input();
                    }
                    Reply::Done
                }
            }),
            Request::ReopenLog => Some(match self.log.as_mut().map(crate::log::Log::reopen) {
                Some(Err(error)) => failed(FailureCause::Runtime, format!("open the log: {error}")),
                _ => Reply::Done,
            }),
            Request::Delete => {
                self.delete(from);
                None
            }
        };
        if let Some(reply) = reply {
            self.reply(from, &reply);
        }
    }

    /// The key of a process.
    pub(crate) fn find(&self, target: &Target) -> Result<u32, Reply> {
        match target {
            Target::Init => Ok(INIT),
            Target::Exec(name) => self
                .processes
                .iter()
                .find(|(key, process)| **key != INIT && process.name == *name)
                .map(|(key, _)| *key)
                .ok_or_else(|| failed(FailureCause::UnknownExec, format!("No such exec instance: {name}"))),
        }
    }

    pub(crate) fn state(&self) -> State {
        let init = &self.processes[&INIT];
        let (status, exit) = match init.phase {
            Phase::Prepared => (Status::Creating, None),
            Phase::Waiting | Phase::Starting => (Status::Created, None),
            Phase::Running if self.hierarchies.group(&self.config.cgroup).is_frozen() => {
                (Status::Paused, None)
            }
            Phase::Running => (Status::Running, None),
            Phase::Exited(exit) => (Status::Exited, Some(exit)),
            Phase::Broken => (Status::Exited, None),
        };
        let mut execs = BTreeMap::new();
        for (_, process) in self.processes.iter().filter(|(key, _)| **key != INIT) {
            let exit = if let Phase::Exited(exit) = process.phase { Some(exit) } else { None };
            let running = process.phase == Phase::Running;
            execs.insert(process.name.clone(), ExecState { pid: process.pid, running, exit });
        }
        State {
            id: self.config.id.clone(),
            status,
            pid: init.pid,
            shim_pid: std::process::id() as i32,
            started_at: self.started_at,
            exit,
            execs,
        }
    }

    fn when_created(&mut self, from: Waiter) -> Option<Reply> {
        if let Some(failure) = &self.create_failure {
            return Some(Reply::Failed(failure.clone()));
        }
        if self.processes[&INIT].phase == Phase::Prepared {
            self.creators.push(from);
            return None;
        }
        Some(Reply::State(self.state()))
    }

    fn start(&mut self, from: Waiter) -> Option<Reply> {
        let init = self.processes.get_mut(&INIT)?;
        if init.phase != Phase::Waiting {
            return Some(failed(FailureCause::WrongState, "the container is not waiting to be started"));
        }
        let begun = match &self.config.runtime {
            OciRuntime::Builtin => create::let_go(&self.config.id, layout::RUNTIME_ROOT),
            OciRuntime::Binary(binary) => {
                let binary = binary.clone();
                self.spawn_start(&binary)
            }
        };
        match begun {
            Ok(()) => {
                if let Some(init) = self.processes.get_mut(&INIT) {
                    init.phase = Phase::Starting;
                    init.starters.push(from);
                }
                None
            }
            Err(error) => Some(failed(FailureCause::Runtime, format!("start the container: {error}"))),
        }
    }

    fn signal(&mut self, target: &Target, signal: i32, all: bool) -> Reply {
        let key = match self.find(target) {
            Ok(key) => key,
            Err(reply) => return reply,
        };
        let process = &self.processes[&key];
        if process.pid == 0 || process.has_ended() {
            return failed(FailureCause::NoProcess, "the process has gone");
        }
        if all && key == INIT {
            self.hierarchies.group(&self.config.cgroup).signal(signal);
            return Reply::Done;
        }
        // It is our child and not reaped, so the number is still its own.
        // SAFETY: no memory is involved.
        match nix::errno::Errno::result(unsafe { libc::kill(process.pid, signal) }) {
            Ok(_) => Reply::Done,
            Err(nix::errno::Errno::ESRCH) => failed(FailureCause::NoProcess, "the process has gone"),
            Err(error) => failed(FailureCause::Invalid, format!("signal {signal}: {}", error.desc())),
        }
    }

    fn wait_for(&mut self, from: Waiter, target: &Target) -> Option<Reply> {
        let key = match self.find(target) {
            Ok(key) => key,
            Err(reply) => return Some(reply),
        };
        let process = self.processes.get_mut(&key)?;
        match process.phase {
            Phase::Exited(exit) => Some(Reply::Exited(exit)),
            Phase::Broken => Some(failed(FailureCause::WrongState, "the process could not be started")),
            _ => {
                process.waiters.push(from);
                None
            }
        }
    }

    fn prepare_exec(&mut self, name: String, process: ExecProcess) -> Reply {
        if self.processes[&INIT].phase != Phase::Running {
            return failed(FailureCause::WrongState, "the container is not running");
        }
        if self.find(&Target::Exec(name.clone())).is_ok() {
            return failed(FailureCause::WrongState, format!("exec {name} exists already"));
        }
        let io =
            Stdio { terminal: process.terminal.is_some(), input_closed: !process.stdin, ..Stdio::default() };
        self.processes.insert(self.next_process, Process::new(name, io, Some(process)));
        self.next_process += 1;
        Reply::Done
    }

    fn start_exec(&mut self, from: Waiter, name: &str) -> Option<Reply> {
        let key = match self.find(&Target::Exec(name.to_owned())) {
            Ok(key) => key,
            Err(reply) => return Some(reply),
        };
        if self.processes[&INIT].phase != Phase::Running {
            return Some(failed(FailureCause::WrongState, "the container is not running"));
        }
        if self.processes[&key].phase != Phase::Prepared {
            return Some(failed(FailureCause::WrongState, format!("exec {name} has started already")));
        }
        match self.spawn_exec(key) {
            Ok(()) => {
                let process = self.processes.get_mut(&key)?;
                process.phase = Phase::Starting;
                process.starters.push(from);
                None
            }
            Err(error) => Some(failed(FailureCause::Runtime, format!("start exec {name}: {error}"))),
        }
    }

    fn forget_exec(&mut self, name: &str) -> Reply {
        match self.find(&Target::Exec(name.to_owned())) {
            Err(reply) => reply,
            Ok(key) if matches!(self.processes[&key].phase, Phase::Starting | Phase::Running) => {
                failed(FailureCause::WrongState, format!("exec {name} is running"))
            }
            Ok(key) => {
                self.processes.remove(&key);
                Reply::Done
            }
        }
    }

    fn resize(&mut self, key: u32, size: engine_protocol::TerminalSize) -> Reply {
        if key == INIT && self.config.terminal.is_some() {
            self.config.terminal = Some(size);
        }
        let Some(process) = self.processes.get_mut(&key) else { return Reply::Done };
        if !process.io.terminal {
            return failed(FailureCause::Invalid, "the process has no terminal");
        }
        if let Some(spec) = &mut process.spec {
            spec.terminal = Some(size);
        }
        // Before the terminal exists the size is kept for it.
        match process.io.stdout.as_ref().map(|master| stdio::resize(std::os::fd::AsFd::as_fd(master), size)) {
            Some(Err(error)) => failed(FailureCause::Runtime, format!("resize: {}", error.desc())),
            _ => Reply::Done,
        }
    }

    fn attach(&mut self, from: Waiter, request: &AttachRequest) -> Reply {
        let key = match self.find(&request.target) {
            Ok(key) => key,
            Err(reply) => return reply,
        };
        if let Some(client) = self.clients.get_mut(&from.0) {
            client.attached = Some(Attached {
                process: key,
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
                input_ended: false,
            });
        }
        Reply::Done
    }

    fn delete(&mut self, from: Waiter) {
        self.deleter = Some(from);
        if self.cleaned {
            self.reply(from, &Reply::Done);
        } else {
            self.kill_init();
        }
    }

    /// Ends the container, if it has begun. One that is being created is killed when that is done.
    pub(crate) fn kill_init(&mut self) {
        let init = &self.processes[&INIT];
        if !init.has_ended() && init.pid > 0 {
            let _ = self.hierarchies.group(&self.config.cgroup).set_frozen(false);
            // SAFETY: no memory is involved. It is our child and not reaped.
            unsafe { libc::kill(init.pid, libc::SIGKILL) };
        }
    }
}
