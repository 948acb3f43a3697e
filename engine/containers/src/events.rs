//! What happened, as Docker tells it: one bus for containers, images, networks and volumes.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use engine_filters::Filters;
use serde::Serialize;
use tokio::sync::broadcast;

/// How many past events `since` can reach, as in Docker.
const HISTORY: usize = 256;
/// How far a slow listener may fall behind before it loses events.
const BACKLOG: usize = 1024;

/// One thing that happened (Docker's `events.Message`).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// What older clients read: the action, for containers and images.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// `container`, `image`, `network`, `volume`, `daemon`.
    #[serde(rename = "Type")]
    pub kind: String,
    #[serde(rename = "Action")]
    pub action: String,
    #[serde(rename = "Actor")]
    pub actor: Actor,
    /// Always `local`.
    pub scope: &'static str,
    /// Seconds since 1970.
    pub time: i64,
    /// Nanoseconds since 1970.
    #[serde(rename = "timeNano")]
    pub time_nano: i64,
}

/// To whom it happened.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Actor {
    #[serde(rename = "ID")]
    pub id: String,
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}

/// The bus. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Events {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    // Held for a push or a copy only, never across an await: order in the history is the order on the wire.
    history: Mutex<VecDeque<Arc<Event>>>,
    sender: broadcast::Sender<Arc<Event>>,
}

impl Default for Events {
    fn default() -> Self {
        let (sender, _) = broadcast::channel(BACKLOG);
        Self { shared: Arc::new(Shared { history: Mutex::default(), sender }) }
    }
}

impl Events {
    /// Tells that `action` happened to the thing `id` of this kind, now. Containers' and images' events also get the
    /// old fields (`status`, `id`, `from`).
    pub fn emit(&self, kind: &str, action: &str, id: &str, attributes: BTreeMap<String, String>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut event = Event {
            status: String::new(),
            id: String::new(),
            from: String::new(),
            kind: kind.to_owned(),
            action: action.to_owned(),
            actor: Actor { id: id.to_owned(), attributes },
            scope: "local",
            time: now.as_secs() as i64,
            time_nano: now.as_nanos() as i64,
        };
        if kind == "container" || kind == "image" {
            event.status = action.to_owned();
            event.id = id.to_owned();
        }
        if kind == "container" {
            event.from = event.actor.attributes.get("image").cloned().unwrap_or_default();
        }
        let event = Arc::new(event);
        let mut history = self.shared.history.lock().unwrap_or_else(PoisonError::into_inner);
        if history.len() == HISTORY {
            history.pop_front();
        }
        history.push_back(event.clone());
        // Nobody listening is fine.
        let _ = self.shared.sender.send(event);
    }

    /// What is in the history from `since` (nanoseconds since 1970) on, and everything after it, without a gap.
    /// With no `since`, only what comes.
    pub fn subscribe(&self, since: Option<i64>) -> Subscription {
        let history = self.shared.history.lock().unwrap_or_else(PoisonError::into_inner);
        let past = match since {
            Some(since) => history.iter().filter(|event| event.time_nano >= since).cloned().collect(),
            None => VecDeque::new(),
        };
        Subscription { past, receiver: self.shared.sender.subscribe() }
    }
}

/// A listener on the bus.
#[derive(Debug)]
pub struct Subscription {
    past: VecDeque<Arc<Event>>,
    receiver: broadcast::Receiver<Arc<Event>>,
}

impl Subscription {
    /// The next event that is in the history already; none when the past is told.
    pub fn next_past(&mut self) -> Option<Arc<Event>> {
        self.past.pop_front()
    }

    /// The next event. A listener that fell far behind goes on with what is left; none when the bus is gone.
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        if let Some(event) = self.past.pop_front() {
            return Some(event);
        }
        loop {
            match self.receiver.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

/// `docker events --filter`. Keys that it does not know select nothing and refuse nothing, as in Docker.
#[derive(Debug, Clone)]
pub struct EventFilter(Filters);

impl EventFilter {
    pub fn new(filters: Filters) -> Self {
        Self(filters)
    }

    /// Whether a listener with this filter sees the event.
    pub fn matches(&self, event: &Event) -> bool {
        let filters = &self.0;
        let attributes = &event.actor.attributes;
        filters.any("event", |wanted| {
            // `exec_create` stands for `exec_create: command`, `health_status` for `health_status: healthy`.
            event.action == wanted || event.action.split_once(':').is_some_and(|(action, _)| action == wanted)
        }) && filters.exact("type", &event.kind)
            && filters.exact("scope", event.scope)
            && self.names(event, "container")
            && self.names(event, "network")
            && self.names(event, "volume")
            && self.names(event, "daemon")
            && ["plugin", "node", "service", "secret", "config"].iter().all(|key| !filters.contains(key))
            && self.image(event)
            && filters.labels(|name| attributes.get(name).map(String::as_str))
    }

    /// Ids (whole or a prefix) or names of one kind of thing.
    fn names(&self, event: &Event, kind: &str) -> bool {
        self.0.any(kind, |wanted| {
            event.kind == kind
                && (event.actor.id.starts_with(wanted)
                    || event
                        .actor
                        .attributes
                        .get("name")
                        .is_some_and(|name| name == wanted.trim_start_matches('/')))
        })
    }

    /// Also the events of containers made from the image.
    fn image(&self, event: &Event) -> bool {
        let without_tag = |name: &str| match name.rsplit_once(':') {
            Some((repo, tag)) if !tag.contains('/') => repo.to_owned(),
            _ => name.to_owned(),
        };
        let attribute = if event.kind == "image" { "name" } else { "image" };
        let name = event.actor.attributes.get(attribute).map_or("", String::as_str);
        self.0.any("image", |wanted| {
            (event.kind == "image" && event.actor.id == wanted)
                || name == wanted
                || (!name.is_empty() && without_tag(name) == wanted)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[tokio::test]
    async fn the_past_and_what_comes_join_without_a_gap() {
        let events = Events::default();
        for number in 0..HISTORY + 10 {
            events.emit("container", "start", &number.to_string(), BTreeMap::new());
        }
        let mut subscription = events.subscribe(Some(0));
        events.emit("container", "die", "last", BTreeMap::new());
        let mut seen = Vec::new();
        loop {
            let event = subscription.next().await.unwrap();
            seen.push(event.actor.id.clone());
            if event.action == "die" {
                break;
            }
        }
        assert_eq!(seen.len(), HISTORY + 1);
        assert_eq!(seen[0], "10");
    }

    #[tokio::test]
    async fn filters_select_as_docker_does() {
        let events = Events::default();
        let mut subscription = events.subscribe(None);
        events.emit(
            "container",
            "exec_create: sh",
            "abcdef",
            attributes(&[("image", "bb:1"), ("name", "web")]),
        );
        let event = subscription.next().await.unwrap();
        let matches = |text: &str| EventFilter::new(Filters::parse(text).unwrap()).matches(&event);
        assert!(matches(r#"{"event":["exec_create"]}"#));
        assert!(matches(r#"{"container":["abc"]}"#));
        assert!(matches(r#"{"container":["web"],"type":["container"]}"#));
        assert!(matches(r#"{"image":["bb"]}"#));
        assert!(matches(r#"{"image":["bb"],"foo":["bar"]}"#));
        assert!(!matches(r#"{"image":["b"]}"#));
        assert!(!matches(r#"{"network":["web"]}"#));
        assert_eq!(event.from, "bb:1");
    }
}
