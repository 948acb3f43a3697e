use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use libnetwork_core::{PortError, PortMapper, PortMapping};
use libnetwork_model::{HostFacts, SandboxId};

/// How the programs are set up; the default is what an engine wants.
#[derive(Debug, Clone)]
pub struct Options {
    /// The cgroup (v2) whose processes are led to published ports when they connect to one by an address of the host.
    /// None: the root of the hierarchy, so every process of the host namespace.
    pub cgroup: Option<PathBuf>,
    /// Flows tracked at once; the ones idle the longest make room. About 300 bytes of kernel memory each.
    pub flows: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { cgroup: None, flows: 65_536 }
    }
}

/// Publishes ports by BPF programs, whose maps and links are pinned: they work on when this process ends.
pub struct BpfPortMapper {}

impl BpfPortMapper {
    /// Opens the mapper of the network namespace that the calling thread is in, with its pins below `bpffs`: mounts a
    /// bpffs there when there is none, takes over the maps and links that an earlier process left, and puts the programs
    /// of this build in their place without a packet or a flow lost. Blocking; needs root and Linux 6.6.
    pub fn open(_bpffs: &Path, _options: &Options) -> Result<Self, PortError> {
        todo!()
    }
}

impl PortMapper for BpfPortMapper {
    fn sandboxes(&mut self) -> Result<BTreeSet<SandboxId>, PortError> {
        todo!()
    }

    fn set(&mut self, _sandbox: &SandboxId, _mappings: &[PortMapping]) -> Result<(), PortError> {
        todo!()
    }

    fn uplinks(&mut self, _host: &HostFacts) -> Result<(), PortError> {
        todo!()
    }

    fn bridges(&mut self, _bridges: &BTreeSet<String>) -> Result<(), PortError> {
        todo!()
    }
}

/// Detaches and removes all that [`BpfPortMapper::open`] made below `bpffs`, unmounts it and removes the directory.
/// Does nothing where there is nothing.
pub fn purge(_bpffs: &Path) -> Result<(), PortError> {
    todo!()
}
