//! The one mapping between [`ErrorKind`] and gRPC codes. Both ends use it; nobody reads a message to tell errors apart.

use std::error::Error;

use libnetwork_model::ErrorKind;
use tonic::{Code, Status};

/// The status that carries an error of this kind. The message is what the user reads, Docker's own text where it has one.
pub fn status(kind: ErrorKind, message: impl Into<String>) -> Status {
    let code = match kind {
        ErrorKind::Invalid => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::Conflict => Code::AlreadyExists,
        ErrorKind::InUse => Code::FailedPrecondition,
        ErrorKind::Exhausted => Code::ResourceExhausted,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Internal => Code::Internal,
        ErrorKind::Unimplemented => Code::Unimplemented,
    };
    Status::new(code, message)
}

/// What kind of error a status carries. One that was made on this side because the connection broke is
/// [`ErrorKind::Unavailable`], whatever code the transport chose for it.
pub fn kind(status: &Status) -> ErrorKind {
    if is_transport(status) {
        return ErrorKind::Unavailable;
    }
    match status.code() {
        Code::InvalidArgument | Code::OutOfRange => ErrorKind::Invalid,
        Code::NotFound => ErrorKind::NotFound,
        Code::AlreadyExists => ErrorKind::Conflict,
        Code::FailedPrecondition => ErrorKind::InUse,
        Code::ResourceExhausted => ErrorKind::Exhausted,
        Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::Aborted => {
            ErrorKind::Unavailable
        }
        Code::Unimplemented => ErrorKind::Unimplemented,
        Code::Ok
        | Code::Unknown
        | Code::DataLoss
        | Code::Internal
        | Code::PermissionDenied
        | Code::Unauthenticated => ErrorKind::Internal,
    }
}

/// Whether the answer got lost on the way rather than being an error of causewayd's: a call that may be repeated
/// (`Join`, `Leave`, every read) can be.
pub fn is_transport(status: &Status) -> bool {
    // A status from the wire has no source; one that tonic made of a broken connection keeps what broke.
    status.source().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_survives_the_wire() {
        for original in [
            ErrorKind::Invalid,
            ErrorKind::NotFound,
            ErrorKind::Conflict,
            ErrorKind::InUse,
            ErrorKind::Exhausted,
            ErrorKind::Unavailable,
            ErrorKind::Internal,
            ErrorKind::Unimplemented,
        ] {
            assert_eq!(kind(&status(original, "text")), original);
        }
    }
}
