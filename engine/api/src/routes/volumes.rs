//! `/volumes`.

use std::collections::BTreeMap;

use axum::{
    Router,
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use engine_volumes::CreateVolume;
use http::StatusCode;

use crate::{ApiError, Engine, json::Json, query::Params};

pub(super) fn routes() -> Router<Engine> {
    Router::new()
        .route("/volumes", get(list))
        .route("/volumes/create", post(create))
        .route("/volumes/prune", post(prune))
        .route("/volumes/{name}", get(inspect).delete(remove).put(update))
}

async fn list(State(engine): State<Engine>, params: Params) -> Result<Response, ApiError> {
    let filters = params.any_filters()?;
    let users = |name: &str| engine.containers.volume_users(name);
    Ok(Json(engine.volumes.list(&filters, users).await?).into_response())
}

async fn create(State(engine): State<Engine>, Json(body): Json<CreateVolume>) -> Result<Response, ApiError> {
    let (volume, made) = engine.volumes.create(body).await?;
    if made {
        tell(&engine, "create", &volume.name);
    }
    Ok((StatusCode::CREATED, Json(volume)).into_response())
}

async fn inspect(State(engine): State<Engine>, Path(name): Path<String>) -> Result<Response, ApiError> {
    Ok(Json(engine.volumes.inspect(&name).await?).into_response())
}

async fn remove(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    params: Params,
) -> Result<StatusCode, ApiError> {
    let users = |name: &str| engine.containers.volume_users(name);
    engine.volumes.remove(&name, params.flag("force"), users).await?;
    tell(&engine, "destroy", &name);
    Ok(StatusCode::NO_CONTENT)
}

async fn prune(State(engine): State<Engine>, params: Params) -> Result<Response, ApiError> {
    let filters = params.any_filters()?;
    let users = |name: &str| engine.containers.volume_users(name);
    let report = engine.volumes.prune(&filters, users).await?;
    for name in report.volumes_deleted.iter().flatten() {
        tell(&engine, "destroy", name);
    }
    let attributes = BTreeMap::from([("reclaimed".to_owned(), report.space_reclaimed.to_string())]);
    engine.containers.events().emit("volume", "prune", "", attributes);
    Ok(Json(report).into_response())
}

/// Only cluster volumes can be updated.
async fn update() -> ApiError {
    ApiError::new(libnetwork_model::ErrorKind::Unavailable, super::absent::NO_SWARM)
}

fn tell(engine: &Engine, action: &str, name: &str) {
    let attributes = BTreeMap::from([("driver".to_owned(), "local".to_owned())]);
    engine.containers.events().emit("volume", action, name, attributes);
}
