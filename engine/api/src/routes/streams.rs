//! Containers: attach, logs, stats.

use std::time::UNIX_EPOCH;

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use engine_containers::{AttachOptions, LogOptions};
use futures_util::StreamExt;

use crate::{
    ApiError, Engine, frames,
    hijack::Hijack,
    query::Params,
    shutdown::Shutdown,
    stream::{json_lines, line},
    version::{ApiVersion, content_type, stream_type},
};

pub(super) fn routes() -> Router<Engine> {
    Router::new()
        .route("/containers/{id}/attach", post(attach))
        .route("/containers/{id}/logs", get(logs))
        .route("/containers/{id}/stats", get(stats))
}

async fn attach(
    State(engine): State<Engine>,
    Path(id): Path<String>,
    params: Params,
    hijack: Hijack,
) -> Result<Response, ApiError> {
    let options = AttachOptions {
        stdin: params.flag("stdin"),
        stdout: params.flag("stdout"),
        stderr: params.flag("stderr"),
        logs: params.flag("logs"),
        stream: params.flag("stream"),
        detach_keys: Some(params.text("detachKeys").to_owned()).filter(|keys| !keys.is_empty()),
    };
    let attached = engine.containers.attach(&id, options).await?;
    Ok(hijack.attach(attached).await)
}

async fn logs(
    State(engine): State<Engine>,
    Path(id): Path<String>,
    params: Params,
    version: ApiVersion,
    shutdown: Shutdown,
) -> Result<Response, ApiError> {
    let options = LogOptions {
        stdout: params.flag("stdout"),
        stderr: params.flag("stderr"),
        follow: params.flag("follow"),
        since: params.time("since")?,
        // 0 is how some clients leave it out.
        until: params.time("until")?.filter(|until| *until != UNIX_EPOCH),
        timestamps: params.flag("timestamps"),
        details: params.flag("details"),
        // As Docker: "all", and whatever is no number, means everything.
        tail: params.text("tail").parse().ok(),
    };
    if !options.stdout && !options.stderr {
        return Err(ApiError::invalid("Bad parameters: you must choose at least one stream"));
    }
    let (tty, records) = engine.containers.logs(&id, options).await?;
    let body = shutdown
        .cut(records)
        .map(move |record| record.map(|record| frames::frame(record.stream, record.data, tty)))
        .inspect(|piece| {
            if let Err(error) = piece {
                tracing::warn!(%error, "a log ended early");
            }
        });
    Ok((content_type(stream_type(version, tty)), Body::from_stream(body)).into_response())
}

async fn stats(
    State(engine): State<Engine>,
    Path(id): Path<String>,
    params: Params,
    shutdown: Shutdown,
) -> Result<Response, ApiError> {
    let stream = params.flag_or("stream", true);
    let one_shot = params.flag("one-shot");
    if stream && one_shot {
        return Err(ApiError::invalid("cannot have stream=true and one-shot=true"));
    }
    let readings = engine.containers.stats(&id, stream, one_shot).await?;
    let lines = readings.filter_map(|reading| {
        std::future::ready(match reading {
            Ok(value) => Some(line(&value)),
            Err(error) => {
                tracing::warn!(%error, "statistics ended early");
                None
            }
        })
    });
    Ok(json_lines(shutdown.cut(lines)))
}
