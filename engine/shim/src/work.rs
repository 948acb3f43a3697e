//! Handing work to helpers, and hearing what came of it.

use std::{io, os::fd::AsRawFd, path::Path};

use engine_protocol::{Failure, FailureCause, OciRuntime, Reply, layout};

use crate::{
    binary, clock,
    console::Console,
    create,
    helper::{Helper, Purpose, Report, Reporter},
    join::{self, Streams},
    shim::{INIT, Phase, Process, Shim},
    stdio::{ProcessEnds, Stdio},
};

impl Shim {
    /// Begins to create the container.
    pub(crate) fn create(&mut self) -> io::Result<()> {
        let (stdio, ends, console) = match self.config.terminal {
            Some(_) => {
                let input_closed = self.config.stdin == engine_protocol::Stdin::Closed;
                let stdio = Stdio { input_closed, ..Stdio::terminal() };
                (stdio, None, Some(Console::listen("console.sock")?))
            }
            None => {
                let with_input = self.config.stdin != engine_protocol::Stdin::Closed;
                let (stdio, ends) = Stdio::pipes(with_input, self.config.uid)?;
                (stdio, Some(ends), None)
            }
        };
        self.processes.insert(INIT, Process::new(String::new(), stdio, None));
        let (id, runtime) = (self.config.id.clone(), self.config.runtime.clone());
        std::fs::create_dir_all(layout::RUNTIME_ROOT)?;
        let keep = descriptors(ends.as_ref());
        let cache = self.config.seccomp_cache.clone();
        let work = move |reporter: Reporter| match runtime {
            OciRuntime::Builtin => {
                create::create(&id, layout::RUNTIME_ROOT, ends, "console.sock", cache.as_deref(), reporter);
            }
            OciRuntime::Binary(path) => binary::create(&path, &id, ends, "console.sock", reporter),
        };
        self.helpers.push(Helper::spawn(Purpose::Create, &keep, console, work)?);
        Ok(())
    }

    pub(crate) fn spawn_start(&mut self, binary: &Path) -> io::Result<()> {
        let id = self.config.id.clone();
        let work = |reporter: Reporter| binary::start(binary, &id, reporter);
        let helper = Helper::spawn(Purpose::Start, &[], None, work)?;
        self.helpers.push(helper);
        Ok(())
    }

    pub(crate) fn spawn_exec(&mut self, key: u32) -> io::Result<()> {
        let init = self.processes[&INIT].pid;
        let Some(process) = self.processes.get_mut(&key) else { return Ok(()) };
        let Some(spec) = &process.spec else { return Ok(()) };
        let socket_name = format!("console-{key}.sock");
        let (mut console, mut ends, mut inherited) = (None, None, None);
        if spec.terminal.is_some() {
            if self.config.runtime == OciRuntime::Builtin {
                let (ours, theirs) = Console::pair()?;
                (console, inherited) = (Some(ours), Some(theirs));
            } else {
                console = Some(Console::listen(&socket_name)?);
            }
        } else {
            let (stdio, theirs) = Stdio::pipes(spec.stdin, spec.uid)?;
            // Input may have come before.
            let input = std::mem::take(&mut process.io.input);
            let input_ends = process.io.input_ends;
            process.io = Stdio { input, input_ends, ..stdio };
            ends = Some(theirs);
        }
        let mut keep = descriptors(ends.as_ref());
        keep.extend(inherited.as_ref().map(AsRawFd::as_raw_fd));
        let (runtime, config, text) = (self.config.runtime.clone(), &self.config, spec.process.clone());
        let work = |reporter: Reporter| match runtime {
            OciRuntime::Builtin => {
                let streams = match (ends, inherited) {
                    (Some(ends), _) => Streams::Pipes(ends),
                    (None, Some(socket)) => Streams::Terminal(socket),
                    (None, None) => return reporter.fail(FailureCause::Runtime, "no streams"),
                };
                join::join(init, &config.cgroup, &text, streams, config.seccomp_cache.as_deref(), reporter);
            }
            OciRuntime::Binary(path) => {
                binary::exec(&path, &config.id, key, &text, ends, &socket_name, reporter)
            }
        };
        let helper = Helper::spawn(Purpose::Exec(key), &keep, console, work)?;
        self.helpers.push(helper);
        if let Some(process) = self.processes.get_mut(&key) {
            process.io.drain_input();
        }
        Ok(())
    }

    pub(crate) fn spawn_cleanup(&mut self, binary: &Path) -> io::Result<()> {
        let id = self.config.id.clone();
        let work = |reporter: Reporter| binary::delete(binary, &id, reporter);
        let helper = Helper::spawn(Purpose::Cleanup, &[], None, work)?;
        self.helpers.push(helper);
        Ok(())
    }

    /// Takes in what a helper has reported.
    pub(crate) fn hear(&mut self, pid: i32) {
        let Some(index) = self.helpers.iter().position(|helper| helper.pid == pid) else { return };
        let purpose = self.helpers[index].purpose;
        let (reports, ended) = self.helpers[index].read();
        for report in reports {
            match (purpose, report) {
                (Purpose::Create, Report::Pid(pid)) => {
                    let console = self.helpers[index].console.take();
                    self.helpers[index].reported = true;
                    self.created(pid, console);
                }
                (Purpose::Exec(key), Report::Pid(pid)) => {
                    self.helpers[index].reported = true;
                    if let Some(process) = self.processes.get_mut(&key) {
                        process.pid = pid;
                    }
                }
                (_, Report::Pid(_)) => {}
                (Purpose::Start, Report::Done) => {
                    self.helpers[index].reported = true;
                    self.running(INIT);
                }
                (_, Report::Done) => self.helpers[index].reported = true,
                (_, Report::Failed(failure)) => {
                    self.helpers[index].reported = true;
                    self.failed(purpose, failure);
                }
            }
        }
        if ended {
            match purpose {
                Purpose::Create if self.config.runtime == OciRuntime::Builtin => self.running(INIT),
                Purpose::Exec(key) if self.helpers[index].reported => self.running(key),
                _ => {}
            }
        }
        self.forget_helpers();
    }

    /// A helper has exited; what it left unsaid is a failure.
    pub(crate) fn helper_exited(&mut self, pid: i32) {
        self.hear(pid);
        let Some(index) = self.helpers.iter().position(|helper| helper.pid == pid) else { return };
        self.helpers[index].exited = true;
        if !self.helpers[index].reported {
            self.helpers[index].reported = true;
            let purpose = self.helpers[index].purpose;
            let message = format!("the helper for {purpose:?} ended without a word; see {}", layout::LOG);
            self.failed(purpose, Failure { cause: FailureCause::Runtime, message });
        }
        self.forget_helpers();
    }

    fn forget_helpers(&mut self) {
        self.helpers.retain(|helper| !(helper.exited && helper.pipe.is_none()));
        if self.helpers.is_empty() {
            self.strays.clear();
        }
    }

    /// The container exists, and its process waits.
    fn created(&mut self, pid: i32, console: Option<Console>) {
        let size = self.config.terminal.unwrap_or_default();
        let uid = self.config.uid;
        if let Some(init) = self.processes.get_mut(&INIT) {
            init.pid = pid;
            init.phase = Phase::Waiting;
            if let Some(console) = console {
                let master = console.take_master();
                if let Err(error) = master.and_then(|master| Ok(init.io.set_master(master, size, uid)?)) {
                    eprintln!("the container's terminal: {error}");
                }
            }
        }
        // v1 runtimes leave the v2 hierarchy of a hybrid layout alone; the container should have a group there too.
        if let Err(error) = self.hierarchies.group(&self.config.cgroup).join_hybrid(pid) {
            eprintln!("no group on the unified hierarchy: {error}");
        }
        let creators = std::mem::take(&mut self.creators);
        let reply = Reply::State(self.state());
        self.reply_all(creators, &reply);
        self.claim_stray(INIT, pid);
        if self.deleter.is_some() {
            self.kill_init();
        }
    }

    fn exec_terminal(&mut self, key: u32, console: Console) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        let Some(spec) = &process.spec else { return };
        let size = spec.terminal.unwrap_or_default();
        let master = console.take_master();
        if let Err(error) = master.and_then(|master| Ok(process.io.set_master(master, size, spec.uid)?)) {
            eprintln!("the terminal of exec {}: {error}", process.name);
        }
        process.io.drain_input();
    }

    /// The process executes its program.
    pub(crate) fn running(&mut self, key: u32) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        if process.phase != Phase::Starting {
            return;
        }
        process.phase = Phase::Running;
        let helper = self.helpers.iter_mut().find(|helper| helper.purpose == Purpose::Exec(key));
        if let Some(console) = helper.and_then(|helper| helper.console.take()) {
            self.exec_terminal(key, console);
        }
        let Some(process) = self.processes.get_mut(&key) else { return };
        let (pid, starters) = (process.pid, std::mem::take(&mut process.starters));
        if key == INIT {
            self.started_at = Some(clock::now());
        }
        self.reply_all(starters, &Reply::Started { pid });
        if key != INIT {
            self.claim_stray(key, pid);
        }
    }

    fn failed(&mut self, purpose: Purpose, failure: Failure) {
        let reply = Reply::Failed(failure.clone());
        match purpose {
            Purpose::Create => {
                if self.create_failure.is_some() {
                    return;
                }
                self.create_failure = Some(failure);
                let creators = std::mem::take(&mut self.creators);
                self.broken(INIT, &reply);
                self.reply_all(creators, &reply);
            }
            Purpose::Start => {
                if let Some(init) = self.processes.get_mut(&INIT) {
                    init.phase = Phase::Waiting;
                    let starters = std::mem::take(&mut init.starters);
                    self.reply_all(starters, &reply);
                }
            }
            Purpose::Exec(key) => self.broken(key, &reply),
            Purpose::Cleanup => eprintln!("clean up: {}", failure.message),
        }
    }

    /// A process could not be made.
    fn broken(&mut self, key: u32, reply: &Reply) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        if process.has_ended() {
            return;
        }
        process.phase = Phase::Broken;
        process.io.close_output();
        let mut all = std::mem::take(&mut process.starters);
        all.append(&mut process.waiters);
        self.reply_all(all, reply);
    }
}

fn descriptors(ends: Option<&ProcessEnds>) -> Vec<i32> {
    ends.into_iter().flat_map(|e| [&e.stdin, &e.stdout, &e.stderr]).map(AsRawFd::as_raw_fd).collect()
}
