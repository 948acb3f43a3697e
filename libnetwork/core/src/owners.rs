//! Whose a link of the host is: a repair compiles no more than what it is about.

use std::collections::{BTreeSet, HashMap};

use libnetwork_model::{Intent, SandboxId};
use libnetwork_plan::{Desired, Key, Name, Ns};

use crate::{
    compile::{Compiler, Touched},
    draft::Subject,
};

/// Networks, their segments and endpoints, by the names of their links in the host. Derived from the intent; a name that is not here is
/// nobody's.
#[derive(Debug, Default)]
pub(crate) struct Owners(HashMap<Name, Subject>);

impl Owners {
    pub(crate) fn of(compiler: &Compiler<'_>, intent: &Intent) -> Self {
        let networks = intent.networks().flat_map(|network| {
            let segments = intent.segments_of(&network.id).filter(|segment| *segment > 0);
            let segments = segments.map(|segment| Subject::Segment(network.id.clone(), segment));
            std::iter::once(Subject::Network(network.id.clone())).chain(segments)
        });
        let endpoints = intent.endpoints().map(|endpoint| Subject::Endpoint(endpoint.id.clone()));
        let links = |subject: Subject| {
            links(compiler, intent, &subject).into_iter().map(move |name| (name, subject.clone()))
        };
        Self(networks.chain(endpoints).flat_map(links).collect())
    }

    /// As `after` has it, which came from `before` by changes that touched these.
    pub(crate) fn follow(
        &mut self,
        compiler: &Compiler<'_>,
        before: &Intent,
        after: &Intent,
        touched: &Touched,
    ) {
        for subject in touched.subjects() {
            for name in links(compiler, before, &subject) {
                self.0.remove(&name);
            }
        }
        for subject in touched.subjects() {
            for name in links(compiler, after, &subject) {
                self.0.insert(name, subject.clone());
            }
        }
    }

    /// What these keys are about. None when that cannot be told: everything has to be looked at then.
    pub(crate) fn touched(&self, intent: &Intent, keys: &BTreeSet<Key>) -> Option<Touched> {
        let mut touched = Touched::default();
        for key in keys {
            if let Some(id) = sandbox(key) {
                touched.sandbox(id, intent);
                continue;
            }
            match key {
                Key::Link { name, .. }
                | Key::LinkSysctl { link: name, .. }
                | Key::Address { link: name, .. }
                | Key::Neighbour { link: name, .. }
                | Key::Fdb { link: name, .. } => match self.0.get(name) {
                    // What endpoints have on the bridge (neighbours) is theirs.
                    Some(Subject::Network(id) | Subject::Segment(id, _)) => {
                        touched.network(id, intent, intent)
                    }
                    Some(Subject::Endpoint(id)) => touched.endpoint(id, intent, intent),
                    _ => {}
                },
                _ => return None,
            }
        }
        Some(touched)
    }
}

fn sandbox(key: &Key) -> Option<&SandboxId> {
    match (key, key.ns()) {
        (Key::Namespace(id), _) | (_, Ns::Sandbox(id)) => Some(id),
        _ => None,
    }
}

/// The names of a subject's links in the host.
fn links(compiler: &Compiler<'_>, intent: &Intent, subject: &Subject) -> Vec<Name> {
    if matches!(subject, Subject::Shared | Subject::Sandbox(_)) {
        return Vec::new();
    }
    let mut objects = Desired::new();
    compiler.subject(intent, subject, &mut objects);
    let name = |key| match key {
        Key::Link { ns: Ns::Host, name, .. } => Some(name),
        _ => None,
    };
    objects.into_keys().filter_map(name).collect()
}
