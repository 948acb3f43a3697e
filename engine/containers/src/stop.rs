//! Stopping, killing, pausing, and waiting for the end.

use std::{sync::Arc, time::Duration};

use engine_runtime::{RuntimeError, TerminalSize};
use tokio::sync::watch;

use crate::{
    Containers, Error, Outcome, Result, Wait, WaitCondition,
    config::{Status, WaitError, WaitResult},
    container::{Container, Live},
    service::{Inner, detached},
    signals,
    start::Starter,
};

/// Seconds between the stop signal and the kill, where nobody said.
const STOP_TIMEOUT: i64 = 10;
/// How long a killed process may take to be gone before that is an error.
const KILL_PATIENCE: Duration = Duration::from_secs(30);

impl Containers {
    /// Sends the stop signal (the container's when none is given), waits `timeout` seconds (the container's when none
    /// is given; negative means forever), then kills. Unchanged when it does not run.
    pub async fn stop(&self, reference: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<Outcome> {
        let container = self.inner.find(reference)?;
        let context = || format!("cannot stop container: {}", container.config().name);
        let signal = signal.filter(|s| !s.is_empty()).map(signals::parse).transpose();
        let signal = signal.map_err(|error| error.during(context()))?;
        let (inner, stopped) = (self.inner.clone(), container.clone());
        let outcome = detached(async move { inner.stop(&stopped, signal, timeout).await }).await;
        outcome.map_err(|error| error.during(context()))
    }

    /// Sends a signal, by name or number; `KILL` when none is given.
    pub async fn kill(&self, reference: &str, signal: Option<&str>) -> Result<()> {
        let container = self.inner.find(reference)?;
        let name = container.config().name.clone();
        let inner = self.inner.clone();
        let signal = signal.filter(|s| !s.is_empty()).unwrap_or("KILL").to_owned();
        detached(async move {
            let killed = match signals::parse(&signal) {
                Ok(number) => inner.kill(&container, number).await,
                Err(error) => Err(error),
            };
            killed.map_err(|error| error.during(format!("cannot kill container: {name}")))
        })
        .await
    }

    /// Stops it, if it runs, and starts it.
    pub async fn restart(&self, reference: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<()> {
        let container = self.inner.find(reference)?;
        let signal = signal.filter(|s| !s.is_empty()).map(signals::parse).transpose()?;
        let inner = self.inner.clone();
        detached(async move {
            // One that removes itself when it exits has to survive this exit.
            inner.hold_removal(&container).await;
            let restarted = async {
                inner.stop(&container, signal, timeout).await?;
                inner.start(&container, Starter::Person).await
            }
            .await;
            inner.release_removal(&container).await;
            restarted.map_err(|error| {
                error.during(format!("Cannot restart container {}", container.config().name))
            })?;
            inner.emit(&container, "restart", &[]);
            Ok(())
        })
        .await
    }

    pub async fn pause(&self, reference: &str) -> Result<()> {
        let container = self.inner.find(reference)?;
        let inner = self.inner.clone();
        detached(async move {
            let _turn = container.turn().await;
            match container.status() {
                Status::Running => {}
                Status::Paused => {
                    return Err(Error::Conflict(format!("container {} is already paused", container.id)));
                }
                Status::Restarting => return Err(Error::Restarting(container.id.clone())),
                _ => return Err(Error::NotRunning(container.id.clone())),
            }
            inner.live_task(&container)?.pause().await?;
            container.change(|live| live.state.status = Status::Paused);
            inner.save_state(&container).await?;
            inner.emit(&container, "pause", &[]);
            Ok(())
        })
        .await
    }

    pub async fn unpause(&self, reference: &str) -> Result<()> {
        let container = self.inner.find(reference)?;
        let inner = self.inner.clone();
        detached(async move {
            let _turn = container.turn().await;
            if container.status() != Status::Paused {
                return Err(Error::Conflict(format!("Container {} is not paused", container.id)));
            }
            inner.resume(&container).await
        })
        .await
    }

    /// Returns at once with a future that resolves as the condition says. From then on no exit is missed, so a client
    /// may be told that the wait stands (Docker sends the header at once) before it starts the container.
    pub async fn wait(&self, reference: &str, condition: WaitCondition) -> Result<Wait> {
        let container = self.inner.find(reference)?;
        let mut watch = container.watch();
        let exits = watch.borrow_and_update().exits;
        Ok(Box::pin(async move {
            let done = move |live: &Live| match condition {
                WaitCondition::NotRunning => !live.state.is_running() || live.removed,
                WaitCondition::NextExit => live.exits > exits || live.removed,
                WaitCondition::Removed => live.removed,
            };
            // An error means that the engine ends: the last word is as good as any.
            let _ = watch.wait_for(done).await;
            let live = watch.borrow().clone();
            // Who waits for the removal has been told of a failed start by the start itself.
            let failed = condition != WaitCondition::Removed
                && !live.state.error.is_empty()
                && live.state.started_at.is_never();
            WaitResult {
                // It may run again by now: the code of its last exit is kept apart.
                status_code: if live.exits > exits { live.last_exit } else { live.state.exit_code }.into(),
                error: failed.then(|| WaitError { message: live.state.error.clone() }),
            }
        }))
    }

    /// Sets the size of the container's terminal.
    pub async fn resize(&self, reference: &str, size: TerminalSize) -> Result<()> {
        let container = self.inner.find(reference)?;
        let task = self.inner.live_task(&container)?;
        // Without a terminal there is nothing to resize; Docker does not mind.
        if container.config().config.tty {
            task.resize(size).await?;
        }

        let attributes = [("height", size.rows.to_string()), ("width", size.columns.to_string())];
        self.inner.emit(&container, "resize", &attributes);
        Ok(())
    }
}

impl Inner {
    /// The task of a container with a process; an error in Docker's words otherwise.
    pub(crate) fn live_task(&self, container: &Container) -> Result<engine_runtime::Task> {
        container.read(|live| match (&live.task, live.state.status) {
            (Some(task), Status::Running | Status::Paused) => Ok(task.clone()),
            (_, Status::Restarting) => Err(Error::Restarting(container.id.clone())),
            _ => Err(Error::NotRunning(container.id.clone())),
        })
    }

    pub(crate) async fn stop(
        self: &Arc<Self>,
        container: &Arc<Container>,
        signal: Option<i32>,
        timeout: Option<i64>,
    ) -> Result<Outcome> {
        let config = container.config();
        let mut watch = container.watch();
        let exits = {
            let _turn = container.turn().await;
            let (status, exits) = container.read(|live| (live.state.status, live.exits));
            if !container.read(|live| live.state.is_running()) {
                return Ok(Outcome::Unchanged);
            }
            container.cancel_restart();
            container.change(|live| {
                live.state.stopped_by_user = true;
                if status == Status::Restarting {
                    live.state.status = Status::Exited;
                }
            });
            self.save_state(container).await?;
            if status == Status::Restarting {
                self.emit(container, "stop", &[]);
                return Ok(Outcome::Done);
            }
            exits
        };
        let default = config.config.stop_signal.as_str();
        let signal = match signal {
            Some(signal) => signal,
            None if default.is_empty() => nix::libc::SIGTERM,
            None => signals::parse(default)?,
        };
        let timeout = timeout.or(config.config.stop_timeout).unwrap_or(STOP_TIMEOUT);
        self.signal(container, signal).await?;
        if container.status() == Status::Paused {
            // A frozen process takes no signal.
            let _turn = container.turn().await;
            if container.status() == Status::Paused {
                self.resume(container).await?;
            }
        }
        let ended = match u64::try_from(timeout) {
            Ok(seconds) => tokio::time::timeout(Duration::from_secs(seconds), exit_after(&mut watch, exits))
                .await
                .is_ok(),
            Err(_) => {
                exit_after(&mut watch, exits).await;
                true
            }
        };
        if !ended {
            self.signal(container, nix::libc::SIGKILL).await?;
            self.gone(container, &mut watch, exits).await?;
        }
        self.emit(container, "stop", &[]);
        Ok(Outcome::Done)
    }

    pub(crate) async fn kill(self: &Arc<Self>, container: &Arc<Container>, signal: i32) -> Result<()> {
        let config = container.config();
        let mut watch = container.watch();
        let exits = watch.borrow_and_update().exits;
        if container.status() == Status::Restarting {
            return Err(Error::Restarting(container.id.clone()));
        }
        self.live_task(container)?;
        let stop = match config.config.stop_signal.as_str() {
            "" => nix::libc::SIGTERM,
            name => signals::parse(name)?,
        };
        if signal == nix::libc::SIGKILL || signal == stop {
            // A person ends it: the restart policy must not bring it back.
            let _turn = container.turn().await;
            container.change(|live| live.state.stopped_by_user = true);
            self.save_state(container).await?;
        }
        self.signal(container, signal).await?;
        if signal == nix::libc::SIGKILL {
            if container.status() == Status::Paused {
                let _turn = container.turn().await;
                if container.status() == Status::Paused {
                    self.resume(container).await?;
                }
            }
            self.gone(container, &mut watch, exits).await?;
        }
        Ok(())
    }

    /// Sends a signal; to a process that has just ended, it is no error.
    async fn signal(&self, container: &Container, signal: i32) -> Result<()> {
        let Some(task) = container.task() else { return Ok(()) };
        match task.kill(signal).await {
            Ok(()) => {}
            Err(RuntimeError::Failed(failure))
                if failure.cause == engine_protocol::FailureCause::NoProcess => {}
            Err(RuntimeError::ShimGone(_)) => {}
            Err(error) => return Err(error.into()),
        }
        self.emit(container, "kill", &[("signal", signal.to_string())]);
        Ok(())
    }

    /// Waits for the end of a process that was killed.
    async fn gone(&self, container: &Container, watch: &mut watch::Receiver<Live>, exits: u64) -> Result<()> {
        match tokio::time::timeout(KILL_PATIENCE, exit_after(watch, exits)).await {
            Ok(()) => Ok(()),
            Err(_) => Err(Error::Io {
                operation: "kill",
                path: container.id.clone().into(),
                source: std::io::Error::other("tried to kill container, but did not receive an exit event"),
            }),
        }
    }

    /// Thaws a paused container. The caller has the turn.
    async fn resume(&self, container: &Container) -> Result<()> {
        self.live_task(container)?.resume().await?;
        container.change(|live| live.state.status = Status::Running);
        self.save_state(container).await?;
        self.emit(container, "unpause", &[]);
        Ok(())
    }

    async fn hold_removal(&self, container: &Container) {
        let _turn = container.turn().await;
        container.change(|live| live.keep += 1);
    }

    async fn release_removal(&self, container: &Container) {
        let _turn = container.turn().await;
        container.change(|live| live.keep -= 1);
    }
}

async fn exit_after(watch: &mut watch::Receiver<Live>, exits: u64) {
    // An error means that the engine ends: nobody will be told any more.
    let _ = watch.wait_for(|live| live.exits > exits || live.removed).await;
}
