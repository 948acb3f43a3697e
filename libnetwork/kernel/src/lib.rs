//! The one adapter to netlink, nftables, sysctls and network namespaces.

use std::{
    path::{Path, PathBuf},
};

use libnetwork_core::Kernel;
use libnetwork_model::{HostFacts, SandboxId};
use libnetwork_plan::{Drift, KernelError, Observed, Operation, Scope};

/// Where things are.
#[derive(Debug, Clone)]
pub struct Config {
    /// Namespaces of sandboxes are kept here, each a bind mount named after its sandbox's id. Made when missing.
    pub netns_dir: PathBuf,
    /// The host's resolv.conf.
    pub resolv_conf: PathBuf,
}

/// The kernel, with the network namespace of the thread that made this value as [`libnetwork_plan::Ns::Host`].
pub struct LinuxKernel {}

impl LinuxKernel {
    /// Starts the thread that talks to the kernel. Within a tokio runtime with I/O enabled.
    pub fn new(config: Config) -> Result<Self, KernelError> {
        let _ = config;
        todo!()
    }

    /// Where the namespace of a sandbox is kept, to `setns` to.
    pub fn namespace_path(netns_dir: &Path, sandbox: &SandboxId) -> PathBuf {
        netns_dir.join(sandbox.as_str())
    }
}

/// Removes all that is ours from the network namespace of the calling thread, and all sandboxes' namespaces: our table,
/// our links, the mounts below `netns_dir` and the directory. Settings of the host stay as they are. Blocking.
pub fn purge(netns_dir: &Path) -> Result<(), Vec<KernelError>> {
    let _ = netns_dir;
    todo!()
}

impl Kernel for LinuxKernel {
    async fn observe(&mut self, scope: &Scope) -> Result<Observed, KernelError> {
        let _ = scope;
        todo!()
    }
    async fn apply(&mut self, operations: &[Operation]) -> Vec<Result<(), KernelError>> {
        let _ = operations;
        todo!()
    }
    async fn host(&mut self) -> Result<HostFacts, KernelError> {
        todo!()
    }
    async fn changed(&mut self) -> Drift {
        todo!()
    }
}
