//! What the core needs of the world, owned here by the one who consumes it. Adapters implement these; tests implement
//! them by stateful fakes that refuse what the kernel refuses.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    net::IpAddr,
    path::PathBuf,
};

use libnetwork_model::{
    Change, ErrorKind, HostFacts, Intent, MacAddress, Protocol, PublishedPort, Revision, Sandbox, SandboxId,
};
use libnetwork_plan::{Drift, KernelError, Observed, Operation, Scope};

/// The kernel, as objects under keys.
pub trait Kernel: Send + 'static {
    /// What is there of a scope.
    fn observe(&mut self, scope: &Scope) -> impl Future<Output = Result<Observed, KernelError>> + Send;

    /// Carries operations out, in their order within a namespace, and answers for each. One that failed does not stop
    /// the ones that do not need it; those that do get [`libnetwork_plan::Cause::Prerequisite`].
    fn apply(
        &mut self,
        operations: &[Operation],
    ) -> impl Future<Output = Vec<Result<(), KernelError>>> + Send;

    /// What drivers and allocation may know of the host.
    fn host(&mut self) -> impl Future<Output = Result<HostFacts, KernelError>> + Send;

    /// Waits until something changed that we did not do. May be dropped while it waits: nothing is lost then.
    fn changed(&mut self) -> impl Future<Output = Drift> + Send;
}

/// Keeps the intent. One writer: the command actor.
pub trait Store: Send + 'static {
    /// The intent as last committed, and its revision.
    fn load(&mut self) -> Result<(Revision, Intent), StoreError>;

    /// Commits a change on top of `base` and returns the new revision. With [`Change::is_durable`] it has reached the
    /// disk when this returns; otherwise it survives a killed process, but not a power cut.
    ///
    /// Blocking: the core calls it from a thread that may block.
    fn commit(&mut self, base: Revision, changes: &[Change]) -> Result<Revision, StoreError>;
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the store is at revision {found}, not {base}: another writer has it open")]
    Stale { base: Revision, found: Revision },
    #[error("the store {path} is in use by another causewayd")]
    Locked { path: PathBuf },
    #[error("the store {path} was written by a newer version (format {found}; this one knows up to {known})")]
    Newer { path: PathBuf, found: u64, known: u64 },
    #[error("cannot {operation} the store {path}")]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the store {path} holds a record that this version cannot read: {record}")]
    Corrupt { path: PathBuf, record: String },
}

/// One published range of a sandbox with where it leads, by family. None: the sandbox has no way for that family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortMapping {
    pub port: PublishedPort,
    pub ipv4: Option<PortTarget>,
    pub ipv6: Option<PortTarget>,
}

/// All that a sandbox publishes; by default nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Publication {
    pub mappings: Vec<PortMapping>,
    /// Where the same ports lead for clients on the sandbox's other networks, of either family. It answers them there, so
    /// there they must be led to it.
    pub beside: Vec<PortTarget>,
}

/// The interface in a sandbox that published ports lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortTarget {
    pub address: IpAddr,
    /// The host's end of the veth pair.
    pub link: String,
    /// The interface's Ethernet address inside the sandbox.
    pub mac: MacAddress,
    pub bridge: String,
    /// The host's own address on the network: what clients on the host itself appear as.
    pub gateway: IpAddr,
    /// The sandbox reaches no other on its network: it could not answer clients there as themselves.
    pub apart: bool,
}

/// A published port that the host's firewall keeps clients outside from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeniedPort {
    pub protocol: Protocol,
    pub port: u16,
    /// The interface that the clients come by.
    pub uplink: String,
    pub families: Families,
    /// What its reader is told, with the way to open it. Empty where only the packets are known and not the firewall.
    pub message: String,
}

/// Of which versions of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Families {
    Ipv4,
    Ipv6,
    Both,
}

impl Families {
    /// Those of one and of the other.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        if self == other { self } else { Self::Both }
    }

    /// In what an event tells.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Both => "ipv4,ipv6",
        }
    }
}

/// Bridges by name, with the host's addresses on them.
pub type Bridges = BTreeMap<String, Vec<IpAddr>>;

/// Publishes ports. Called from threads that may block, never from two at once; each call is idempotent.
pub trait PortMapper: Send + 'static {
    /// The sandboxes that have mappings in the kernel, those an earlier process made included.
    fn sandboxes(&mut self) -> Result<BTreeSet<SandboxId>, PortError>;

    /// Makes this what a sandbox publishes. Nothing: removes its mappings together with their flows. Says which of the ports
    /// that were not published before the host's firewall denies.
    fn set(&mut self, sandbox: &SandboxId, wanted: &Publication) -> Result<Vec<DeniedPort>, PortError>;

    /// Which of these ports, not published yet, the host's firewall would deny to clients of these families, as far as it can
    /// be asked.
    fn denied(&mut self, ports: &[PublishedPort], families: Families) -> Vec<DeniedPort> {
        let _ = (ports, families);
        Vec::new()
    }

    /// The uplinks as they are: attaches to the ones that came, forgets the ones that went.
    fn uplinks(&mut self, host: &HostFacts) -> Result<(), PortError>;

    /// The bridges, by name, whose containers may reach published ports by the host's addresses: those of every
    /// network that is not internal, whether or not anything on it publishes a port. [`PortMapper::set`] needs no word
    /// of the bridges that its own targets are on.
    fn bridges(&mut self, bridges: &Bridges) -> Result<(), PortError> {
        let _ = bridges;
        Ok(())
    }

    /// Changes what [`PortMapper::bridges`] said: these came, or were made anew, and these went.
    fn change_bridges(&mut self, came: &Bridges, gone: &BTreeSet<String>) -> Result<(), PortError> {
        let _ = (came, gone);
        Ok(())
    }

    /// What went through these published ranges of a sandbox, in their order. None: this mapper does not count.
    fn figures(
        &mut self,
        sandbox: &SandboxId,
        ports: &[PublishedPort],
    ) -> Result<Option<Vec<PortFigures>>, PortError> {
        let _ = (sandbox, ports);
        Ok(None)
    }
}

/// What went through a published range since it was published, both directions together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortFigures {
    /// A super-packet of the host's own making counts as one. What processes of the host send and get goes another way
    /// and is not in here, nor in the next.
    pub packets: u64,
    /// Of IP, headers included.
    pub bytes: u64,
    /// Flows of clients that are not on the host itself, and are not closed.
    pub open_flows: u64,
    /// First packets of flows that were denied: by the host's filter, or because there was no place.
    pub refusals: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {object}")]
pub struct PortError {
    /// What was tried, as an infinitive: `attach`, `publish`.
    pub operation: &'static str,
    /// On what: a link's name, a published port, a map.
    pub object: String,
    pub kind: ErrorKind,
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Answers names inside sandboxes, at 127.0.0.11.
pub trait NameServer: Send + Sync + 'static {
    /// Opens the sandbox's sockets in its namespace (a path that `setns` takes) and answers from there on. Done before
    /// the sandbox's first process starts. Idempotent.
    fn open(
        &self,
        sandbox: &Sandbox,
        namespace: PathBuf,
    ) -> impl Future<Output = Result<(), NameError>> + Send;

    /// Closes them.
    fn close(&self, sandbox: &SandboxId) -> impl Future<Output = ()> + Send;

    /// From here on answers follow this intent. `change` is what made it from the one before; none at start.
    fn publish(&self, intent: &Intent, change: Option<&Change>);

    /// The host's resolvers changed.
    fn upstreams(&self, host: &HostFacts);
}

#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} the resolver of sandbox {sandbox}")]
pub struct NameError {
    pub operation: &'static str,
    pub sandbox: SandboxId,
    #[source]
    pub source: std::io::Error,
}
