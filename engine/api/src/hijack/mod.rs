//! Connections that stop being HTTP: attach and exec.
//!
//! Docker's protocol: the client asks with `Connection: Upgrade`, `Upgrade: tcp` and gets a 101; old clients ask without
//! and get a 200 without a length. Either way the connection then carries stdin one way and output the other. The second
//! form is no upgrade to hyper, so both are done by taking the connection out of hyper's hands and writing the head here.
//!
//! No task of its own: a session runs in its connection's task and ends with it.

use std::{fmt, io, time::Duration};

use axum::{extract::FromRequestParts, response::Response};
use bytes::{Buf, Bytes};
use engine_containers::{Attached, Input, OutputStream, StdStream};
use futures_util::{StreamExt, future::BoxFuture};
use http::{header, request::Parts};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{
    ApiError, frames,
    socket::Io,
    version::{ApiVersion, stream_type},
};

/// How often a client that has closed its input is looked at, to see whether it is gone altogether. A process that
/// writes notices at once.
const HANG_UP_CHECK: Duration = Duration::from_secs(5);
/// How long a client may take to close its side after the output has ended. Closing a unix socket that holds unread
/// input would throw away the end of the output, as a reset.
const LINGER: Duration = Duration::from_secs(2);
/// Bytes of input read at a time. Every attached client holds a buffer of this size until it ends its input.
const INPUT_BUFFER: usize = 16 << 10;

/// What a taken-over connection does: the socket, what hyper had read beyond the request, and the shutdown.
pub(crate) type Session = Box<dyn FnOnce(Io, Bytes, CancellationToken) -> BoxFuture<'static, ()> + Send>;

/// A request's way to take its connection over.
#[derive(Clone)]
pub(crate) struct Takeover(mpsc::Sender<Session>);

impl Takeover {
    pub(crate) fn new(sender: mpsc::Sender<Session>) -> Self {
        Self(sender)
    }
}

/// A request that may become a stream.
pub(crate) struct Hijack {
    takeover: Takeover,
    upgrade: bool,
    version: ApiVersion,
}

impl<S: Sync> FromRequestParts<S> for Hijack {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Ok(version) = ApiVersion::from_request_parts(parts, state).await;
        let takeover = parts.extensions.get::<Takeover>().cloned();
        let takeover = takeover.ok_or_else(|| ApiError::invalid("this connection cannot become a stream"))?;
        Ok(Self { takeover, upgrade: parts.headers.contains_key(header::UPGRADE), version })
    }
}

impl Hijack {
    /// Turns the connection into the process's stdio. What it returns goes nowhere.
    pub(crate) async fn attach(self, attached: Attached) -> Response {
        let Attached { tty, output, input } = attached;
        self.connect(tty, output, input).await
    }

    async fn connect(self, tty: bool, output: OutputStream, input: Option<impl Stdin + 'static>) -> Response {
        let head = self.head(tty);
        self.take(Box::new(move |io, read, shutdown| {
            Box::pin(async move {
                tokio::select! {
                    result = run(&io, head, read, tty, output, input) => {
                        if let Err(error) = result {
                            tracing::debug!(%error, "a stream ended early");
                        }
                    }
                    () = shutdown.cancelled() => {}
                }
            })
        }))
        .await
    }

    /// Answers with a stream that holds a message alone: how Docker says that an exec could not be started.
    pub(crate) async fn say(self, message: String, tty: bool) -> Response {
        let head = self.head(tty);
        let text = frames::frame(StdStream::Stdout, Bytes::from(format!("{message}\r\n")), tty);
        self.take(Box::new(move |io, _, shutdown| {
            Box::pin(async move {
                let mut data = head.chain(text);
                if io.write_all(&mut data).await.is_ok() {
                    finish(&io, &shutdown).await;
                }
            })
        }))
        .await
    }

    async fn take(self, session: Session) -> Response {
        let (begin, begun) = oneshot::channel::<()>();
        let session: Session = Box::new(move |io, read, shutdown| {
            drop(begin);
            session(io, read, shutdown)
        });
        // Where the connection is gone the session is dropped, and `begin` with it.
        let _ = self.takeover.0.send(session).await;
        // An answer before the connection is ours would be written to it.
        let _ = begun.await;
        Response::default()
    }

    fn head(&self, tty: bool) -> Bytes {
        let text = if self.upgrade {
            format!(
                "HTTP/1.1 101 UPGRADED\r\nContent-Type: {}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
                stream_type(self.version, tty)
            )
        } else {
            // Clients that do not ask for an upgrade know the older name alone.
            "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n".to_owned()
        };
        text.into()
    }
}

impl fmt::Debug for Hijack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hijack").field("upgrade", &self.upgrade).finish_non_exhaustive()
    }
}

/// The way to a process's standard input.
trait Stdin: Send {
    /// Waits while the process does not read.
    fn write(&mut self, data: &[u8]) -> impl Future<Output = io::Result<()>> + Send;
    /// No more input will come.
    fn end(&mut self) -> impl Future<Output = io::Result<()>> + Send;
}

impl Stdin for Input {
    async fn write(&mut self, data: &[u8]) -> io::Result<()> {
        Input::write(self, data).await
    }

    async fn end(&mut self) -> io::Result<()> {
        Input::end(self).await
    }
}

async fn run(
    io: &Io,
    mut head: Bytes,
    read: Bytes,
    tty: bool,
    output: OutputStream,
    input: Option<impl Stdin>,
) -> io::Result<()> {
    io.write_all(&mut head).await?;
    tokio::select! {
        result = pump_output(io, output, tty) => result?,
        gone = pump_input(io, read, input) => return gone,
    }
    finish(io, &CancellationToken::new()).await;
    Ok(())
}

async fn pump_output(io: &Io, mut output: OutputStream, tty: bool) -> io::Result<()> {
    while let Some(piece) = output.next().await {
        let piece = piece?;
        if tty {
            io.write_all(&mut piece.data.clone()).await?;
        } else {
            let header = Bytes::copy_from_slice(&frames::header(piece.stream, piece.data.len()));
            io.write_all(&mut header.chain(piece.data)).await?;
        }
    }
    Ok(())
}

/// Passes input on until the client is gone. A client that only ends its input stays for the output.
async fn pump_input(io: &Io, read: Bytes, mut input: Option<impl Stdin>) -> io::Result<()> {
    if !read.is_empty() {
        pass(&mut input, &read).await;
    }
    let mut buffer = vec![0; INPUT_BUFFER];
    loop {
        let count = io.read(&mut buffer).await?;
        if count == 0 {
            break;
        }
        pass(&mut input, &buffer[..count]).await;
    }
    drop(buffer);
    if let Some(input) = &mut input
        && let Err(error) = input.end().await
    {
        tracing::debug!(%error, "cannot end the input of a process");
    }
    loop {
        if io.hung_up() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        tokio::time::sleep(HANG_UP_CHECK).await;
    }
}

/// A process that takes no more input, or never did, still has output to show.
async fn pass(input: &mut Option<impl Stdin>, data: &[u8]) {
    if let Some(way) = input
        && way.write(data).await.is_err()
    {
        *input = None;
    }
}

/// Ends the output and waits for the client to close, dropping what it still sends.
async fn finish(io: &Io, shutdown: &CancellationToken) {
    if io.end_output().is_err() {
        return;
    }
    let mut buffer = [0; 4096];
    let drain = async { while io.read(&mut buffer).await.is_ok_and(|count| count > 0) {} };
    tokio::select! {
        () = drain => {}
        () = tokio::time::sleep(LINGER) => {}
        () = shutdown.cancelled() => {}
    }
}

#[cfg(test)]
mod tests;
