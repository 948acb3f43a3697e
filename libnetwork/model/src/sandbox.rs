use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{PortWish, PublishedPort, SandboxId};

/// A network namespace with the endpoints in it, its resolver and its published ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    pub id: SandboxId,
    /// What messages and DNS call it: the container's name, without a slash.
    pub name: String,
    /// The container it belongs to, as the client calls it (an opaque string to libnetwork).
    pub owner: String,
    pub namespace: NamespaceKind,
    pub resolver: Resolver,
    /// What was asked for of published ports.
    #[serde(default)]
    pub wishes: Vec<PortWish>,
    /// What came of it: nothing where no network is a way out. Host ports are settled here: a lease is in the intent or does not exist.
    pub ports: Vec<PublishedPort>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamespaceKind {
    /// A namespace of its own, made and removed by the reconciler.
    Own,
    /// The namespace that causewayd runs in (`--network host`).
    Host,
}

/// How names are resolved in a sandbox; what is empty comes from the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolver {
    /// Upstream servers instead of the host's.
    pub servers: Vec<IpAddr>,
    pub search: Vec<String>,
    pub options: Vec<String>,
}
