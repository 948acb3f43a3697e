//! The one error of this crate, with Docker's messages.

use std::io;
use std::path::PathBuf;

use engine_filters::FilterError;
use libnetwork_model::{ErrorKind, HasKind};

/// What every fallible operation of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation on volumes failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No volume has that name.
    #[error("get {0}: no such volume")]
    NoSuchVolume(String),
    /// A name outside `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
    #[error(
        "create {0}: {0:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" \
         are allowed. If you intended to pass a host directory, use absolute path"
    )]
    InvalidName(String),
    /// The name is taken by a volume of other driver options.
    #[error("a volume with the name {0} already exists with different options")]
    Exists(String),
    /// Only the `local` driver is built in.
    #[error("error looking up volume plugin {0}: plugin {0:?} not found")]
    NoSuchDriver(String),
    /// A driver option that `local` does not know, or that lacks another.
    #[error("create {name}: {reason}")]
    InvalidOption {
        /// The volume.
        name: String,
        /// What is wrong with which option.
        reason: String,
    },
    /// A filter that `list` or `prune` cannot use.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// Containers still use it.
    #[error("remove {name}: volume is in use - [{}]", .containers.join(", "))]
    InUse {
        /// The volume.
        name: String,
        /// Full ids of the containers.
        containers: Vec<String>,
    },
    /// A record below the state directory that cannot be understood.
    #[error("corrupt volume file {path}")]
    Corrupt {
        /// The file, absolute.
        path: PathBuf,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// The kernel refused the mount that the driver options ask for.
    #[error(
        "error while mounting volume '{mountpoint}': failed to mount local volume: mount {device}:{mountpoint}, flags: {flags}, data: {data}"
    )]
    Mount {
        /// Where.
        mountpoint: String,
        /// What.
        device: String,
        /// Mount flags.
        flags: String,
        /// Mount data.
        data: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel or the disk refused.
    #[error("{operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A blocking task was cancelled because the engine is shutting down.
    #[error("interrupted: the engine is shutting down")]
    Interrupted,
}

impl Error {
    /// For `map_err`: an I/O error together with what was tried on which path.
    pub(crate) fn io(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { operation, path, source }
    }
}

impl HasKind for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchVolume(_) | Self::NoSuchDriver(_) => ErrorKind::NotFound,
            Self::InvalidName(_) | Self::InvalidOption { .. } | Self::Filter(_) => ErrorKind::Invalid,
            // Docker answers 409, which is what `Conflict` maps to.
            Self::Exists(_) | Self::InUse { .. } => ErrorKind::Conflict,
            Self::Interrupted => ErrorKind::Unavailable,
            Self::Corrupt { .. } | Self::Mount { .. } | Self::Io { .. } => ErrorKind::Internal,
        }
    }
}
