//! Containers: start, stop and what else changes their state.

use axum::{
    Router,
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::post,
};
use engine_containers::{Outcome, TerminalSize, WaitCondition, config::UpdateBody};
use futures_util::stream;
use http::StatusCode;

use crate::{
    ApiError, Engine,
    json::Json,
    query::Params,
    shutdown::Shutdown,
    stream::{json_lines, line},
};

pub(super) fn routes() -> Router<Engine> {
    Router::new()
        .route("/containers/{id}/start", post(start))
        .route("/containers/{id}/stop", post(stop))
        .route("/containers/{id}/restart", post(restart))
        .route("/containers/{id}/kill", post(kill))
        .route("/containers/{id}/pause", post(pause))
        .route("/containers/{id}/unpause", post(unpause))
        .route("/containers/{id}/rename", post(rename))
        .route("/containers/{id}/update", post(update))
        .route("/containers/{id}/resize", post(resize))
        .route("/containers/{id}/wait", post(wait))
}

fn status(outcome: Outcome) -> StatusCode {
    match outcome {
        Outcome::Done => StatusCode::NO_CONTENT,
        Outcome::Unchanged => StatusCode::NOT_MODIFIED,
    }
}

fn signal(params: &Params) -> Option<&str> {
    Some(params.text("signal")).filter(|signal| !signal.is_empty())
}

async fn start(State(engine): State<Engine>, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    Ok(status(engine.containers.start(&id).await?))
}

async fn stop(
    State(engine): State<Engine>,
    Path(id): Path<String>,
    params: Params,
) -> Result<StatusCode, ApiError> {
    Ok(status(engine.containers.stop(&id, signal(&params), params.number("t")?).await?))
}

async fn restart(
    State(engine): State<Engine>,
    Path(id): Path<String>,
    params: Params,
) -> Result<StatusCode, ApiError> {
    engine.containers.restart(&id, signal(&params), params.number("t")?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn kill(
    State(engine): State<Engine>,
    Path(id): Path<String>,
    params: Params,
) -> Result<StatusCode, ApiError> {
    engine.containers.kill(&id, signal(&params)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn pause(State(engine): State<Engine>, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    engine.containers.pause(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn unpause(State(engine): State<Engine>, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    engine.containers.unpause(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn rename(
    State(engine): State<Engine>,
    Path(id): Path<String>,
    params: Params,
) -> Result<StatusCode, ApiError> {
    engine.containers.rename(&id, params.text("name")).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn update(
    State(engine): State<Engine>,
    Path(id): Path<String>,
    Json(body): Json<UpdateBody>,
) -> Result<Response, ApiError> {
    Ok(Json(engine.containers.update(&id, body).await?).into_response())
}

async fn resize(
    State(engine): State<Engine>,
    Path(id): Path<String>,
    params: Params,
) -> Result<StatusCode, ApiError> {
    engine.containers.resize(&id, size(&params)?).await?;
    Ok(StatusCode::OK)
}

/// `h` and `w`, in characters.
pub(super) fn size(params: &Params) -> Result<TerminalSize, ApiError> {
    let side = |name: &str, word: &str| {
        let text = params.text(name);
        text.parse().map_err(|_| ApiError::invalid(format!("invalid resize {word} {text:?}: invalid syntax")))
    };
    Ok(TerminalSize { rows: side("h", "height")?, columns: side("w", "width")? })
}

/// The head goes out at once: the CLI waits for it before it starts the container.
async fn wait(
    State(engine): State<Engine>,
    Path(id): Path<String>,
    params: Params,
    shutdown: Shutdown,
) -> Result<Response, ApiError> {
    let condition: WaitCondition = params.text("condition").parse()?;
    let end = engine.containers.wait(&id, condition).await?;
    Ok(json_lines(shutdown.cut(stream::once(async move { line(&end.await) }))))
}
