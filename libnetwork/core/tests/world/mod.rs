//! A world for the core to act on: it outlives the process that acts, keeps state, refuses, and can stop a process dead.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

pub(crate) mod requests;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    net::IpAddr,
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
use libnetwork_model::{
    Change, Endpoint, ErrorKind, HostFacts, Intent, NamespaceKind, Revision, Sandbox, SandboxId,
};
use libnetwork_plan::{
    BridgePort, Desired, Drift, Ipv6, KernelError, Key, Link, LinkKind, LinkRank, Object, Observed,
    Operation, Owner, Scope, Segments, fake::FakeKernel, sandbox_objects,
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

    /// Everything is as the intent says, and nothing else is there. Compares worlds, and asks no planner.
    pub(crate) fn check(&self, intent: &Intent) -> Result<(), String> {
        let mut desired = Desired::new();
        let (drivers, host) = (drivers(), self.host.lock().unwrap().clone());
        for network in intent.networks().filter(|n| !n.config_only) {
            drivers.of(network).unwrap().host_objects(&host, &mut desired);
            drivers.of(network).unwrap().network_objects(network, &host, &mut desired);
            let segments: BTreeSet<u16> = intent.endpoints_on(&network.id).map(|e| e.segment).collect();
            for segment in segments.into_iter().filter(|segment| *segment > 0) {
                drivers.of(network).unwrap().segment_objects(network, segment, &host, &mut desired);
            }
            for endpoint in intent.endpoints_on(&network.id) {
                let driver = drivers.of(network).unwrap();
                driver.endpoint_objects(network, endpoint, &host, &mut desired);
                for (opening, other) in endpoint
                    .openings
                    .iter()
                    .flat_map(|o| intent.endpoints_in(&o.sandbox).map(move |other| (o, other)))
                    .filter(|(_, other)| other.network == network.id)
                {
                    driver.opening_objects(network, endpoint, other, opening, &mut desired);
                }
            }
        }
        for sandbox in intent.sandboxes() {
            sandbox_objects(intent, sandbox, &mut desired);
        }
        let kernel = self.kernel.lock().unwrap();
        // A setting that nobody wrote has a value all the same.
        let settings = desired.keys().filter(|k| matches!(k, Key::Sysctl { .. } | Key::LinkSysctl { .. }));
        let settings = kernel.observe(&Scope::Keys(settings.cloned().collect()));
        for (key, want) in &desired {
            match settings.get(key).or_else(|| kernel.objects().get(key)) {
                None => return Err(format!("{key} in {} is missing", key.ns())),
                Some((_, have)) if !satisfies(want, have) => {
                    return Err(format!("{key} in {} is {have:?}, not {want:?}", key.ns()));
                }
                Some(_) => {}
            }
        }
        let surplus = kernel.objects().iter().find(|(key, (owner, object))| {
            *owner == Owner::Ours && !matches!(object, Object::Sysctl(_)) && !desired.contains_key(key)
        });
        if let Some((key, _)) = surplus {
            return Err(format!("{key} in {} is left over", key.ns()));
        }
        drop(kernel);

        let own = |s: &&Arc<Sandbox>| s.namespace == NamespaceKind::Own;
        let open: BTreeSet<SandboxId> = intent.sandboxes().filter(own).map(|s| s.id.clone()).collect();
        let names = self.names.lock().unwrap();
        if names.open != open {
            return Err(format!("resolvers are open in {:?}, not {open:?}", names.open));
        }
        if names.intent != *intent {
            return Err("names answer for another intent".into());
        }
        // Ports lead by a bridge that is there.
        let leads = |e: &Endpoint| {
            let network = intent.network(&e.network).unwrap();
            drivers.of(network).unwrap().attachment(network, e, &host).is_some_and(|a| a.bridge.is_some())
        };
        let publishes = |s: &&Arc<Sandbox>| {
            !s.ports.is_empty() && intent.gateway_endpoint(&s.id, false).is_some_and(|e| leads(e))
        };
        let wanted: BTreeSet<&SandboxId> = intent.sandboxes().filter(publishes).map(|s| &s.id).collect();
        let ports = self.ports.lock().unwrap();
        if ports.set.keys().collect::<BTreeSet<_>>() != wanted {
            return Err(format!("ports are published for {:?}, not {wanted:?}", ports.set.keys()));
        }
        for (id, Publication { mappings, beside }) in &ports.set {
            let endpoint = intent.gateway_endpoint(id, false).unwrap();
            let address = endpoint.ipv4.unwrap().addr();
            let listed = &intent.sandbox(id).unwrap().ports;
            let is_led = mappings.iter().all(|m| m.ipv4.as_ref().is_some_and(|t| t.address == address));
            let ways: Vec<IpAddr> = [false, true]
                .into_iter()
                .filter_map(|ipv6| {
                    intent.gateway_endpoint(id, ipv6)?.addresses().find(|a| a.is_ipv6() == ipv6)
                })
                .collect();
            let internal = |e: &Arc<Endpoint>| intent.network(&e.network).is_some_and(|n| n.internal);
            let others = intent.endpoints_in(id).filter(|e| !internal(e) && leads(e));
            let mut addresses: BTreeSet<IpAddr> =
                others.flat_map(|e| e.addresses().collect::<Vec<_>>()).collect();
            addresses.retain(|address| !ways.contains(address));
            let beside_is_right = beside.iter().map(|t| t.address).collect::<BTreeSet<_>>() == addresses;
            if !is_led || mappings.len() != listed.len() || !beside_is_right {
                return Err(format!("ports of {id:?} lead to {mappings:?} and beside to {beside:?}"));
            }
        }
        Ok(())
    }
}

/// What holds of every intent, whatever happened.
pub(crate) fn check_intent(intent: &Intent) -> Result<(), String> {
    let mut leases = BTreeSet::new();
    for endpoint in intent.endpoints() {
        let network = intent.network(&endpoint.network).ok_or("an endpoint without its network")?;
        intent.sandbox(&endpoint.sandbox).ok_or("an endpoint without its sandbox")?;
        for address in endpoint.addresses() {
            if !leases.insert((endpoint.network.clone(), address)) {
                return Err(format!("{address} is leased twice on {}", network.name));
            }
            if network.subnets.iter().any(|s| s.gateway == Some(address)) {
                return Err(format!("{address} is the gateway of {}", network.name));
            }
        }
    }
    for network in intent.networks() {
        let mut populations: BTreeMap<u16, u32> = BTreeMap::new();
        for endpoint in intent.endpoints_on(&network.id) {
            *populations.entry(endpoint.segment).or_default() += 1;
        }
        if !intent.segments_of(&network.id).eq(populations.keys().copied()) {
            return Err(format!("the segments of {} are not those of its endpoints", network.name));
        }
        for (segment, population) in populations {
            let counted = intent.population(&network.id, segment);
            if counted != population || population > SEGMENTS.endpoints {
                return Err(format!("segment {segment} of {} has {population}", network.name));
            }
        }
    }
    for kept in intent.reservations() {
        let network = intent.network(&kept.network).ok_or("an address kept on a network that is gone")?;
        let holder = intent.lease(&network.id, kept.address).and_then(|e| intent.endpoint(e));
        if kept.fixed && holder.is_some_and(|e| e.sandbox != kept.sandbox) {
            return Err(format!("{} is kept for one and leased to another", kept.address));
        }
    }
    let ports: Vec<_> = intent.ports().collect();
    for (i, (_, a)) in ports.iter().enumerate() {
        if ports[..i].iter().any(|(_, b)| a.collides(b)) {
            return Err(format!("{a:?} is published twice"));
        }
    }
    let networks: Vec<_> = intent.networks().collect();
    for (i, a) in networks.iter().enumerate() {
        for b in &networks[..i] {
            let clash = !a.config_only
                && !b.config_only
                && a.subnets.iter().any(|s| b.subnets.iter().any(|t| s.subnet.contains(&t.subnet)));
            if clash || a.name == b.name {
                return Err(format!("{} and {} overlap", a.name, b.name));
            }
        }
    }
    Ok(())
}

/// A bridge that takes so few endpoints that a handful of them needs several.
pub(crate) const SEGMENTS: Segments = Segments { endpoints: 2, most: 3 };

pub(crate) fn drivers() -> Drivers {
    let bridge = BridgeDriver { segments: SEGMENTS, ..BridgeDriver::default() };
    Drivers::default().with("bridge", bridge).with(HOST, HostDriver).with(NONE, NoneDriver)
}

/// Equal, but for what was left to the kernel.
fn satisfies(want: &Object, have: &Object) -> bool {
    let (Object::Link(want), Object::Link(have)) = (want, have) else { return want == have };
    let mut have: Link = have.clone();
    if want.mac.is_none() {
        have.mac = None;
    }
    if let (LinkKind::Veth { peer: Some(want) }, LinkKind::Veth { peer: Some(have) }) =
        (&want.kind, &mut have.kind)
        && want.mac.is_none()
    {
        have.mac = None;
    }
    *want == have
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
