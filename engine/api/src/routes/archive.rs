//! `docker cp`: files of a container as a tar.

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    response::Response,
    routing::get,
};
use engine_containers::{PutOptions, config::PathStat};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::{ApiError, Engine, query::Params, stream, upload::upload};

pub(super) fn routes() -> Router<Engine> {
    Router::new().route("/containers/{id}/archive", get(read).head(stat).put(write))
}

async fn stat(
    State(engine): State<Engine>,
    Path(id): Path<String>,
    params: Params,
) -> Result<(StatusCode, HeaderMap), ApiError> {
    let found = engine.containers.archive_stat(&id, path(&params)?).await?;
    Ok((StatusCode::OK, header(&found)))
}

async fn read(
    State(engine): State<Engine>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let (found, tar) = engine.containers.archive_get(&id, path(&params)?).await?;
    Ok(stream::tar(header(&found), tar))
}

async fn write(
    State(engine): State<Engine>,
    Path(id): Path<String>,
    params: Params,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let options = PutOptions {
        no_overwrite_dir_non_dir: params.flag("noOverwriteDirNonDir"),
        copy_uid_gid: params.flag("copyUIDGID"),
    };
    let path = path(&params)?;
    upload(body, |tar| engine.containers.archive_put(&id, path, tar, options)).await?;
    Ok(StatusCode::OK)
}

fn path(params: &Params) -> Result<&str, ApiError> {
    match params.text("path") {
        "" => Err(ApiError::invalid("bad parameter: path cannot be empty")),
        path => Ok(path),
    }
}

fn header(stat: &PathStat) -> HeaderMap {
    let text = base64(&serde_json::to_vec(stat).unwrap_or_default());
    HeaderValue::from_str(&text)
        .map(|value| (HeaderName::from_static("x-docker-container-path-stat"), value))
        .into_iter()
        .collect()
}

/// RFC 4648, with padding.
fn base64(data: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(data.len().div_ceil(3) * 4);
    for group in data.chunks(3) {
        let bits =
            group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            if place <= group.len() {
                let index = bits >> (18 - 6 * place) & 63;
                text.push(char::from(ALPHABET[index as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_rfc_4648s() {
        for (data, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba?", "Zm9vYmE/"),
        ] {
            assert_eq!(base64(data.as_bytes()), text);
        }
    }
}
