//! What Docker has and this engine has not, each with an answer that says so.

use axum::{
    Router,
    extract::Path,
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use libnetwork_model::ErrorKind;
use serde_json::json;

use crate::{ApiError, Engine, json::Json};

/// Docker's answer of a host that is in no swarm.
pub(super) const NO_SWARM: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" \
                                   to connect this node to swarm and try again.";

pub(super) fn routes() -> Router<Engine> {
    let mut router = Router::new();
    for place in ["/swarm", "/nodes", "/services", "/tasks", "/secrets", "/configs"] {
        router = router.route(place, any(no_swarm)).route(&format!("{place}/{{*rest}}"), any(no_swarm));
    }
    router
        .route("/swarm/init", post(swarm_mode))
        .route("/swarm/join", post(swarm_mode))
        .route("/swarm/leave", post(no_swarm_to_leave))
        .route("/plugins", get(no_plugins))
        .route("/plugins/{*rest}", any(plugins))
        .route("/build", post(build))
        .route("/build/prune", post(no_build_cache))
        .route("/build/cancel", post(build))
        .route("/session", post(build))
        .route("/grpc", post(build))
        .route("/distribution/{*name}", get(registry))
        .route("/containers/{id}/attach/ws", get(websocket))
        .route("/containers/{id}/checkpoints", any(checkpoints))
        .route("/containers/{id}/checkpoints/{name}", any(checkpoints))
}

async fn no_swarm() -> ApiError {
    ApiError::new(ErrorKind::Unavailable, NO_SWARM)
}

async fn no_swarm_to_leave() -> ApiError {
    ApiError::new(ErrorKind::Unavailable, "This node is not part of a swarm")
}

async fn swarm_mode() -> ApiError {
    ApiError::unimplemented("swarm mode is not part of this engine")
}

async fn no_plugins() -> Response {
    Json(json!([])).into_response()
}

/// `docker inspect` asks for a plugin of the name it looks for, among others, and goes on only after a 404.
async fn plugins(Path(path): Path<String>) -> ApiError {
    match path.rsplit_once('/') {
        Some((name, _)) => ApiError::not_found(format!("plugin {name:?} not found")),
        None if matches!(path.as_str(), "pull" | "create" | "privileges") => {
            ApiError::unimplemented("managed plugins are not built yet")
        }
        None => ApiError::not_found(format!("plugin {path:?} not found")),
    }
}

async fn build() -> ApiError {
    ApiError::unimplemented(
        "building images is not built yet: use docker import, docker load or docker commit",
    )
}

async fn no_build_cache() -> Response {
    Json(json!({"CachesDeleted": null, "SpaceReclaimed": 0})).into_response()
}

async fn registry() -> ApiError {
    ApiError::unimplemented("asking a registry is not built yet: there is no registry client")
}

async fn websocket() -> ApiError {
    ApiError::unimplemented("attaching over a websocket is not built yet: use POST /containers/{id}/attach")
}

async fn checkpoints() -> ApiError {
    ApiError::unimplemented("checkpoints are not built yet")
}
