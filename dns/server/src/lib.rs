//! The embedded resolver: sockets inside the sandboxes' namespaces, answers from a [`dns_zone::Zone`], the rest
//! forwarded. Implements [`NameServer`].
//!
//! A sandbox asks at 127.0.0.11, port 53; rules in its namespace (`libnetwork_plan::sandbox_objects`) lead that to
//! [`Settings::port`], so that port 53 stays the container's own on every address.
//!
//! *Invariant*: a question for a name that is known here never leaves the host, whatever its type.
//! *Invariant*: no sandbox's questions wait for another's: each has sockets, connections and a share of the forwarding
//! of its own, and what they may use is bounded.
//!
//! The wire format is hickory-proto's; the sockets' loops are ours, not hickory-server's: that takes a task, a boxed
//! future and a parsed message per query, where a batch of datagrams answered on the spot needs none; it takes a datagram
//! off its socket before it is answered, so a killed process would lose it; and it has no way to hold connections of one
//! sandbox to a number, nor to give way to a newcomer.
//!
//! Modules: `namespace` makes sockets, `listener` runs one sandbox's, `udp` and `tcp` read them, `message` reads and
//! writes messages, `respond` decides (without I/O), `cache` keeps what upstream servers said, `upstream` asks them,
//! `lookup` tells people.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    io,
    net::IpAddr,
    os::fd::{BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use dns_zone::Zone;
use hickory_proto::{
    op::{Message, Query},
    rr::{Name, RecordType},
};
use libnetwork_core::{NameError, NameServer};
use libnetwork_model::{Change, HostFacts, Intent, NamespaceKind, Sandbox, SandboxId};
use tokio::{
    runtime::Handle,
    sync::{Mutex, broadcast, watch},
};
use tokio_util::sync::CancellationToken;

pub use crate::lookup::{Lookup, QueryError, Reason, Told};
use crate::{
    cache::Cache,
    listener::Listener,
    namespace::Namespaces,
    upstream::{Health, Ids},
};

mod cache;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod listener;
mod lookup;
mod message;
mod namespace;
mod respond;
mod tcp;
mod udp;
mod upstream;

/// Keeps sockets open beyond the end of this process, so that what is asked meanwhile waits in them. Its methods may
/// block; they are called by one thread, in order.
pub trait Keeper: Send + Sync {
    /// Keeps these under a name of at most nine letters and digits; whoever comes after this process is handed them, in
    /// [`DnsServer::adopt`].
    fn keep(&self, name: &str, sockets: &[BorrowedFd<'_>]) -> io::Result<()>;

    /// Closes what it keeps under this name, if there is something.
    fn release(&self, name: &str) -> io::Result<()>;
}

/// What the resolver is told at start.
#[derive(Clone)]
pub struct Settings {
    /// The UDP and TCP port at 127.0.0.11 inside each sandbox, to which the sandbox's own rules lead 127.0.0.11:53:
    /// [`libnetwork_plan::DNS_PORT`], but in tests.
    pub port: u16,
    /// Ends every task of the resolver.
    pub shutdown: CancellationToken,
    /// Who keeps the sockets when this process ends; none: they end with it.
    pub keeper: Option<Arc<dyn Keeper>>,
}

/// Answers names in every sandbox that it was told to [`NameServer::open`]. Cheap to clone; clones share their state.
///
/// Assumes that [`NameServer::publish`] is called by one task, in the order of revisions.
#[derive(Clone)]
pub struct DnsServer {
    port: u16,
    shared: Arc<Shared>,
    /// One opening at a time: the thread that enters namespaces does one thing at a time anyway.
    listeners: Arc<Mutex<HashMap<SandboxId, Listener>>>,
}

/// Lookups that a watcher may be behind before it misses some.
const WATCHED: usize = 1024;

/// What all sandboxes share.
pub(crate) struct Shared {
    /// Read for each batch of queries: a reader holds the lock for as long as it takes to clone an `Arc`.
    zone: watch::Sender<Arc<Zone>>,
    /// The host's resolvers.
    host: watch::Sender<Arc<[IpAddr]>>,
    cache: Cache,
    /// For those who watch.
    lookups: broadcast::Sender<Arc<Lookup>>,
    namespaces: Namespaces,
    keeper: Option<Arc<dyn Keeper>>,
    health: Health,
    ids: Ids,
    shutdown: CancellationToken,
    /// Where connections are served.
    connections: Handle,
}

impl Shared {
    fn release(&self, name: String) {
        if let Some(keeper) = &self.keeper {
            self.namespaces.release(name, keeper.clone());
        }
    }
}

/// The nice value of what may wait.
const BEHIND: i32 = 15;

/// A runtime of one thread, until cancelled. What thousands of connections have to say is nothing that datagrams of other
/// sandboxes should wait behind, and takes one CPU at most.
fn one_thread(shutdown: CancellationToken) -> io::Result<Handle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let run = move || {
        // SAFETY: no requirements. Of the calling thread; a refusal costs nothing but that.
        unsafe { nix::libc::setpriority(nix::libc::PRIO_PROCESS, 0, BEHIND) };
        runtime.block_on(shutdown.cancelled());
    };
    thread::Builder::new().name("dns-connections".into()).spawn(run)?;
    Ok(handle)
}

impl DnsServer {
    /// Opens nothing yet, and knows no name before the first [`NameServer::publish`]. Its methods are called inside a
    /// tokio runtime with I/O and time enabled.
    pub fn new(settings: Settings) -> Self {
        let shared = Shared {
            zone: watch::Sender::new(Arc::default()),
            host: watch::Sender::new(Arc::from([])),
            cache: Cache::default(),
            lookups: broadcast::Sender::new(WATCHED),
            namespaces: Namespaces::default(),
            keeper: settings.keeper,
            health: Health::default(),
            ids: Ids::default(),
            connections: one_thread(settings.shutdown.clone()).unwrap_or_else(|error| {
                tracing::warn!(%error, "DNS over TCP has no thread of its own");
                Handle::current()
            }),
            shutdown: settings.shutdown,
        };
        Self { port: settings.port, shared: Arc::new(shared), listeners: Arc::default() }
    }

    /// Answers on the sockets that the keeper handed back, in the namespaces `netns/SANDBOX` of those sandboxes that are
    /// still there, and has the others closed. For the start, before anything is opened; answers their number.
    pub async fn adopt(
        &self,
        kept: Vec<(String, OwnedFd)>,
        sandboxes: impl Iterator<Item = &Arc<Sandbox>>,
        netns: &Path,
    ) -> usize {
        let mut surplus: BTreeSet<String> = kept.iter().map(|(name, _)| name.clone()).collect();
        let mut pairs = namespace::sort(kept, self.port);
        let mut listeners = self.listeners.lock().await;
        for id in sandboxes.filter(|s| s.namespace == NamespaceKind::Own).map(|s| &s.id) {
            let Ok((_, identity)) = namespace::open(&netns.join(id.as_str())) else { continue };
            let Some(sockets) = pairs.remove(&identity) else { continue };
            match Listener::start(id.clone(), self.shared.clone(), identity, sockets) {
                Ok(listener) => {
                    surplus.remove(&identity.name());
                    listeners.insert(id.clone(), listener);
                }
                Err(error) => {
                    tracing::warn!(%error, sandbox = id.short(), "cannot adopt a resolver's sockets")
                }
            }
        }
        surplus.into_iter().for_each(|name| self.shared.release(name));
        listeners.len()
    }

    /// What this sandbox would be told at this moment, and why. Asks as its programs do: over UDP, without EDNS. The name
    /// is taken as it is, no search domain is tried.
    pub async fn query(&self, sandbox: &SandboxId, name: &str, kind: &str) -> Result<Lookup, QueryError> {
        let read = Name::from_ascii(name).or_else(|_| Name::from_utf8(name));
        let mut asked = read.map_err(|_| QueryError::Name(name.to_owned()))?;
        asked.set_fqdn(true);
        let kind: RecordType =
            kind.to_ascii_uppercase().parse().map_err(|_| QueryError::Kind(kind.to_owned()))?;
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(asked, kind));
        let packet = message.to_vec().map_err(|_| QueryError::Name(name.to_owned()))?;
        let listeners = self.listeners.lock().await;
        let lookup = listeners.get(sandbox).ok_or(QueryError::NoResolver)?.query(packet);
        drop(listeners);
        lookup.await.ok_or(QueryError::NoResolver)
    }

    /// Every lookup of every sandbox from now on, those of [`DnsServer::query`] excepted. While nobody listens it costs
    /// nothing; who is too slow misses some.
    pub fn lookups(&self) -> broadcast::Receiver<Arc<Lookup>> {
        self.shared.lookups.subscribe()
    }

    async fn listen(&self, sandbox: &SandboxId, namespace: &Path) -> Result<(), (&'static str, io::Error)> {
        let (descriptor, identity) = namespace::open(namespace).map_err(|e| ("enter the namespace of", e))?;
        let mut listeners = self.listeners.lock().await;
        let place = match listeners.entry(sandbox.clone()) {
            Entry::Occupied(entry) if entry.get().namespace == identity => return Ok(()),
            Entry::Occupied(entry) => {
                // The sandbox was made anew under its id: the sockets of the old namespace answer no one.
                let (id, old) = entry.remove_entry();
                self.shared.release(old.namespace.name());
                old.close().await;
                listeners.entry(id)
            }
            vacant => vacant,
        };
        let sockets = self
            .shared
            .namespaces
            .bind(descriptor, identity, self.port, self.shared.keeper.clone())
            .await
            .map_err(|e| ("open the sockets of", e))?;
        let listener = Listener::start(sandbox.clone(), self.shared.clone(), identity, sockets)
            .map_err(|e| ("start", e))?;
        place.insert_entry(listener);
        Ok(())
    }
}

impl NameServer for DnsServer {
    async fn open(&self, sandbox: &Sandbox, namespace: PathBuf) -> Result<(), NameError> {
        // What runs in the host's namespace has the host's resolv.conf, and 127.0.0.11 there is not ours.
        if sandbox.namespace == NamespaceKind::Host {
            return Ok(());
        }
        let failed = |(operation, source)| NameError { operation, sandbox: sandbox.id.clone(), source };
        self.listen(&sandbox.id, &namespace).await.map_err(failed)
    }

    async fn close(&self, sandbox: &SandboxId) {
        let listener = self.listeners.lock().await.remove(sandbox);
        if let Some(listener) = listener {
            self.shared.release(listener.namespace.name());
            listener.close().await;
        }
    }

    fn publish(&self, intent: &Intent, change: Option<&Change>) {
        let before = self.shared.zone.borrow().clone();
        let after = match change {
            Some(change) => before.apply(change, intent),
            None => Zone::new(intent),
        };
        self.shared.zone.send_replace(Arc::new(after));
    }

    fn upstreams(&self, host: &HostFacts) {
        self.shared.host.send_replace(host.resolvers.as_slice().into());
    }
}
