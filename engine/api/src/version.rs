//! The version prefix of a path, and the headers that every answer of a known route carries.

use axum::{
    body::to_bytes,
    extract::{FromRequestParts, Request},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Uri,
    header::{CONTENT_TYPE, SERVER},
    request::Parts,
    uri::PathAndQuery,
};

use crate::{API_VERSION, ApiError, MIN_API_VERSION};

/// The minor version of API 1.x that a request speaks; compares as versions do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ApiVersion(pub(crate) u32);

const NEWEST: ApiVersion = ApiVersion(51);
const OLDEST: ApiVersion = ApiVersion(24);

/// What stood in front of the path, for [`guard`].
#[derive(Debug, Clone)]
enum Prefix {
    Spoken(ApiVersion),
    Refused(ApiError),
}

impl<S: Sync> FromRequestParts<S> for ApiVersion {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(match parts.extensions.get() {
            Some(Prefix::Spoken(version)) => *version,
            _ => NEWEST,
        })
    }
}

/// Takes the version prefix off the path, before routing. Whether it is one that we speak is said by [`guard`], after
/// routing: an unknown path is a 404 whatever its version, as in Docker.
pub(crate) fn strip<B>(mut request: http::Request<B>) -> http::Request<B> {
    let Some((version, rest)) = split(request.uri().path()) else { return request };
    let prefix = if version.1 > NEWEST.0 || version.0 > 1 {
        Prefix::Refused(ApiError::invalid(format!(
            "client version {}.{} is too new. Maximum supported API version is {API_VERSION}",
            version.0, version.1
        )))
    } else if version.1 < OLDEST.0 || version.0 < 1 {
        Prefix::Refused(ApiError::invalid(format!(
            "client version {}.{} is too old. Minimum supported API version is {MIN_API_VERSION}, please upgrade your \
             client to a newer version",
            version.0, version.1
        )))
    } else {
        Prefix::Spoken(ApiVersion(version.1))
    };
    let target = match request.uri().query() {
        Some(query) => format!("{rest}?{query}"),
        None => rest.to_owned(),
    };
    let mut parts = request.uri().clone().into_parts();
    let Ok(target) = PathAndQuery::try_from(target) else { return request };
    parts.path_and_query = Some(target);
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
        request.extensions_mut().insert(prefix);
    }
    request
}

/// `/v1.51/info` is (1, 51) and `/info`.
fn split(path: &str) -> Option<((u32, u32), &str)> {
    let rest = path.strip_prefix("/v")?;
    let slash = rest.find('/')?;
    let (major, minor) = rest[..slash].split_once('.')?;
    let digits = |text: &str| {
        (!text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit()))
            .then(|| text.parse().ok())
            .flatten()
    };
    Some(((digits(major)?, digits(minor)?), &rest[slash..]))
}

/// Refuses versions that are not spoken, and adds the headers.
pub(crate) async fn guard(request: Request, next: Next) -> Response {
    let mut response = match request.extensions().get() {
        Some(Prefix::Refused(error)) => error.clone().into_response(),
        _ => as_json(next.run(request).await).await,
    };
    let headers = response.headers_mut();
    for (name, value) in common_headers() {
        headers.insert(name, value);
    }
    response
}

/// axum refuses a path that does not decode in plain text; clients look for a message.
async fn as_json(response: Response) -> Response {
    let plain =
        response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !response.status().is_client_error() || !plain {
        return response;
    }
    let status = response.status();
    let text = to_bytes(response.into_body(), 4096).await.unwrap_or_default();
    ApiError { status, message: String::from_utf8_lossy(&text).into_owned() }.into_response()
}

pub(crate) fn common_headers() -> [(HeaderName, HeaderValue); 4] {
    [
        (HeaderName::from_static("api-version"), HeaderValue::from_static(API_VERSION)),
        (HeaderName::from_static("docker-experimental"), HeaderValue::from_static("false")),
        (HeaderName::from_static("ostype"), HeaderValue::from_static("linux")),
        (SERVER, HeaderValue::from_static(concat!("Causeway/", env!("CARGO_PKG_VERSION"), " (linux)"))),
    ]
}

/// What is known to no route, nor to a route with this method: Docker tells neither apart.
pub(crate) async fn not_found() -> ApiError {
    ApiError::not_found("page not found")
}

/// Streams of stdio frames have a type of their own since 1.42; before, both kinds were called raw.
pub(crate) fn stream_type(version: ApiVersion, tty: bool) -> &'static str {
    if tty || version < ApiVersion(42) {
        "application/vnd.docker.raw-stream"
    } else {
        "application/vnd.docker.multiplexed-stream"
    }
}

/// Headers of a body of this type.
pub(crate) fn content_type(kind: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_two_numbers() {
        assert_eq!(split("/v1.51/info"), Some(((1, 51), "/info")));
        for path in ["/info", "/volumes", "/volumes/v1.2/x", "/v1/info", "/v1.x/info", "/v1.51", "/v.5/info"]
        {
            assert_eq!(split(path), None, "{path}");
        }
    }

    #[test]
    fn the_query_stays() {
        let request = http::Request::get("/v1.44/events?since=1").body(()).unwrap();
        assert_eq!(strip(request).uri(), "/events?since=1");
    }
}
