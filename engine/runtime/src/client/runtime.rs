//! Making and finding shims.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use crate::{ContainerSpec, IoConfig, RuntimeError, Task};

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
    config: Arc<RuntimeConfig>,
}

impl Runtime {
    /// Creates the shims' directory.
    pub fn new(config: RuntimeConfig) -> Result<Self, RuntimeError> {
        let _ = Arc::new(&config);
        todo!()
    }

    pub fn config(&self) -> &RuntimeConfig {
        &self.config
    }

    /// Writes the bundle, spawns the shim and waits until the container is created: its namespaces, cgroup and
    /// mounts exist, and its process waits for [`Task::start`]. Leaves nothing behind when it fails.
    pub async fn create(&self, id: &str, spec: &ContainerSpec, io: &IoConfig) -> Result<Task, RuntimeError> {
        let _ = (id, spec, io);
        todo!()
    }

    /// Finds a container that was created by an earlier engine; none when there is no trace of it. A container whose
    /// shim has ended is found as well, exited, with the status that the shim left.
    pub async fn adopt(&self, id: &str) -> Result<Option<Task>, RuntimeError> {
        let _ = id;
        todo!()
    }

    /// The ids of all containers with a shim's directory.
    pub async fn list(&self) -> Result<Vec<String>, RuntimeError> {
        todo!()
    }

    /// Removes a container by force, whatever state it or its shim is in. Nothing to remove is no error.
    pub async fn remove(&self, id: &str) -> Result<(), RuntimeError> {
        let _ = id;
        todo!()
    }
}
