//! The engine's start: whatever it was doing when it ended, the disk, the shims and causewayd say what there is.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use engine_runtime::{ExitStatus, Status as TaskStatus, Task};
use libnetwork_rpc::{client::again, v1};

use crate::{
    Containers, Error, Parts, Result,
    config::Status,
    container::Container,
    exec::Exec,
    exit::{starts_at_boot, unseen},
    moment::Moment,
    record::{self, Config, RunState},
    service::{Inner, blocking},
};

/// What a directory below the state directory holds.
enum Found {
    Container(Box<(PathBuf, Config, RunState)>),
    /// No `config.json`: a creation or a removal that was interrupted.
    Leftover(String, PathBuf),
    /// A record that cannot be read. It is left as it is, for a person to look at.
    Unreadable(PathBuf, Error),
}

impl Containers {
    /// Reads what is on disk, adopts what runs, finishes or removes what was half done, and applies restart policies
    /// (in the background: the service is usable when this returns).
    pub async fn load(parts: Parts) -> Result<Self> {
        let inner = Arc::new(Inner::new(parts));
        let dir = inner.parts.state_dir.clone();
        let found = blocking(move || scan(&dir)).await?;
        let mut sandboxes = inner.sandboxes().await?;
        let mut restart = Vec::new();
        let mut records = Vec::new();
        for entry in found {
            match entry {
                Found::Container(found) => records.push(*found),
                Found::Leftover(id, dir) => {
                    inner.parts.runtime.remove(&id).await?;
                    if let Err(error) = inner.remove_files(&id, &dir, &[]).await {
                        tracing::error!(
                            container = id,
                            error = crate::error::chain(&error),
                            "cannot remove what an interrupted operation left"
                        );
                    }
                }
                Found::Unreadable(dir, error) => {
                    tracing::error!(path = %dir.display(), error = crate::error::chain(&error), "a container's record cannot be read; left alone");
                }
            }
        }
        // All of them are known before any is worked on: they refer to each other's volumes and namespaces.
        let mut all = Vec::with_capacity(records.len());
        for (dir, config, state) in records {
            let name = config.name.clone();
            let container = Arc::new(Container::new(dir, config, state));
            if let Err(error) = inner.reserve(&name, &container.id) {
                // A rename that was cut off between two containers: ids stay unique, and so do names.
                tracing::warn!(
                    container = container.id,
                    error = crate::error::chain(&error),
                    "its name is taken; it goes by its id"
                );
                let mut config = (*container.config()).clone();
                config.name.clone_from(&container.id);
                inner.reserve(&container.id, &container.id)?;
                container.change(|live| live.config = Arc::new(config));
            }
            inner.insert(container.clone());
            all.push(container);
        }
        // Before anything is started that could take them.
        for container in all.iter().filter(|container| !sandboxes.contains_key(&container.id)) {
            inner.reserve_addresses(container, true).await;
        }
        for container in all {
            let sandbox = sandboxes.remove(&container.id);
            match inner.recover(&container, sandbox).await {
                Ok(true) => restart.push(container),
                Ok(false) => {}
                Err(error) => tracing::error!(
                    container = container.id,
                    error = crate::error::chain(&error),
                    "cannot recover"
                ),
            }
        }
        inner.remove_strays(sandboxes).await?;
        inner.recovered.send_replace(true);
        for container in restart {
            inner.restart_after(Duration::ZERO, container);
        }
        Ok(Self { inner })
    }
}

impl Inner {
    pub(crate) async fn sandboxes(&self) -> Result<BTreeMap<String, v1::Sandbox>> {
        let call = || {
            let mut client = self.parts.network.clone();
            async move { client.list_sandboxes(v1::ListSandboxesRequest {}).await }
        };
        let reply = again(call).await?;
        Ok(reply.sandboxes.into_iter().map(|sandbox| (sandbox.id.clone(), sandbox)).collect())
    }

    /// Shims and sandboxes of containers that are on no disk.
    async fn remove_strays(&self, sandboxes: BTreeMap<String, v1::Sandbox>) -> Result<()> {
        for id in self.parts.runtime.list().await? {
            if self.get(&id).is_none() {
                tracing::info!(container = id, "removing a task that belongs to no container");
                self.parts.runtime.remove(&id).await?;
            }
        }
        for id in sandboxes.into_keys() {
            tracing::info!(container = id, "removing a sandbox that belongs to no running container");
            self.leave(&id, false).await?;
        }
        Ok(())
    }

    /// Brings a container's record and the world together. True when its restart policy wants it started.
    async fn recover(
        self: &Arc<Self>,
        container: &Arc<Container>,
        sandbox: Option<v1::Sandbox>,
    ) -> Result<bool> {
        let task = self.parts.runtime.adopt(&container.id).await?;
        let (state, config) = container.read(|live| (live.state.clone(), live.config.clone()));
        if state.status == Status::Removing {
            self.tear_down(container, &config).await;
            self.dismantle(container, config.host.auto_remove).await?;
            return Ok(false);
        }
        let Some(task) = task else {
            if state.is_running() {
                // The machine went down under it, or its shim's directory is gone.
                if state.has_process() {
                    self.exit_meanwhile(container, sandbox, unseen()).await?;
                } else {
                    self.tear_down(container, &config).await;
                }
                return self.at_boot(container, true).await;
            }
            if sandbox.is_some() {
                self.leave(&container.id, true).await?;
            }
            // A start, or a copy of files, that was cut off.
            self.parts.images.unmount(&container.id).await?;
            if self.removes_itself(container).await? {
                return Ok(false);
            }
            return self.at_boot(container, false).await;
        };
        let known = task.state().await?;
        match (known.status, known.exit) {
            (TaskStatus::Running | TaskStatus::Paused, _) => {
                self.adopt(container, task, &known, sandbox).await?;
                Ok(false)
            }
            (TaskStatus::Exited, Some(exit)) if known.started_at.is_some() => {
                let status = ExitStatus {
                    code: exit.code,
                    signal: exit.signal,
                    oom_killed: exit.oom_killed,
                    finished_at: std::time::UNIX_EPOCH + std::time::Duration::from_nanos(exit.finished_at),
                };
                if !state.has_process() {
                    // The engine ended between the start and its record.
                    container
                        .change(|live| live.state.started_at = Moment(known.started_at.unwrap_or_default()));
                }
                self.exit_meanwhile(container, sandbox, status).await?;
                Ok(false)
            }
            // Created and never started, or never even created.
            _ => {
                self.tear_down(container, &config).await;
                if state.has_process() {
                    self.exit_meanwhile(container, None, unseen()).await?;
                } else if self.removes_itself(container).await? {
                    return Ok(false);
                }
                Ok(container.status() == Status::Restarting)
            }
        }
    }

    /// A container that runs on as if nothing had happened.
    async fn adopt(
        self: &Arc<Self>,
        container: &Arc<Container>,
        task: Task,
        known: &engine_runtime::State,
        sandbox: Option<v1::Sandbox>,
    ) -> Result<()> {
        let before = container.read(|live| live.state.clone());
        container.change(|live| {
            live.state.status = match known.status {
                TaskStatus::Paused => Status::Paused,
                _ => Status::Running,
            };
            live.state.pid = task.pid();
            if !before.has_process() {
                live.state.exit_code = 0;
                live.state.error.clear();
                live.state.started_at = Moment(known.started_at.unwrap_or_default());
            }
            live.task = Some(task.clone());
            live.sandbox = sandbox.map(Arc::new);
            live.starts += 1;
        });
        for (id, exec) in &known.execs {
            self.insert_exec(id, &container.id);
            let exec = Arc::new(Exec::adopted(id.clone(), exec));
            container.execs(|execs| execs.insert(id.clone(), exec));
        }
        if before != container.read(|live| live.state.clone()) {
            self.save_state(container).await?;
        }
        self.follow_record(container).await;
        self.monitor(container.clone(), task);
        Ok(())
    }

    /// Does what the monitor would have done, had the engine been there.
    async fn exit_meanwhile(
        self: &Arc<Self>,
        container: &Arc<Container>,
        sandbox: Option<v1::Sandbox>,
        status: ExitStatus,
    ) -> Result<()> {
        container.change(|live| {
            live.state.status = Status::Running;
            live.sandbox = sandbox.map(Arc::new);
            live.starts += 1;
        });
        let generation = container.read(|live| live.starts);
        self.exited(container, generation, status).await;
        Ok(())
    }

    /// `--rm` of a container whose exit nobody followed up. One that never ran stays: it was created to be started.
    async fn removes_itself(self: &Arc<Self>, container: &Arc<Container>) -> Result<bool> {
        let (auto_remove, started) =
            container.read(|live| (live.config.host.auto_remove, !live.state.started_at.is_never()));
        if !auto_remove || !started {
            return Ok(false);
        }
        let config = container.config();
        self.tear_down(container, &config).await;
        self.dismantle(container, true).await?;
        Ok(true)
    }

    /// Whether a fresh boot starts it, when this is one.
    async fn at_boot(self: &Arc<Self>, container: &Arc<Container>, was_running: bool) -> Result<bool> {
        if container.read(|live| live.removed) {
            return Ok(false);
        }
        let (state, policy) =
            container.read(|live| (live.state.clone(), live.config.host.restart_policy.clone()));
        // `exited` has scheduled the restart of one that ran.
        let scheduled =
            was_running && state.status == Status::Restarting && container.read(|live| live.exits > 0);
        if scheduled {
            return Ok(false);
        }
        let fresh = was_running || self.parts.fresh_boot;
        let wanted = fresh && starts_at_boot(&policy, &state, was_running);
        if wanted {
            container.change(|live| live.state.status = Status::Restarting);
        } else if state.status == Status::Restarting {
            container.change(|live| live.state.status = Status::Exited);
            self.save_state(container).await?;
        }
        Ok(wanted)
    }
}

fn scan(dir: &std::path::Path) -> Result<Vec<Found>> {
    std::fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(Error::io("read", dir))? {
        let entry = entry.map_err(Error::io("read", dir))?;
        let path = entry.path();
        let Ok(id) = entry.file_name().into_string() else { continue };
        if id.len() != 64 || !path.is_dir() {
            continue;
        }
        found.push(match record::read::<Config>(&path, record::CONFIG) {
            Ok(Some(config)) => {
                // A state that a power cut has eaten is no state.
                let state = record::read(&path, record::STATE).unwrap_or_else(|error| {
                    tracing::warn!(container = id, error = crate::error::chain(&error), "its state is lost");
                    None
                });
                Found::Container(Box::new((path, config, state.unwrap_or_default())))
            }
            Ok(None) => Found::Leftover(id, path),
            Err(error) => Found::Unreadable(path, error),
        });
    }
    Ok(found)
}
