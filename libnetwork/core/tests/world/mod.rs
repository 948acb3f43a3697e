//! A world for the core to act on: it outlives the process that acts, keeps state, refuses, and can stop a process dead.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

pub(crate) mod check;
pub(crate) mod requests;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use driver_bridge::BridgeDriver;
use driver_host::{HostDriver, NoneDriver};
use libnetwork_core::{
    Bridges, Config, Defaults, DeniedPort, Drivers, HOST, Handle, Kernel, NONE, NameError, NameServer, Parts,
    PortError, PortMapper, PortTarget, Publication, Running, StartError, Store, StoreError,
};
use libnetwork_ipam::Busy;
use libnetwork_model::{Change, ErrorKind, HostFacts, Intent, Revision, Sandbox, SandboxId};
use libnetwork_plan::{
    BridgePort, Drift, Ipv6, KernelError, Key, Link, LinkKind, LinkRank, Observed, Operation, Scope,
    Segments, fake::FakeKernel,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

#[derive(Clone, Default)]
pub(crate) struct World {
    pub(crate) kernel: Arc<Mutex<FakeKernel>>,
    pub(crate) stored: Arc<Mutex<(Revision, Intent)>>,
    pub(crate) ports: Arc<Mutex<Ports>>,
    pub(crate) names: Arc<Mutex<Names>>,
    pub(crate) host: Arc<Mutex<HostFacts>>,
    pub(crate) counter: Arc<Mutex<u64>>,
    pub(crate) defaults: Arc<Mutex<Defaults>>,
    /// Operations that the process may still do before it is stopped dead. None: as many as it likes.
    pub(crate) life: Arc<Mutex<Option<usize>>>,
    /// Looks at everything.
    pub(crate) full_looks: Arc<Mutex<usize>>,
    /// Looks at the host's facts.
    pub(crate) host_looks: Arc<Mutex<usize>>,
    /// While a test has it, the kernel neither looks nor does anything.
    pub(crate) gate: Arc<tokio::sync::RwLock<()>>,
    pub(crate) commits: Arc<Mutex<usize>>,
    pub(crate) commits_refused: Arc<Mutex<usize>>,
    /// Something else on the host has every port.
    pub(crate) busy: Arc<Mutex<bool>>,
}

#[derive(Default)]
pub(crate) struct Ports {
    pub(crate) set: BTreeMap<SandboxId, Publication>,
    /// How often ports were told of, whatever came of it.
    pub(crate) tellings: usize,
    pub(crate) refuse: bool,
    /// So many times more.
    pub(crate) refusals: usize,
    /// By name.
    pub(crate) uplinks: BTreeSet<String>,
    pub(crate) refuse_uplinks: bool,
    /// The bridges that came since the start, by name, as often as they did.
    pub(crate) bridges: Vec<String>,
    /// So many changes of bridges.
    pub(crate) bridge_refusals: usize,
}

#[derive(Default)]
pub(crate) struct Names {
    pub(crate) open: BTreeSet<SandboxId>,
    pub(crate) intent: Intent,
    pub(crate) refuse: bool,
    /// So many times more.
    pub(crate) refusals: usize,
}

impl Process {
    /// In order, so that another can start.
    pub(crate) async fn end(self) {
        self.shutdown.cancel();
        self.running.finished().await.unwrap();
    }
}

pub(crate) struct Process {
    pub(crate) core: Handle,
    pub(crate) drifts: mpsc::UnboundedSender<Drift>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) running: Running,
}

/// A link of somebody else's.
pub(crate) fn foreign_link(kind: LinkKind) -> Link {
    Link {
        kind,
        id: "".into(),
        mtu: 1500,
        mac: None,
        up: true,
        master: None,
        port: BridgePort::default(),
        ipv6: Ipv6::Other,
    }
}

impl World {
    pub(crate) async fn start(&self) -> Process {
        self.try_start().await.unwrap()
    }

    pub(crate) async fn try_start(&self) -> Result<Process, StartError> {
        let (drifts, receiver) = mpsc::unbounded_channel();
        let world = self.clone();
        let (counter, busy) = (self.counter.clone(), self.busy.clone());
        // What a process had open ends with it.
        self.names.lock().unwrap().open.clear();
        self.host.lock().unwrap().mtu = 1500;
        let config = Config {
            pools: libnetwork_ipam::default_pools(),
            defaults: self.defaults.lock().unwrap().clone(),
            netns: PathBuf::from("/netns"),
            random: Box::new(move || {
                let mut counter = counter.lock().unwrap();
                *counter += 1;
                // Spread, so that short ids differ.
                let mut bytes = [0; 32];
                bytes[..8].copy_from_slice(&counter.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
                bytes
            }),
            busy: Box::new(move |_, _, range| busy.lock().unwrap().then(|| Busy::Taken(range.first()))),
        };
        let parts = Parts {
            store: world.clone(),
            kernel: KernelSide { world: world.clone(), drifts: receiver },
            mapper: world.clone(),
            names: world,
            drivers: drivers(),
        };
        let shutdown = CancellationToken::new();
        let (core, running) = libnetwork_core::start(config, parts, shutdown.clone()).await?;
        Ok(Process { core, drifts, shutdown, running })
    }
}

/// A bridge that takes so few endpoints that a handful of them needs several.
pub(crate) const SEGMENTS: Segments = Segments { endpoints: 2, most: 3 };

pub(crate) fn drivers() -> Drivers {
    let bridge = BridgeDriver { segments: SEGMENTS, ..BridgeDriver::default() };
    Drivers::default().with("bridge", bridge).with(HOST, HostDriver).with(NONE, NoneDriver)
}

struct KernelSide {
    world: World,
    drifts: mpsc::UnboundedReceiver<Drift>,
}

impl Kernel for KernelSide {
    async fn observe(&mut self, scope: &Scope) -> Result<Observed, KernelError> {
        let _open = self.world.gate.read().await;
        *self.world.full_looks.lock().unwrap() += usize::from(matches!(scope, Scope::All { .. }));
        Ok(self.world.kernel.lock().unwrap().observe(scope))
    }

    async fn apply(&mut self, operations: &[Operation]) -> Vec<Result<(), KernelError>> {
        let _open = self.world.gate.read().await;
        let mut results = Vec::new();
        for operation in operations {
            let dead = match &mut *self.world.life.lock().unwrap() {
                Some(0) => true,
                Some(left) => {
                    *left -= 1;
                    false
                }
                None => false,
            };
            if dead {
                pending::<()>().await;
            }
            results.extend(self.world.kernel.lock().unwrap().apply(std::slice::from_ref(operation)));
        }
        results
    }

    async fn host(&mut self) -> Result<HostFacts, KernelError> {
        *self.world.host_looks.lock().unwrap() += 1;
        Ok(self.world.host.lock().unwrap().clone())
    }

    async fn changed(&mut self) -> Drift {
        match self.drifts.recv().await {
            Some(drift) => drift,
            None => pending().await,
        }
    }
}

impl Store for World {
    fn load(&mut self) -> Result<(Revision, Intent), StoreError> {
        Ok(self.stored.lock().unwrap().clone())
    }

    fn commit(&mut self, base: Revision, changes: &[Change]) -> Result<Revision, StoreError> {
        *self.commits.lock().unwrap() += 1;
        let mut refused = self.commits_refused.lock().unwrap();
        if *refused > 0 {
            *refused -= 1;
            return Err(StoreError::Io {
                operation: "write",
                path: "intent".into(),
                source: Box::new(std::io::Error::from_raw_os_error(28)),
            });
        }
        let mut stored = self.stored.lock().unwrap();
        assert_eq!(base, stored.0);
        stored.0 += changes.len() as u64;
        stored.1 = changes.iter().fold(stored.1.clone(), |intent, change| intent.apply(change));
        Ok(stored.0)
    }
}

impl PortMapper for World {
    fn sandboxes(&mut self) -> Result<BTreeSet<SandboxId>, PortError> {
        Ok(self.ports.lock().unwrap().set.keys().cloned().collect())
    }

    fn set(&mut self, sandbox: &SandboxId, wanted: &Publication) -> Result<Vec<DeniedPort>, PortError> {
        self.ports.lock().unwrap().tellings += 1;
        let kernel = self.kernel.lock().unwrap();
        let targets = wanted.mappings.iter().flat_map(|m| [&m.ipv4, &m.ipv6]).flatten().chain(&wanted.beside);
        let is_bridge = |key: &Key, bridge: &str| matches!(key, Key::Link { rank: LinkRank::Bridge, name, .. } if **name == *bridge);
        let is_there =
            |target: &PortTarget| kernel.objects().keys().any(|key| is_bridge(key, &target.bridge));
        if let Some(lost) = targets.into_iter().find(|target| !is_there(target)) {
            return Err(refusal("find interface", &lost.bridge));
        }
        drop(kernel);
        let mut ports = self.ports.lock().unwrap();
        let refused = ports.refusals > 0 && !wanted.mappings.is_empty();
        ports.refusals -= usize::from(refused);
        if wanted.mappings.is_empty() {
            ports.set.remove(sandbox);
        } else if ports.refuse || refused {
            return Err(refusal("publish", &format!("{:?}", wanted.mappings[0].port)));
        } else {
            ports.set.insert(sandbox.clone(), wanted.clone());
        }
        Ok(Vec::new())
    }

    fn uplinks(&mut self, host: &HostFacts) -> Result<(), PortError> {
        let mut ports = self.ports.lock().unwrap();
        if ports.refuse_uplinks {
            return Err(refusal("attach", "uplink"));
        }
        ports.uplinks = host.uplinks.keys().cloned().collect();
        Ok(())
    }

    fn bridges(&mut self, bridges: &Bridges) -> Result<(), PortError> {
        self.ports.lock().unwrap().bridges.extend(bridges.keys().cloned());
        Ok(())
    }

    fn change_bridges(&mut self, came: &Bridges, _: &BTreeSet<String>) -> Result<(), PortError> {
        let mut ports = self.ports.lock().unwrap();
        if ports.bridge_refusals > 0 {
            ports.bridge_refusals -= 1;
            return Err(refusal("attach", "bridge"));
        }
        ports.bridges.extend(came.keys().cloned());
        Ok(())
    }
}

fn refusal(operation: &'static str, object: &str) -> PortError {
    PortError {
        operation,
        object: object.into(),
        kind: ErrorKind::Exhausted,
        source: Box::new(std::io::Error::from_raw_os_error(28)),
    }
}

impl NameServer for World {
    async fn open(&self, sandbox: &Sandbox, namespace: PathBuf) -> Result<(), NameError> {
        assert_eq!(namespace, PathBuf::from("/netns").join(sandbox.id.as_str()));
        let mut names = self.names.lock().unwrap();
        let refused = names.refusals > 0;
        names.refusals -= usize::from(refused);
        if names.refuse || refused {
            let source = std::io::Error::from_raw_os_error(24);
            return Err(NameError { operation: "open", sandbox: sandbox.id.clone(), source });
        }
        names.open.insert(sandbox.id.clone());
        Ok(())
    }

    async fn close(&self, sandbox: &SandboxId) {
        self.names.lock().unwrap().open.remove(sandbox);
    }

    fn publish(&self, intent: &Intent, change: Option<&Change>) {
        let mut names = self.names.lock().unwrap();
        if let Some(change) = change {
            assert_eq!(names.intent.apply(change), *intent, "the change does not lead to the intent");
        }
        names.intent = intent.clone();
    }

    fn upstreams(&self, _host: &HostFacts) {}
}
