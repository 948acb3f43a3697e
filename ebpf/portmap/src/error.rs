use std::{error::Error, fmt, io};

use libnetwork_core::PortError;
use libnetwork_model::ErrorKind;

/// Says what was tried on what.
pub(crate) trait OnError<T> {
    fn on(self, operation: &'static str, object: impl fmt::Display) -> Result<T, PortError>;
}

impl<T, E: Error + Send + Sync + 'static> OnError<T> for Result<T, E> {
    fn on(self, operation: &'static str, object: impl fmt::Display) -> Result<T, PortError> {
        self.map_err(|source| PortError {
            operation,
            object: object.to_string(),
            kind: kind(&source),
            source: Box::new(source),
        })
    }
}

/// A map that is full is the one cause that a caller can do something about.
fn kind(error: &(dyn Error + 'static)) -> ErrorKind {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let errno = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        if let Some(libc::ENOSPC | libc::E2BIG | libc::ENOMEM) = errno {
            return ErrorKind::Exhausted;
        }
        cause = error.source();
    }
    ErrorKind::Internal
}
