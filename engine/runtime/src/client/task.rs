//! One container, and the processes executed in it.

use std::time::SystemTime;

use engine_protocol::{State, TerminalSize};

use crate::{Attach, AttachOptions, ExecSpec, Resources, RuntimeError, Stats};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitStatus {
    /// The exit code; 128 plus the signal's number when a signal ended it.
    pub code: i32,
    pub signal: Option<i32>,
    /// The OOM killer was at work in the container's cgroup.
    pub oom_killed: bool,
    pub finished_at: SystemTime,
}

/// A handle on a container's shim. Cheap to clone; dropping it leaves the container alone.
#[derive(Debug, Clone)]
pub struct Task {
    id: String,
}

impl Task {
    /// The container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The container's first process in the engine's PID namespace.
    pub fn pid(&self) -> i32 {
        todo!()
    }

    /// Runs the container's process. Returns once it has been executed; its failure is told by
    /// [`RuntimeError::start_failure`].
    pub async fn start(&self) -> Result<(), RuntimeError> {
        todo!()
    }

    /// Sends a signal to the container's first process. [`engine_protocol::FailureCause::NoProcess`] when it has
    /// gone.
    pub async fn kill(&self, signal: i32) -> Result<(), RuntimeError> {
        let _ = signal;
        todo!()
    }

    /// Waits until the container has exited and all its output is in the log. May be called any number of times.
    pub async fn wait(&self) -> Result<ExitStatus, RuntimeError> {
        todo!()
    }

    /// Sets the terminal's size.
    pub async fn resize(&self, size: TerminalSize) -> Result<(), RuntimeError> {
        let _ = size;
        todo!()
    }

    /// Connects to the container's stdio. Sees what is written from then on; attached before [`Task::start`], all.
    pub async fn attach(&self, options: AttachOptions) -> Result<Attach, RuntimeError> {
        let _ = options;
        todo!()
    }

    /// Closes the container's standard input, whoever is attached.
    pub async fn close_stdin(&self) -> Result<(), RuntimeError> {
        todo!()
    }

    /// Prepares a process to run in the container under an id of the caller's choice, unique in the container.
    /// It runs when [`ExecTask::start`] is called, so that attaching first misses nothing.
    pub async fn exec(&self, exec_id: &str, spec: &ExecSpec) -> Result<ExecTask, RuntimeError> {
        let _ = (exec_id, spec);
        todo!()
    }

    /// An exec that was prepared before, e.g. by an earlier engine; [`State::execs`] lists them.
    pub fn exec_by_id(&self, exec_id: &str) -> ExecTask {
        let _ = exec_id;
        todo!()
    }

    /// The processes of the container, as the engine's PID namespace numbers them.
    pub async fn pids(&self) -> Result<Vec<i32>, RuntimeError> {
        todo!()
    }

    /// Freezes all processes of the container.
    pub async fn pause(&self) -> Result<(), RuntimeError> {
        todo!()
    }

    pub async fn resume(&self) -> Result<(), RuntimeError> {
        todo!()
    }

    /// Changes the limits that are given, and no other.
    pub async fn update(&self, resources: &Resources) -> Result<(), RuntimeError> {
        let _ = resources;
        todo!()
    }

    /// What the cgroup counts.
    pub async fn stats(&self) -> Result<Stats, RuntimeError> {
        todo!()
    }

    /// What the shim knows of the container.
    pub async fn state(&self) -> Result<State, RuntimeError> {
        todo!()
    }

    /// Makes the shim open its log file anew, after the file was truncated, renamed or removed.
    pub async fn reopen_log(&self) -> Result<(), RuntimeError> {
        todo!()
    }

    /// Kills what runs, removes the cgroup, the shim and its directory. The rootfs is not touched.
    pub async fn delete(&self) -> Result<(), RuntimeError> {
        todo!()
    }
}

/// A handle on a process executed in a container.
#[derive(Debug, Clone)]
pub struct ExecTask {
    exec_id: String,
}

impl ExecTask {
    /// The id given to [`Task::exec`].
    pub fn exec_id(&self) -> &str {
        &self.exec_id
    }

    /// Runs it; returns its process id once the program has been executed.
    pub async fn start(&self) -> Result<i32, RuntimeError> {
        todo!()
    }

    pub async fn wait(&self) -> Result<ExitStatus, RuntimeError> {
        todo!()
    }

    pub async fn kill(&self, signal: i32) -> Result<(), RuntimeError> {
        let _ = signal;
        todo!()
    }

    pub async fn resize(&self, size: TerminalSize) -> Result<(), RuntimeError> {
        let _ = size;
        todo!()
    }

    /// See [`Task::attach`].
    pub async fn attach(&self, options: AttachOptions) -> Result<Attach, RuntimeError> {
        let _ = options;
        todo!()
    }

    /// Makes the shim forget it. It must not run.
    pub async fn forget(&self) -> Result<(), RuntimeError> {
        todo!()
    }
}
