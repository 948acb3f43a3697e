use axum::response::{IntoResponse, Response};
use http::StatusCode;
use libnetwork_model::{ErrorKind, HasKind};
use serde::Serialize;

use crate::json::Json;

/// An answer that says why not: `{"message": …}` with the status of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    pub status: StatusCode,
    pub message: String,
}

impl ApiError {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { status: status_of(kind), message: message.into() }
    }

    /// The request is malformed or contradicts itself: 400.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// The thing named does not exist: 404.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// Known to Docker and not built here: 501.
    pub fn unimplemented(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unimplemented, message)
    }

    /// What causewayd answered.
    pub(crate) fn network(status: &tonic::Status) -> Self {
        let kind = libnetwork_rpc::kind(status);
        if libnetwork_rpc::is_transport(status) {
            return Self::new(kind, format!("the network daemon is away: {}", status.message()));
        }
        Self::new(kind, status.message())
    }
}

/// The one mapping of error kinds to HTTP.
fn status_of(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::InUse => StatusCode::FORBIDDEN,
        ErrorKind::Exhausted | ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Unimplemented => StatusCode::NOT_IMPLEMENTED,
    }
}

/// An error of the crates below: what it says, and its causes after it.
impl<E: std::error::Error + HasKind> From<E> for ApiError {
    fn from(error: E) -> Self {
        Self::new(error.kind(), chain(&error))
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Some libraries' errors have said it already.
        if !message.ends_with(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        cause = error.source();
    }
    message
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body {
            message: String,
        }
        // 304 carries no body: it is how Docker says that there was nothing to do.
        if self.status == StatusCode::NOT_MODIFIED {
            return self.status.into_response();
        }
        (self.status, Json(Body { message: self.message })).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("mount the root")]
    struct Outer(#[source] std::io::Error);

    impl HasKind for Outer {
        fn kind(&self) -> ErrorKind {
            ErrorKind::Internal
        }
    }

    #[test]
    fn causes_are_joined_and_the_kind_gives_the_status() {
        let error: ApiError = Outer(std::io::Error::other("disk full")).into();
        assert_eq!(error.message, "mount the root: disk full");
        assert_eq!(error.status, StatusCode::INTERNAL_SERVER_ERROR);
    }
}
