//! The reconciler: makes the kernel, the port mapper and the name server follow the intent.
//!
//! Owns one task, [`Reconciler::run`]. It is cancelled by the command actor ending (its end of
//! the channel of steps closes), between two passes: a pass that was begun is finished, and one that was cut short by a
//! kill is finished by the next start, which looks at everything.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt;
use libnetwork_model::{Change, HostFacts, Intent, NetworkId, PublishedPort, Revision, SandboxId};
use libnetwork_plan::{Cause as Why, Desired, KernelError, Key, Ns, Operation, Scope};
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    time::Instant,
};
use tracing::{debug, info, warn};

use crate::{
    Cause, DeniedPort, Drivers, Event, Families, Kernel, NameServer, PortError, PortFigures, PortMapper,
    compile::{Compiler, Touched, Work},
    converge::{Round, converge, converge_new},
    draft::Subject,
    error::chain,
    heard::Heard,
    mapper::Mapper,
    owed::Owed,
    owners::Owners,
};

/// How often everything is looked at although nothing was heard.
const RESYNC: Duration = Duration::from_secs(30);
/// When what could not be repaired is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// A commit, on its way from the actor.
pub(crate) struct Step {
    pub(crate) revision: Revision,
    pub(crate) intent: Intent,
    pub(crate) change: Change,
}

/// Asked of the one who has the mapper.
pub(crate) enum Question {
    /// What went through the published ports of a sandbox?
    Figures { sandbox: SandboxId, reply: oneshot::Sender<Result<Counted, PortError>> },
    /// Which of these ports would the host's firewall deny?
    Denied { ports: Vec<PublishedPort>, families: Families, reply: oneshot::Sender<Vec<DeniedPort>> },
}

/// Published ranges with their figures; none where the mapper does not count.
pub(crate) type Counted = Vec<(PublishedPort, Option<PortFigures>)>;

/// Everything up to a revision has been carried out, but for these.
pub(crate) struct Report {
    pub(crate) revision: Revision,
    pub(crate) failures: Vec<(Subject, Arc<Cause>)>,
}

pub(crate) struct Reconciler<K, M, N> {
    pub(crate) kernel: K,
    pub(crate) mapper: Mapper<M>,
    pub(crate) names: N,
    pub(crate) drivers: Arc<Drivers>,
    pub(crate) netns: PathBuf,
    pub(crate) steps: mpsc::UnboundedReceiver<Step>,
    pub(crate) questions: mpsc::Receiver<Question>,
    pub(crate) reports: mpsc::UnboundedSender<Report>,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) host: watch::Sender<Arc<HostFacts>>,
    pub(crate) intent: Intent,
    pub(crate) owners: Owners,
    /// The sandboxes whose resolver is open.
    pub(crate) open: BTreeSet<SandboxId>,
    pub(crate) owed: Owed,
    /// What the mapper was last told of bridges.
    pub(crate) bridges: BTreeMap<NetworkId, (String, Vec<IpAddr>)>,
    /// Other people's objects in the place of ours, as far as they were warned of.
    pub(crate) in_the_way: BTreeSet<Key>,
    pub(crate) heard: Heard,
}

/// What a pass is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    Start,
    Drift,
    Resync,
}

/// What a look at the host's facts came to, for the objects that are compiled with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looked {
    Same,
    /// Links follow the MTU: all of them are looked at again, and soon.
    Changed,
    Failed,
}

impl<K: Kernel, M: PortMapper, N: NameServer> Reconciler<K, M, N> {
    pub(crate) async fn run(mut self) {
        let mut resync = Instant::now() + RESYNC;
        let mut retry = None;
        loop {
            // An undo may have paid since, and then nothing is to be tried again.
            retry = self.owed.is_any().then(|| retry.unwrap_or_else(|| Instant::now() + RETRY));
            let full_at = retry.map_or(resync, |at| at.min(resync));
            let look_at = self.heard.next().map_or(full_at, |at| at.min(full_at));
            tokio::select! {
                step = self.steps.recv() => {
                    let Some(step) = step else { break };
                    self.follow(step).await;
                }
                Some(question) = self.questions.recv() => self.answer(question).await,
                drift = self.kernel.changed() => {
                    self.heard.note(drift);
                    // Whatever else was told while something else was done.
                    while let Some(drift) = self.kernel.changed().now_or_never() {
                        self.heard.note(drift);
                    }
                }
                () = tokio::time::sleep_until(look_at) => {}
            }
            let now = Instant::now();
            let due = now >= resync || self.heard.is_all_due(now);
            if now >= full_at && !due && self.owed.is_ports_alone() {
                self.pay_ports().await;
                retry = None;
                continue;
            }
            if now >= full_at || due {
                let reason = if self.heard.take_all() { Reason::Drift } else { Reason::Resync };
                self.full(reason).await;
                (resync, retry) = (Instant::now() + RESYNC, None);
                continue;
            }
            if self.heard.take_host(now) {
                self.owed.look |= self.look_at_host().await != Looked::Same;
            }
            if let Some(keys) = self.heard.take_keys(now) {
                self.repair(keys).await;
            }
        }
        debug!("the reconciler ends");
    }

    /// One pass over what the waiting commits changed. What was to come and did not is taken back by the actor; what was
    /// to go and lingers nobody else will ask for again.
    async fn follow(&mut self, first: Step) {
        let Step { mut revision, intent: mut after, mut change } = first;
        while let Ok(step) = self.steps.try_recv() {
            (revision, after) = (step.revision, step.intent);
            change.0.extend(step.change.0);
        }
        let before = std::mem::replace(&mut self.intent, after.clone());
        let touched = Touched::by(&change, &before, &after);
        // Before the kernel, so that a name never leads to an address that someone else has got by then.
        self.names.publish(&after, Some(&change));

        let host = self.host.borrow().clone();
        let drivers = self.drivers.clone();
        let compiler = Compiler { drivers: &drivers, host: &host };
        self.owners.follow(&compiler, &before, &after, &touched);
        self.close_removed(&compiler, &before, &after, &touched).await;

        let Work { desired, keys, new } = compiler.work(&before, &after, &touched);
        let below = || compiler.below(&after, &touched);
        let round = converge_new(&mut self.kernel, desired, keys, &new, below).await;
        let mut failures = attribute(&compiler, &before, &after, &touched, round.failed);

        let refused: BTreeSet<&Subject> = failures.iter().map(|(subject, _)| subject).collect();
        let (unsound, sound): (Vec<SandboxId>, Vec<SandboxId>) = touched
            .sandboxes
            .iter()
            .filter(|id| after.sandbox(id).is_some())
            .cloned()
            .partition(|id| refused.contains(&Subject::Sandbox(id.clone())));
        failures.extend(self.open_resolvers(&after, &sound, &round.done).await);
        failures.extend(self.publish_ports(&compiler, &before, &after, &sound, &unsound).await);
        failures.extend(self.tell_bridges(&compiler, &after, &touched).await);
        debug!(revision, operations = round.done.len(), failures = failures.len(), "followed the intent");
        let gone = |subject: &Subject| match subject {
            Subject::Shared => false,
            Subject::Network(id) | Subject::Segment(id, _) => after.network(id).is_none(),
            Subject::Sandbox(id) => after.sandbox(id).is_none(),
            Subject::Endpoint(id) => after.endpoint(id).is_none(),
        };
        self.owed.look |= failures.iter().any(|(subject, _)| gone(subject));
        let _ = self.reports.send(Report { revision, failures });
    }

    /// Everything, whatever was done before and by whom.
    pub(crate) async fn full(&mut self, reason: Reason) {
        self.owed.look = self.look_at_host().await == Looked::Failed;
        let host = self.host.borrow().clone();
        let drivers = self.drivers.clone();
        let compiler = Compiler { drivers: &drivers, host: &host };
        let intent = self.intent.clone();
        if reason == Reason::Start {
            self.owners = Owners::of(&compiler, &intent);
        }
        let desired = compiler.everything(&intent);
        let scope = Scope::all(&desired);
        let round = converge(&mut self.kernel, desired, scope, Desired::new).await;
        let there: BTreeSet<&Key> = round.failed.iter().filter_map(in_the_way).collect();
        self.in_the_way.retain(|key| there.contains(key));
        self.speak_of(&round, reason);

        let all: Vec<SandboxId> = intent.sandboxes().map(|s| s.id.clone()).collect();
        let mut failures = self.open_resolvers(&intent, &all, &round.done).await;
        self.owed.look |= !all_in_the_way(&round.failed) || !failures.is_empty();
        if reason == Reason::Start || !round.done.is_empty() || self.owed.is_to_mapper() {
            failures.extend(self.publish_all(&compiler, &intent).await);
        }
        speak_of_surroundings(&failures);
        self.heard.all_was_seen();
    }

    /// Tells the mapper again what it refused, where there is nothing to look for.
    async fn pay_ports(&mut self) {
        let host = self.host.borrow().clone();
        let drivers = self.drivers.clone();
        let compiler = Compiler { drivers: &drivers, host: &host };
        let intent = self.intent.clone();
        speak_of_surroundings(&self.publish_owed(&compiler, &intent).await);
    }

    /// Looks at what changed behind our back, and at nothing else.
    async fn repair(&mut self, keys: BTreeSet<Key>) {
        if keys.is_empty() {
            return;
        }
        let host = self.host.borrow().clone();
        let drivers = self.drivers.clone();
        let compiler = Compiler { drivers: &drivers, host: &host };
        let intent = self.intent.clone();
        // With a link that went out of the way comes all that was held back by it.
        let makes_way = keys.iter().any(|k| matches!(k, Key::Link { .. }) && self.in_the_way.contains(k));
        let Some(touched) = self.owners.touched(&intent, &keys).filter(|_| !makes_way) else {
            return self.full(Reason::Drift).await;
        };
        // All that is theirs, though little is looked at: what hangs on a lost object is made again with it.
        let desired = compiler.named(&intent, &touched);
        let below = || compiler.below(&intent, &touched);
        let round = converge(&mut self.kernel, desired, Scope::Keys(keys), below).await;
        self.speak_of(&round, Reason::Drift);
        self.owed.look |= !all_in_the_way(&round.failed);
        if round.done.is_empty() {
            return;
        }
        let sandboxes: Vec<SandboxId> = touched.sandboxes.iter().cloned().collect();
        let mut failures = self.open_resolvers(&intent, &sandboxes, &round.done).await;
        self.owed.look |= !failures.is_empty();
        failures.extend(self.publish_again(&compiler, &intent, &touched, &round.done).await);
        speak_of_surroundings(&failures);
    }

    /// The host's facts again; who depends on them hears of a change.
    async fn look_at_host(&mut self) -> Looked {
        let facts = self.kernel.host().await;
        self.heard.host_was_seen();
        let facts = match facts {
            Ok(facts) => Arc::new(facts),
            Err(error) => {
                warn!(error = chain(&error), "cannot look at the host");
                return Looked::Failed;
            }
        };
        let old = self.host.send_replace(facts.clone());
        if old == facts {
            return Looked::Same;
        }
        info!(mtu = facts.mtu, uplinks = ?facts.uplinks.keys(), "the host's network changed");
        self.names.upstreams(&facts);
        if old.uplinks != facts.uplinks {
            let told = facts.clone();
            if let Some(Err(error)) = self.mapper.call(move |mapper| mapper.uplinks(&told)).await {
                warn!(error = chain(&error), "cannot publish ports on the uplinks");
                // The next look finds the same facts, and would not tell of them.
                self.owed.ways = true;
            }
        }
        // Ports lead by the bridges that are there, and where the kernel took everything off one, nothing is left to repair.
        self.owed.ways |= !old.bridges.keys().eq(facts.bridges.keys());
        let same = old.mtu == facts.mtu && old.closed == facts.closed && old.bridges == facts.bridges;
        if same { Looked::Same } else { Looked::Changed }
    }

    fn speak_of(&mut self, round: &Round, reason: Reason) {
        for error in &round.failed {
            if in_the_way(error).is_none_or(|key| self.in_the_way.insert(key.clone())) {
                warn!(error = chain(error), "not as it should be");
            }
        }
        if round.done.is_empty() {
            return;
        }
        let mut attributes: BTreeMap<String, String> = BTreeMap::new();
        for operation in &round.done {
            let word = match operation {
                Operation::Create { .. } => "missing",
                Operation::Update { .. } => "changed",
                Operation::Delete { .. } => "surplus",
            };
            let text = attributes.entry(word.to_owned()).or_default();
            if !text.is_empty() {
                text.push_str(", ");
            }
            let key = operation.key();
            text.push_str(&key.to_string());
            if let Ns::Sandbox(_) = key.ns() {
                text.push_str(&format!(" in {}", key.ns()));
            }
        }
        if reason == Reason::Start {
            info!(operations = round.done.len(), "adopted what an earlier process left");
        } else {
            info!(?reason, ?attributes, "repaired");
            let _ = self.events.send(Event::repair(attributes));
        }
    }
}

fn speak_of_surroundings(failures: &[(Subject, Arc<Cause>)]) {
    for (subject, cause) in failures {
        warn!(?subject, cause = chain(cause.as_ref()), "not as it should be");
    }
}

/// What somebody else has in the place of what failed, or of what it hangs on.
fn in_the_way(error: &KernelError) -> Option<&Key> {
    match &error.cause {
        Why::Foreign(key) => Some(key),
        _ => None,
    }
}

/// Whether trying again soon is of no use: who goes out of the way is heard of.
fn all_in_the_way(failed: &[KernelError]) -> bool {
    failed.iter().all(|error| in_the_way(error).is_some())
}

/// Whose failures these are, the root causes first. What cannot be told apart (a failed listing) is everybody's.
fn attribute(
    compiler: &Compiler<'_>,
    before: &Intent,
    after: &Intent,
    touched: &Touched,
    mut failed: Vec<KernelError>,
) -> Vec<(Subject, Arc<Cause>)> {
    if failed.is_empty() {
        return Vec::new();
    }
    failed.sort_by_key(|e| matches!(e.cause, Why::Prerequisite(_)));
    let subjects: Vec<(Subject, Desired)> = touched
        .subjects()
        .chain([Subject::Shared])
        .map(|subject| {
            let mut objects = Desired::new();
            compiler.subject(before, &subject, &mut objects);
            compiler.subject(after, &subject, &mut objects);
            (subject, objects)
        })
        .collect();
    let mut failures = Vec::new();
    for error in failed {
        warn!(error = chain(&error), "the kernel refused");
        let key = error.key.clone();
        let cause = Arc::new(Cause::Kernel(error));
        for (subject, objects) in &subjects {
            if key.as_ref().is_none_or(|key| objects.contains_key(key)) {
                failures.push((subject.clone(), cause.clone()));
            }
        }
    }
    failures
}
