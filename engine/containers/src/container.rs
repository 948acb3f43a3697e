//! One container while the engine runs.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use engine_runtime::{AttachInput, AttachOptions, AttachOutput, Task};
use libnetwork_rpc::v1;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    Error, Result,
    config::{Health, Status},
    exec::Exec,
    record::{Config, RunState},
};

/// All that changes, as one value that readers take whole and waiters watch.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) config: Arc<Config>,
    pub(crate) state: RunState,
    /// While a process of it exists.
    pub(crate) task: Option<Task>,
    /// What causewayd gave it, while it has a sandbox.
    pub(crate) sandbox: Option<Arc<v1::Sandbox>>,
    pub(crate) health: Option<Health>,
    /// How many exits there were since the engine started: who waits for the next compares, and misses none.
    pub(crate) exits: u64,
    /// The code of the last of them.
    pub(crate) last_exit: i32,
    /// How many starts there were since the engine started.
    pub(crate) starts: u64,
    pub(crate) removed: bool,
    /// How many operations need it to survive its next exit, whatever `--rm` says.
    pub(crate) keep: usize,
    /// How long the restart policy waits before the next start; zero before the first exit.
    pub(crate) pause: Duration,
}

/// An attacher that waits for the container to start.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) options: AttachOptions,
    pub(crate) input: oneshot::Sender<AttachInput>,
    pub(crate) output: oneshot::Sender<AttachOutput>,
}

/// The handle that operations share.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) id: String,
    /// `STATE/engine/containers/<id>`.
    pub(crate) dir: PathBuf,
    live: watch::Sender<Live>,
    /// Who holds it may change what the container is: start, finish an exit, remove, rename, connect. Waiting for a
    /// process to end is never done with it held.
    turn: AsyncMutex<()>,
    // The two below are held for a push or a take only, never across an await.
    pending: Mutex<Vec<Pending>>,
    execs: Mutex<BTreeMap<String, Arc<Exec>>>,
    restart: Mutex<CancellationToken>,
}

impl Container {
    pub(crate) fn new(dir: PathBuf, config: Config, state: RunState) -> Self {
        Self {
            id: config.id.clone(),
            dir,
            live: watch::Sender::new(Live {
                config: Arc::new(config),
                state,
                task: None,
                sandbox: None,
                health: None,
                exits: 0,
                last_exit: 0,
                starts: 0,
                removed: false,
                keep: 0,
                pause: Duration::ZERO,
            }),
            turn: AsyncMutex::new(()),
            pending: Mutex::default(),
            execs: Mutex::default(),
            restart: Mutex::default(),
        }
    }

    pub(crate) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// A copy of everything, as of one moment.
    pub(crate) fn live(&self) -> Live {
        self.live.borrow().clone()
    }

    /// Reads a part without copying the whole.
    pub(crate) fn read<T>(&self, part: impl FnOnce(&Live) -> T) -> T {
        part(&self.live.borrow())
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Live> {
        self.live.subscribe()
    }

    /// Changes it and tells who watches.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Live)) {
        self.live.send_modify(change);
    }

    pub(crate) fn config(&self) -> Arc<Config> {
        self.live.borrow().config.clone()
    }

    pub(crate) fn status(&self) -> Status {
        self.live.borrow().state.status
    }

    /// Refuses a change, which would be written where nothing is any more, of one that is removed. The caller has the turn.
    pub(crate) fn stays(&self, changed: &str) -> Result<()> {
        match self.read(|live| live.removed || matches!(live.state.status, Status::Removing | Status::Dead)) {
            false => Ok(()),
            true => Err(Error::Conflict(format!(
                "container {} is marked for removal and cannot be {changed}",
                self.id
            ))),
        }
    }

    pub(crate) fn task(&self) -> Option<Task> {
        self.live.borrow().task.clone()
    }

    /// Puts an attacher in the queue; false when there is a task to attach to. A start sets the task before it empties
    /// the queue, so nobody is left in it.
    pub(crate) fn push_pending(&self, pending: Pending) -> bool {
        let mut queue = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = self.live.borrow().task.is_none();
        if waits {
            queue.push(pending);
        }
        waits
    }

    pub(crate) fn take_pending(&self) -> Vec<Pending> {
        std::mem::take(&mut self.pending.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn execs<T>(&self, f: impl FnOnce(&mut BTreeMap<String, Arc<Exec>>) -> T) -> T {
        f(&mut self.execs.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What ends the pause before a restart.
    pub(crate) fn restart_token(&self) -> CancellationToken {
        self.restart.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the pause before a restart, if there is one; the restart does not happen then.
    pub(crate) fn cancel_restart(&self) {
        let mut token = self.restart.lock().unwrap_or_else(PoisonError::into_inner);
        token.cancel();
        *token = CancellationToken::new();
    }
}
