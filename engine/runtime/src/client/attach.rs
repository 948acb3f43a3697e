//! A container's stdio over a connection of its own.

use std::path::Path;

use bytes::Bytes;
use engine_protocol::{AttachRequest, FrameReader, Kind, Reply, Request, Target, frame};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::{OwnedReadHalf, OwnedWriteHalf},
};

use super::connection;
use crate::RuntimeError;

/// Which streams to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachOptions {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

impl Default for AttachOptions {
    /// Output only.
    fn default() -> Self {
        Self { stdin: false, stdout: true, stderr: true }
    }
}

/// Where output was written. With a terminal all of it is [`Stream::Stdout`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    pub stream: Stream,
    pub data: Bytes,
}

/// A connected attacher. Dropping it leaves like a client that vanished: [`crate::Stdin::Once`] closes the
/// container's input; see [`AttachInput::detach`] for leaving on purpose.
#[derive(Debug)]
pub struct Attach {
    pub input: AttachInput,
    pub output: AttachOutput,
}

impl Attach {
    /// The two halves, for two tasks.
    pub fn split(self) -> (AttachInput, AttachOutput) {
        (self.input, self.output)
    }

    pub(super) async fn connect(
        id: &str,
        directory: &Path,
        target: Target,
        options: AttachOptions,
    ) -> Result<Self, RuntimeError> {
        let gone = |_| RuntimeError::ShimGone(id.to_owned());
        let broken = |source| RuntimeError::Protocol { id: id.to_owned(), source };
        let stream = connection::connect(directory).await.map_err(gone)?;
        let (from, mut to) = stream.into_split();
        let AttachOptions { stdin, stdout, stderr } = options;
        let request = Request::Attach(AttachRequest { target, stdin, stdout, stderr });
        let mut out = Vec::new();
        frame::put_message(&mut out, Kind::Request, 1, &request).map_err(broken)?;
        to.write_all(&out).await.map_err(gone)?;
        let mut output =
            AttachOutput { id: id.to_owned(), from, reader: FrameReader::default(), ended: false };
        loop {
            if let Some(found) = output.reader.next_frame().map_err(broken)? {
                // The reply comes before any output.
                if found.kind == Kind::Reply {
                    let (_, reply) = frame::message::<Reply>(found.payload).map_err(broken)?;
                    connection::done(reply)?;
                    break;
                }
                continue;
            }
            output.fill().await?;
        }
        Ok(Self { input: AttachInput { id: id.to_owned(), to, ended: false }, output })
    }
}

/// The way in. Dropping it ends the input.
#[derive(Debug)]
pub struct AttachInput {
    id: String,
    to: OwnedWriteHalf,
    ended: bool,
}

impl AttachInput {
    /// Sends input; waits while the container does not take it in. Cancelling may lose a part of `data`, and makes
    /// this half unusable.
    pub async fn write(&mut self, data: &[u8]) -> Result<(), RuntimeError> {
        for piece in data.chunks(32 << 10) {
            self.send(Kind::Stdin, piece).await?;
        }
        Ok(())
    }

    /// No more input will come; the output goes on. With [`crate::Stdin::Once`] this closes the container's input.
    pub async fn end(&mut self) -> Result<(), RuntimeError> {
        if self.ended {
            return Ok(());
        }
        self.ended = true;
        self.send(Kind::StdinEnd, &[]).await
    }

    /// Leaves on purpose (Docker's detach keys): the container's input stays open. The output ends.
    pub async fn detach(mut self) -> Result<(), RuntimeError> {
        self.send(Kind::Detach, &[]).await
    }

    async fn send(&mut self, kind: Kind, data: &[u8]) -> Result<(), RuntimeError> {
        let mut out = Vec::with_capacity(frame::HEADER + data.len());
        frame::put(&mut out, kind, data);
        self.to.write_all(&out).await.map_err(|_| RuntimeError::ShimGone(self.id.clone()))
    }
}

/// The way out.
#[derive(Debug)]
pub struct AttachOutput {
    id: String,
    from: OwnedReadHalf,
    reader: FrameReader,
    ended: bool,
}

impl AttachOutput {
    /// The next piece of output; none when the process has ended and all was delivered. Cancel safe.
    pub async fn next(&mut self) -> Result<Option<Output>, RuntimeError> {
        while !self.ended {
            let broken = |source| RuntimeError::Protocol { id: self.id.clone(), source };
            if let Some(found) = self.reader.next_frame().map_err(broken)? {
                let stream = match found.kind {
                    Kind::Stdout => Stream::Stdout,
                    Kind::Stderr => Stream::Stderr,
                    Kind::End => {
                        self.ended = true;
                        continue;
                    }
                    _ => continue,
                };
                return Ok(Some(Output { stream, data: Bytes::copy_from_slice(found.payload) }));
            }
            self.fill().await?;
        }
        Ok(None)
    }

    async fn fill(&mut self) -> Result<(), RuntimeError> {
        let mut buffer = [0; 32 << 10];
        match self.from.read(&mut buffer).await {
            Ok(count) if count > 0 => {
                self.reader.feed(&buffer[..count]);
                Ok(())
            }
            _ => Err(RuntimeError::ShimGone(self.id.clone())),
        }
    }
}
