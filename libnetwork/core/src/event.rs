//! What happened, for those who watch.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use libnetwork_model::{Endpoint, Intent, Network, Sandbox, SandboxId};

use crate::DeniedPort;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub kind: EventKind,
    pub action: &'static str,
    /// Nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// Id, name and driver.
    pub network: Option<(String, String, String)>,
    pub sandbox: Option<SandboxId>,
    pub attributes: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    Network,
    Endpoint,
    Repair,
    /// Of a published port of a sandbox: its attributes are `name` (the container's), `port` (`8080/tcp`), `uplink`, `clients`
    /// ([`Families::name`](crate::Families::name)) and `message`.
    Port,
}

impl Event {
    pub(crate) fn network(action: &'static str, network: &Network) -> Self {
        Self { network: Some(names(network)), ..Self::bare(EventKind::Network, action) }
    }

    /// `intent` is one that has the endpoint.
    pub(crate) fn endpoint(action: &'static str, intent: &Intent, endpoint: &Endpoint) -> Self {
        let mut attributes = BTreeMap::from([("endpoint".to_owned(), endpoint.id.to_string())]);
        if let Some(sandbox) = intent.sandbox(&endpoint.sandbox) {
            attributes.insert("container".into(), sandbox.id.to_string());
            attributes.insert("name".into(), sandbox.name.clone());
        }
        Self {
            network: intent.network(&endpoint.network).map(|n| names(n)),
            sandbox: Some(endpoint.sandbox.clone()),
            attributes,
            ..Self::bare(EventKind::Endpoint, action)
        }
    }

    pub(crate) fn repair(attributes: BTreeMap<String, String>) -> Self {
        Self { attributes, ..Self::bare(EventKind::Repair, "repaired") }
    }

    pub(crate) fn denied(sandbox: &Sandbox, port: &DeniedPort) -> Self {
        let DeniedPort { protocol, port, uplink, families, message } = port;
        let attributes = [
            ("name".to_owned(), sandbox.name.clone()),
            ("port".to_owned(), format!("{port}/{protocol}")),
            ("uplink".to_owned(), uplink.clone()),
            ("clients".to_owned(), families.name().to_owned()),
            ("message".to_owned(), message.clone()),
        ];
        Self {
            sandbox: Some(sandbox.id.clone()),
            attributes: attributes.into(),
            ..Self::bare(EventKind::Port, "denied")
        }
    }

    fn bare(kind: EventKind, action: &'static str) -> Self {
        Self { kind, action, time_ns: now_ns(), network: None, sandbox: None, attributes: BTreeMap::new() }
    }
}

fn names(network: &Network) -> (String, String, String) {
    (network.id.to_string(), network.name.clone(), network.driver.clone())
}

/// Nanoseconds since the Unix epoch.
pub(crate) fn now_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
}
