//! Connecting a client to a process's standard input and output.

use std::{io, sync::Arc};

use bytes::Bytes;
use engine_runtime::{Attach, AttachInput, AttachOutput};
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::{
    AttachOptions, Containers, Error, LogOptions, Output, OutputStream, Result, StdStream,
    config::Status,
    container::{Container, Pending},
};

/// Docker's keys to leave without ending anything: ctrl-p, ctrl-q.
const DEFAULT_KEYS: &[u8] = &[16, 17];

/// A connection to a process's stdio.
pub struct Attached {
    /// The process has a terminal: the output is raw, not multiplexed.
    pub tty: bool,
    /// Ends when the process has ended, or when the client detached with the keys.
    pub output: OutputStream,
    /// None when no input was asked for.
    pub input: Option<Input>,
}

/// The way to a process's standard input. Dropping it is a client that vanished.
pub struct Input {
    way: Way,
    keys: Option<Detector>,
    /// Cancelled when the client left with the keys.
    left: CancellationToken,
}

enum Way {
    Waiting(oneshot::Receiver<AttachInput>),
    Open(AttachInput),
    Gone,
}

impl Input {
    /// Passes input on; waits while the process does not read. Looks for the detach keys: once they were seen nothing
    /// more is taken, the output ends, and this returns `BrokenPipe`.
    pub async fn write(&mut self, data: &[u8]) -> io::Result<()> {
        let (pass, leave) = match &mut self.keys {
            Some(keys) => keys.feed(data),
            None => (data.to_vec(), false),
        };
        if !pass.is_empty() {
            self.open().await?.write(&pass).await.map_err(io::Error::other)?;
        }
        if leave {
            if let Way::Open(input) = std::mem::replace(&mut self.way, Way::Gone) {
                // The process may have ended just now: gone either way.
                let _ = input.detach().await;
            }
            self.left.cancel();
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    }

    /// No more input will come; output goes on.
    pub async fn end(&mut self) -> io::Result<()> {
        self.open().await?.end().await.map_err(io::Error::other)
    }

    async fn open(&mut self) -> io::Result<&mut AttachInput> {
        if let Way::Waiting(receiver) = &mut self.way {
            self.way = match receiver.await {
                Ok(input) => Way::Open(input),
                Err(_) => Way::Gone,
            };
        }
        match &mut self.way {
            Way::Open(input) => Ok(input),
            Way::Waiting(_) | Way::Gone => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Containers {
    /// Connects to the container's stdio. One that does not run yet is waited for: what it writes from its first
    /// byte on is seen.
    pub async fn attach(&self, reference: &str, options: AttachOptions) -> Result<Attached> {
        let container = self.inner.find(reference)?;
        let config = container.config();
        let tty = config.config.tty;
        match container.status() {
            Status::Paused => {
                return Err(Error::Conflict(format!(
                    "container {} is paused, unpause the container before attach",
                    container.id
                )));
            }
            Status::Restarting => return Err(Error::Restarting(container.id.clone())),
            _ => {}
        }
        let keys = detector(tty, options.detach_keys.as_deref())?;
        let mut past: Option<OutputStream> = None;
        if options.logs {
            let log = LogOptions { stdout: options.stdout, stderr: options.stderr, ..LogOptions::default() };
            let (_, records) = self.logs(reference, log).await?;
            past = Some(Box::pin(records.map(|record| match record {
                Ok(record) => Ok(Output { stream: record.stream, data: record.data }),
                Err(error) => Err(io::Error::other(error)),
            })));
        }
        if !options.stream {
            return Ok(Attached {
                tty,
                output: past.unwrap_or_else(|| Box::pin(stream::empty())),
                input: None,
            });
        }
        let wanted = engine_runtime::AttachOptions {
            stdin: options.stdin && config.config.open_stdin,
            stdout: options.stdout,
            stderr: options.stderr,
        };
        let (output, way) = connect(&container, wanted).await?;
        self.inner.emit(&container, "attach", &[]);
        let attached = attached(tty, wanted.stdin, output, way, keys);
        Ok(match past {
            Some(past) => Attached { output: Box::pin(past.chain(attached.output)), ..attached },
            None => attached,
        })
    }
}

enum Source {
    Waiting(oneshot::Receiver<AttachOutput>),
    Open(AttachOutput),
}

async fn connect(
    container: &Arc<Container>,
    options: engine_runtime::AttachOptions,
) -> Result<(Source, Way)> {
    if let Some(pending) = container.wait_for_start(options) {
        let (input, output) = pending;
        return Ok((Source::Waiting(output), Way::Waiting(input)));
    }
    let task = container.task().ok_or_else(|| Error::NotRunning(container.id.clone()))?;
    let (input, output) = task.attach(options).await?.split();
    Ok((Source::Open(output), Way::Open(input)))
}

impl Container {
    /// Puts an attacher in the queue of those whom the next start connects; none when a task is there to attach to.
    fn wait_for_start(
        &self,
        options: engine_runtime::AttachOptions,
    ) -> Option<(oneshot::Receiver<AttachInput>, oneshot::Receiver<AttachOutput>)> {
        let (input, take_input) = oneshot::channel();
        let (output, take_output) = oneshot::channel();
        self.push_pending(Pending { options, input, output }).then_some((take_input, take_output))
    }
}

/// A client that is connected to a process from before its start.
pub(crate) fn attached_to(tty: bool, stdin: bool, attach: Attach, keys: Option<&str>) -> Result<Attached> {
    let (input, output) = attach.split();
    Ok(attached(tty, stdin, Source::Open(output), Way::Open(input), detector(tty, keys)?))
}

fn attached(tty: bool, stdin: bool, source: Source, way: Way, keys: Option<Detector>) -> Attached {
    let left = CancellationToken::new();
    let ended = left.clone();
    let output = stream::unfold(Some(source), |source| async move {
        let mut output = match source? {
            Source::Open(output) => output,
            Source::Waiting(receiver) => receiver.await.ok()?,
        };
        match output.next().await {
            Ok(Some(piece)) => Some((Ok(piece), Some(Source::Open(output)))),
            Ok(None) => None,
            Err(error) => Some((Err(io::Error::other(error)), None)),
        }
    })
    .take_until(async move { ended.cancelled().await });
    let input = Input { way, keys, left };
    // Held without input as well: dropping it would tell the shim that this attacher has gone.
    if stdin {
        Attached { tty, output: Box::pin(output), input: Some(input) }
    } else {
        Attached { tty, output: Box::pin(holding(output, input)), input: None }
    }
}

fn holding<S: Stream>(stream: S, held: Input) -> impl Stream<Item = S::Item> {
    stream.map(move |item| {
        let _ = &held;
        item
    })
}

/// A stream that says one thing and ends: how Docker tells an attached client that its exec did not start.
pub(crate) fn saying(tty: bool, text: &str) -> Attached {
    let data = Bytes::from(format!("{text}\r\n"));
    let output = stream::once(async move { Ok(Output { stream: StdStream::Stdout, data }) });
    Attached { tty, output: Box::pin(output), input: None }
}

fn detector(tty: bool, keys: Option<&str>) -> Result<Option<Detector>> {
    // Without a terminal the bytes are data.
    if !tty {
        return Ok(None);
    }
    let keys = match keys.filter(|keys| !keys.is_empty()) {
        Some(text) => parse_keys(text)?,
        None => DEFAULT_KEYS.to_vec(),
    };
    Ok(Some(Detector { keys, matched: 0 }))
}

/// `ctrl-p,ctrl-q`, `a,b`.
fn parse_keys(text: &str) -> Result<Vec<u8>> {
    let key = |word: &str| -> Option<u8> {
        match word.as_bytes() {
            [one] => Some(*one),
            [b'c', b't', b'r', b'l', b'-', key] => match key {
                b'@' => Some(0),
                b'a'..=b'z' => Some(key - b'a' + 1),
                b'[' => Some(27),
                b'\\' => Some(28),
                b']' => Some(29),
                b'^' => Some(30),
                b'_' => Some(31),
                _ => None,
            },
            _ => None,
        }
    };
    text.split(',')
        .map(|word| {
            key(word)
                .ok_or_else(|| Error::Invalid(format!("Unknown character: '{word}' in detach keys {text}")))
        })
        .collect()
}

/// Finds the keys in the input, and holds back what may be their beginning.
#[derive(Debug)]
struct Detector {
    keys: Vec<u8>,
    matched: usize,
}

impl Detector {
    /// What to pass on, and whether the keys were completed; what follows them is dropped.
    fn feed(&mut self, data: &[u8]) -> (Vec<u8>, bool) {
        let mut pass = Vec::with_capacity(data.len());
        for &byte in data {
            if byte != self.keys[self.matched] {
                pass.extend_from_slice(&self.keys[..self.matched]);
                self.matched = 0;
                if byte != self.keys[0] {
                    pass.push(byte);
                    continue;
                }
            }
            self.matched += 1;
            if self.matched == self.keys.len() {
                self.matched = 0;
                return (pass, true);
            }
        }
        (pass, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_however_the_bytes_arrive() {
        let mut detector = Detector { keys: parse_keys("ctrl-p,ctrl-q").unwrap(), matched: 0 };
        assert_eq!(detector.feed(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(detector.feed(b"c"), (b"\x10c".to_vec(), false));
        assert_eq!(detector.feed(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(detector.feed(b"\x11rest"), (b"".to_vec(), true));
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert_eq!(parse_keys("a,ctrl-[").unwrap(), [b'a', 27]);
        assert!(parse_keys("ctrl-").is_err());
        assert!(parse_keys("nope").is_err());
    }
}
