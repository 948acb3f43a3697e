//! One connection to a shim, shared by all who ask it something.

use std::{collections::HashMap, os::fd::AsRawFd, path::Path};

use engine_protocol::{FrameError, FrameReader, Kind, Reply, Request, frame, layout};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::{mpsc, oneshot},
};

use crate::RuntimeError;

/// Connects to the shim of the directory. By way of a descriptor, since the path may be longer than an address.
pub(super) async fn connect(directory: &Path) -> std::io::Result<UnixStream> {
    use nix::{fcntl, sys::stat::Mode};
    let flags = fcntl::OFlag::O_PATH | fcntl::OFlag::O_DIRECTORY | fcntl::OFlag::O_CLOEXEC;
    let directory = fcntl::open(directory, flags, Mode::empty())?;
    UnixStream::connect(format!("/proc/self/fd/{}/{}", directory.as_raw_fd(), layout::SOCKET)).await
}

struct Call {
    request: Request,
    answer: oneshot::Sender<Reply>,
}

/// A handle on the task that owns the connection. The task ends, and every call with it, when the shim goes away.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    calls: mpsc::Sender<Call>,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.request.fmt(f)
    }
}

impl Connection {
    /// Starts the task.
    pub(super) fn new(id: String, stream: UnixStream) -> Self {
        let (calls, queue) = mpsc::channel(64);
        tokio::spawn(async move {
            if let Err(error) = run(stream, queue).await {
                tracing::warn!(container = id, %error, "the connection to a shim broke");
            }
        });
        Self { calls }
    }

    /// Asks; none when the shim has gone. Cancelling forgets the answer, not the request.
    pub(super) async fn ask(&self, request: Request) -> Option<Reply> {
        let (answer, reply) = oneshot::channel();
        self.calls.send(Call { request, answer }).await.ok()?;
        reply.await.ok()
    }
}

#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("socket")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
}

async fn run(stream: UnixStream, mut queue: mpsc::Receiver<Call>) -> Result<(), Broken> {
    let (mut from, mut to) = stream.into_split();
    let mut reader = FrameReader::default();
    let mut waiting: HashMap<u64, oneshot::Sender<Reply>> = HashMap::new();
    let (mut next, mut buffer, mut out) = (0, vec![0; 4 << 10], Vec::new());
    loop {
        tokio::select! {
            call = queue.recv() => {
                let Some(Call { request, answer }) = call else { return Ok(()) };
                next += 1;
                out.clear();
                frame::put_message(&mut out, Kind::Request, next, &request)?;
                waiting.insert(next, answer);
                to.write_all(&out).await?;
            }
            count = from.read(&mut buffer) => {
                let count = count?;
                if count == 0 {
                    return Ok(());
                }
                reader.feed(&buffer[..count]);
                while let Some(found) = reader.next_frame()? {
                    if found.kind == Kind::Reply {
                        let (id, reply) = frame::message::<Reply>(found.payload)?;
                        if let Some(answer) = waiting.remove(&id) {
                            // Nobody may wait for it any more.
                            let _ = answer.send(reply);
                        }
                    }
                }
            }
        }
    }
}

/// What a reply that carries nothing says, or the failure.
pub(super) fn done(reply: Reply) -> Result<(), RuntimeError> {
    match reply {
        Reply::Failed(failure) => Err(RuntimeError::Failed(failure)),
        _ => Ok(()),
    }
}
