//! Connections.
//!
//! Tasks owned here, all below the token given to [`serve`]: one per listener, one per connection, and one per request.
//! A request goes on when its client goes away, so that what it began is finished or undone; the streams that it answers
//! with end with the connection. Listeners and connections may be cancelled at any moment.

use std::{convert::Infallible, io, time::Duration};

use axum::{Extension, Router, middleware::from_fn, response::IntoResponse};
use futures_util::future::BoxFuture;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use libnetwork_model::ErrorKind;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::mpsc,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::{ServiceExt, util::MapRequest};

use crate::{ApiError, Engine, hijack::Takeover, routes, shutdown::Shutdown, socket::Io, tls::Tls, version};

/// How long requests in flight may go on after the shutdown began.
const DRAIN: Duration = Duration::from_secs(5);
/// How long to wait after an accept that failed (the process is out of descriptors): some may be free then.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The largest head of a request, in bytes. Filters are JSON in the query, so it is far above a browser's.
const HEAD_LIMIT: usize = 256 << 10;

/// A socket to serve the API on.
#[derive(Debug)]
pub enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
    Tls(TcpListener, Tls),
}

impl Listener {
    async fn accept(&self) -> io::Result<Io> {
        match self {
            Self::Unix(listener) => Ok(Io::Unix(listener.accept().await?.0)),
            Self::Tcp(listener) | Self::Tls(listener, _) => {
                let (stream, _) = listener.accept().await?;
                // Keystrokes in a terminal are small packets.
                stream.set_nodelay(true)?;
                Ok(Io::Tcp(stream))
            }
        }
    }

    fn tls(&self) -> Option<Tls> {
        if let Self::Tls(_, tls) = self { Some(tls.clone()) } else { None }
    }
}

/// The API of an engine. Attach and exec streams need a connection of [`serve`]'s; everything else works with any
/// caller of the router.
pub fn router(engine: Engine) -> Router {
    finish(routes::all().with_state(engine))
}

/// Gives routes the version prefix, the common headers, and Docker's answer to what is not there.
pub(crate) fn finish(routes: Router) -> Router {
    let routes = routes
        .route_layer(from_fn(version::guard))
        .method_not_allowed_fallback(version::not_found)
        .fallback(version::not_found);
    Router::new().fallback_service(MapRequest::new(routes, version::strip))
}

/// Serves on all listeners until `shutdown` is cancelled. Then: no new connection, requests in flight get a few seconds,
/// streams that would never end are cut. Returns when all are gone, at the latest after those seconds.
pub async fn serve(listeners: Vec<Listener>, router: Router, shutdown: CancellationToken) {
    let router = router.layer(Extension(Shutdown::new(shutdown.clone())));
    let tasks = TaskTracker::new();
    for listener in listeners {
        tasks.spawn(accept(listener, router.clone(), shutdown.clone(), tasks.clone()));
    }
    shutdown.cancelled().await;
    tasks.close();
    if tokio::time::timeout(DRAIN, tasks.wait()).await.is_err() {
        tracing::warn!(tasks = tasks.len(), "requests are still in flight");
    }
}

async fn accept(listener: Listener, router: Router, shutdown: CancellationToken, tasks: TaskTracker) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        match accepted {
            Ok(io) => {
                let (tls, router) = (listener.tls(), router.clone());
                let (shutdown, inner) = (shutdown.clone(), tasks.clone());
                tasks.spawn(async move {
                    // Here, so that a client that is slow about it keeps no other waiting.
                    let io = match (tls, io) {
                        (Some(tls), Io::Tcp(stream)) => match tls.plain(stream).await {
                            Ok(plain) => Io::Unix(plain),
                            Err(error) => {
                                tracing::debug!(%error, "no TLS");
                                return;
                            }
                        },
                        (_, io) => io,
                    };
                    connection(io, router, shutdown, inner).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(io: Io, router: Router, shutdown: CancellationToken, tasks: TaskTracker) {
    let (takeover, mut taken) = mpsc::channel(1);
    let takeover = Takeover::new(takeover);
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(takeover.clone());
        let answer = tasks.spawn(router.clone().oneshot(request));
        let answer: BoxFuture<'static, Result<_, Infallible>> = Box::pin(async {
            answer.await.unwrap_or_else(|error| {
                tracing::error!(%error, "a request failed");
                Ok(ApiError::new(ErrorKind::Internal, "the request failed inside the engine").into_response())
            })
        });
        answer
    });
    // Without half_close a client that goes away ends its streams: `logs -f` must not outlive it.
    let mut connection =
        http1::Builder::new().max_buf_size(HEAD_LIMIT).serve_connection(TokioIo::new(io), service);
    let mut draining = false;
    let session = loop {
        tokio::select! {
            result = &mut connection => {
                if let Err(error) = result {
                    tracing::debug!(%error, "connection ended early");
                }
                return;
            }
            Some(session) = taken.recv() => break session,
            () = shutdown.cancelled(), if !draining => {
                draining = true;
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    let parts = connection.into_parts();
    drop(parts.service);
    session(parts.io.into_inner(), parts.read_buf, shutdown).await;
}

#[cfg(test)]
mod tests {
    use axum::{body::to_bytes, extract::Path, response::Response, routing::get};
    use http::{Request, StatusCode};

    use super::*;
    async fn ask(method: &str, path: &str) -> (Response, String) {
        let routes = Router::new()
            .route("/_ping", get(|| async { "OK" }))
            .route("/named/{name}", get(|Path(name): Path<String>| async move { name }))
            .route("/refused", get(|| async { ApiError::not_found("network nope not found") }));
        let request = Request::builder().method(method).uri(path).body(axum::body::Body::empty()).unwrap();
        let response = finish(routes).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let text = String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap();
        (Response::from_parts(parts, axum::body::Body::empty()), text)
    }

    #[tokio::test]
    async fn every_version_spoken_and_none_lead_to_the_same_place() {
        for path in ["/_ping", "/v1.24/_ping", "/v1.51/_ping", "/v1.51.0/_ping", "/v1.24.1/_ping"] {
            let (response, text) = ask("GET", path).await;
            assert_eq!((response.status(), text.as_str()), (StatusCode::OK, "OK"), "{path}");
            assert_eq!(response.headers()["api-version"], "1.51");
            assert_eq!(response.headers()["ostype"], "linux");
        }
    }

    #[tokio::test]
    async fn other_versions_are_refused_in_dockers_words() {
        for (path, words) in [
            ("/v1.99/_ping", "client version 1.99 is too new. Maximum supported API version is 1.51"),
            ("/v2.0/_ping", "client version 2.0 is too new. Maximum supported API version is 1.51"),
            ("/v1.51.1/_ping", "client version 1.51.1 is too new. Maximum supported API version is 1.51"),
            (
                "/v1/_ping",
                "client version 1 is too old. Minimum supported API version is 1.24, please upgrade your client to a \
                 newer version",
            ),
            (
                "/v1.20/_ping",
                "client version 1.20 is too old. Minimum supported API version is 1.24, please upgrade your client to \
                 a newer version",
            ),
        ] {
            let (response, text) = ask("GET", path).await;
            assert_eq!(response.status(), StatusCode::BAD_REQUEST);
            assert_eq!(text, format!("{{\"message\":\"{words}\"}}\n"));
        }
    }

    #[tokio::test]
    async fn what_is_not_there_is_not_found_whatever_the_method_or_version() {
        for (method, path) in
            [("GET", "/nope"), ("GET", "/v1.51/nope"), ("GET", "/v1.99/nope"), ("PUT", "/_ping")]
        {
            let (response, text) = ask(method, path).await;
            assert_eq!(response.status(), StatusCode::NOT_FOUND, "{method} {path}");
            assert_eq!(text, "{\"message\":\"page not found\"}\n");
        }
    }

    #[tokio::test]
    async fn who_asks_for_a_head_gets_it_where_docker_has_one_and_any_path_has_options() {
        for (method, path, status) in [
            ("HEAD", "/v1.51/_ping", StatusCode::OK),
            ("HEAD", "/v1.51/named/x", StatusCode::NOT_FOUND),
            ("HEAD", "/nope", StatusCode::NOT_FOUND),
            ("OPTIONS", "/v1.51/named/x", StatusCode::OK),
            ("OPTIONS", "/nope", StatusCode::OK),
        ] {
            assert_eq!(ask(method, path).await.0.status(), status, "{method} {path}");
        }
        assert_eq!(ask("OPTIONS", "/nope").await.0.headers()["api-version"], "1.51");
    }

    #[tokio::test]
    async fn an_error_is_json() {
        let (response, text) = ask("GET", "/refused").await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(text, "{\"message\":\"network nope not found\"}\n");
    }

    #[tokio::test]
    async fn a_path_that_is_no_text_is_an_error_like_any_other() {
        let (response, text) = ask("GET", "/named/%ff").await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert!(text.starts_with("{\"message\":\"Invalid URL"), "{text}");
        assert_eq!(ask("GET", "/named/a%2Fb").await.1, "a/b");
    }
}
