//! Starting a container. Every step may fail; what was made is taken back by [`Inner::tear_down`], which removes
//! whatever there is, not by remembering steps.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use engine_runtime::{MountSpec, RuntimeError, Task};
use libnetwork_model::{ErrorKind, HasKind};
use libnetwork_rpc::v1;

use crate::{
    Containers, Error, Outcome, Result,
    config::Status,
    container::Container,
    create::name_as,
    moment::Moment,
    record::{Config, MountRecord},
    reserve::held,
    service::{Inner, detached},
    spec,
};

/// Who starts a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Starter {
    Person,
    RestartPolicy,
}

impl Containers {
    /// Unchanged when it runs already.
    pub async fn start(&self, reference: &str) -> Result<Outcome> {
        let container = self.inner.find(reference)?;
        let inner = self.inner.clone();
        detached(async move { inner.start(&container, Starter::Person).await }).await
    }
}

impl Inner {
    pub(crate) async fn start(
        self: &Arc<Self>,
        container: &Arc<Container>,
        starter: Starter,
    ) -> Result<Outcome> {
        let _turn = container.turn().await;
        if container.read(|live| live.removed) {
            return Err(Error::NoSuchContainer(container.id.clone()));
        }
        match (container.status(), starter) {
            (Status::Running, _) => return Ok(Outcome::Unchanged),
            (Status::Paused, _) => {
                return Err(Error::Conflict("cannot start a paused container, try unpause instead".into()));
            }
            (Status::Removing | Status::Dead, _) => {
                return Err(Error::Conflict("container is marked for removal and cannot be started".into()));
            }
            // The pause before a restart was ended by a person between its timer and this.
            (Status::Created | Status::Exited, Starter::RestartPolicy) => return Ok(Outcome::Unchanged),
            (Status::Restarting, Starter::Person) => container.cancel_restart(),
            _ => {}
        }
        self.parts.runtime.anticipate();
        let settled = self.settle_hostname(container).await;
        let config = container.config();
        let result = match settled {
            Ok(()) => self.bring_up(container, &config).await,
            Err(error) => Err(error),
        };
        match result {
            Ok((task, sandbox)) => {
                self.started(container, &task, sandbox, starter).await;
                Ok(Outcome::Done)
            }
            Err(error) => {
                self.start_failed(container, &config, &error).await;
                Err(error)
            }
        }
    }

    /// Gives the container's record the host name of the one whose network it is to share: that may be younger.
    async fn settle_hostname(&self, container: &Container) -> Result<()> {
        let config = container.config();
        let other = config.host.network_mode.strip_prefix("container:");
        // Where there is none, who looks for its namespace says so.
        let Some(Ok(other)) = other.map(|other| self.find(other)) else { return Ok(()) };
        let mut named = (*config).clone();
        name_as(&mut named.config, &other.config().config);
        if named == *config { Ok(()) } else { self.save_config(container, named).await }
    }

    async fn bring_up(
        self: &Arc<Self>,
        container: &Arc<Container>,
        config: &Config,
    ) -> Result<(Task, Option<Arc<v1::Sandbox>>)> {
        self.check_links(config)?;
        // Neither needs the other. Both are waited for: what one of them made is taken back when the other failed.
        let (mounted, joined) = tokio::join!(self.mount(config), self.join(config));
        let (rootfs, mounts) = mounted?;
        self.tell_volumes(config, "mount");
        let sandbox = joined?.map(Arc::new);
        let network = self.namespace_of(config, sandbox.as_deref())?;
        self.write_files(container, config, sandbox.as_deref()).await?;
        let spec = self.spec(config, &container.dir, rootfs, mounts, network).await?;
        let io = spec::io_config(&container.dir, config);
        let task = self.parts.runtime.create(&config.id, &spec, &io).await.map_err(start_error)?;
        // From here on attachers find the task; those who came earlier are connected before the first byte.
        container.change(|live| live.task = Some(task.clone()));
        for pending in container.take_pending() {
            match task.attach(pending.options).await {
                Ok(attach) => {
                    let (input, output) = attach.split();
                    // Who is gone does not want it.
                    let _ = pending.input.send(input);
                    let _ = pending.output.send(output);
                }
                Err(error) => tracing::warn!(
                    container = config.id,
                    error = crate::error::chain(&error),
                    "cannot attach"
                ),
            }
        }
        task.start().await.map_err(start_error)?;
        Ok((task, sandbox))
    }

    /// The mounted root filesystem, and the container's own mounts as the runtime wants them.
    async fn mount(&self, config: &Config) -> Result<(PathBuf, Vec<MountSpec>)> {
        let rootfs = self.parts.images.mount(&config.id).await?.merged;
        let mut specs = Vec::with_capacity(config.mounts.len());
        for mount in &config.mounts {
            let source = self.source(mount, &rootfs).await?;
            specs.push(spec::mount_spec(mount, source));
        }
        Ok((rootfs, specs))
    }

    async fn source(&self, mount: &MountRecord, rootfs: &std::path::Path) -> Result<PathBuf> {
        let point = &mount.point;
        match point.r#type.as_str() {
            "volume" => {
                let source = self.parts.volumes.mount(&point.name).await?;
                if !mount.no_copy {
                    self.parts.volumes.copy_up(&point.name, rootfs, point.destination.as_ref()).await?;
                }
                let subpath = mount
                    .spec
                    .as_ref()
                    .and_then(|spec| spec.volume_options.as_ref())
                    .map_or("", |options| options.subpath.as_str());
                if subpath.is_empty() {
                    return Ok(source);
                }
                // By its text, a subpath can not leave the volume; a symbolic link in it could, so it must not be one.
                let path = source.join(&crate::mounts::clean(subpath)[1..]);
                match tokio::fs::canonicalize(&path).await {
                    Ok(real) if real == path => Ok(path),
                    _ => Err(Error::Invalid(format!(
                        "cannot access path {subpath} in volume {}: no such directory",
                        point.name
                    ))),
                }
            }
            "bind" => {
                let source = PathBuf::from(&point.source);
                if tokio::fs::symlink_metadata(&source).await.is_err() {
                    if !mount.make_source {
                        return Err(Error::Invalid(format!(
                            "invalid mount config for type \"bind\": bind source path does not exist: {}",
                            point.source
                        )));
                    }
                    tokio::fs::create_dir_all(&source).await.map_err(|error| {
                        Error::Invalid(format!(
                            "error while creating mount source path '{}': {error}",
                            point.source
                        ))
                    })?;
                }
                Ok(source)
            }
            _ => Ok(PathBuf::new()),
        }
    }

    async fn started(
        self: &Arc<Self>,
        container: &Arc<Container>,
        task: &Task,
        sandbox: Option<Arc<v1::Sandbox>>,
        starter: Starter,
    ) {
        container.change(|live| {
            live.task = Some(task.clone());
            live.state.addresses = held(sandbox.as_deref());
            live.sandbox = sandbox;
            live.starts += 1;
            live.state.status = Status::Running;
            live.state.pid = task.pid();
            live.state.exit_code = 0;
            live.state.error.clear();
            live.state.oom_killed = false;
            live.state.started_at = Moment::now();
            if starter == Starter::Person {
                live.state.stopped_by_user = false;
                live.state.restart_count = 0;
            }
        });
        if let Err(error) = self.save_state(container).await {
            // The task is there to tell the truth at the next start.
            tracing::warn!(
                container = container.id,
                error = crate::error::chain(&error),
                "cannot record a start"
            );
        }
        self.tell_linked(&container.id).await;
        self.emit(container, "start", &[]);
        self.monitor(container.clone(), task.clone());
    }

    async fn start_failed(self: &Arc<Self>, container: &Arc<Container>, config: &Config, error: &Error) {
        // Who waits to attach learns by the end of the stream.
        drop(container.take_pending());
        self.tear_down(container, config).await;
        let code = match error {
            Error::Start { code, .. } => *code,
            _ => 128,
        };
        container.change(|live| {
            live.task = None;
            live.sandbox = None;
            live.state.pid = 0;
            live.state.exit_code = code;
            live.state.error = error.to_string();
            if live.state.status == Status::Restarting {
                live.state.status = Status::Exited;
            }
        });
        if config.host.auto_remove {
            container.change(|live| {
                live.state.status = Status::Removing;
                live.exits += 1;
                live.last_exit = code;
            });
            if let Err(error) = self.dismantle(container, true).await {
                tracing::warn!(
                    container = container.id,
                    error = crate::error::chain(&error),
                    "cannot remove a container that did not start"
                );
            }
        } else if let Err(error) = self.save_state(container).await {
            tracing::warn!(
                container = container.id,
                error = crate::error::chain(&error),
                "cannot record a failed start"
            );
        }
    }

    /// Removes all that a running container has and a stopped one has not: sandbox, task, mounts. What is not there is
    /// fine; what cannot be removed is told in the log and tried again at the next start.
    pub(crate) async fn tear_down(&self, container: &Container, config: &Config) {
        let id = &config.id;
        let network = async {
            // One that goes with its exit has no use for its addresses.
            if let Err(error) = self.leave(id, !config.host.auto_remove).await {
                tracing::error!(
                    container = id,
                    error = crate::error::chain(&error),
                    "cannot remove the sandbox"
                );
            }
        };
        let task = async {
            self.remove_task(container).await;
            if let Err(error) = self.parts.images.unmount(id).await {
                tracing::error!(
                    container = id,
                    error = crate::error::chain(&error),
                    "cannot unmount the root filesystem"
                );
            }
            self.release_volumes(container, config).await;
        };
        tokio::join!(network, task);
    }

    /// Asks the shim to clean up and end, and does it by force when there is no shim to ask.
    async fn remove_task(&self, container: &Container) {
        if let Some(task) = container.task() {
            match task.delete().await {
                Ok(()) => return,
                Err(error) => {
                    tracing::debug!(
                        container = container.id,
                        error = crate::error::chain(&error),
                        "the shim did not clean up"
                    );
                }
            }
        }
        if let Err(error) = self.parts.runtime.remove(&container.id).await {
            tracing::error!(
                container = container.id,
                error = crate::error::chain(&error),
                "cannot remove the task"
            );
        }
    }

    /// Docker's events of volumes that a container begins or ends to use.
    pub(crate) fn tell_volumes(&self, config: &Config, action: &str) {
        for point in config.mounts.iter().map(|mount| &mount.point).filter(|point| point.r#type == "volume") {
            let mut attributes: BTreeMap<String, String> =
                [("container".to_owned(), config.id.clone()), ("driver".to_owned(), point.driver.clone())]
                    .into();
            if action == "mount" {
                attributes.insert("destination".to_owned(), point.destination.clone());
                attributes.insert("propagation".to_owned(), point.propagation.clone());
                attributes.insert("read/write".to_owned(), point.rw.to_string());
            }
            self.parts.events.emit("volume", action, &point.name, attributes);
        }
    }

    /// Unmounts those volumes that no other running container uses.
    async fn release_volumes(&self, container: &Container, config: &Config) {
        for mount in config.mounts.iter().filter(|mount| mount.point.r#type == "volume") {
            let name = &mount.point.name;
            let others = self.volume_users(name, |other| {
                other.id != container.id && other.read(|live| live.task.is_some())
            });
            if others.is_empty()
                && let Err(error) = self.parts.volumes.unmount(name).await
            {
                tracing::error!(
                    volume = name,
                    error = crate::error::chain(&error),
                    "cannot unmount a volume"
                );
            }
        }
    }
}

/// A failure to start in Docker's words, with the exit code that tells its cause.
fn start_error(error: RuntimeError) -> Error {
    let code = error.start_failure().exit_code();
    match &error {
        // Docker answers these without its long prefix.
        RuntimeError::InvalidSpec(message) => {
            Error::Start { kind: ErrorKind::Invalid, code, message: message.clone() }
        }
        _ => Error::Start { kind: error.kind(), code, message: error.docker_start_message() },
    }
}
