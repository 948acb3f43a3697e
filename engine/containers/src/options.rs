//! What callers ask for.

use std::{str::FromStr, time::SystemTime};

use bytes::Bytes;
use engine_filters::Filters;
use engine_images::ImageConfig;
use serde::Deserialize;

use crate::{Error, StdStream, TerminalSize};

/// What became of a request to change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// It was so already (HTTP 304).
    Unchanged,
}

/// `GET /containers/json`.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Also those that do not run.
    pub all: bool,
    /// The last created so many, running or not; 0 means all.
    pub limit: usize,
    /// Compute sizes.
    pub size: bool,
    /// `id`, `name`, `label`, `status`, `ancestor`, `network`, `volume`, `publish`, `expose`, `health`, `exited`,
    /// `before`, `since`, `is-task`, `isolation`.
    pub filters: Filters,
}

/// `DELETE /containers/{id}`.
#[derive(Debug, Clone, Copy, Default)]
pub struct RemoveOptions {
    /// Kill it first.
    pub force: bool,
    /// Also its anonymous volumes.
    pub volumes: bool,
    /// Remove a link of the default bridge, not the container; refused.
    pub link: bool,
}

/// What `wait` waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WaitCondition {
    #[default]
    NotRunning,
    NextExit,
    Removed,
}

impl FromStr for WaitCondition {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "" | "not-running" => Ok(Self::NotRunning),
            "next-exit" => Ok(Self::NextExit),
            "removed" => Ok(Self::Removed),
            other => Err(Error::Invalid(format!("invalid condition: {other:?}"))),
        }
    }
}

/// `GET /containers/{id}/logs`.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    pub stdout: bool,
    pub stderr: bool,
    /// Go on until the container exits.
    pub follow: bool,
    pub since: Option<SystemTime>,
    pub until: Option<SystemTime>,
    /// Each line is preceded by its time.
    pub timestamps: bool,
    /// Each line is preceded by the log's extra attributes.
    pub details: bool,
    /// Only the last so many lines.
    pub tail: Option<usize>,
}

/// One piece of log, ready for the wire: timestamp and details are in `data` already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    pub stream: StdStream,
    pub data: Bytes,
}

/// `POST /containers/{id}/attach`.
#[derive(Debug, Clone, Default)]
pub struct AttachOptions {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// Also what the container wrote so far.
    pub logs: bool,
    /// What the container will write.
    pub stream: bool,
    /// e.g. `ctrl-p,ctrl-q`; none means Docker's default, which is that.
    pub detach_keys: Option<String>,
}

/// `POST /containers/{id}/exec`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExecCreate {
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    pub detach_keys: Option<String>,
    pub tty: bool,
    /// Rows, columns.
    pub console_size: Option<[u16; 2]>,
    pub env: Option<Vec<String>>,
    #[serde(deserialize_with = "crate::config::wire::strings")]
    pub cmd: Option<Vec<String>>,
    pub privileged: bool,
    pub user: Option<String>,
    pub working_dir: Option<String>,
}

/// `POST /exec/{id}/start`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExecStart {
    /// Answer at once, attach nothing.
    pub detach: bool,
    pub tty: bool,
    /// Rows, columns.
    pub console_size: Option<[u16; 2]>,
}

impl ExecStart {
    /// The terminal's first size, if one was given.
    pub fn size(&self) -> Option<TerminalSize> {
        self.console_size.map(|[rows, columns]| TerminalSize { rows, columns })
    }
}

/// `PUT /containers/{id}/archive`.
#[derive(Debug, Clone, Copy, Default)]
pub struct PutOptions {
    /// Refuse to replace a directory by a file, and the other way around.
    pub no_overwrite_dir_non_dir: bool,
    /// Keep the archive's owners; otherwise files belong to root.
    pub copy_uid_gid: bool,
}

/// `POST /commit`.
#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// `repo[:tag]`; none leaves the image nameless.
    pub reference: Option<String>,
    pub comment: String,
    pub author: String,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// Pause the container meanwhile.
    pub pause: bool,
    /// Overrides of the container's config, where given.
    pub config: Option<ImageConfig>,
}

/// How many containers there are, for `info`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub running: usize,
    pub paused: usize,
    pub stopped: usize,
}
