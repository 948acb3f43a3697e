//! A container's stdio over a connection of its own.

use bytes::Bytes;

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

/// A connected attacher. Dropping both halves leaves like a client that vanished: [`crate::Stdin::Once`] closes the
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
}

/// The way in.
#[derive(Debug)]
pub struct AttachInput {}

impl AttachInput {
    /// Sends input; waits while the container does not take it in. Cancelling may lose a part of `data`.
    pub async fn write(&mut self, data: &[u8]) -> Result<(), RuntimeError> {
        let _ = data;
        todo!()
    }

    /// No more input will come; the output goes on. With [`crate::Stdin::Once`] this closes the container's input.
    pub async fn end(&mut self) -> Result<(), RuntimeError> {
        todo!()
    }

    /// Leaves on purpose (Docker's detach keys): the container's input stays open.
    pub async fn detach(self) -> Result<(), RuntimeError> {
        todo!()
    }
}

/// The way out.
#[derive(Debug)]
pub struct AttachOutput {}

impl AttachOutput {
    /// The next piece of output; none when the process has ended and all was delivered. Cancel safe.
    pub async fn next(&mut self) -> Result<Option<Output>, RuntimeError> {
        todo!()
    }
}
