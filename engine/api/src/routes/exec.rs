//! Processes in running containers.

use axum::{
    Router,
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use engine_containers::{ExecCreate, ExecStart};
use http::StatusCode;
use serde_json::json;

use super::lifecycle::size;
use crate::{ApiError, Engine, hijack::Hijack, json::Json, query::Params};

pub(super) fn routes() -> Router<Engine> {
    Router::new()
        .route("/containers/{id}/exec", post(create))
        .route("/exec/{id}/start", post(start))
        .route("/exec/{id}/resize", post(resize))
        .route("/exec/{id}/json", get(inspect))
}

async fn create(
    State(engine): State<Engine>,
    Path(id): Path<String>,
    Json(body): Json<ExecCreate>,
) -> Result<Response, ApiError> {
    let exec = engine.containers.exec_create(&id, body).await?;
    Ok((StatusCode::CREATED, Json(json!({"Id": exec}))).into_response())
}

async fn start(
    State(engine): State<Engine>,
    Path(id): Path<String>,
    hijack: Result<Hijack, ApiError>,
    Json(body): Json<ExecStart>,
) -> Result<Response, ApiError> {
    let (detach, tty) = (body.detach, body.tty);
    let started = engine.containers.exec_start(&id, body).await.map_err(ApiError::from);
    if detach {
        return started.map(|_| StatusCode::OK.into_response());
    }
    match started {
        Ok(Some(attached)) => Ok(hijack?.attach(attached).await),
        Ok(None) => Ok(StatusCode::OK.into_response()),
        // There is no such exec, or it cannot run now.
        Err(error) if matches!(error.status, StatusCode::NOT_FOUND | StatusCode::CONFLICT) => Err(error),
        // The program could not be started. Docker says so in the stream, and the CLI then asks for the exit code,
        // which is 126 or 127.
        Err(error) => Ok(hijack?.say(error.message, tty).await),
    }
}

async fn resize(
    State(engine): State<Engine>,
    Path(id): Path<String>,
    params: Params,
) -> Result<StatusCode, ApiError> {
    engine.containers.exec_resize(&id, size(&params)?).await?;
    Ok(StatusCode::OK)
}

async fn inspect(State(engine): State<Engine>, Path(id): Path<String>) -> Result<Response, ApiError> {
    Ok(Json(engine.containers.exec_inspect(&id).await?).into_response())
}
