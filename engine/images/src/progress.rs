//! Progress of import and load, as Docker's JSON messages.

use std::io::{self, Read};

use serde::Serialize;
use tokio::sync::mpsc;

use crate::error::Error;

/// One line of the progress stream (Docker's `JSONMessage`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ProgressItem {
    /// Text to print as it is, with its newline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// What is being done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Numbers for a progress bar.
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    pub progress_detail: Option<ProgressDetail>,
    /// The thing it is done to: a layer's short id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The message of an error that ends the stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The same, structured.
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<ErrorDetail>,
}

/// Bytes done and to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ProgressDetail {
    /// Bytes done.
    pub current: u64,
    /// Bytes in all.
    pub total: u64,
}

/// An error as a progress stream carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorDetail {
    /// The message, causes included.
    pub message: String,
}

impl ProgressItem {
    /// A line that the CLI prints.
    pub fn stream(text: impl Into<String>) -> Self {
        Self { stream: Some(text.into()), ..Self::default() }
    }

    /// A status without a bar.
    pub fn status(text: impl Into<String>) -> Self {
        Self { status: Some(text.into()), ..Self::default() }
    }

    /// The last line of a stream that failed after its HTTP header had gone out. Causes are joined by `: `.
    pub fn error(error: &Error) -> Self {
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            message.push_str(": ");
            message.push_str(&error.to_string());
            cause = error.source();
        }
        Self { error: Some(message.clone()), error_detail: Some(ErrorDetail { message }), ..Self::default() }
    }
}

/// Where an operation reports to. A receiver that went away does not hold the operation up.
///
/// Unbounded, so that a caller may read it after the operation: what is said is bounded by the archive's layers, and
/// the steps of a bar are at least [`STEP`] apart.
#[derive(Debug, Clone, Default)]
pub struct Progress(Option<mpsc::UnboundedSender<ProgressItem>>);

/// Bytes between two steps of a progress bar.
const STEP: u64 = 4 << 20;

impl Progress {
    /// Reports nowhere.
    pub fn none() -> Self {
        Self(None)
    }

    /// A sink and the receiver of its items; it closes when the operation ends.
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<ProgressItem>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(Some(sender)), receiver)
    }

    /// One item.
    pub(crate) fn say(&self, item: ProgressItem) {
        if let Some(sender) = &self.0 {
            // A receiver that is gone has stopped listening, which is its right.
            let _ = sender.send(item);
        }
    }

    /// A bar for the reading of `total` bytes from `inner`.
    pub(crate) fn bar<R: Read>(&self, inner: R, status: &'static str, id: String, total: u64) -> Bar<R> {
        Bar { inner, progress: self.clone(), status, id, total, current: 0, said: 0 }
    }
}

/// A reader that reports how far it is.
pub(crate) struct Bar<R> {
    inner: R,
    progress: Progress,
    status: &'static str,
    id: String,
    total: u64,
    current: u64,
    said: u64,
}

impl<R: Read> Read for Bar<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.current += n as u64;
        let first_or_last = self.said == 0 || self.current == self.total;
        if n > 0 && (first_or_last || self.current - self.said >= STEP) {
            self.said = self.current;
            self.progress.say(ProgressItem {
                status: Some(self.status.to_owned()),
                progress_detail: Some(ProgressDetail { current: self.current, total: self.total }),
                id: Some(self.id.clone()),
                ..ProgressItem::default()
            });
        }
        Ok(n)
    }
}
