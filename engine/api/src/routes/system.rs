//! `/_ping`, `/version`, `/system/df`, `/auth`.

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use engine_containers::{ListOptions, config::Summary};
use engine_images::wire::ImageSummary;
use engine_volumes::Volume;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use serde_json::json;

use super::{events, host, images, info};
use crate::{API_VERSION, ApiError, Engine, MIN_API_VERSION, json::Json, query::Params};

pub(super) fn routes() -> Router<Engine> {
    Router::new()
        .route("/_ping", get(ping))
        .route("/version", get(version))
        .route("/info", get(info::info))
        .route("/events", get(events::events))
        .route("/system/df", get(disk_usage))
        .route("/auth", post(auth))
}

async fn ping() -> (HeaderMap, &'static str) {
    const HEADERS: &[(&str, &str)] = &[
        // 1: the classic builder; 2 would send the CLI to BuildKit, which is not here.
        ("builder-version", "1"),
        ("cache-control", "no-cache, no-store, must-revalidate"),
        ("pragma", "no-cache"),
        ("swarm", "inactive"),
    ];
    let headers =
        HEADERS.iter().map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_static(v))).collect();
    (headers, "OK")
}

async fn version() -> Response {
    let kernel = host::kernel();
    let version = env!("CARGO_PKG_VERSION");
    Json(json!({
        "Platform": {"Name": "Causeway"},
        "Components": [{
            "Name": "Engine",
            "Version": version,
            "Details": {
                "ApiVersion": API_VERSION,
                "Arch": host::go_arch(),
                "Experimental": "false",
                "KernelVersion": kernel,
                "MinAPIVersion": MIN_API_VERSION,
                "Os": "linux",
            },
        }],
        "Version": version,
        "ApiVersion": API_VERSION,
        "MinAPIVersion": MIN_API_VERSION,
        // The CLI prints these two; there is no Go and no commit in this build.
        "GitCommit": "",
        "GoVersion": "",
        "Os": "linux",
        "Arch": host::go_arch(),
        "KernelVersion": kernel,
    }))
    .into_response()
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DiskUsage {
    layers_size: u64,
    images: Option<Vec<ImageSummary>>,
    containers: Option<Vec<Summary>>,
    volumes: Option<Vec<Volume>>,
    build_cache: Option<Vec<()>>,
}

/// With `type` (any of container, image, volume, build-cache; several times) only those parts are computed.
async fn disk_usage(State(engine): State<Engine>, params: Params) -> Result<Response, ApiError> {
    let kinds = params.all("type");
    if let Some(other) =
        kinds.iter().find(|kind| !matches!(kind.as_str(), "container" | "image" | "volume" | "build-cache"))
    {
        return Err(ApiError::invalid(format!("unknown object type: {other}")));
    }
    let wanted = |kind: &str| kinds.is_empty() || kinds.iter().any(|k| k == kind);
    let mut usage = DiskUsage::default();
    if wanted("image") {
        let mut found = engine.images.disk_usage().await?;
        images::count_containers(&engine, &mut found.images);
        usage.layers_size = found.layers_size;
        usage.images = Some(found.images);
    }
    if wanted("container") {
        let options = ListOptions { all: true, size: true, ..ListOptions::default() };
        usage.containers = Some(engine.containers.list(options).await?);
    }
    if wanted("volume") {
        let users = |name: &str| engine.containers.volume_users(name);
        usage.volumes = Some(engine.volumes.disk_usage(users).await?);
    }
    if wanted("build-cache") {
        usage.build_cache = Some(Vec::new());
    }
    Ok(Json(usage).into_response())
}

async fn auth() -> ApiError {
    ApiError::unimplemented("logging in to a registry is not built yet: there is no registry client")
}
