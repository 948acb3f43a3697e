//! A client over causewayd's unix socket.
//!
//! Owns no task of ours: tonic's channel runs one per connection, which ends when the last [`Client`] clone is dropped.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, time::Instant};
use tonic::{
    Status,
    transport::{Channel, Endpoint, Uri},
};

use crate::{is_transport, v1::libnetwork_client::LibnetworkClient};

/// The generated client: cheap to clone, one connection shared by the clones, made again when it broke.
pub type Client = LibnetworkClient<Channel>;

/// How long a call waits for a causewayd that is just being started again before it answers "unavailable".
pub const PATIENCE: Duration = Duration::from_secs(5);

/// A client of the causewayd that listens at `socket`. Connects with the first call, and again whenever the connection
/// was lost; a socket that is not there yet is waited for, for up to [`PATIENCE`].
///
/// Must be called inside a tokio runtime.
pub fn connect(socket: &Path) -> Client {
    connect_within(socket, PATIENCE)
}

/// [`connect`] with another patience.
pub fn connect_within(socket: &Path, patience: Duration) -> Client {
    let path = socket.to_path_buf();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { dial(&path, patience).await.map(TokioIo::new) }
    });
    // The name is sent as the authority and goes nowhere: the connector knows the way.
    let channel = Endpoint::from_static("http://causewayd").connect_with_connector_lazy(connector);
    // A list of some thousand networks with their endpoints is larger than tonic's 4 MiB.
    LibnetworkClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT)
}

/// The largest message either side takes, in bytes.
pub const MESSAGE_LIMIT: usize = 256 << 20;

/// Makes a call that may be repeated, again while its answer gets lost with the connection (causewayd was restarted
/// under it), for up to [`PATIENCE`]. Not for `CreateNetwork`: the lost answer may have been a success.
pub async fn again<T, F>(mut call: impl FnMut() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<tonic::Response<T>, Status>>,
{
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(5);
    loop {
        match call().await {
            Ok(reply) => return Ok(reply.into_inner()),
            Err(status) if is_transport(&status) && Instant::now() + pause < deadline => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(200));
            }
            Err(status) => return Err(status),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("causewayd does not answer at {}", path.display())]
struct NotThere {
    path: PathBuf,
    #[source]
    source: io::Error,
}

async fn dial(path: &Path, patience: Duration) -> Result<UnixStream, NotThere> {
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_millis(2);
    loop {
        match UnixStream::connect(path).await {
            Ok(stream) => return Ok(stream),
            Err(source) => {
                let passing =
                    matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
                if !passing || Instant::now() + pause > deadline {
                    return Err(NotThere { path: path.to_path_buf(), source });
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(100));
            }
        }
    }
}
