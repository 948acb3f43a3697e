//! The embedded resolver: sockets inside the sandboxes' namespaces, answers from a [`dns_zone::Zone`], the rest
//! forwarded. Implements [`NameServer`].

use std::path::PathBuf;

use libnetwork_core::{NameError, NameServer};
use libnetwork_model::{Change, HostFacts, Intent, Sandbox, SandboxId};
use tokio_util::sync::CancellationToken;

/// What the resolver is told at start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The UDP and TCP port at 127.0.0.11 inside each sandbox, to which the sandbox's own nftables table redirects
    /// 127.0.0.11:53 (`libnetwork_plan::DNS_PORT`).
    pub port: u16,
    /// Ends every task of the resolver.
    pub shutdown: CancellationToken,
}

/// Answers names in every sandbox that it was told to [`NameServer::open`]. Cheap to clone; clones share their state.
#[derive(Clone)]
pub struct DnsServer {}

impl DnsServer {
    /// Opens nothing yet. Its methods are called inside a tokio runtime with I/O and time enabled.
    pub fn new(_settings: Settings) -> Self {
        Self {}
    }
}

impl NameServer for DnsServer {
    async fn open(&self, _sandbox: &Sandbox, _namespace: PathBuf) -> Result<(), NameError> {
        todo!()
    }

    async fn close(&self, _sandbox: &SandboxId) {
        todo!()
    }

    fn publish(&self, _intent: &Intent, _change: Option<&Change>) {
        todo!()
    }

    fn upstreams(&self, _host: &HostFacts) {
        todo!()
    }
}
