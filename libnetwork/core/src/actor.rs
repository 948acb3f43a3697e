//! The command actor: the one owner of the intent.
//!
//! Owns one task, [`Actor::run`]. Cancelling the token ends it in order: no command is taken in any more, those that are
//! in are carried out and answered, then the channel to the reconciler closes and the task ends. Nothing in it waits for
//! the kernel to be changed; it waits for the store, whose commit is what makes a command happen, and asks which ports of the
//! host are free ([`BusyPorts`]): whoever gives that function keeps it short, or off the async threads.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use libnetwork_ipam::Pool;
use libnetwork_model::{Change, HostFacts, Intent, Mutation, Revision, Sandbox};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::{
    Cause, Defaults, Drivers, Error, Event, Store, StoreError,
    draft::{BusyPorts, Desk, Draft, Returning, Subject, touches},
    error::chain,
    hints::Hints,
    reconcile::{Report, Step},
    request::Command,
};

/// At most so many commands share one commit and one pass, so that the first of them is not kept waiting for long.
const FOLD: usize = 256;
/// Commands that are in hand at once; more wait in the channel, and their clients with them.
const IN_HAND: usize = 4096;

/// A command with the way back to who asked.
pub(crate) struct Envelope {
    pub(crate) command: Command,
    pub(crate) reply: Reply,
}

type Reply = oneshot::Sender<Result<Answer, Error>>;

/// What a command came to: the thing it was about, in the intent that holds it.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) intent: Intent,
    pub(crate) about: Subject,
}

/// What readers see.
#[derive(Debug, Clone, Default)]
pub(crate) struct Committed {
    pub(crate) revision: Revision,
    pub(crate) intent: Intent,
}

pub(crate) struct Actor<S> {
    /// None while a commit is under way.
    pub(crate) store: Option<S>,
    pub(crate) drivers: Arc<Drivers>,
    pub(crate) pools: Vec<Pool>,
    pub(crate) defaults: Defaults,
    pub(crate) random: Box<dyn FnMut() -> [u8; 32] + Send>,
    pub(crate) busy: BusyPorts,
    pub(crate) host: watch::Receiver<Arc<HostFacts>>,
    pub(crate) commands: mpsc::Receiver<Envelope>,
    pub(crate) steps: mpsc::UnboundedSender<Step>,
    pub(crate) reports: mpsc::UnboundedReceiver<Report>,
    pub(crate) committed: watch::Sender<Committed>,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) intent: Intent,
    pub(crate) revision: Revision,
    pub(crate) hand: Hand,
}

/// Commands between being taken in and being answered.
#[derive(Default)]
pub(crate) struct Hand {
    hints: Hints,
    /// Committed, waiting for the report of their revision.
    pending: Vec<Pending>,
    /// What pending commands keep for themselves.
    held: HashMap<Subject, usize>,
    returning: Returning,
    /// Waiting until what they touch is let go, in the order they came in.
    parked: VecDeque<Envelope>,
    /// Undos that the store refused; the next commit carries them.
    owed: Vec<Change>,
}

struct Pending {
    revision: Revision,
    draft: Draft,
    reply: Reply,
    /// Why it is being taken back; none while it is being carried out.
    cause: Option<Arc<Cause>>,
}

/// What one commit is made of.
struct Batch {
    intent: Intent,
    /// What earlier batches owe, the first of `changes`.
    owed: Vec<Change>,
    changes: Vec<Change>,
    pending: Vec<Pending>,
}

impl<S: Store> Actor<S> {
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut open = true;
        while open || !self.hand.is_empty() {
            let mut batch = self.batch();
            tokio::select! {
                biased;
                report = self.reports.recv() => match report {
                    Some(report) => self.settle(report, &mut batch),
                    // The reconciler is gone, which only a panic explains: nobody would ever be answered.
                    None => break,
                },
                envelope = self.commands.recv(), if open && self.hand.len() < IN_HAND => match envelope {
                    Some(envelope) => self.admit(envelope, &mut batch),
                    None => open = false,
                },
                () = shutdown.cancelled(), if !self.commands.is_closed() => self.commands.close(),
            }
            while let Ok(report) = self.reports.try_recv() {
                self.settle(report, &mut batch);
            }
            while batch.pending.len() < FOLD
                && self.hand.len() < IN_HAND
                && let Ok(envelope) = self.commands.try_recv()
            {
                self.admit(envelope, &mut batch);
            }
            self.commit(batch).await;
        }
        info!(revision = self.revision, "no command is left");
    }

    /// An empty batch, but for what is owed: before anything else, so that what comes later finds it done.
    fn batch(&mut self) -> Batch {
        let owed = std::mem::take(&mut self.hand.owed);
        let intent = owed.iter().fold(self.intent.clone(), |intent, change| intent.apply(change));
        Batch { intent, changes: owed.clone(), owed, pending: Vec::new() }
    }

    /// Takes a command in, unless it has to wait for another.
    fn admit(&mut self, envelope: Envelope, batch: &mut Batch) {
        let touched = touches(&batch.intent, &envelope.command);
        let waits = |subject: &Subject| self.hand.held.contains_key(subject);
        // Nor may it overtake one that is parked for the same thing.
        let parked = || self.hand.parked.iter().flat_map(|e| touches(&batch.intent, &e.command));
        if touched.iter().any(waits)
            || (!self.hand.parked.is_empty() && parked().any(|s| touched.contains(&s)))
        {
            self.hand.parked.push_back(envelope);
        } else {
            self.draft(envelope, batch);
        }
    }

    fn draft(&mut self, Envelope { command, reply }: Envelope, batch: &mut Batch) {
        let host = self.host.borrow().clone();
        let mut desk = Desk {
            intent: &batch.intent,
            host: &host,
            drivers: &self.drivers,
            pools: &self.pools,
            defaults: &self.defaults,
            hints: &mut self.hand.hints,
            random: &mut *self.random,
            busy: &mut self.busy,
            returning: &self.hand.returning,
        };
        match desk.judge(&command) {
            Err(error) => {
                // What was leased on the way to the error is not.
                self.hand.hints.clear();
                let _ = reply.send(Err(error));
            }
            Ok(draft) if draft.change.0.is_empty() => {
                let _ = reply.send(Ok(Answer { intent: batch.intent.clone(), about: draft.about }));
            }
            Ok(draft) => {
                self.hand.hold(&draft);
                let change = draft.change.clone();
                batch.pending.push(Pending { revision: 0, draft, reply, cause: None });
                self.add(change, batch);
            }
        }
    }

    fn add(&mut self, change: Change, batch: &mut Batch) {
        self.hand.hints.follow(&batch.intent, &change);
        batch.intent = batch.intent.apply(&change);
        batch.changes.push(change);
    }

    /// Answers what a report decides, and takes back what was refused.
    fn settle(&mut self, report: Report, batch: &mut Batch) {
        let mut failures: HashMap<Subject, Arc<Cause>> = HashMap::new();
        for (subject, cause) in report.failures {
            // The first is the root: see `attribute`.
            failures.entry(subject).or_insert(cause);
        }
        let (due, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.hand.pending).into_iter().partition(|p| p.revision <= report.revision);
        self.hand.pending = waiting;
        for mut pending in due {
            let failure = pending.draft.subjects.iter().find_map(|subject| failures.get(subject)).cloned();
            match (pending.cause.take(), failure, pending.draft.undo.clone()) {
                (None, Some(cause), Some(undo)) => {
                    pending.cause = Some(cause);
                    batch.pending.push(pending);
                    self.add(undo, batch);
                }
                (None, None, _) => self.finish(pending, Ok(())),
                (None, Some(cause), None) => {
                    let object = pending.draft.object.clone();
                    self.finish(pending, Err(Error::Lingers { object, cause }));
                }
                (Some(cause), _, _) => {
                    let object = pending.draft.object.clone();
                    self.finish(pending, Err(Error::Refused { object, cause }));
                }
            }
        }
        self.unpark(batch);
    }

    /// Lets go of what a command held and answers it.
    fn finish(&mut self, pending: Pending, result: Result<(), Error>) {
        let Pending { draft, reply, .. } = pending;
        self.hand.release(&draft);
        let happened = !matches!(result, Err(Error::Refused { .. } | Error::Store(_)));
        if happened {
            for event in draft.events {
                let _ = self.events.send(event);
            }
        }
        let answer = result.map(|()| Answer { intent: self.intent.clone(), about: draft.about });
        let _ = reply.send(answer);
    }

    fn unpark(&mut self, batch: &mut Batch) {
        // Whatever still has to wait is parked again behind those before it, so the order stays.
        for envelope in std::mem::take(&mut self.hand.parked) {
            self.admit(envelope, batch);
        }
    }

    /// One commit for the batch; the reconciler hears of it, or everybody in it of the error.
    async fn commit(&mut self, mut batch: Batch) {
        while !batch.changes.is_empty() {
            let changes = std::mem::take(&mut batch.changes);
            let (result, changes) = self.store(changes).await;
            match result {
                Ok(revision) => {
                    batch.owed.clear();
                    (self.revision, self.intent) = (revision, batch.intent.clone());
                    self.committed.send_replace(Committed { revision, intent: batch.intent.clone() });
                    let change = Change(changes.into_iter().flat_map(|c| c.0).collect());
                    let _ = self.steps.send(Step { revision, intent: batch.intent.clone(), change });
                    let pending = batch.pending.drain(..).map(|p| Pending { revision, ..p });
                    self.hand.pending.extend(pending);
                }
                Err(error) => self.refuse(&mut batch, Arc::new(error)),
            }
        }
    }

    fn refuse(&mut self, batch: &mut Batch, cause: Arc<StoreError>) {
        error!(error = chain(cause.as_ref()), "cannot commit");
        self.hand.hints.clear();
        self.hand.owed.append(&mut batch.owed);
        for pending in batch.pending.drain(..).collect::<Vec<_>>() {
            match pending.cause.clone() {
                Some(refused) => {
                    // It cannot be taken back yet: the intent holds it until the store takes a commit again.
                    let object = pending.draft.object.clone();
                    self.hand.owed.extend(pending.draft.undo.clone());
                    self.finish(pending, Err(Error::Refused { object, cause: refused }));
                }
                None => self.finish(pending, Err(Error::Store(cause.clone()))),
            }
        }
        // Those were waiting for what has just been let go. What is owed comes before them, or it would undo what they do.
        *batch = self.batch();
        self.unpark(batch);
        if batch.pending.is_empty() {
            // Nobody waits for a commit: what is owed is tried again with the next one.
            self.hand.owed = std::mem::take(&mut batch.owed);
            batch.changes.clear();
        }
    }

    async fn store(&mut self, changes: Vec<Change>) -> (Result<Revision, StoreError>, Vec<Change>) {
        let Some(mut store) = self.store.take() else { return (Ok(self.revision), changes) };
        let base = self.revision;
        let work = tokio::task::spawn_blocking(move || {
            let result = store.commit(base, &changes);
            (store, result, changes)
        });
        match work.await {
            Ok((store, result, changes)) => {
                self.store = Some(store);
                (result, changes)
            }
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
}

impl Hand {
    fn len(&self) -> usize {
        self.pending.len() + self.parked.len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn hold(&mut self, draft: &Draft) {
        for subject in &draft.holds {
            *self.held.entry(subject.clone()).or_default() += 1;
        }
        self.returning.extend(put_back(draft).map(|sandbox| (sandbox.id.clone(), sandbox.clone())));
    }

    fn release(&mut self, draft: &Draft) {
        for sandbox in put_back(draft) {
            self.returning.remove(&sandbox.id);
        }
        for subject in &draft.holds {
            if let Some(count) = self.held.get_mut(subject) {
                *count -= 1;
                if *count == 0 {
                    self.held.remove(subject);
                }
            }
        }
    }
}

/// The sandboxes with ports that the undo of a draft puts back. Who puts one back holds it: it is nobody else's meanwhile.
fn put_back(draft: &Draft) -> impl Iterator<Item = &Arc<Sandbox>> {
    draft.undo.iter().flat_map(|undo| &undo.0).filter_map(|mutation| match mutation {
        Mutation::PutSandbox(sandbox) if !sandbox.ports.is_empty() => Some(sandbox),
        _ => None,
    })
}
