//! Requests and replies.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::TerminalSize;

/// What a client asks of a shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Answered with [`Reply::State`].
    State,
    /// Answered with [`Reply::State`] once the container has been created, or with the failure to create it.
    Created,
    /// Starts the container's process; answered when it has been executed, or with why it could not be.
    Start,
    /// Sends a signal to the process, or to the container's first process and all others with `all`.
    Signal { target: Target, signal: i32, all: bool },
    /// Answered with [`Reply::Exited`] when the process has exited.
    Wait { target: Target },
    /// Sets up an exec under a name; nothing runs yet, so that attaching first misses nothing.
    ExecCreate { exec: String, process: ExecProcess },
    /// Runs the exec; answered with its process id when it has been executed.
    ExecStart { exec: String },
    /// Forgets an exec that has exited or never ran.
    ExecForget { exec: String },
    /// Sets the terminal's size.
    Resize { target: Target, size: TerminalSize },
    /// Turns the connection into a stream of stdio; see [`crate::Kind`].
    Attach(AttachRequest),
    /// Closes the process's standard input, whoever is attached.
    CloseStdin { target: Target },
    /// Starts a fresh log file where the path says (the engine rotated or removed it).
    ReopenLog,
    /// Removes the container: kills what runs, deletes the cgroup and the runtime's state, answers, and the shim ends.
    Delete,
}

/// The container's first process, or an exec by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    Init,
    Exec(String),
}

/// Which streams an attacher wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachRequest {
    pub target: Target,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// A process to run in a running container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecProcess {
    /// The OCI spec's `process` object as JSON text: the shim hands it on unread.
    pub process: String,
    /// The user id that it runs as, who thus owns its stdio.
    pub uid: u32,
    pub stdin: bool,
    /// The size of the terminal to allocate; none means pipes.
    pub terminal: Option<TerminalSize>,
}

/// What a shim answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Done,
    /// A process runs, with this id in the shim's PID namespace.
    Started {
        pid: i32,
    },
    State(State),
    Exited(Exit),
    Failed(Failure),
}

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub cause: FailureCause,
    /// In words, as far as they are known. What Docker puts behind `OCI runtime create failed: `.
    pub message: String,
}

/// What can be told apart without reading a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCause {
    /// The program to execute does not exist (Docker's exit code 127).
    ProgramNotFound,
    /// The program to execute may not be executed (Docker's exit code 126).
    ProgramNotExecutable,
    /// The working directory does not exist or may not be entered.
    WorkingDirectory,
    /// The request does not fit the state: starting twice, an exec in a container that does not run.
    WrongState,
    /// No such exec.
    UnknownExec,
    /// The process has gone already.
    NoProcess,
    /// The request itself makes no sense.
    Invalid,
    /// The OCI runtime, or the kernel, refused.
    Runtime,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit code; 128 plus the signal's number for a process that a signal ended, as a shell says it.
    pub code: i32,
    pub signal: Option<i32>,
    /// The kernel's OOM killer was at work in the container's cgroup.
    pub oom_killed: bool,
    /// Nanoseconds since 1970.
    pub finished_at: u64,
}

/// Where a container's life stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The OCI runtime is at work.
    Creating,
    Created,
    Running,
    Paused,
    Exited,
}

/// All that a shim knows of its container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub id: String,
    pub status: Status,
    /// The first process, in the shim's PID namespace; 0 before it exists.
    pub pid: i32,
    pub shim_pid: i32,
    /// Nanoseconds since 1970.
    pub started_at: Option<u64>,
    pub exit: Option<Exit>,
    pub execs: BTreeMap<String, ExecState>,
}

/// All that a shim knows of an exec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecState {
    /// 0 before it was started.
    pub pid: i32,
    pub running: bool,
    pub exit: Option<Exit>,
}
