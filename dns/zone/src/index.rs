use std::{collections::BTreeSet, sync::Arc};

use imbl::OrdMap;
use libnetwork_model::{Change, Endpoint, EndpointId, Intent, Mutation, NetworkId, SandboxId};

/// The endpoints that answer to one name on one network, by id.
pub type Holders = OrdMap<EndpointId, Arc<Endpoint>>;

/// Every name of every network, derived from an intent. Cheap to clone, never changed in place: an update makes the
/// next one, which shares all but what the change touched.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Zone {
    pub(crate) intent: Intent,
    /// Lower-case names by network.
    names: OrdMap<NetworkId, OrdMap<Arc<str>, Holders>>,
}

impl Zone {
    /// The zone of an intent, made from nothing: costs in proportion to all of it.
    pub fn new(intent: &Intent) -> Self {
        let mut zone = Self { intent: intent.clone(), names: OrdMap::new() };
        for endpoint in intent.endpoints() {
            zone.add(endpoint);
        }
        zone
    }

    /// The zone of `after`, which `change` made from the intent that this zone was made from: costs in proportion to
    /// the change. Handed anything else, it would keep names of endpoints that are gone.
    pub fn apply(&self, change: &Change, after: &Intent) -> Self {
        let touched = self.touched(change, after);
        let mut next = self.clone();
        for id in &touched {
            next.remove(id);
        }
        next.intent = after.clone();
        for endpoint in touched.iter().filter_map(|id| after.endpoint(id)) {
            next.add(endpoint);
        }
        next
    }

    /// The intent that it answers for.
    pub fn intent(&self) -> &Intent {
        &self.intent
    }

    /// Who answers to `name`, in lower case, on a network, and to which name of theirs.
    pub(crate) fn holders(&self, network: &NetworkId, name: &str) -> Option<(&str, &Holders)> {
        let names = self.names.get(network)?;
        let (name, holders) = names.get_key_value(name).or_else(|| wildcard(names, name))?;
        Some((&**name, holders))
    }

    /// The endpoints whose names may differ. A network's own name is read when a question is answered.
    fn touched(&self, change: &Change, after: &Intent) -> BTreeSet<EndpointId> {
        let mut touched = BTreeSet::new();
        let all_in = |sandbox: &SandboxId| {
            let both = self.intent.endpoints_in(sandbox).chain(after.endpoints_in(sandbox));
            both.map(|e| e.id.clone()).collect::<Vec<_>>()
        };
        for mutation in &change.0 {
            match mutation {
                Mutation::PutNetwork(_)
                | Mutation::RemoveNetwork(_)
                | Mutation::Reserve(_)
                | Mutation::Release { .. } => {}
                Mutation::PutSandbox(sandbox) => touched.extend(all_in(&sandbox.id)),
                Mutation::RemoveSandbox(id) => touched.extend(all_in(id)),
                Mutation::PutEndpoint(endpoint) => {
                    touched.insert(endpoint.id.clone());
                }
                Mutation::RemoveEndpoint(id) => {
                    touched.insert(id.clone());
                }
            }
        }
        touched
    }

    fn add(&mut self, endpoint: &Arc<Endpoint>) {
        let names = names_of(&self.intent, endpoint);
        if names.is_empty() {
            return;
        }
        let network = self.names.entry(endpoint.network.clone()).or_default();
        for name in names {
            network.entry(name).or_default().insert(endpoint.id.clone(), endpoint.clone());
        }
    }

    fn remove(&mut self, id: &EndpointId) {
        let Some(endpoint) = self.intent.endpoint(id) else { return };
        let Some(network) = self.names.get_mut(&endpoint.network) else { return };
        for name in names_of(&self.intent, endpoint) {
            let Some(holders) = network.get_mut(&name) else { continue };
            holders.remove(id);
            if holders.is_empty() {
                network.remove(&name);
            }
        }
        if network.is_empty() {
            self.names.remove(&endpoint.network);
        }
    }
}

/// Who has a wildcard alias that covers `name`: `*.app` covers `a.app` and `a.b.app`, not `app`; the longest one that
/// covers it counts (RFC 4592).
fn wildcard<'a>(names: &'a OrdMap<Arc<str>, Holders>, name: &str) -> Option<(&'a Arc<str>, &'a Holders)> {
    const PREFIX: &str = "*.";
    // Most networks have none: then a name that is not ours costs no allocation.
    if !names.get_next(PREFIX)?.0.starts_with(PREFIX) {
        return None;
    }
    name.match_indices('.')
        .filter(|(dot, _)| *dot > 0)
        .find_map(|(dot, _)| names.get_key_value(format!("*{}", &name[dot..]).as_str()))
}

/// The names that an endpoint answers to, in lower case, each once.
fn names_of(intent: &Intent, endpoint: &Endpoint) -> BTreeSet<Arc<str>> {
    let sandbox = intent.sandbox(&endpoint.sandbox);
    let own = sandbox.map(|s| s.name.as_str());
    let short = sandbox.and_then(|s| short_id(&s.owner));
    let given = endpoint.aliases.iter().map(String::as_str).chain(own).chain(short);
    // A name as people write it may end in the root's dot.
    let plain = given.map(|n| n.strip_suffix('.').unwrap_or(n)).filter(|n| !n.is_empty());
    plain.map(|n| Arc::from(n.to_ascii_lowercase())).collect()
}

/// The first 12 digits of an owner that is a container's id; the owner is opaque otherwise.
pub(crate) fn short_id(owner: &str) -> Option<&str> {
    let is_id = owner.len() == 64 && owner.bytes().all(|b| b.is_ascii_hexdigit());
    is_id.then(|| &owner[..12])
}
