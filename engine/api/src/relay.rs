//! What causewayd tells, told on the engine's event bus.
//!
//! Owns no task: the daemon runs [`relay_network_events`] as one below its token, which may be cancelled at any moment.

use std::{collections::BTreeMap, time::Duration};

use engine_containers::{Containers, events::Events};
use libnetwork_rpc::{client::Client, v1};
use tokio_util::sync::CancellationToken;

/// How long to wait before asking a causewayd again that ended the stream. The client itself waits for one that is away.
const PAUSE: Duration = Duration::from_millis(100);

/// Whom a repair is about: the host's network as a whole.
const REPAIRED: &str = "host";

/// Emits Docker's `network connect` and `network disconnect` for every endpoint that comes or goes, whoever asked for
/// it, `network update` for one whose settings were changed (`causeway network set`), `network repaired` for what causewayd
/// made good again, and `container port denied` for a published port that the
/// host's firewall keeps clients from, until `shutdown` is cancelled. Networks that are made
/// and removed are told by the routes that do it, so that a client sees its own change. What happens while causewayd is
/// away is not told. Containers take note of what a start of causewayd, or a change of a network, made of their sandboxes.
pub async fn relay_network_events(network: Client, containers: Containers, shutdown: CancellationToken) {
    let relay = async {
        loop {
            if let Err(status) = listen(network.clone(), &containers).await {
                tracing::debug!(%status, "causewayd's events ended");
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::select! {
        () = relay => {}
        () = shutdown.cancelled() => {}
    }
}

async fn listen(mut network: Client, containers: &Containers) -> Result<(), tonic::Status> {
    let mut stream = network.watch(v1::WatchRequest {}).await?.into_inner();
    while let Some(event) = stream.message().await? {
        if (event.kind == "ready" || is_update(&event))
            && let Err(error) = containers.refresh_sandboxes().await
        {
            tracing::warn!(%error, "cannot learn what became of the containers' ports");
        }
        tell(&event, containers.events());
    }
    Ok(())
}

/// Of a network's settings.
fn is_update(event: &v1::Event) -> bool {
    event.kind == "network" && event.action == "update"
}

fn tell(event: &v1::Event, events: &Events) {
    if event.kind == "repair" {
        // What was missing, changed or too much, by those words.
        let attributes = event.attributes.clone().into_iter().collect();
        events.emit("network", &event.action, REPAIRED, attributes);
        return;
    }
    if event.kind == "port" {
        // Docker has none such; who watches its containers is to see it all the same.
        let attributes = event.attributes.clone().into_iter().collect();
        events.emit("container", &format!("port {}", event.action), &event.sandbox_id, attributes);
        return;
    }
    let changed = is_update(event);
    if event.kind != "endpoint" && !changed {
        return;
    }
    let mut attributes = BTreeMap::from([
        ("name".to_owned(), event.network_name.clone()),
        ("type".to_owned(), event.network_driver.clone()),
    ]);
    if !changed {
        attributes.insert("container".to_owned(), event.sandbox_id.clone());
    }
    events.emit("network", &event.action, &event.network_id, attributes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_repair_is_told_with_what_was_wrong() {
        let events = Events::default();
        let mut told = events.subscribe(Some(0));
        let attributes = [("missing".to_owned(), "table inet causeway".to_owned())];
        let (kind, action) = ("repair".into(), "repaired".into());
        tell(
            &v1::Event { kind, action, attributes: attributes.clone().into(), ..Default::default() },
            &events,
        );
        let seen = told.next().await.unwrap();
        assert_eq!(
            (seen.kind.as_str(), seen.action.as_str(), seen.actor.id.as_str()),
            ("network", "repaired", "host")
        );
        assert_eq!(seen.actor.attributes, attributes.into());
    }

    #[tokio::test]
    async fn endpoints_are_told_with_dockers_attributes_and_nothing_else_is() {
        let events = Events::default();
        let mut told = events.subscribe(Some(0));
        for kind in ["ready", "network"] {
            tell(&v1::Event { kind: kind.into(), ..Default::default() }, &events);
        }
        let event = v1::Event {
            kind: "endpoint".into(),
            action: "connect".into(),
            network_id: "9".repeat(64),
            network_name: "none".into(),
            network_driver: "null".into(),
            sandbox_id: "c".repeat(64),
            ..Default::default()
        };
        tell(&event, &events);
        let seen = told.next().await.unwrap();
        assert_eq!((seen.kind.as_str(), seen.action.as_str()), ("network", "connect"));
        assert_eq!(seen.actor.id, "9".repeat(64));
        let expected = [("container", "c".repeat(64)), ("name", "none".into()), ("type", "null".into())];
        assert_eq!(seen.actor.attributes, expected.map(|(k, v)| (k.to_owned(), v)).into());
        assert!(told.next_past().is_none());
    }
}
