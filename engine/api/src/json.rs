//! JSON in and out.

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{FromRequest, Request},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};

use crate::{ApiError, gojson};

/// The largest JSON body taken, in bytes. A container's config with thousands of ports and labels is well below 1 MiB.
pub(crate) const BODY_LIMIT: usize = 8 << 20;

/// A JSON body or answer. As a body: `application/json` only, unknown fields ignored, `null` and a missing body give
/// default values, as in Docker.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

/// A JSON body that must be there (container create: Docker says so in its own words).
#[derive(Debug)]
pub(crate) struct RequiredJson<T>(pub(crate) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(mut text) => {
                // Docker's encoder ends every value with a newline.
                text.push(b'\n');
                let mut response = Response::new(Body::from(text));
                response
                    .headers_mut()
                    .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                response
            }
            Err(error) => {
                tracing::error!(%error, "an answer is no JSON");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let body = read(request).await?;
        if body.is_empty() {
            return gojson::from_slice(b"null").map(Json);
        }
        gojson::from_slice(&body).map(Json)
    }
}

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for RequiredJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let body = read(request).await?;
        if body.is_empty() {
            return Err(ApiError::invalid("invalid JSON: got EOF while reading request body"));
        }
        gojson::from_slice(&body).map(RequiredJson)
    }
}

async fn read(request: Request) -> Result<Bytes, ApiError> {
    let kind = request.headers().get(header::CONTENT_TYPE).cloned();
    let body = to_bytes(request.into_body(), BODY_LIMIT)
        .await
        .map_err(|error| ApiError::invalid(format!("cannot read the request body: {error}")))?;
    // A request without a body needs no type: the CLI sends none with `POST …/start`.
    if !body.is_empty() {
        check_type(kind.as_ref())?;
    }
    Ok(body)
}

fn check_type(kind: Option<&HeaderValue>) -> Result<(), ApiError> {
    let text = kind.and_then(|k| k.to_str().ok()).unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(ApiError::invalid(if text.is_empty() {
        "unsupported Content-Type header: must be 'application/json'".to_owned()
    } else {
        format!("unsupported Content-Type header ({text}): must be 'application/json'")
    }))
}
