//! What can go wrong between the engine and a container.

use std::{io, path::PathBuf};

use engine_protocol::{Failure, FailureCause, FrameError};
use libnetwork_model::{ErrorKind, HasKind};

/// Why a container or an exec could not be created, started or asked.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The specification contradicts itself or names what does not exist, e.g. a user that the image lacks. The
    /// message is what Docker says.
    #[error("{0}")]
    InvalidSpec(String),
    /// The OCI runtime, through the shim, refused.
    #[error("{}", .0.message)]
    Failed(Failure),
    /// No runtime of that name was configured.
    #[error("unknown or invalid runtime name: {0}")]
    UnknownRuntime(String),
    /// A container of this id has a directory here already.
    #[error("container {0} exists already")]
    Exists(String),
    /// The shim could not be spawned or did not come up.
    #[error("cannot start the shim of container {id}: {detail}")]
    Shim { id: String, detail: String },
    /// The shim closed the connection without an answer.
    #[error("the shim of container {0} is gone")]
    ShimGone(String),
    /// The shim sent what cannot be understood.
    #[error("the shim of container {id} sent what cannot be understood")]
    Protocol { id: String, source: FrameError },
    #[error("{operation} {}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
}

/// Why a program did not start, as far as Docker's exit codes tell it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartFailure {
    /// Exit code 127: the program was not found.
    NotFound,
    /// Exit code 126: the program, or its working directory, may not be used.
    NotExecutable,
    /// Exit code 125 (the docker CLI's own): something else.
    Other,
}

impl StartFailure {
    /// The exit code that Docker gives a container that could not start for this reason.
    pub fn exit_code(self) -> i32 {
        match self {
            Self::NotFound => 127,
            Self::NotExecutable => 126,
            Self::Other => 128,
        }
    }
}

impl RuntimeError {
    /// Why the program did not start.
    pub fn start_failure(&self) -> StartFailure {
        match self {
            Self::Failed(Failure { cause: FailureCause::ProgramNotFound, .. }) => StartFailure::NotFound,
            Self::Failed(Failure { cause: FailureCause::ProgramNotExecutable, .. }) => {
                StartFailure::NotExecutable
            }
            _ => StartFailure::Other,
        }
    }

    /// What Docker's API says when starting a container failed with this error:
    /// `failed to create task for container: failed to create shim task: OCI runtime create failed: ...`.
    pub fn docker_start_message(&self) -> String {
        match self {
            Self::Failed(failure) => format!(
                "failed to create task for container: failed to create shim task: OCI runtime create failed: {}",
                failure.message
            ),
            other => format!("failed to create task for container: {other}"),
        }
    }

    /// What Docker says when an exec failed with this error:
    /// `OCI runtime exec failed: exec failed: unable to start container process: ...`.
    pub fn docker_exec_message(&self) -> String {
        match self {
            Self::Failed(failure) => format!("OCI runtime exec failed: {}", failure.message),
            other => other.to_string(),
        }
    }

    pub(crate) fn io(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { operation, path, source }
    }
}

impl HasKind for RuntimeError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::InvalidSpec(_) | Self::UnknownRuntime(_) => ErrorKind::Invalid,
            Self::Exists(_) => ErrorKind::Conflict,
            Self::Failed(failure) => match failure.cause {
                // Docker answers 400 to a start whose program does not exist.
                FailureCause::ProgramNotFound
                | FailureCause::ProgramNotExecutable
                | FailureCause::WorkingDirectory
                | FailureCause::Invalid => ErrorKind::Invalid,
                FailureCause::WrongState | FailureCause::NoProcess => ErrorKind::Conflict,
                FailureCause::UnknownExec => ErrorKind::NotFound,
                FailureCause::Runtime => ErrorKind::Internal,
            },
            Self::ShimGone(_) => ErrorKind::Unavailable,
            Self::Shim { .. } | Self::Protocol { .. } | Self::Io { .. } => ErrorKind::Internal,
        }
    }
}
