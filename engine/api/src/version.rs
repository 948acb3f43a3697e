//! The version prefix of a path, and the headers that every answer of a known route carries.

use axum::{
    body::to_bytes,
    extract::{FromRequestParts, Request},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri,
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
    let prefix = match numbers(version)[..] {
        [1, minor] if (OLDEST.0..=NEWEST.0).contains(&minor) => Prefix::Spoken(ApiVersion(minor)),
        ref numbers if *numbers < [1, OLDEST.0][..] => Prefix::Refused(ApiError::invalid(format!(
            "client version {version} is too old. Minimum supported API version is {MIN_API_VERSION}, please upgrade \
             your client to a newer version"
        ))),
        // Such as 1.24.1.
        [1, minor, ..] if minor < NEWEST.0 => Prefix::Spoken(ApiVersion(minor)),
        _ => Prefix::Refused(ApiError::invalid(format!(
            "client version {version} is too new. Maximum supported API version is {API_VERSION}"
        ))),
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

/// `/v1.51/info` is `1.51` and `/info`.
fn split(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix("/v")?;
    let (version, rest) = rest.split_at(rest.find('/')?);
    let is_one = !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    is_one.then_some((version, rest))
}

/// What a version compares by, as Docker has it: what is not said is zero.
fn numbers(version: &str) -> Vec<u32> {
    let number = |text: &str| if text.is_empty() { 0 } else { text.parse().unwrap_or(u32::MAX) };
    let mut numbers: Vec<u32> = version.split('.').map(number).collect();
    let said = numbers.iter().rposition(|number| *number != 0).map_or(0, |last| last + 1);
    numbers.truncate(said);
    numbers
}

/// Refuses versions that are not spoken, and adds the headers.
pub(crate) async fn guard(request: Request, next: Next) -> Response {
    if *request.method() == Method::HEAD && !answers_head(request.uri().path()) {
        return not_found(Method::HEAD).await;
    }
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

/// axum answers HEAD wherever it answers GET.
fn answers_head(path: &str) -> bool {
    path == "/_ping" || (path.starts_with("/containers/") && path.ends_with("/archive"))
}

/// What is known to no route, nor to a route with this method: Docker tells neither apart. Of any path it says that it has
/// options, and not which.
pub(crate) async fn not_found(method: Method) -> Response {
    match method {
        Method::OPTIONS => common_headers().into_response(),
        _ => ApiError::not_found("page not found").into_response(),
    }
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
    fn a_prefix_is_made_of_numbers() {
        assert_eq!(split("/v1.51/info"), Some(("1.51", "/info")));
        for path in ["/info", "/volumes", "/volumes/v1.2/x", "/v/info", "/v1.x/info", "/v1.51"] {
            assert_eq!(split(path), None, "{path}");
        }
        let all = ["", ".5", "1", "1.0", "1.24", "1.24.1", "1.51", "1.51.0", "1.51.1", "1.99999999999", "2"];
        assert!(all.is_sorted_by_key(|version| numbers(version)));
        assert_eq!(numbers("1.51.0"), numbers("1.51"));
    }

    #[test]
    fn the_query_stays() {
        let request = http::Request::get("/v1.44/events?since=1").body(()).unwrap();
        assert_eq!(strip(request).uri(), "/events?since=1");
    }
}
