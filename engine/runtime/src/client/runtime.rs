//! Making and finding shims.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use engine_protocol::{OciRuntime, Reply, Request, State, cgroup::Hierarchies, layout};
use tokio::sync::watch;

use super::{
    connection::{self, Connection},
    spawn::{self, Program},
    task::Task,
};
use crate::{ContainerSpec, IoConfig, RuntimeError, purge};

/// Where shims live and what they run.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// The engine's RUN directory; shims live in its `shims`.
    pub run_dir: PathBuf,
    /// The `causeway-shim` binary.
    pub shim_binary: PathBuf,
    /// The name of the cgroup that all containers' cgroups are below, e.g. `causeway-1a2b3c4d`.
    pub cgroup_parent: String,
    /// OCI runtime binaries by the name that `--runtime` gives; a name without a `/` is looked up in PATH.
    pub runtimes: BTreeMap<String, PathBuf>,
}

/// Creates containers and finds those that an earlier engine created. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: RuntimeConfig,
    runtimes: watch::Sender<BTreeMap<String, PathBuf>>,
    program: Program,
}

impl Runtime {
    /// Creates the shims' directory.
    pub fn new(config: RuntimeConfig) -> Result<Self, RuntimeError> {
        let shims = purge::shims(&config.run_dir);
        fs::create_dir_all(&shims).map_err(RuntimeError::io("make directory", &shims))?;
        let cache = purge::seccomp_cache(&config.run_dir);
        fs::create_dir_all(&cache).map_err(RuntimeError::io("make directory", &cache))?;
        let program = Program::open(&config.shim_binary)?;
        let runtimes = watch::Sender::new(config.runtimes.clone());
        Ok(Self { inner: Arc::new(Inner { config, runtimes, program }) })
    }

    /// Whether a container may be created by this name.
    pub fn knows(&self, runtime: &str) -> bool {
        self.inner.runtimes.borrow().contains_key(runtime)
    }

    /// Takes these in the place of the ones of [`RuntimeConfig`], for containers that are created from now on.
    pub fn set_runtimes(&self, runtimes: BTreeMap<String, PathBuf>) {
        self.inner.runtimes.send_replace(runtimes);
    }

    fn directory(&self, id: &str) -> PathBuf {
        purge::shims(&self.inner.config.run_dir).join(id)
    }

    fn cgroup(&self, id: &str) -> String {
        format!("/{}/{id}", self.inner.config.cgroup_parent)
    }

    /// Writes the bundle, spawns the shim and waits until the container is created: its namespaces, cgroup and
    /// mounts exist, and its process waits for [`Task::start`]. Leaves nothing behind when it fails. When it is
    /// cancelled, [`Runtime::adopt`] or [`Runtime::remove`] finds what was made.
    pub async fn create(&self, id: &str, spec: &ContainerSpec, io: &IoConfig) -> Result<Task, RuntimeError> {
        let runtime = self.oci_runtime(spec.runtime.as_deref())?;
        self.anticipate();
        let (directory, cgroup) = (self.directory(id), self.cgroup(id));
        {
            let (id, spec, io) = (id.to_owned(), spec.clone(), io.clone());
            let (directory, cgroup) = (directory.clone(), cgroup.clone());
            blocking(move || spawn::write_bundle(&directory, &id, &cgroup, &spec, &io, runtime)).await?;
        }
        let created = self.spawn(id, &directory, &cgroup).await;
        if created.is_err() {
            let config = self.inner.config.clone();
            let id = id.to_owned();
            let removed = blocking(move || purge::remove(&config.run_dir, &config.cgroup_parent, &id)).await;
            if let Err(error) = removed {
                tracing::warn!(%error, "a container that could not be created left something behind");
            }
        }
        created
    }

    /// Says that [`Runtime::create`] will be called within some 10 ms, which makes it faster by as much. It says so
    /// itself when it begins; whoever has other work to do first (a network, a mount) may say so before that.
    pub fn anticipate(&self) {
        tokio::task::spawn_blocking(|| {
            if let Ok(hierarchies) = Hierarchies::detect() {
                hierarchies.anticipate_move();
            }
        });
    }

    async fn spawn(&self, id: &str, directory: &Path, cgroup: &str) -> Result<Task, RuntimeError> {
        self.inner.program.spawn(id, directory).await?;
        let stream = connection::connect(directory).await;
        let stream = stream.map_err(RuntimeError::io("connect to the shim at", directory))?;
        let connection = Connection::new(id.to_owned(), stream);
        match connection.ask(Request::Created).await {
            Some(Reply::State(state)) => Ok(Task::live(id, directory, cgroup, &state, connection)),
            Some(Reply::Failed(failure)) => {
                // Lets the shim clean up after itself, which is gentler than what follows.
                let _ = connection.ask(Request::Delete).await;
                Err(RuntimeError::Failed(failure))
            }
            _ => {
                let log = fs::read_to_string(directory.join(layout::LOG)).unwrap_or_default();
                Err(RuntimeError::Shim { id: id.to_owned(), detail: log.trim().to_owned() })
            }
        }
    }

    /// Finds a container that was created by an earlier engine; none when there is no trace of it, or only of an
    /// attempt to create it, which is removed. A container whose shim has ended is found as well, exited, with the
    /// status that the shim left; with 255 where the shim was killed, and the container then is too.
    pub async fn adopt(&self, id: &str) -> Result<Option<Task>, RuntimeError> {
        let (directory, cgroup) = (self.directory(id), self.cgroup(id));
        if !directory.join(layout::CONFIG).exists() || !directory.join(layout::SPEC).exists() {
            self.remove(id).await?;
            return Ok(None);
        }
        if let Ok(stream) = connection::connect(&directory).await {
            let connection = Connection::new(id.to_owned(), stream);
            match connection.ask(Request::Created).await {
                Some(Reply::State(state)) => {
                    return Ok(Some(Task::live(id, &directory, &cgroup, &state, connection)));
                }
                Some(_) => {
                    let _ = connection.ask(Request::Delete).await;
                    self.remove(id).await?;
                    return Ok(None);
                }
                // It ended just now.
                None => {}
            }
        }
        let config = self.inner.config.clone();
        let (id_owned, directory_owned) = (id.to_owned(), directory.clone());
        let state = blocking(move || -> Result<Option<State>, RuntimeError> {
            if let Some(state) = purge::exit_state(&directory_owned) {
                return Ok(Some(state));
            }
            // Nobody holds what it writes, or would ever say how it ends.
            purge::kill(&config.run_dir, &config.cgroup_parent, &id_owned)?;
            Ok(purge::lost_state(&directory_owned, &id_owned))
        })
        .await?;
        if state.is_none() {
            self.remove(id).await?;
        }
        Ok(state.map(|state| Task::ended(id, &directory, &cgroup, state)))
    }

    /// The ids of all containers with a shim's directory.
    pub async fn list(&self) -> Result<Vec<String>, RuntimeError> {
        let shims = purge::shims(&self.inner.config.run_dir);
        blocking(move || purge::ids(&shims)).await
    }

    /// Removes a container by force, whatever state it or its shim is in. Nothing to remove is no error.
    pub async fn remove(&self, id: &str) -> Result<(), RuntimeError> {
        let config = self.inner.config.clone();
        let id = id.to_owned();
        blocking(move || purge::remove(&config.run_dir, &config.cgroup_parent, &id)).await
    }

    fn oci_runtime(&self, name: Option<&str>) -> Result<OciRuntime, RuntimeError> {
        let Some(name) = name else { return Ok(OciRuntime::Builtin) };
        let unknown = || RuntimeError::UnknownRuntime(name.to_owned());
        let path = match self.inner.runtimes.borrow().get(name).cloned() {
            Some(path) => path,
            None if name.starts_with('/') => name.into(),
            None => return Err(unknown()),
        };
        if path.components().count() > 1 {
            return if path.is_file() { Ok(OciRuntime::Binary(path)) } else { Err(unknown()) };
        }
        let search = std::env::var_os("PATH").unwrap_or_default();
        let found =
            std::env::split_paths(&search).map(|directory| directory.join(&path)).find(|p| p.is_file());
        found.map(OciRuntime::Binary).ok_or_else(unknown)
    }
}

/// Runs what touches files or waits, off the async workers.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RuntimeError> + Send + 'static,
) -> Result<T, RuntimeError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(RuntimeError::io("run", "a blocking task")(io::Error::other(error))),
    }
}
