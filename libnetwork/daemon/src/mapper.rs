//! The port mapper that this kernel allows.

use std::{collections::BTreeSet, path::Path};

use ebpf_portmap::{BpfPortMapper, Options};
use libnetwork_core::{PortError, PortFigures, PortMapper, PortMapping, chain};
use libnetwork_model::{ErrorKind, HostFacts, PublishedPort, SandboxId};

use crate::args::PublishedPorts;

/// eBPF, or nothing: a kernel that cannot run the programs still has networks, and says why it publishes no port.
pub(crate) enum Mapper {
    Bpf(Box<BpfPortMapper>),
    Absent { reason: String },
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Absent(String);

impl Mapper {
    pub(crate) fn open(bpffs: &Path, published: PublishedPorts) -> Self {
        let obey_host_filter = published == PublishedPorts::Obey;
        match BpfPortMapper::open(bpffs, &Options { obey_host_filter, ..Options::default() }) {
            Ok(mapper) => Mapper::Bpf(Box::new(mapper)),
            Err(error) => Mapper::Absent { reason: chain(&error) },
        }
    }

    /// The backend's name, and why it is this one.
    pub(crate) fn describe(&self) -> (&'static str, String) {
        match self {
            Mapper::Bpf(_) => ("ebpf", "the kernel runs the programs".to_owned()),
            Mapper::Absent { reason } => ("none", reason.clone()),
        }
    }
}

impl PortMapper for Mapper {
    fn sandboxes(&mut self) -> Result<BTreeSet<SandboxId>, PortError> {
        match self {
            Mapper::Bpf(mapper) => mapper.sandboxes(),
            Mapper::Absent { .. } => Ok(BTreeSet::new()),
        }
    }

    fn set(&mut self, sandbox: &SandboxId, mappings: &[PortMapping]) -> Result<(), PortError> {
        match (self, mappings.first()) {
            (Mapper::Bpf(mapper), _) => mapper.set(sandbox, mappings),
            (Mapper::Absent { .. }, None) => Ok(()),
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
            Mapper::Absent { .. } => Ok(()),
        }
    }

    fn bridges(&mut self, bridges: &BTreeSet<String>) -> Result<(), PortError> {
        match self {
            Mapper::Bpf(mapper) => mapper.bridges(bridges),
            Mapper::Absent { .. } => Ok(()),
        }
    }

    fn change_bridges(&mut self, came: &BTreeSet<String>, gone: &BTreeSet<String>) -> Result<(), PortError> {
        match self {
            Mapper::Bpf(mapper) => mapper.change_bridges(came, gone),
            Mapper::Absent { .. } => Ok(()),
        }
    }

    fn figures(
        &mut self,
        sandbox: &SandboxId,
        ports: &[PublishedPort],
    ) -> Result<Option<Vec<PortFigures>>, PortError> {
        match self {
            Mapper::Bpf(mapper) => mapper.figures(sandbox, ports),
            Mapper::Absent { .. } => Ok(None),
        }
    }
}
