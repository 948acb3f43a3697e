//! How ports are published here: by BPF programs, by rules of nftables, or not at all.

use std::{collections::BTreeSet, path::Path};

use ebpf_portmap::{BpfPortMapper, Options};
use libnetwork_core::{Bridges, PortError, PortFigures, PortMapper, PortMapping, chain};
use libnetwork_model::{ErrorKind, HostFacts, PublishedPort, SandboxId};

use crate::args::{Publish, PublishBackend, PublishedPorts};

/// A kernel that can do neither still has networks, and says why it publishes no port.
pub(crate) enum Mapper {
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
    pub(crate) fn open(bpffs: &Path, publish: Publish, rules: bool) -> Self {
        let obey = publish.ports == PublishedPorts::Obey;
        let by_nftables = |reason: String| match obey {
            _ if !rules => Mapper::Absent { reason: format!("{reason}; {NO_RULES}") },
            true => Mapper::Absent { reason: format!("{reason}; {NOT_OBEYED}") },
            false => Mapper::Nftables { reason },
        };
        if publish.backend == PublishBackend::Nftables {
            let left = retire(bpffs).err().map(|error| Mapper::Absent {
                reason: format!("cannot remove the BPF programs: {}", chain(&error)),
            });
            return left.unwrap_or_else(|| by_nftables("asked for by --publish-backend".to_owned()));
        }
        let options = Options { obey_host_filter: obey, ..Options::default() };
        match (BpfPortMapper::open(bpffs, &options), publish.backend) {
            (Ok(mapper), _) => Mapper::Bpf(Box::new(mapper)),
            (Err(error), PublishBackend::Ebpf) => Mapper::Absent { reason: chain(&error) },
            (Err(error), _) => {
                by_nftables(format!("the kernel does not run the BPF programs: {}", chain(&error)))
            }
        }
    }

    /// The backend's name, and why it is this one.
    pub(crate) fn describe(&self) -> (&'static str, String) {
        match self {
            Mapper::Bpf(_) => ("ebpf", "the kernel runs the programs".to_owned()),
            Mapper::Nftables { reason } => ("nftables", reason.clone()),
            Mapper::Absent { reason } => ("none", reason.clone()),
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
        mapper.set(&sandbox, &[])?;
    }
    drop(mapper);
    ebpf_portmap::purge(bpffs)
}

impl PortMapper for Mapper {
    fn sandboxes(&mut self) -> Result<BTreeSet<SandboxId>, PortError> {
        match self {
            Mapper::Bpf(mapper) => mapper.sandboxes(),
            Mapper::Nftables { .. } | Mapper::Absent { .. } => Ok(BTreeSet::new()),
        }
    }

    fn set(&mut self, sandbox: &SandboxId, mappings: &[PortMapping]) -> Result<(), PortError> {
        match (self, mappings.first()) {
            (Mapper::Bpf(mapper), _) => mapper.set(sandbox, mappings),
            (Mapper::Nftables { .. }, _) | (Mapper::Absent { .. }, None) => Ok(()),
            (Mapper::Absent { reason }, Some(mapping)) => Err(PortError {
                operation: "publish",
                object: format!("port {}/{}", mapping.port.host_ports.first(), mapping.port.protocol),
                kind: ErrorKind::Unimplemented,
                source: Box::new(Absent(reason.clone())),
            }),
        }
    }

    fn uplinks(&mut self, host: &HostFacts) -> Result<(), PortError> {
        match self {
            Mapper::Bpf(mapper) => mapper.uplinks(host),
            Mapper::Nftables { .. } | Mapper::Absent { .. } => Ok(()),
        }
    }

    fn bridges(&mut self, bridges: &Bridges) -> Result<(), PortError> {
        match self {
            Mapper::Bpf(mapper) => mapper.bridges(bridges),
            Mapper::Nftables { .. } | Mapper::Absent { .. } => Ok(()),
        }
    }

    fn change_bridges(&mut self, came: &Bridges, gone: &BTreeSet<String>) -> Result<(), PortError> {
        match self {
            Mapper::Bpf(mapper) => mapper.change_bridges(came, gone),
            Mapper::Nftables { .. } | Mapper::Absent { .. } => Ok(()),
        }
    }

    fn figures(
        &mut self,
        sandbox: &SandboxId,
        ports: &[PublishedPort],
    ) -> Result<Option<Vec<PortFigures>>, PortError> {
        match self {
            Mapper::Bpf(mapper) => mapper.figures(sandbox, ports),
            Mapper::Nftables { .. } | Mapper::Absent { .. } => Ok(None),
        }
    }
}
