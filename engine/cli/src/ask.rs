//! What goes wrong when causewayd is asked.

use std::path::Path;

use tonic::Status;

#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error(
        "cannot ask causewayd at {socket} (is `causeway up` running with this --run-dir?): {}",
        status.message()
    )]
    Unreachable { socket: String, status: Status },
    /// causewayd's own words.
    #[error("{}", status.message())]
    Refused { status: Status },
}

impl AskError {
    /// What a call of the causewayd at `socket` failed with.
    pub(crate) fn at(socket: &Path) -> impl Fn(Status) -> Self + use<> {
        let socket = socket.display().to_string();
        move |status| {
            if libnetwork_rpc::is_transport(&status) {
                Self::Unreachable { socket: socket.clone(), status }
            } else {
                Self::Refused { status }
            }
        }
    }
}
