//! What a shim is told at birth.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Read by the shim from `shim.json` in its directory, which is also the OCI bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimConfig {
    /// The container's id: names its cgroup and the OCI runtime's state.
    pub id: String,
    /// The cgroup below every hierarchy's root, as `/<parent>/<id>`; the same as the OCI spec's `cgroupsPath`.
    pub cgroup: String,
    pub runtime: OciRuntime,
    pub stdin: Stdin,
    /// The size of the terminal to allocate; none means pipes.
    pub terminal: Option<TerminalSize>,
    /// Where the log goes; none keeps no log.
    pub log: Option<LogFile>,
    /// A directory for compiled seccomp profiles, shared by all shims of an engine.
    pub seccomp_cache: Option<PathBuf>,
    /// Who owns the container's stdio: the user id that the container's process runs as.
    pub uid: u32,
    /// The container has a PID namespace of its own, so that all of it dies with its first process.
    pub private_pids: bool,
}

/// Who creates the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OciRuntime {
    /// libcontainer, inside the shim.
    Builtin,
    /// A binary with the OCI runtime's command line (runc, crun, runsc).
    Binary(PathBuf),
}

/// What the container's standard input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stdin {
    /// `/dev/null` (with a terminal: the terminal, though nobody is let write to it).
    Closed,
    /// Stays open for later attachers when one leaves (Docker's OpenStdin).
    Open,
    /// Closes when the first attacher that brought input leaves or ends it (Docker's StdinOnce). Without a terminal
    /// only, as in Docker.
    Once,
}

/// Rows and columns, in characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    pub rows: u16,
    pub columns: u16,
}

/// A log in the format of Docker's `json-file` driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFile {
    pub path: PathBuf,
    /// Bytes after which the file is rotated; none never rotates.
    pub max_size: Option<u64>,
    /// How many files are kept, the current one included (`x.log`, `x.log.1`, ...). At least 1.
    pub max_files: u32,
}
