//! The one error of this crate. Messages are Docker's, since people and scripts know them.

use std::io;
use std::path::PathBuf;

use engine_filters::FilterError;
use libnetwork_model::{ErrorKind, HasKind};

/// What every fallible operation of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation on images or root filesystems failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No image has that name, digest or id. Carries the familiar name.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// An id prefix that fits several images.
    #[error("multiple images found with provided prefix: {0}")]
    AmbiguousId(String),
    /// A name or reference that no grammar admits; carries Docker's reason.
    #[error("{0}")]
    InvalidReference(String),
    /// A container whose root filesystem was never prepared, or was removed.
    #[error("no root filesystem for container {0}")]
    NoSuchRootfs(String),
    /// Removal or untagging refused; carries Docker's full `conflict: …` text.
    #[error("{0}")]
    Conflict(String),
    /// A filter that `list` or `prune` cannot use.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// A `--change` instruction, platform or other option that cannot be used.
    #[error("{0}")]
    InvalidOption(String),
    /// The archive handed in is truncated, corrupt, unsafe or not an image.
    #[error("invalid archive: {0}")]
    Archive(String),
    /// Bytes that do not have the digest they are named by.
    #[error("{what}: expected digest {expected}, got {actual}")]
    DigestMismatch {
        /// Which thing was being verified, such as `layer 2`.
        what: String,
        /// The digest written in the archive or the store.
        expected: String,
        /// The digest of the bytes that were read.
        actual: String,
    },
    /// A record below the state directory that cannot be understood.
    #[error("corrupt store file {path}")]
    Corrupt {
        /// The file, absolute.
        path: PathBuf,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// The kernel or the disk refused.
    #[error("{operation} {path}")]
    Io {
        /// What was tried: `open`, `mount`, `rename`, …
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

    /// The same for the kernel's error numbers.
    pub(crate) fn errno(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(nix::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { operation, path, source: source.into() }
    }
}

impl HasKind for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchImage(_) | Self::NoSuchRootfs(_) => ErrorKind::NotFound,
            Self::Conflict(_) => ErrorKind::Conflict,
            Self::AmbiguousId(_)
            | Self::InvalidReference(_)
            | Self::Filter(_)
            | Self::InvalidOption(_)
            | Self::Archive(_)
            | Self::DigestMismatch { .. } => ErrorKind::Invalid,
            Self::Interrupted => ErrorKind::Unavailable,
            Self::Corrupt { .. } | Self::Io { .. } => ErrorKind::Internal,
        }
    }
}
