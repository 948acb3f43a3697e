//! Work that nobody waits for, until somebody has to.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};

/// Work that one thread does for all who ask for it. Whoever asks gets the turn, or leaves the work to whoever has it: a worker that ends its turn looks once more.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    asked: AtomicBool,
    worker: Mutex<()>,
}

impl Turns {
    /// There is work.
    pub(crate) fn ask(&self) {
        self.asked.store(true, Ordering::SeqCst);
    }

    /// The turn, if there is work and nobody is at it.
    pub(crate) fn turn(&self) -> Option<MutexGuard<'_, ()>> {
        let guard = match self.worker.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        self.asked.swap(false, Ordering::SeqCst).then_some(guard)
    }

    /// The turn, after whoever has it.
    pub(crate) fn wait(&self) -> MutexGuard<'_, ()> {
        self.worker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The things that are on their way out.
#[derive(Debug, Default)]
pub(crate) struct Leaving {
    ids: Mutex<BTreeSet<String>>,
    gone: Condvar,
}

impl Leaving {
    /// Announces it; false when it was announced already.
    pub(crate) fn begin(&self, id: &str) -> bool {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned())
    }

    pub(crate) fn end(&self, id: &str) {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        self.gone.notify_all();
    }

    /// Waits until it is not on its way any more.
    pub(crate) fn wait(&self, id: &str) {
        let ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.gone.wait_while(ids, |ids| ids.contains(id)));
    }

    /// Waits until nothing is.
    pub(crate) fn wait_for_all(&self) {
        let ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.gone.wait_while(ids, |ids| !ids.is_empty()));
    }
}
