//! `/images` and `/commit`. Image names hold slashes, so everything below `/images` is one wildcard.

use std::collections::BTreeMap;

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use engine_containers::CommitOptions;
use engine_images::{
    ImageConfig, ImportOptions, ListOptions, Progress, RemoveOptions,
    wire::{ImageSummary, RemovedItem},
};
use http::{HeaderMap, StatusCode};
use serde_json::json;

use crate::{ApiError, Engine, json::Json, query::Params, stream, upload::upload};

pub(super) fn routes() -> Router<Engine> {
    Router::new()
        .route("/images/json", get(list))
        .route("/images/create", post(create))
        .route("/images/load", post(load))
        .route("/images/get", get(save))
        .route("/images/prune", post(prune))
        .route("/images/search", get(search))
        .route("/images/{*name}", get(read).post(write).delete(remove))
        .route("/commit", post(commit))
}

async fn list(State(engine): State<Engine>, params: Params) -> Result<Response, ApiError> {
    let options = ListOptions {
        all: params.flag("all"),
        digests: params.flag("digests"),
        shared_size: params.flag("shared-size"),
        filters: params.any_filters()?,
    };
    let mut images = engine.images.list(options).await?;
    count_containers(&engine, &mut images);
    Ok(Json(images).into_response())
}

/// Fills in how many containers were made from each image, which the image store cannot know.
pub(super) fn count_containers(engine: &Engine, images: &mut [ImageSummary]) {
    let mut counts = BTreeMap::<String, i64>::new();
    for user in engine.containers.image_uses() {
        *counts.entry(user.image.to_string()).or_default() += 1;
    }
    for image in images {
        image.containers = counts.get(&image.id).copied().unwrap_or(0);
    }
}

/// Import (`fromSrc`) or pull (`fromImage`).
async fn create(State(engine): State<Engine>, params: Params, body: Body) -> Result<Response, ApiError> {
    let from = params.text("fromImage");
    if !from.is_empty() {
        return Err(pull_refused(from, params.text("tag")));
    }
    let source = params.text("fromSrc");
    if source != "-" {
        return Err(ApiError::unimplemented(format!(
            "importing from {source:?} is not built yet: give the archive itself (docker import - or docker import FILE)"
        )));
    }
    let options = ImportOptions {
        reference: reference(&params)?,
        source: source.to_owned(),
        message: params.text("message").to_owned(),
        changes: params.all("changes"),
        platform: Some(params.text("platform").to_owned()).filter(|text| !text.is_empty()),
    };
    let (progress, items) = Progress::channel();
    let operation = async move {
        let id = upload(body, |tar| engine.images.import(tar, options, progress)).await?.to_string();
        tell(&engine, "import", &id, &id);
        Ok::<_, engine_images::Error>(())
    };
    stream::progress(operation, items).await
}

/// What `docker run` of an image that is not here ends with.
fn pull_refused(image: &str, tag: &str) -> ApiError {
    // The CLI sends the whole name; people know the short one.
    let image = image.strip_prefix("docker.io/").unwrap_or(image);
    let image = image.strip_prefix("library/").unwrap_or(image);
    let name = match tag {
        "" => image.to_owned(),
        digest if digest.contains(':') => format!("{image}@{digest}"),
        tag => format!("{image}:{tag}"),
    };
    ApiError::unimplemented(format!(
        "pull access denied for {name}: pulling from registries is not built yet, bring the image with 'docker load' or \
         'docker import'"
    ))
}

/// `repo` with `tag`, or none where it is not given.
fn reference(params: &Params) -> Result<Option<String>, ApiError> {
    Ok(match (params.text("repo"), params.text("tag")) {
        ("", "") => None,
        ("", tag) => return Err(ApiError::invalid(format!("tag {tag:?} is given without a repository"))),
        (repo, "") => Some(repo.to_owned()),
        (repo, tag) => Some(format!("{repo}:{tag}")),
    })
}

async fn load(State(engine): State<Engine>, params: Params, body: Body) -> Result<Response, ApiError> {
    let quiet = params.flag("quiet");
    let (progress, items) = Progress::channel();
    let operation = async move {
        for image in upload(body, |tar| engine.images.load(tar, quiet, progress)).await? {
            let id = image.id.to_string();
            tell(&engine, "load", &id, image.names.first().unwrap_or(&id));
        }
        Ok::<_, engine_images::Error>(())
    };
    stream::progress(operation, items).await
}

async fn save(State(engine): State<Engine>, params: Params) -> Result<Response, ApiError> {
    // Docker's clients send `names` several times; some send one with commas.
    let names: Vec<String> = params
        .all("names")
        .iter()
        .flat_map(|names| names.split(','))
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    if names.is_empty() {
        return Err(ApiError::invalid("no image is named: give one or more names"));
    }
    archive(&engine, &names).await
}

async fn archive(engine: &Engine, names: &[String]) -> Result<Response, ApiError> {
    Ok(stream::tar(HeaderMap::new(), engine.images.save(names).await?))
}

async fn read(State(engine): State<Engine>, Path(path): Path<String>) -> Result<Response, ApiError> {
    match path.rsplit_once('/') {
        Some((name, "json")) => Ok(Json(engine.images.inspect(name).await?).into_response()),
        Some((name, "history")) => Ok(Json(engine.images.history(name).await?).into_response()),
        Some((name, "get")) => archive(&engine, &[name.to_owned()]).await,
        _ => Err(ApiError::not_found("page not found")),
    }
}

async fn write(
    State(engine): State<Engine>,
    Path(path): Path<String>,
    params: Params,
) -> Result<StatusCode, ApiError> {
    match path.rsplit_once('/') {
        Some((name, "tag")) => {
            let (repo, tag) = (params.text("repo"), params.text("tag"));
            if repo.is_empty() {
                return Err(ApiError::invalid("invalid reference format: repo is empty"));
            }
            let (id, familiar) = engine.images.tag(name, repo, tag).await?;
            tell(&engine, "tag", &id.to_string(), &familiar);
            Ok(StatusCode::CREATED)
        }
        Some((name, "push")) => Err(ApiError::unimplemented(format!(
            "cannot push {name}: pushing to registries is not built yet, use 'docker save'"
        ))),
        _ => Err(ApiError::not_found("page not found")),
    }
}

async fn remove(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    if name.trim().is_empty() {
        return Err(ApiError::invalid("image name cannot be blank"));
    }
    let id = engine.images.resolve(&name).await?.id.to_string();
    let options = RemoveOptions { force: params.flag("force"), no_prune: params.flag("noprune") };
    let removed = engine.images.remove(&name, options, &engine.containers.image_uses()).await?;
    tell_removed(&engine, &id, &removed);
    Ok(Json(removed).into_response())
}

async fn prune(State(engine): State<Engine>, params: Params) -> Result<Response, ApiError> {
    let filters = params.any_filters()?;
    let report = engine.images.prune(filters, &engine.containers.image_uses()).await?;
    for item in report.images_deleted.iter().flatten() {
        if let RemovedItem::Deleted(id) = item {
            tell(&engine, "delete", id, id);
        }
    }
    let attributes = BTreeMap::from([("reclaimed".to_owned(), report.space_reclaimed.to_string())]);
    engine.containers.events().emit("image", "prune", "", attributes);
    Ok(Json(report).into_response())
}

async fn search() -> ApiError {
    ApiError::unimplemented("searching a registry is not built yet: there is no registry client")
}

async fn commit(
    State(engine): State<Engine>,
    params: Params,
    Json(config): Json<Option<ImageConfig>>,
) -> Result<Response, ApiError> {
    let container = params.text("container");
    if container.is_empty() {
        return Err(ApiError::invalid("invalid name or ID supplied: \"\""));
    }
    let options = CommitOptions {
        reference: reference(&params)?,
        comment: params.text("comment").to_owned(),
        author: params.text("author").to_owned(),
        changes: params.all("changes"),
        pause: params.flag_or("pause", true),
        config,
    };
    let id = engine.containers.commit(container, options).await?.to_string();
    Ok((StatusCode::CREATED, Json(json!({"Id": id}))).into_response())
}

fn tell_removed(engine: &Engine, id: &str, removed: &[RemovedItem]) {
    for item in removed {
        match item {
            RemovedItem::Untagged(_) => tell(engine, "untag", id, id),
            RemovedItem::Deleted(gone) if gone == id => tell(engine, "delete", id, id),
            // A layer, or a parent that went along.
            RemovedItem::Deleted(_) => {}
        }
    }
}

fn tell(engine: &Engine, action: &str, id: &str, name: &str) {
    let attributes = BTreeMap::from([("name".to_owned(), name.to_owned())]);
    engine.containers.events().emit("image", action, id, attributes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_pull_names_the_image_as_it_was_asked_for() {
        assert!(pull_refused("docker.io/library/alpine", "3.20").message.contains("for alpine:3.20:"));
        assert!(pull_refused("alpine", "sha256:ab").message.contains("for alpine@sha256:ab:"));
        assert!(pull_refused("a/b:c", "").message.contains("for a/b:c:"));
    }
}
