//! The one mapping between [`ErrorKind`] and gRPC codes. Both ends use it; nobody reads a message to tell errors apart.

use std::error::Error;

use libnetwork_model::ErrorKind;
use tonic::{Code, Status};

/// Bytes of a message at most. It travels in a header, each byte of it as up to three, and a client takes 16 KiB of headers: a
/// longer answer is none, and a much longer one ends the connection with all the calls on it.
const LIMIT: usize = 4096;

/// What a message that was cut ends with.
const CUT: &str = "… (cut)";

/// The status that carries an error of this kind. The message is what the user reads, Docker's own text where it has one; of one
/// that is longer than a status can carry, the beginning.
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
    let mut message = message.into();
    if message.len() > LIMIT {
        message.truncate(message.floor_char_boundary(LIMIT - CUT.len()));
        message.push_str(CUT);
    }
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
    let mut broke = std::iter::successors(status.source(), |error| (*error).source());
    // An answer that this side would not take (larger than what it takes of headers) is the same when it comes again.
    let unfit = |error: &(dyn Error + 'static)| {
        error.downcast_ref::<h2::Error>().is_some_and(|error| error.is_reset() && error.is_library())
    };
    status.source().is_some() && !broke.any(unfit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_between_characters_and_says_so() {
        let message = |text: String| status(ErrorKind::Invalid, text).message().to_owned();
        for short in [LIMIT - 1, LIMIT] {
            assert_eq!(message("x".repeat(short)), "x".repeat(short));
        }
        for first in ["", "x", "xx"] {
            let asked = format!("{first}{}", "€".repeat(LIMIT));
            let cut = message(asked.clone());
            assert!(asked.starts_with(cut.strip_suffix(CUT).unwrap()) && cut.len() <= LIMIT);
            assert!(cut.len() > LIMIT - 3);
        }
    }

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
