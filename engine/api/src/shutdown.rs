use axum::extract::FromRequestParts;
use futures_util::{Stream, StreamExt};
use http::request::Parts;
use tokio_util::sync::CancellationToken;

/// Tells streams without an end of their own (events, followed logs, stats, wait) that the server stops.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shutdown(CancellationToken);

impl Shutdown {
    pub(crate) fn new(token: CancellationToken) -> Self {
        Self(token)
    }

    /// The stream, ended early by the shutdown.
    pub(crate) fn cut<S: Stream>(self, stream: S) -> impl Stream<Item = S::Item> {
        stream.take_until(self.0.cancelled_owned())
    }
}

impl<S: Sync> FromRequestParts<S> for Shutdown {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}
