//! How ports are published here: by BPF programs, by rules of nftables, or not at all.

use std::{collections::BTreeSet, path::Path};

use ebpf_portmap::{BpfPortMapper, Options};
use libnetwork_core::{
    Bridges, DeniedPort, Families, PortError, PortFigures, PortMapper, Publication, chain,
};
use libnetwork_model::{ErrorKind, HostFacts, PublishedPort, SandboxId};

use crate::{
    args::{Directories, Publish, PublishBackend, PublishedPorts},
    firewall,
    reserved::Reserved,
};

/// One way to publish, and what holds for every way.
pub(crate) struct Mapper {
    backend: Backend,
    reserved: Reserved,
}

/// A kernel that can do neither still has networks, and says why it publishes no port.
pub(crate) enum Backend {
    Bpf(Box<BpfPortMapper>),
    /// The bridge driver compiles the ports with everything else, and the reconciler keeps them: there is nothing to do.
    Nftables {
        reason: String,
    },
    Absent {
        reason: String,
    },
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Absent(String);

/// The rules of the host's input hook see nothing of what was led on before routing.
const NOT_OBEYED: &str = "nftables cannot ask the host's own input rules who may come in by a published port: \
                          start with --published-ports open if that is not needed";

/// By daemon.json or dockerd's flags of these names.
const NO_RULES: &str = "rules of nftables are off by iptables or ip6tables";

impl Mapper {
    /// `rules` tells whether there may be rules of nftables. Blocking.
    pub(crate) fn open(directories: &Directories, publish: Publish, rules: bool) -> Self {
        let backend = Backend::open(&directories.bpffs(), publish, rules);
        Self { backend, reserved: Reserved::new(directories.reserved_ports()) }
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.backend
    }
}

impl Backend {
    fn open(bpffs: &Path, publish: Publish, rules: bool) -> Self {
        let obey = publish.ports == PublishedPorts::Obey;
        let by_nftables = |reason: String| match obey {
            _ if !rules => Backend::Absent { reason: format!("{reason}; {NO_RULES}") },
            true => Backend::Absent { reason: format!("{reason}; {NOT_OBEYED}") },
            false => Backend::Nftables { reason },
        };
        if publish.backend == PublishBackend::Nftables {
            let left = retire(bpffs).err().map(|error| Backend::Absent {
                reason: format!("cannot remove the BPF programs: {}", chain(&error)),
            });
            return left.unwrap_or_else(|| by_nftables("asked for by --publish-backend".to_owned()));
        }
        let options = Options { obey_host_filter: obey, ..Options::default() };
        match (BpfPortMapper::open(bpffs, &options), publish.backend) {
            (Ok(mapper), _) => Backend::Bpf(Box::new(mapper)),
            (Err(error), PublishBackend::Ebpf) => Backend::Absent { reason: chain(&error) },
            (Err(error), _) => {
                by_nftables(format!("the kernel does not run the BPF programs: {}", chain(&error)))
            }
        }
    }

    /// The backend's name, and why it is this one.
    pub(crate) fn describe(&self) -> (&'static str, String) {
        match self {
            Backend::Bpf(_) => ("ebpf", "the kernel runs the programs".to_owned()),
            Backend::Nftables { reason } => ("nftables", reason.clone()),
            Backend::Absent { reason } => ("none", reason.clone()),
        }
    }
}

/// What an earlier start published by BPF: programs that hang on links stay there, so they are left with empty maps.
fn retire(bpffs: &Path) -> Result<(), PortError> {
    if !bpffs.exists() {
        return Ok(());
    }
    let mut mapper = BpfPortMapper::open(bpffs, &Options { obey_host_filter: false, ..Options::default() })?;
    for sandbox in mapper.sandboxes()? {
        mapper.set(&sandbox, &Publication::default())?;
    }
    drop(mapper);
    ebpf_portmap::purge(bpffs)
}

impl PortMapper for Mapper {
    fn sandboxes(&mut self) -> Result<BTreeSet<SandboxId>, PortError> {
        match &mut self.backend {
            Backend::Bpf(mapper) => mapper.sandboxes(),
            Backend::Nftables { .. } | Backend::Absent { .. } => Ok(BTreeSet::new()),
        }
    }

    fn set(&mut self, sandbox: &SandboxId, wanted: &Publication) -> Result<Vec<DeniedPort>, PortError> {
        let mut denied = match (&mut self.backend, wanted.mappings.first()) {
            (Backend::Bpf(mapper), _) => mapper.set(sandbox, wanted)?,
            (Backend::Nftables { .. }, _) | (Backend::Absent { .. }, None) => Vec::new(),
            (Backend::Absent { reason }, Some(mapping)) => {
                return Err(PortError {
                    operation: "publish",
                    object: format!("port {}/{}", mapping.port.host_ports.first(), mapping.port.protocol),
                    kind: ErrorKind::Unimplemented,
                    source: Box::new(Absent(reason.clone())),
                });
            }
        };
        self.reserved.set(sandbox, wanted);
        firewall::explain(&mut denied);
        Ok(denied)
    }

    fn denied(&mut self, ports: &[PublishedPort], families: Families) -> Vec<DeniedPort> {
        let mut denied = match &mut self.backend {
            Backend::Bpf(mapper) => mapper.denied(ports, families),
            Backend::Nftables { .. } | Backend::Absent { .. } => Vec::new(),
        };
        firewall::explain(&mut denied);
        denied
    }

    fn uplinks(&mut self, host: &HostFacts) -> Result<(), PortError> {
        match &mut self.backend {
            Backend::Bpf(mapper) => mapper.uplinks(host),
            Backend::Nftables { .. } | Backend::Absent { .. } => Ok(()),
        }
    }

    fn bridges(&mut self, bridges: &Bridges) -> Result<(), PortError> {
        match &mut self.backend {
            Backend::Bpf(mapper) => mapper.bridges(bridges),
            Backend::Nftables { .. } | Backend::Absent { .. } => Ok(()),
        }
    }

    fn change_bridges(&mut self, came: &Bridges, gone: &BTreeSet<String>) -> Result<(), PortError> {
        match &mut self.backend {
            Backend::Bpf(mapper) => mapper.change_bridges(came, gone),
            Backend::Nftables { .. } | Backend::Absent { .. } => Ok(()),
        }
    }

    fn figures(
        &mut self,
        sandbox: &SandboxId,
        ports: &[PublishedPort],
    ) -> Result<Option<Vec<PortFigures>>, PortError> {
        match &mut self.backend {
            Backend::Bpf(mapper) => mapper.figures(sandbox, ports),
            Backend::Nftables { .. } | Backend::Absent { .. } => Ok(None),
        }
    }
}
