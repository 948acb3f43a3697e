//! Tars that are made while they are read.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;

/// A tar on its way out: a stream of chunks, to be given to an HTTP body as it is.
///
/// An error in the middle is an item of the stream, so that a reader can tell a broken archive from a complete one.
/// Dropping it ends the work behind it.
#[derive(Debug)]
pub struct ArchiveStream(ReceiverStream<io::Result<Bytes>>);

impl Stream for ArchiveStream {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.0).poll_next(cx)
    }
}

impl ArchiveStream {
    /// Runs `write` on a blocking thread and hands over what it writes.
    pub(crate) fn produce(write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel(4);
        tokio::task::spawn_blocking(move || {
            let mut sink = io::BufWriter::with_capacity(64 << 10, ChannelWriter(sender.clone()));
            let result = write(&mut sink).and_then(|()| sink.flush());
            if let Err(error) = result {
                let _ = sender.blocking_send(Err(error));
            }
        });
        Self(ReceiverStream::new(receiver))
    }
}

struct ChannelWriter(mpsc::Sender<io::Result<Bytes>>);

impl Write for ChannelWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0
            .blocking_send(Ok(Bytes::copy_from_slice(buf)))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
