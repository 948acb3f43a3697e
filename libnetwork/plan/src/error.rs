use std::collections::BTreeSet;

use libnetwork_model::{ErrorKind, HasKind};

use crate::{Key, Ns};

/// Something that the kernel refused, or that was not tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {operation} {} in {namespace}", Subject(.key))]
pub struct KernelError {
    /// As an infinitive: `create`, `list`, `open`.
    pub operation: &'static str,
    pub namespace: Ns,
    /// None when it concerns no single object (a dump).
    pub key: Option<Key>,
    #[source]
    pub cause: Cause,
}

/// Why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The kernel's own answer (errno).
    #[error("{}", std::io::Error::from_raw_os_error(*.0))]
    Errno(i32),
    /// The kernel's answer with its explanation (netlink's extended acknowledgement).
    #[error("{}: {message}", std::io::Error::from_raw_os_error(*.errno))]
    Explained { errno: i32, message: String },
    /// Something that it needs could not be made.
    #[error("not tried, because {0} failed")]
    Prerequisite(Box<Key>),
    /// Someone else's object is under the name.
    #[error("{0} exists and is not ours")]
    Foreign(Box<Key>),
    /// The kernel's tables kept changing under a listing, longer than we try.
    #[error("the listing was interrupted again and again")]
    Interrupted,
    /// An answer that we do not understand.
    #[error("unexpected answer: {0}")]
    Answer(String),
}

/// Something changed that we did not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    pub what: Drifted,
    /// The host's links, addresses, routes or resolvers changed: ask for [`libnetwork_model::HostFacts`] again.
    pub host: bool,
}

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drifted {
    /// These objects; may be empty when only the host's facts changed.
    Keys(BTreeSet<Key>),
    /// Too much changed to tell: look at everything.
    All,
    /// Notifications were lost: look at everything, the host's facts included. Whoever may change enough, as any container with
    /// CAP_NET_ADMIN may, can make this happen again and again.
    Lost,
}

impl Cause {
    pub fn errno(&self) -> Option<i32> {
        match self {
            Cause::Errno(errno) | Cause::Explained { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}

impl HasKind for KernelError {
    fn kind(&self) -> ErrorKind {
        match &self.cause {
            Cause::Foreign(_) => ErrorKind::Conflict,
            Cause::Interrupted => ErrorKind::Unavailable,
            // EAGAIN, EBUSY, ENOMEM, ENFILE, EMFILE, ENOSPC, ENOBUFS: asm-generic/errno*.h
            cause => match cause.errno() {
                Some(11 | 16) => ErrorKind::Unavailable,
                Some(12 | 23 | 24 | 28 | 105) => ErrorKind::Exhausted,
                _ => ErrorKind::Internal,
            },
        }
    }
}

struct Subject<'a>(&'a Option<Key>);

impl std::fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(key) => write!(f, "{key}"),
            None => f.write_str("objects"),
        }
    }
}
