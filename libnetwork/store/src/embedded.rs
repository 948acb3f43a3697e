//! The two files as one store.

use std::path::Path;

use libnetwork_core::{Store, StoreError};
use libnetwork_model::{Change, Intent, Mutation, Revision};

use crate::{
    durable::{Durable, Tail, io},
    journal::{Journal, Record},
};

/// The journal is rewritten when it is longer than this many bytes and four times what it was after the last rewrite.
const REWRITE_FROM: u64 = 1 << 20;

/// The store of one host.
///
/// Guarantees: a commit is there as a whole or not at all, even when it changes both networks and endpoints and the
/// process is killed between the two files. Assumes: one writer, which the lock on the redb file enforces.
pub struct EmbeddedStore {
    durable: Durable,
    journal: Journal,
    boot: String,
    revision: Revision,
    intent: Intent,
    rewritten: u64,
}

impl EmbeddedStore {
    /// Opens `STATE/network/intent.redb` in `state` and the journal `intent.journal` in `run`; both directories are
    /// made when missing. `boot` names this boot of the machine (the kernel's `random/boot_id`).
    pub fn open(state: &Path, run: &Path, boot: &str) -> Result<Self, StoreError> {
        for directory in [state, run] {
            std::fs::create_dir_all(directory).map_err(|e| io("make the directory of", directory, e))?;
        }
        let durable = Durable::open(&state.join("intent.redb"))?;
        let loaded = durable.load()?;
        let (journal, records) = Journal::open(&run.join("intent.journal"), boot)?;

        let reached = records.last().map_or(0, |r| r.revision);
        let mut mutations = loaded.networks;
        mutations.extend(records.into_iter().flat_map(|r| r.mutations));
        if let Some(tail) = loaded.tail.filter(|t| t.boot == boot && t.revision > reached) {
            mutations.extend(tail.mutations);
        }
        let intent = without_orphans(Intent::default().apply(&Change(mutations)));
        let revision = loaded.revision.max(reached);
        let mut this = Self { durable, journal, boot: boot.into(), revision, intent, rewritten: 0 };
        // One record again, with the tail in it: every start begins with a journal of the shortest length.
        this.rewrite(&this.intent.clone(), revision)?;
        Ok(this)
    }

    fn rewrite(&mut self, intent: &Intent, revision: Revision) -> Result<(), StoreError> {
        let sandboxes = intent.sandboxes().cloned().map(Mutation::PutSandbox);
        let endpoints = intent.endpoints().cloned().map(Mutation::PutEndpoint);
        let reservations = intent.reservations().cloned().map(Mutation::Reserve);
        let mutations = sandboxes.chain(endpoints).chain(reservations).collect();
        self.journal.rewrite(&Record { revision, mutations })?;
        self.rewritten = self.journal.length();
        Ok(())
    }

    fn write_mortal(&mut self, next: &Intent, record: &Record) -> Result<(), StoreError> {
        let long = self.journal.length() > REWRITE_FROM.max(4 * self.rewritten);
        if long {
            self.rewrite(next, record.revision)
        } else if record.mutations.is_empty() {
            Ok(())
        } else {
            self.journal.append(record)
        }
    }
}

impl Store for EmbeddedStore {
    fn load(&mut self) -> Result<(Revision, Intent), StoreError> {
        Ok((self.revision, self.intent.clone()))
    }

    fn commit(&mut self, base: Revision, changes: &[Change]) -> Result<Revision, StoreError> {
        if base != self.revision {
            return Err(StoreError::Stale { base, found: self.revision });
        }
        if self.journal.is_broken() {
            // What it lacks is in the tail, which the next durable commit replaces.
            self.rewrite(&self.intent.clone(), self.revision)?;
        }
        let durable = changes.iter().any(Change::is_durable);
        if self.durable.is_broken() {
            // The journal has what is mortal.
            let tail = Tail { boot: self.boot.clone(), revision: base, mutations: Vec::new() };
            let restored = self.durable.restore(base, &self.intent, &tail);
            // While the disk stays full containers come and go all the same.
            if durable {
                restored?;
            }
        }
        let revision = base + changes.len() as u64;
        let next = changes.iter().fold(self.intent.clone(), |intent, change| intent.apply(change));
        let all = || changes.iter().flat_map(|c| &c.0);
        let mortal: Vec<Mutation> = all().filter(|m| !is_durable(m)).cloned().collect();

        if durable {
            let tail = Tail { boot: self.boot.clone(), revision, mutations: mortal };
            self.durable.commit(revision, all().filter(|m| is_durable(m)), &tail)?;
            // The commit is made: with the tail it would be read back whole. A journal that cannot take it (a full
            // disk) is rewritten before the next commit.
            let record = Record { revision, mutations: tail.mutations };
            if self.write_mortal(&next, &record).is_err() {
                self.journal.give_up();
            }
        } else {
            self.write_mortal(&next, &Record { revision, mutations: mortal })?;
        }
        (self.revision, self.intent) = (revision, next);
        Ok(revision)
    }
}

fn is_durable(mutation: &Mutation) -> bool {
    matches!(mutation, Mutation::PutNetwork(_) | Mutation::RemoveNetwork(_))
}

/// Without endpoints whose network or sandbox is not there, and without what is kept on such a network: a state directory that was put back from a copy knows
/// other networks than the run directory does.
fn without_orphans(intent: Intent) -> Intent {
    let endpoints = intent
        .endpoints()
        .filter(|e| intent.network(&e.network).is_none() || intent.sandbox(&e.sandbox).is_none())
        .map(|e| Mutation::RemoveEndpoint(e.id.clone()));
    let reservations = intent
        .reservations()
        .filter(|r| intent.network(&r.network).is_none())
        .map(|r| Mutation::Release { network: r.network.clone(), address: r.address });
    let orphans = endpoints.chain(reservations).collect();
    intent.apply(&Change(orphans))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
