//! Bodies that an operation reads as they come.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, future::join, stream};
use tokio::{
    io::{AsyncRead, ReadBuf},
    sync::mpsc,
};
use tokio_util::io::StreamReader;

/// How many bytes are read and dropped of a body that the operation left unread. An answer that comes while the client
/// is still sending would be lost to it when the connection is closed; Go's server does the same.
const DRAIN: usize = 16 << 20;

/// Runs an operation that reads the body. Waits with its result until the client has sent everything, or [`DRAIN`] bytes
/// more than the operation took.
pub(crate) async fn upload<T, F>(body: Body, operation: impl FnOnce(Upload) -> F) -> T
where
    F: Future<Output = T>,
{
    let (sender, mut receiver) = mpsc::channel(2);
    let pump = async move {
        let mut body = body.into_data_stream();
        let mut spare = DRAIN;
        while let Some(piece) = body.next().await {
            let length = piece.as_ref().map_or(0, |data| data.len());
            if sender.send(piece.map_err(io::Error::other)).await.is_ok() {
                continue;
            }
            match spare.checked_sub(length) {
                Some(left) => spare = left,
                None => return,
            }
        }
    };
    let pieces: Pieces = Box::pin(stream::poll_fn(move |cx| receiver.poll_recv(cx)));
    join(operation(Upload(StreamReader::new(pieces))), pump).await.0
}

type Pieces = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// A body as a reader.
pub(crate) struct Upload(StreamReader<Pieces, Bytes>);

impl AsyncRead for Upload {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn the_operation_reads_all_of_it() {
        let text = upload(Body::from("hello"), |mut body| async move {
            let mut text = String::new();
            body.read_to_string(&mut text).await.map(|_| text)
        });
        assert_eq!(text.await.unwrap(), "hello");
    }

    #[tokio::test]
    async fn what_a_refused_upload_still_sends_is_taken() {
        let taken = Arc::new(AtomicUsize::new(0));
        let counted = taken.clone();
        let body = stream::iter(0..100).map(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            io::Result::Ok(Bytes::from_static(&[0; 1024]))
        });
        let refused: Result<(), &str> =
            upload(Body::from_stream(body), |_| async { Err("no such container") }).await;
        assert!(refused.is_err());
        assert_eq!(taken.load(Ordering::Relaxed), 100);
    }
}
