//! Bodies that go on.

use std::{convert::Infallible, fmt::Display};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use engine_containers::ByteStream;
use engine_images::ProgressItem;
use futures_util::{Stream, StreamExt, stream};
use http::HeaderMap;
use libnetwork_model::HasKind;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::{ApiError, version::content_type};

/// A value as one line.
pub(crate) fn line(value: &impl Serialize) -> Bytes {
    let mut text = serde_json::to_vec(value).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

/// A body of JSON lines. The head goes out at once, whenever the first line may come.
pub(crate) fn json_lines(lines: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    (content_type("application/json"), Body::from_stream(lines.map(Ok::<_, Infallible>))).into_response()
}

/// A body that is a tar. An error in the middle cuts the connection, which is all that HTTP/1.1 can do.
pub(crate) fn tar<S, E>(extra: HeaderMap, body: S) -> Response
where
    S: Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: Display + Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
{
    let body = body.inspect(|piece| {
        if let Err(error) = piece {
            tracing::warn!(%error, "an archive ended early");
        }
    });
    let mut response = (content_type("application/x-tar"), Body::from_stream(body)).into_response();
    response.headers_mut().extend(extra);
    response
}

pub(crate) fn tar_of(body: ByteStream) -> Response {
    tar(HeaderMap::new(), body)
}

/// The progress of an operation as JSON lines. One that fails before it reports anything gets an error's status;
/// later the error is the last line.
///
/// The operation runs as part of the body: a client that goes away drops it.
pub(crate) async fn progress<F, T, E>(
    operation: F,
    mut items: mpsc::UnboundedReceiver<ProgressItem>,
) -> Result<Response, ApiError>
where
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: std::error::Error + HasKind + Send + Sync + 'static,
{
    let mut operation = Box::pin(async move {
        match operation.await {
            Ok(_) => Ok(()),
            Err(error) => Err(ApiError::from(error)),
        }
    });
    let mut result = None;
    let first = tokio::select! {
        biased;
        item = items.recv() => item,
        done = &mut operation => {
            result = Some(done);
            items.recv().await
        }
    };
    let Some(first) = first else {
        match result {
            Some(Err(error)) => return Err(error),
            Some(Ok(())) => {}
            None => operation.await?,
        }
        return Ok(json_lines(stream::empty()));
    };
    let rest = stream::unfold(Some((operation, items, result)), |state| async move {
        let (mut operation, mut items, mut result) = state?;
        loop {
            if result.is_none() {
                tokio::select! {
                    biased;
                    Some(item) = items.recv() => return Some((crlf_line(&item), Some((operation, items, result)))),
                    done = &mut operation => result = Some(done),
                }
                continue;
            }
            // The operation has ended: what it reported, then what became of it.
            if let Some(item) = items.recv().await {
                return Some((crlf_line(&item), Some((operation, items, result))));
            }
            return match result {
                Some(Err(error)) => Some((crlf_line(&failure(error)), None)),
                _ => None,
            };
        }
    });
    Ok(json_lines(stream::once(std::future::ready(crlf_line(&first))).chain(rest)))
}

fn failure(error: ApiError) -> ProgressItem {
    ProgressItem {
        error: Some(error.message.clone()),
        error_detail: Some(engine_images::ErrorDetail { message: error.message }),
        ..ProgressItem::default()
    }
}

/// Progress lines end as Docker's do.
fn crlf_line(item: &ProgressItem) -> Bytes {
    let mut text = serde_json::to_vec(item).unwrap_or_default();
    text.extend_from_slice(b"\r\n");
    text.into()
}
