//! `/networks`. Network names may hold slashes, so everything below is one wildcard.

mod filter;
mod wire;

use std::collections::BTreeMap;

use axum::{
    Router,
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
    routing::get,
};
use engine_containers::detached;
use http::StatusCode;
use jiff::Timestamp;
use libnetwork_rpc::{client::again, v1};

use self::wire::{Connect, CreateNetwork, Created, Disconnect, Network, Pruned};
use crate::{ApiError, Engine, json::Json, query::Params, version::ApiVersion};

/// From here on a list says nothing of who is on its networks.
const LISTS_ALONE: ApiVersion = ApiVersion(28);
/// Before, every network had IPv4, whatever was said.
const IPV4_OPTIONAL: ApiVersion = ApiVersion(48);

pub(super) fn routes() -> Router<Engine> {
    // Only a POST to these two is no network's name.
    let named = |name: &'static str| {
        let path = move || Path(name.to_owned());
        get(move |engine, params| inspect(engine, path(), params))
            .delete(move |engine| remove(engine, path()))
    };
    Router::new()
        .route("/networks", get(list))
        .route("/networks/", get(list))
        .route("/networks/create", named("create").post(create))
        .route("/networks/prune", named("prune").post(prune))
        .route("/networks/{*name}", get(inspect).delete(remove).post(join_or_leave))
}

async fn list(
    State(engine): State<Engine>,
    params: Params,
    version: ApiVersion,
) -> Result<Response, ApiError> {
    let filters = params.filters(filter::KEYS)?;
    let wanted = filter::Wanted::new(filters)?;
    let networks = all(&engine).await?;
    let show = if version < LISTS_ALONE { Network::with_members } else { Network::without_members };
    let shown: Vec<_> = networks.into_iter().filter(|network| wanted.matches(network)).map(show).collect();
    Ok(Json(shown).into_response())
}

async fn inspect(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let verbose = params.text("verbose");
    // As Go's strconv.ParseBool has it.
    let truths = ["1", "t", "T", "true", "True", "TRUE", "0", "f", "F", "false", "False", "FALSE"];
    if !verbose.is_empty() && !truths.contains(&verbose) {
        return Err(ApiError::invalid(format!("invalid value for verbose: {verbose}")));
    }
    let network = find(&engine, &name, Detail::WithMembers).await?;
    if !matches!(params.text("scope"), "" | "local") {
        return Err(ApiError::not_found(format!("network {name} not found")));
    }
    Ok(Json(Network::with_members(network)).into_response())
}

async fn create(
    State(engine): State<Engine>,
    version: ApiVersion,
    Json(body): Json<CreateNetwork>,
) -> Result<Response, ApiError> {
    let mut request = body.into_request()?;
    request.ipv4 = request.ipv4.filter(|_| version >= IPV4_OPTIONAL);
    let made = detached(async move {
        // Not repeated when the answer gets lost: it may have been a success.
        let network = engine.network.clone().create_network(request).await;
        let network = network.map_err(|status| ApiError::network(&status))?.into_inner();
        engine.containers.network_made(&network.id, &network.name).await;
        tell(&engine, "create", &network);
        Ok::<_, ApiError>(Created { id: network.id, warning: String::new() })
    });
    Ok((StatusCode::CREATED, Json(made.await?)).into_response())
}

async fn remove(State(engine): State<Engine>, Path(name): Path<String>) -> Result<StatusCode, ApiError> {
    let network = find(&engine, &name, Detail::Brief).await?;
    detached(async move { take_away(&engine, &network).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn join_or_leave(
    State(engine): State<Engine>,
    Path(path): Path<String>,
    version: ApiVersion,
    request: Request,
) -> Result<StatusCode, ApiError> {
    use axum::extract::FromRequest;
    match path.rsplit_once('/') {
        Some((network, "connect")) => {
            let Json(body): Json<Connect> = Json::from_request(request, &()).await?;
            named(&body.container)?;
            engine
                .containers
                .network_connect(network, &body.container, body.endpoint_config, version.0)
                .await?;
            Ok(StatusCode::OK)
        }
        Some((network, "disconnect")) => {
            let Json(body): Json<Disconnect> = Json::from_request(request, &()).await?;
            named(&body.container)?;
            engine.containers.network_disconnect(network, &body.container, body.force).await?;
            Ok(StatusCode::OK)
        }
        _ => Err(ApiError::not_found("page not found")),
    }
}

fn named(container: &str) -> Result<(), ApiError> {
    if container.is_empty() {
        return Err(ApiError::invalid("invalid name or ID supplied: \"\""));
    }
    Ok(())
}

async fn prune(State(engine): State<Engine>, params: Params) -> Result<Response, ApiError> {
    let filters = params.filters(&["until", "label", "label!"])?;
    let until = filters.until(Timestamp::now())?.map(Timestamp::as_nanosecond);
    let wanted = filter::Wanted::new(filters)?;
    let gone = detached(async move { clear(&engine, &wanted, until).await }).await?;
    Ok(Json(Pruned { networks_deleted: (!gone.is_empty()).then_some(gone) }).into_response())
}

/// Removes the networks that are wanted and that nobody uses, and answers their names. `until`: nanoseconds since 1970.
async fn clear(
    engine: &Engine,
    wanted: &filter::Wanted,
    until: Option<i128>,
) -> Result<Vec<String>, ApiError> {
    let mut gone = Vec::new();
    for network in all(engine).await? {
        let old_enough = until.is_none_or(|until| i128::from(network.created_ns) <= until);
        // A configuration is never in use itself.
        let kept = network.predefined || network.config_only || !network.endpoints.is_empty();
        if kept || !old_enough || !wanted.matches(&network) {
            continue;
        }
        match take_away(engine, &network).await {
            Ok(()) => gone.push(network.name),
            // A container may have joined it meanwhile.
            Err(error) => tracing::warn!(network = network.name, %error, "cannot prune a network"),
        }
    }
    let attributes = BTreeMap::from([("reclaimed".to_owned(), "0".to_owned())]);
    engine.containers.events().emit("network", "prune", "", attributes);
    Ok(gone)
}

async fn take_away(engine: &Engine, network: &v1::Network) -> Result<(), ApiError> {
    let request = v1::RemoveNetworkRequest { id: network.id.clone() };
    engine.network.clone().remove_network(request).await.map_err(|status| ApiError::network(&status))?;
    // Docker tells of a configuration that comes, and not of one that goes.
    if !network.config_only {
        tell(engine, "destroy", network);
    }
    Ok(())
}

pub(super) async fn all(engine: &Engine) -> Result<Vec<v1::Network>, ApiError> {
    let reply = again(|| {
        let mut client = engine.network.clone();
        async move { client.list_networks(v1::ListNetworksRequest {}).await }
    });
    Ok(reply.await.map_err(|status| ApiError::network(&status))?.networks)
}

/// How much of a network is asked for: its endpoints may be many.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    Brief,
    WithMembers,
}

async fn find(engine: &Engine, reference: &str, detail: Detail) -> Result<v1::Network, ApiError> {
    let reply = again(|| {
        let mut client = engine.network.clone();
        let request =
            v1::GetNetworkRequest { reference: reference.to_owned(), brief: detail == Detail::Brief };
        async move { client.get_network(request).await }
    });
    reply.await.map_err(|status| ApiError::network(&status))
}

fn tell(engine: &Engine, action: &str, network: &v1::Network) {
    let attributes = BTreeMap::from([
        ("name".to_owned(), network.name.clone()),
        ("type".to_owned(), network.driver.clone()),
    ]);
    engine.containers.events().emit("network", action, &network.id, attributes);
}
