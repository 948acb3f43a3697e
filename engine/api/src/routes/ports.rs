//! Published ports of a container that exists: ours, not Docker's.

use axum::{
    Router,
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::get,
};
use engine_containers::config::PortsBody;

use crate::{
    ApiError, Engine,
    json::{Json, RequiredJson},
};

pub(super) fn routes() -> Router<Engine> {
    Router::new().route("/causeway/containers/{id}/ports", get(list).post(change))
}

async fn list(State(engine): State<Engine>, Path(id): Path<String>) -> Result<Response, ApiError> {
    Ok(Json(engine.containers.ports(&id).await?).into_response())
}

async fn change(
    State(engine): State<Engine>,
    Path(id): Path<String>,
    RequiredJson(body): RequiredJson<PortsBody>,
) -> Result<Response, ApiError> {
    Ok(Json(engine.containers.change_ports(&id, body).await?).into_response())
}
