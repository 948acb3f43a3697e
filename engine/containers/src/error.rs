//! The one error of this crate, with Docker's messages.

use std::{io, path::PathBuf};

use engine_filters::FilterError;
use engine_runtime::RuntimeError;
use libnetwork_model::{ErrorKind, HasKind};

/// What every fallible operation of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation on a container failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("No such container: {0}")]
    NoSuchContainer(String),
    /// An id prefix that fits several containers.
    #[error("multiple IDs found with provided prefix: {0}")]
    AmbiguousId(String),
    #[error("No such exec instance: {0}")]
    NoSuchExec(String),
    /// A file that a copy wants and that the container does not have.
    #[error("Could not find the file {path} in container {container}")]
    NoSuchPath { container: String, path: String },
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". You have to remove (or \
         rename) that container to be able to reuse that name."
    )]
    NameInUse { name: String, holder: String },
    #[error("container {0} is not running")]
    NotRunning(String),
    #[error("Container {0} is restarting, wait until the container is running")]
    Restarting(String),
    #[error("container {0} is paused, unpause the container before exec")]
    Paused(String),
    /// The request contradicts itself or cannot be understood (400).
    #[error("{0}")]
    Invalid(String),
    /// The container is not in a state for this (409).
    #[error("{0}")]
    Conflict(String),
    /// Understood, and not allowed (403).
    #[error("{0}")]
    Forbidden(String),
    /// Something other than a container or exec does not exist (404).
    #[error("{0}")]
    NotFound(String),
    /// What an operation on this container was about to do, and why it failed; the kind is the cause's.
    #[error("{context}: {source}")]
    During { context: String, source: Box<Error> },
    /// causewayd's answer, as it wrote it.
    #[error("{message}")]
    Network { kind: ErrorKind, message: String },
    #[error(transparent)]
    Filter(#[from] FilterError),
    #[error(transparent)]
    Image(#[from] engine_images::Error),
    #[error(transparent)]
    Volume(#[from] engine_volumes::Error),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The container's process could not be started. `code` is the exit code that Docker gives it then; the message is
    /// Docker's whole text.
    #[error("{message}")]
    Start { kind: ErrorKind, code: i32, message: String },
    /// A record below the state directory that cannot be understood.
    #[error("corrupt container file {}", path.display())]
    Corrupt { path: PathBuf, source: serde_json::Error },
    #[error("{operation} {}: {source}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("{0}")]
    Unimplemented(String),
    /// The engine is about to end.
    #[error("interrupted: the engine is shutting down")]
    Interrupted,
}

impl Error {
    /// For `map_err`: an I/O error together with what was tried on which path.
    pub(crate) fn io(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { operation, path, source }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    pub(crate) fn during(self, context: impl Into<String>) -> Self {
        Self::During { context: context.into(), source: Box::new(self) }
    }
}

/// An error and all its causes on one line, for the log.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let line = error.to_string();
        // Some say their cause themselves.
        if !text.ends_with(&line) {
            text.push_str(": ");
            text.push_str(&line);
        }
        cause = error.source();
    }
    text
}

impl HasKind for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchContainer(_) | Self::NoSuchExec(_) | Self::NotFound(_) | Self::NoSuchPath { .. } => {
                ErrorKind::NotFound
            }
            Self::NameInUse { .. }
            | Self::NotRunning(_)
            | Self::Restarting(_)
            | Self::Paused(_)
            | Self::Conflict(_) => ErrorKind::Conflict,
            Self::Forbidden(_) => ErrorKind::InUse,
            Self::AmbiguousId(_) | Self::Invalid(_) | Self::Filter(_) => ErrorKind::Invalid,
            Self::During { source, .. } => source.kind(),
            Self::Network { kind, .. } | Self::Start { kind, .. } => *kind,
            Self::Image(error) => error.kind(),
            Self::Volume(error) => error.kind(),
            Self::Runtime(error) => error.kind(),
            Self::Corrupt { .. } | Self::Io { .. } => ErrorKind::Internal,
            Self::Unimplemented(_) => ErrorKind::Unimplemented,
            Self::Interrupted => ErrorKind::Unavailable,
        }
    }
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        Self::Network { kind: libnetwork_rpc::kind(&status), message: status.message().to_owned() }
    }
}
