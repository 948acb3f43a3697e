//! Containers: making them, looking at them, taking them away.

use axum::{
    Router,
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use engine_containers::{ListOptions, RemoveOptions, config::CreateBody};
use http::StatusCode;

use crate::{
    ApiError, Engine,
    json::{Json, RequiredJson},
    query::Params,
    stream,
    version::ApiVersion,
};

/// From here on, what others call a container is told apart from the aliases that were asked for.
const DNS_NAMES: ApiVersion = ApiVersion(45);

pub(super) fn routes() -> Router<Engine> {
    Router::new()
        .route("/containers/json", get(list))
        .route("/containers/create", post(create))
        .route("/containers/prune", post(prune))
        .route("/containers/{id}", delete(remove))
        // With a slash between, as `docker rm --link CONTAINER/ALIAS` asks.
        .route("/containers/{id}/{alias}", delete(remove_link))
        .route("/containers/{id}/json", get(inspect))
        .route("/containers/{id}/{alias}/json", get(inspect_link))
        .route("/containers/{id}/top", get(top))
        .route("/containers/{id}/changes", get(changes))
        .route("/containers/{id}/export", get(export))
}

async fn list(State(engine): State<Engine>, params: Params) -> Result<Response, ApiError> {
    let options = ListOptions {
        all: params.flag("all"),
        // -1 is what clients send for "no limit".
        limit: params.number::<i64>("limit")?.map_or(0, |limit| usize::try_from(limit).unwrap_or(0)),
        size: params.flag("size"),
        filters: params.any_filters()?,
    };
    Ok(Json(engine.containers.list(options).await?).into_response())
}

async fn create(
    State(engine): State<Engine>,
    params: Params,
    version: ApiVersion,
    RequiredJson(body): RequiredJson<CreateBody>,
) -> Result<Response, ApiError> {
    let name = Some(params.text("name")).filter(|name| !name.is_empty());
    let created = engine.containers.create(name, body, version.0).await?;
    Ok((StatusCode::CREATED, Json(created)).into_response())
}

async fn prune(State(engine): State<Engine>, params: Params) -> Result<Response, ApiError> {
    Ok(Json(engine.containers.prune(&params.any_filters()?).await?).into_response())
}

async fn remove(
    State(engine): State<Engine>,
    Path(id): Path<String>,
    params: Params,
) -> Result<StatusCode, ApiError> {
    let options =
        RemoveOptions { force: params.flag("force"), volumes: params.flag("v"), link: params.flag("link") };
    engine.containers.remove(&id, options).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove_link(
    engine: State<Engine>,
    Path((id, alias)): Path<(String, String)>,
    params: Params,
) -> Result<StatusCode, ApiError> {
    remove(engine, Path(format!("{id}/{alias}")), params).await
}

async fn inspect(
    State(engine): State<Engine>,
    Path(id): Path<String>,
    params: Params,
    version: ApiVersion,
) -> Result<Response, ApiError> {
    let mut container = engine.containers.inspect(&id, params.flag("size")).await?;
    if version < DNS_NAMES {
        container.name_by_aliases();
    }
    Ok(Json(container).into_response())
}

async fn inspect_link(
    engine: State<Engine>,
    Path((id, alias)): Path<(String, String)>,
    params: Params,
    version: ApiVersion,
) -> Result<Response, ApiError> {
    inspect(engine, Path(format!("{id}/{alias}")), params, version).await
}

async fn top(
    State(engine): State<Engine>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    Ok(Json(engine.containers.top(&id, params.text("ps_args")).await?).into_response())
}

async fn changes(State(engine): State<Engine>, Path(id): Path<String>) -> Result<Response, ApiError> {
    Ok(Json(engine.containers.changes(&id).await?).into_response())
}

async fn export(State(engine): State<Engine>, Path(id): Path<String>) -> Result<Response, ApiError> {
    Ok(stream::tar_of(engine.containers.export(&id).await?))
}
