//! Which path leads where. Handlers translate: the query and body to a call, its answer to Docker's JSON.

mod absent;
mod archive;
mod containers;
mod events;
mod exec;
mod host;
mod images;
mod info;
mod lifecycle;
mod networks;
mod ports;
mod streams;
mod system;
mod volumes;

use axum::Router;

pub use self::info::identity;

use crate::Engine;

/// All routes, without the version prefix.
pub(crate) fn all() -> Router<Engine> {
    Router::new()
        .merge(system::routes())
        .merge(containers::routes())
        .merge(lifecycle::routes())
        .merge(streams::routes())
        .merge(archive::routes())
        .merge(exec::routes())
        .merge(images::routes())
        .merge(networks::routes())
        .merge(volumes::routes())
        .merge(ports::routes())
        .merge(absent::routes())
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_two_routes_are_in_each_others_way() {
        // axum panics where they are.
        let _ = super::all();
    }
}
