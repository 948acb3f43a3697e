//! What was heard of changes behind our back, until it is looked at.

use std::{collections::BTreeSet, time::Duration};

use libnetwork_plan::{Drift, Drifted, Key};
use tokio::time::Instant;

/// How long after a first notification its companions are waited for (a flush is many), so that they become one repair.
const SETTLE: Duration = Duration::from_millis(100);
/// The host's facts are looked at this long after they were, at the earliest: that lists all that the host has, and what others
/// do beside us (a routing daemon, another engine that starts containers) is told piece by piece.
const PACE: Duration = Duration::from_secs(1);
/// Everything is looked at for lost notifications this long after everything was, at the earliest.
const LOST: Duration = Duration::from_secs(2);

/// What to look at, with when.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    keys: Option<(BTreeSet<Key>, Instant)>,
    all: Option<Instant>,
    host: Option<Instant>,
    /// When the host's facts were looked at last.
    host_seen: Option<Instant>,
    /// When everything was.
    all_seen: Option<Instant>,
}

impl Heard {
    pub(crate) fn note(&mut self, Drift { what, host }: Drift) {
        let soon = Instant::now() + SETTLE;
        if host {
            let at = self.host_seen.map_or(soon, |seen| soon.max(seen + PACE));
            self.host.get_or_insert(at);
        }
        match what {
            Drifted::Keys(keys) if keys.is_empty() => {}
            Drifted::Keys(keys) => self.keys.get_or_insert((BTreeSet::new(), soon)).0.extend(keys),
            Drifted::All => self.all = Some(self.all.map_or(soon, |at| at.min(soon))),
            Drifted::Lost => {
                let at = self.all_seen.map_or(soon, |seen| soon.max(seen + LOST));
                self.all.get_or_insert(at);
            }
        }
    }

    /// When something is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        let keys = self.keys.as_ref().map(|(_, at)| *at);
        [keys, self.all, self.host].into_iter().flatten().min()
    }

    /// Whether everything is to be looked at by now.
    pub(crate) fn is_all_due(&self, now: Instant) -> bool {
        self.all.is_some_and(|at| at <= now)
    }

    /// Everything is looked at now. Whether any of it had been heard of.
    pub(crate) fn take_all(&mut self) -> bool {
        self.host = None;
        self.all.take().is_some() | self.keys.take().is_some()
    }

    pub(crate) fn take_host(&mut self, now: Instant) -> bool {
        self.host.take_if(|at| *at <= now).is_some()
    }

    pub(crate) fn take_keys(&mut self, now: Instant) -> Option<BTreeSet<Key>> {
        self.keys.take_if(|(_, at)| *at <= now).map(|(keys, _)| keys)
    }

    /// With all that had been heard of until then: nothing is noted during a look.
    pub(crate) fn all_was_seen(&mut self) {
        (self.keys, self.all, self.host) = (None, None, None);
        self.all_seen = Some(Instant::now());
    }

    pub(crate) fn host_was_seen(&mut self) {
        self.host_seen = Some(Instant::now());
    }
}
