//! What follows when a container's process ends: cleaning up, telling, and starting it again where its policy says so.

use std::{sync::Arc, time::Duration};

use engine_runtime::{ExitStatus, Task};

use crate::{
    config::{RestartPolicy, Status},
    container::Container,
    moment::Moment,
    record::{Config, RunState},
    service::Inner,
    start::Starter,
};

/// Docker's pauses before a restart: the first, and the longest; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// One that ran so long is well: the pauses begin again with the first.
const WELL: Duration = Duration::from_secs(10);
/// How long a restart waits for others to be started. Longer than any start takes, also beside a thousand more.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// What Docker says of a container whose end nobody saw.
const UNSEEN: i32 = 255;

/// An end that nobody saw: the machine went down, or the shim was killed.
pub(crate) fn unseen() -> ExitStatus {
    ExitStatus { code: UNSEEN, signal: None, oom_killed: false, finished_at: std::time::SystemTime::now() }
}

impl Inner {
    /// Waits for the task's end in a task of its own, and does what follows.
    pub(crate) fn monitor(self: &Arc<Self>, container: Arc<Container>, task: Task) {
        self.watch_health(&container, &task);
        let inner = self.clone();
        let generation = container.read(|live| live.starts);
        tokio::spawn(async move {
            let status = inner.end_of(&container, task).await;
            inner.exited(&container, generation, status).await;
        });
    }

    async fn end_of(&self, container: &Container, task: Task) -> ExitStatus {
        let error = match task.wait().await {
            Ok(status) => return status,
            Err(error) => error,
        };
        tracing::warn!(container = container.id, error = crate::error::chain(&error), "lost the shim");
        // It may have left the status behind, or may be back within reach.
        match self.parts.runtime.adopt(&container.id).await {
            Ok(Some(task)) => task.wait().await.unwrap_or_else(|_| unseen()),
            Ok(None) | Err(_) => unseen(),
        }
    }

    /// Records an exit. By the time anybody is told, the container's ports, addresses and mounts are free.
    pub(crate) async fn exited(
        self: &Arc<Self>,
        container: &Arc<Container>,
        generation: u64,
        status: ExitStatus,
    ) {
        let turn = container.turn().await;
        if container.read(|live| live.removed || live.starts != generation || !live.state.has_process()) {
            return;
        }
        let config = container.config();
        self.tear_down(container, &config).await;
        self.tell_volumes(&config, "unmount");
        self.end_execs(container);
        let finished_at = Moment::from(status.finished_at);
        let (ran, state) =
            container.read(|live| (finished_at.since(live.state.started_at), live.state.clone()));
        let again = restarts(&config.host.restart_policy, &state, status.code);
        if status.oom_killed {
            self.emit(container, "oom", &[]);
        }
        let remove = config.host.auto_remove && !again && container.read(|live| live.keep == 0);
        container.change(|live| {
            live.task = None;
            live.sandbox = None;
            live.health = None;
            live.exits += 1;
            live.last_exit = status.code;
            live.pause = next_pause(live.pause, ran);
            live.state.pid = 0;
            live.state.exit_code = status.code;
            live.state.oom_killed = status.oom_killed;
            live.state.finished_at = finished_at;
            live.state.status = match (again, remove) {
                (true, _) => Status::Restarting,
                (_, true) => Status::Removing,
                _ => Status::Exited,
            };
            if again {
                live.state.restart_count += 1;
            }
        });
        let attributes = [("exitCode", status.code.to_string()), ("execDuration", ran.as_secs().to_string())];
        self.emit(container, "die", &attributes);
        if remove {
            if let Err(error) = self.dismantle(container, true).await {
                tracing::error!(
                    container = container.id,
                    error = crate::error::chain(&error),
                    "cannot remove a container that asked for it"
                );
            }
            return;
        }
        if let Err(error) = self.save_state(container).await {
            tracing::error!(
                container = container.id,
                error = crate::error::chain(&error),
                "cannot record an exit"
            );
        }
        drop(turn);
        if again {
            let pause = container.read(|live| live.pause);
            self.restart_after(pause, container.clone());
        }
    }

    /// Starts it again after a pause, and after those that it needs, unless a person decides otherwise first.
    pub(crate) fn restart_after(self: &Arc<Self>, pause: Duration, container: Arc<Container>) {
        let inner = self.clone();
        let token = container.restart_token();
        tokio::spawn(async move {
            let waited = async {
                tokio::time::sleep(pause).await;
                inner.let_others_start(&container).await;
            };
            tokio::select! {
                () = waited => {}
                () = token.cancelled() => return,
            }
            if let Err(error) = inner.start(&container, Starter::RestartPolicy).await {
                tracing::warn!(
                    container = container.id,
                    error = crate::error::chain(&error),
                    "cannot restart"
                );
            }
        });
    }
}

impl Inner {
    /// Waits for those that a container cannot start without and that are about to be started too, as all are after a boot.
    async fn let_others_start(&self, container: &Container) {
        // Until then what runs and what will is the word of the last engine. The sender is ours, so it does not go away.
        let _known = self.recovered.subscribe().wait_for(|known| *known).await.is_ok();
        let config = container.config();
        let started = async {
            for other in self.needed(&config) {
                let mut others = other.watch();
                let _decided = others.wait_for(|live| live.state.status != Status::Restarting).await.is_ok();
            }
        };
        if tokio::time::timeout(LONGEST_WAIT, started).await.is_err() {
            tracing::warn!(container = container.id, "restarted before those that it needs");
        }
    }

    /// Whose namespaces a container shares, and whom it links to.
    fn needed(&self, config: &Config) -> Vec<Arc<Container>> {
        let host = &config.host;
        let modes = [&host.network_mode, &host.ipc_mode, &host.pid_mode];
        let shared = modes.into_iter().filter_map(|mode| mode.strip_prefix("container:"));
        let mut needed: Vec<Arc<Container>> = shared.filter_map(|other| self.find(other).ok()).collect();
        needed.extend(self.linked_to(config));
        needed.retain(|other| other.id != config.id);
        needed
    }
}

/// Whether the policy starts a container again that has just exited.
pub(crate) fn restarts(policy: &RestartPolicy, state: &RunState, code: i32) -> bool {
    if state.stopped_by_user {
        return false;
    }
    match policy.name.as_str() {
        "always" | "unless-stopped" => true,
        "on-failure" => {
            code != 0 && (policy.maximum_retry_count == 0 || state.restart_count < policy.maximum_retry_count)
        }
        _ => false,
    }
}

/// Whether a fresh boot starts a container. `was_running` until the machine went down.
pub(crate) fn starts_at_boot(policy: &RestartPolicy, state: &RunState, was_running: bool) -> bool {
    match policy.name.as_str() {
        "always" => was_running || !state.started_at.is_never(),
        "unless-stopped" => !state.stopped_by_user && (was_running || !state.started_at.is_never()),
        "on-failure" => !state.stopped_by_user && was_running,
        _ => false,
    }
}

fn next_pause(last: Duration, ran: Duration) -> Duration {
    if last.is_zero() || ran >= WELL { FIRST_PAUSE } else { (last * 2).min(LONGEST_PAUSE) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, count: i64) -> RestartPolicy {
        RestartPolicy { name: name.into(), maximum_retry_count: count }
    }

    #[test]
    fn policies_restart_as_docker_says() {
        let fresh = RunState::default();
        let tried = RunState { restart_count: 3, ..RunState::default() };
        let stopped = RunState { stopped_by_user: true, ..RunState::default() };
        assert!(!restarts(&policy("no", 0), &fresh, 1));
        assert!(restarts(&policy("always", 0), &fresh, 0));
        assert!(!restarts(&policy("always", 0), &stopped, 0));
        assert!(restarts(&policy("unless-stopped", 0), &fresh, 0));
        assert!(!restarts(&policy("on-failure", 0), &fresh, 0));
        assert!(restarts(&policy("on-failure", 0), &tried, 1));
        assert!(restarts(&policy("on-failure", 4), &tried, 1));
        assert!(!restarts(&policy("on-failure", 3), &tried, 1));
    }

    #[test]
    fn a_boot_leaves_alone_what_a_person_stopped_unless_it_is_always() {
        let ran = RunState { started_at: Moment(1), ..RunState::default() };
        let stopped = RunState { stopped_by_user: true, ..ran.clone() };
        assert!(starts_at_boot(&policy("always", 0), &stopped, false));
        assert!(!starts_at_boot(&policy("always", 0), &RunState::default(), false));
        assert!(!starts_at_boot(&policy("unless-stopped", 0), &stopped, false));
        assert!(starts_at_boot(&policy("unless-stopped", 0), &ran, false));
        assert!(!starts_at_boot(&policy("on-failure", 0), &ran, false));
        assert!(starts_at_boot(&policy("on-failure", 0), &ran, true));
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_begin_again_when_all_was_well() {
        let mut pause = Duration::ZERO;
        let mut seen = Vec::new();
        for _ in 0..12 {
            pause = next_pause(pause, Duration::ZERO);
            seen.push(pause.as_millis());
        }
        assert_eq!(seen[..4], [100, 200, 400, 800]);
        assert_eq!(seen[11], 60_000);
        assert_eq!(next_pause(pause, WELL), FIRST_PAUSE);
    }
}
