//! The service itself: what it is made of, and how containers are found in it.
//!
//! Tasks owned here: one monitor per running container ([`crate::exit`]), one health checker per running container that
//! asks for it ([`crate::health`]), one waiter per pause before a restart, one per exec that runs. All of them may be
//! cancelled at any moment, as `kill -9` cancels them: what they would have done is done by the next [`Containers::load`].
//! A request's work runs in a task of its own too, so that a client that hangs up does not leave it half done.

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use engine_images::{ImageStore, ImageUse};
use engine_runtime::{Output, Runtime};
use engine_volumes::VolumeStore;
use futures_util::Stream;
use libnetwork_rpc::client::Client;
use tokio::sync::watch;

use crate::{
    Counts, Error, LogRecord, Result,
    config::{Status, WaitResult},
    container::Container,
    defaults::Defaults,
    events::Events,
    logs::Watchers,
    record,
    resolv_conf::DnsOptions,
};

/// A stream of a body's bytes.
pub type ByteStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;
/// A stream of a process's output.
pub type OutputStream = Pin<Box<dyn Stream<Item = io::Result<Output>> + Send>>;
/// A container's log, oldest first.
pub type Logs = Pin<Box<dyn Stream<Item = Result<LogRecord>> + Send>>;
/// Resolves to how the container ended.
pub type Wait = Pin<Box<dyn Future<Output = WaitResult> + Send>>;

/// What the service is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// `STATE/engine/containers`.
    pub state_dir: PathBuf,
    /// The engine's run directory.
    pub run_dir: PathBuf,
    pub images: ImageStore,
    pub volumes: VolumeStore,
    pub runtime: Runtime,
    pub network: Client,
    pub events: Events,
    /// The machine has booted since an engine last ran here: restart policies apply to what stands still.
    pub fresh_boot: bool,
    /// Always the last of them: they change while the engine runs.
    pub settings: watch::Receiver<Arc<Settings>>,
}

/// What the daemon's configuration says, as far as it may say something else tomorrow.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// What containers get that do not have it their own way.
    pub defaults: Defaults,
    /// For containers that name none themselves.
    pub dns: DnsOptions,
    /// What `host-gateway` stands for; none: the default bridge's gateways.
    pub host_gateways: Vec<IpAddr>,
    /// `KEY=VALUE`, as `docker info` shows them.
    pub labels: Vec<String>,
    /// OCI runtimes by the name that `--runtime` takes, with the program each one is, as `docker info` lists them.
    pub runtimes: BTreeMap<String, String>,
}

/// All containers. Cheap to clone.
///
/// A container is named by its full id, its name (with or without a slash in front), or an unambiguous id prefix, in
/// this order.
#[derive(Debug, Clone)]
pub struct Containers {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) parts: Parts,
    pub(crate) logs: Watchers,
    /// Whether it is known of all containers what has become of them while no engine ran.
    pub(crate) recovered: watch::Sender<bool>,
    // Held for a look-up or an insertion only, never across an await.
    registry: Mutex<Registry>,
}

#[derive(Debug, Default)]
struct Registry {
    containers: BTreeMap<String, Arc<Container>>,
    /// From name to id. A name is here before its container is: that is how creating reserves it.
    names: BTreeMap<String, String>,
    /// From exec to container.
    execs: BTreeMap<String, String>,
}

impl Containers {
    /// The bus that containers' events are told on; the others' events belong there too.
    pub fn events(&self) -> &Events {
        &self.inner.parts.events
    }

    pub fn settings(&self) -> Arc<Settings> {
        self.inner.settings()
    }

    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for container in self.inner.all() {
            match container.status() {
                Status::Running | Status::Restarting => counts.running += 1,
                Status::Paused => counts.paused += 1,
                Status::Created | Status::Exited | Status::Dead | Status::Removing => counts.stopped += 1,
            }
        }
        counts
    }

    /// The full id of a container by any of its names.
    pub fn resolve(&self, reference: &str) -> Result<String> {
        Ok(self.inner.find(reference)?.id.clone())
    }

    /// The container's name without a slash.
    pub fn name(&self, reference: &str) -> Result<String> {
        Ok(self.inner.find(reference)?.config().name.clone())
    }

    /// Which containers use which image, for removing images.
    pub fn image_uses(&self) -> Vec<ImageUse> {
        let uses = self.inner.all().into_iter().map(|container| {
            container.read(|live| ImageUse {
                container_id: container.id.clone(),
                image: live.config.image,
                running: live.state.is_running(),
            })
        });
        uses.collect()
    }

    /// The ids of the containers, running or not, that mount a volume.
    pub fn volume_users(&self, volume: &str) -> Vec<String> {
        self.inner.volume_users(volume, |_| true)
    }
}

impl Inner {
    pub(crate) fn settings(&self) -> Arc<Settings> {
        self.parts.settings.borrow().clone()
    }

    pub(crate) fn new(parts: Parts) -> Self {
        let recovered = watch::Sender::new(false);
        Self { parts, logs: Watchers::default(), recovered, registry: Mutex::default() }
    }

    fn registry<T>(&self, f: impl FnOnce(&mut Registry) -> T) -> T {
        f(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn all(&self) -> Vec<Arc<Container>> {
        self.registry(|registry| registry.containers.values().cloned().collect())
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<Container>> {
        self.registry(|registry| registry.containers.get(id).cloned())
    }

    /// By full id, name, or unambiguous id prefix.
    pub(crate) fn find(&self, reference: &str) -> Result<Arc<Container>> {
        if reference.is_empty() {
            return Err(Error::invalid("No container name or ID supplied"));
        }
        self.registry(|registry| {
            if let Some(container) = registry.containers.get(reference) {
                return Ok(container.clone());
            }
            let name = reference.strip_prefix('/').unwrap_or(reference);
            if let Some(container) = registry.names.get(name).and_then(|id| registry.containers.get(id)) {
                return Ok(container.clone());
            }
            let mut matches = registry
                .containers
                .range(reference.to_owned()..)
                .take_while(|(id, _)| id.starts_with(reference))
                .map(|(_, container)| container);
            match (matches.next(), matches.next()) {
                (Some(container), None) => Ok(container.clone()),
                (Some(_), Some(_)) => Err(Error::AmbiguousId(reference.to_owned())),
                (None, _) => Err(Error::NoSuchContainer(reference.to_owned())),
            }
        })
    }

    /// Takes a name for a container, or says who has it.
    pub(crate) fn reserve(&self, name: &str, id: &str) -> Result<()> {
        self.registry(|registry| match registry.names.get(name) {
            Some(holder) => Err(Error::NameInUse { name: name.to_owned(), holder: holder.clone() }),
            None => {
                registry.names.insert(name.to_owned(), id.to_owned());
                Ok(())
            }
        })
    }

    pub(crate) fn release(&self, name: &str) {
        self.registry(|registry| registry.names.remove(name));
    }

    pub(crate) fn insert(&self, container: Arc<Container>) {
        self.registry(|registry| registry.containers.insert(container.id.clone(), container));
    }

    pub(crate) fn forget(&self, container: &Container) {
        let name = container.config().name.clone();
        self.registry(|registry| {
            registry.containers.remove(&container.id);
            registry.names.remove(&name);
            registry.execs.retain(|_, id| *id != container.id);
        });
    }

    pub(crate) fn insert_exec(&self, exec: &str, container: &str) {
        self.registry(|registry| registry.execs.insert(exec.to_owned(), container.to_owned()));
    }

    pub(crate) fn forget_exec(&self, exec: &str) {
        self.registry(|registry| registry.execs.remove(exec));
    }

    pub(crate) fn exec_container(&self, exec: &str) -> Option<Arc<Container>> {
        self.registry(|registry| registry.containers.get(registry.execs.get(exec)?).cloned())
    }

    /// The ids of those containers that mount a volume and pass.
    pub(crate) fn volume_users(&self, volume: &str, passes: impl Fn(&Container) -> bool) -> Vec<String> {
        let uses = |container: &Container| {
            container.read(|live| {
                live.config.mounts.iter().any(|m| m.point.r#type == "volume" && m.point.name == volume)
            })
        };
        self.all().into_iter().filter(|c| uses(c) && passes(c)).map(|c| c.id.clone()).collect()
    }

    /// Tells what happened to a container, with what Docker tells along: image, name, labels.
    pub(crate) fn emit(&self, container: &Container, action: &str, more: &[(&str, String)]) {
        let config = container.config();
        let mut attributes: BTreeMap<String, String> = config.config.labels.clone().unwrap_or_default();
        attributes.insert("image".into(), config.config.image.clone());
        attributes.insert("name".into(), config.name.clone());
        attributes.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        self.parts.events.emit("container", action, &container.id, attributes);
    }

    /// Writes what became of a container.
    pub(crate) async fn save_state(&self, container: &Container) -> Result<()> {
        let dir = container.dir.clone();
        let state = container.read(|live| live.state.clone());
        blocking(move || record::write(&dir, record::STATE, &state, false)).await
    }

    /// Replaces what was asked for, on disk first.
    pub(crate) async fn save_config(&self, container: &Container, config: record::Config) -> Result<()> {
        let StagedConfig { file, config } = self.stage_config(container, config).await?;
        blocking(move || file.commit()).await?;
        container.change(|live| live.config = config);
        Ok(())
    }

    /// The first half of [`Inner::save_config`], which changes nothing that anybody sees.
    pub(crate) async fn stage_config(
        &self,
        container: &Container,
        mut config: record::Config,
    ) -> Result<StagedConfig> {
        config.revision += 1;
        let config = Arc::new(config);
        let (dir, copy) = (container.dir.clone(), config.clone());
        let file = blocking(move || record::stage(&dir, record::CONFIG, &*copy, true)).await?;
        Ok(StagedConfig { file, config })
    }
}

/// A container's next record, written and not yet in place.
pub(crate) struct StagedConfig {
    pub(crate) file: record::Staged,
    pub(crate) config: Arc<record::Config>,
}

/// Runs file work on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Interrupted)?
}

/// Runs work to its end even when the client that asked for it hangs up.
pub async fn detached<T: Send + 'static, E: From<Error> + Send + 'static>(
    work: impl Future<Output = std::result::Result<T, E>> + Send + 'static,
) -> std::result::Result<T, E> {
    tokio::spawn(work).await.map_err(|_| Error::Interrupted)?
}
