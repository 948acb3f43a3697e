//! The reconciler's dealings with the name server and the port mapper.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures_util::{StreamExt, stream};
use libnetwork_model::{Intent, NamespaceKind, NetworkId, SandboxId};
use libnetwork_plan::{Key, LinkRank, Operation};

use crate::{
    Bridges, Cause, Event, Kernel, NameServer, PortError, PortMapper, Publication,
    compile::{Compiler, Touched},
    draft::Subject,
    reconcile::{Question, Reconciler},
};

/// How many resolvers are opened at a time. Each needs a thread in its namespace for a moment.
const PARALLEL: usize = 16;

type Failures = Vec<(Subject, Arc<Cause>)>;

impl<K: Kernel, M: PortMapper, N: NameServer> Reconciler<K, M, N> {
    /// Takes away names and ports of sandboxes that go, while their namespaces are still there.
    pub(crate) async fn close_removed(
        &mut self,
        compiler: &Compiler<'_>,
        before: &Intent,
        after: &Intent,
        touched: &Touched,
    ) {
        for id in touched.sandboxes.iter().filter(|id| after.sandbox(id).is_none()) {
            if self.open.remove(id) {
                self.names.close(id).await;
            }
        }
        let mapped = |intent: &Intent, id| {
            intent.sandbox(id).is_some_and(|s| !compiler.publication(intent, s).mappings.is_empty())
        };
        let gone = touched.sandboxes.iter().filter(|id| mapped(before, id) && !mapped(after, id));
        for (id, error) in
            self.set(after, gone.map(|id| (id.clone(), Publication::default())).collect()).await
        {
            tracing::warn!(
                sandbox = id.short(),
                error = crate::error::chain(&error),
                "cannot take back ports"
            );
        }
    }

    /// Opens the resolvers that are not, and again those whose namespace was just made again.
    pub(crate) async fn open_resolvers(
        &mut self,
        intent: &Intent,
        sandboxes: &[SandboxId],
        done: &[Operation],
    ) -> Failures {
        for operation in done {
            if let Operation::Create { key: Key::Namespace(id), .. } = operation
                && self.open.remove(id)
            {
                self.names.close(id).await;
            }
        }
        let wanted: Vec<_> = sandboxes
            .iter()
            .filter_map(|id| intent.sandbox(id))
            .filter(|s| s.namespace == NamespaceKind::Own)
            .cloned()
            .collect();
        let (names, netns) = (&self.names, &self.netns);
        let results: Vec<_> = stream::iter(wanted)
            .map(|sandbox| async move {
                let path = netns.join(sandbox.id.as_str());
                (sandbox.id.clone(), names.open(&sandbox, path).await)
            })
            .buffer_unordered(PARALLEL)
            .collect()
            .await;
        let mut failures = Failures::new();
        for (id, result) in results {
            match result {
                Ok(()) => drop(self.open.insert(id)),
                Err(error) => failures.push((Subject::Sandbox(id), Arc::new(Cause::Name(error)))),
            }
        }
        failures
    }

    /// The ports of the `sound` sandboxes, where they differ from what they were. Those of the others cannot lead
    /// anywhere yet.
    pub(crate) async fn publish_ports(
        &mut self,
        compiler: &Compiler<'_>,
        before: &Intent,
        after: &Intent,
        sound: &[SandboxId],
        unsound: &[SandboxId],
    ) -> Failures {
        let changed = |id: &SandboxId| {
            let wanted = compiler.publication(after, after.sandbox(id)?);
            let had = before.sandbox(id).map(|s| compiler.publication(before, s)).unwrap_or_default();
            (!wanted.mappings.is_empty() && wanted != had).then(|| (id.clone(), wanted))
        };
        let waiting: Vec<SandboxId> = unsound.iter().filter_map(changed).map(|(id, _)| id).collect();
        // What they would lead by is not there, and comes by no setting of ports.
        self.owed.look |= !waiting.is_empty();
        self.owed.ports.extend(waiting);
        ports_failed(self.set(after, sound.iter().filter_map(changed).collect()).await)
    }

    pub(crate) async fn answer(&mut self, question: Question) {
        // Nobody is told when the mapper is lost: the process is at its end then.
        match question {
            Question::Figures { sandbox: id, reply } => {
                let ports = self.intent.sandbox(&id).map(|s| s.ports.clone()).unwrap_or_default();
                let call = self.mapper.call(move |mapper| {
                    let figures = mapper.figures(&id, &ports)?.unwrap_or_default();
                    let figures = figures.into_iter().map(Some).chain(std::iter::repeat(None));
                    Ok(ports.into_iter().zip(figures).collect())
                });
                if let Some(answer) = call.await {
                    let _ = reply.send(answer);
                }
            }
            Question::Denied { ports, families, reply } => {
                if let Some(denied) = self.mapper.call(move |mapper| mapper.denied(&ports, families)).await {
                    let _ = reply.send(denied);
                }
            }
        }
    }

    /// All ports, uplinks and bridges; what the mapper has beyond them goes.
    pub(crate) async fn publish_all(&mut self, compiler: &Compiler<'_>, intent: &Intent) -> Failures {
        (self.owed.ways, self.owed.ports) = Default::default();
        self.bridges = intent.networks().filter_map(|n| Some((n.id.clone(), compiler.bridge(n)?))).collect();
        let bridges: Bridges = self.bridges.values().cloned().collect();
        let host = self.host.borrow().clone();
        let answer = self.mapper.call(move |mapper| {
            // An uplink that refuses is no reason to publish nothing on the others.
            let uplinks = mapper.uplinks(&host);
            (uplinks, mapper.bridges(&bridges).and_then(|()| mapper.sandboxes()))
        });
        let Some((uplinks, known)) = answer.await else { return Failures::new() };
        self.owed.ways = uplinks.is_err() || known.is_err();
        let failed = |error| (Subject::Shared, Arc::new(Cause::Port(error)));
        let mut failures: Failures = uplinks.err().map(failed).into_iter().collect();
        let known = match known {
            Ok(known) => known,
            Err(error) => {
                failures.push(failed(error));
                return failures;
            }
        };
        let mut wanted: BTreeMap<SandboxId, Publication> =
            known.into_iter().map(|id| (id, Publication::default())).collect();
        for sandbox in intent.sandboxes().filter(|s| !s.ports.is_empty()) {
            wanted.insert(sandbox.id.clone(), compiler.publication(intent, sandbox));
        }
        failures.extend(ports_failed(self.set(intent, wanted.into_iter().collect()).await));
        failures
    }

    /// The ports that are owed, and nobody else's.
    pub(crate) async fn publish_owed(&mut self, compiler: &Compiler<'_>, intent: &Intent) -> Failures {
        let wanted =
            |id| intent.sandbox(id).map(|sandbox| compiler.publication(intent, sandbox)).unwrap_or_default();
        let owed = self.owed.ports.iter().map(|id| (id.clone(), wanted(id))).collect();
        ports_failed(self.set(intent, owed).await)
    }

    pub(crate) async fn tell_bridges(
        &mut self,
        compiler: &Compiler<'_>,
        after: &Intent,
        touched: &Touched,
    ) -> Failures {
        let (mut came, mut gone) = (Bridges::new(), BTreeSet::new());
        for id in &touched.networks {
            let bridge = after.network(id).and_then(|n| compiler.bridge(n));
            if self.bridges.get(id) == bridge.as_ref() {
                continue;
            }
            let had = match &bridge {
                Some(bridge) => self.bridges.insert(id.clone(), bridge.clone()),
                None => self.bridges.remove(id),
            };
            gone.extend(had.map(|(name, _)| name));
            came.extend(bridge);
        }
        gone.retain(|bridge| !came.contains_key(bridge));
        if came.is_empty() && gone.is_empty() {
            return Failures::new();
        }
        let result = self.mapper.call(move |mapper| mapper.change_bridges(&came, &gone)).await;
        let Some(Err(error)) = result else { return Failures::new() };
        self.owed.ways = true;
        let cause = Arc::new(Cause::Port(error));
        touched.networks.iter().map(|id| (Subject::Network(id.clone()), cause.clone())).collect()
    }

    /// The ports that lead by what was repaired, once more: what was made anew is not what they led by.
    pub(crate) async fn publish_again(
        &mut self,
        compiler: &Compiler<'_>,
        intent: &Intent,
        touched: &Touched,
        done: &[Operation],
    ) -> Failures {
        let made = |operation: &Operation| match operation {
            Operation::Create { key: Key::Link { rank: LinkRank::Bridge, name, .. }, .. } => {
                Some(name.to_string())
            }
            _ => None,
        };
        let made: BTreeSet<String> = done.iter().filter_map(made).collect();
        let remade = |id: &&NetworkId| self.bridges.get(*id).is_some_and(|(name, _)| made.contains(name));
        let remade: Vec<&NetworkId> = touched.networks.iter().filter(remade).collect();
        let came: Bridges = remade.iter().filter_map(|id| self.bridges.get(*id)).cloned().collect();
        let on_them = remade.iter().flat_map(|id| intent.endpoints_on(id)).map(|e| &e.sandbox);
        let sandboxes: BTreeSet<&SandboxId> = on_them.chain(&touched.sandboxes).collect();
        let publishing = sandboxes.into_iter().filter_map(|id| intent.sandbox(id));
        let wanted: Vec<_> = publishing
            .filter(|sandbox| !sandbox.ports.is_empty())
            .map(|sandbox| (sandbox.id.clone(), compiler.publication(intent, sandbox)))
            .collect();
        let mut failures = Failures::new();
        if !came.is_empty() {
            let told = self.mapper.call(move |mapper| mapper.change_bridges(&came, &BTreeSet::new())).await;
            if let Some(Err(error)) = told {
                self.owed.ways = true;
                failures.push((Subject::Shared, Arc::new(Cause::Port(error))));
            }
        }
        failures.extend(ports_failed(self.set(intent, wanted).await));
        failures
    }

    async fn set(
        &mut self,
        intent: &Intent,
        wanted: Vec<(SandboxId, Publication)>,
    ) -> Vec<(SandboxId, PortError)> {
        if wanted.is_empty() {
            return Vec::new();
        }
        let call = self.mapper.call(move |mapper| -> Vec<_> {
            let set = |(id, publication)| (mapper.set(&id, &publication), id);
            wanted.into_iter().map(set).collect()
        });
        let mut failed = Vec::new();
        for (result, id) in call.await.unwrap_or_default() {
            match result {
                Ok(denied) => {
                    self.owed.ports.remove(&id);
                    for (port, sandbox) in denied.iter().zip(intent.sandbox(&id).into_iter().cycle()) {
                        let _ = self.events.send(Event::denied(sandbox, port));
                    }
                }
                Err(error) => {
                    self.owed.ports.insert(id.clone());
                    failed.push((id, error));
                }
            }
        }
        failed
    }
}

fn ports_failed(failed: Vec<(SandboxId, PortError)>) -> Failures {
    failed.into_iter().map(|(id, error)| (Subject::Sandbox(id), Arc::new(Cause::Port(error)))).collect()
}
