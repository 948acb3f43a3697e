//! A private host per test: a thread with a network and a mount namespace of its own, which ends with it.
#![allow(dead_code, unreachable_pub, clippy::panic, clippy::unwrap_used)]

pub mod frames;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicU8, Ordering},
    time::{Duration, Instant},
};

use driver_bridge::BridgeDriver;
use libnetwork_core::Kernel;
use libnetwork_kernel::{Config, LinuxKernel};
use libnetwork_model::{
    Change, Endpoint, EndpointId, HostFacts, Intent, MacAddress, Mutation, NamespaceKind, Network, NetworkId,
    Resolver, Sandbox, SandboxId, Subnet,
};
use libnetwork_plan::{Desired, Drift, Drifted, Driver, Key, Ns, Plan, Scope, plan, sandbox_objects};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

/// Where the private host keeps its namespaces, below a /run of its own.
pub const NETNS: &str = "/run/causeway/netns";
/// Where it keeps what settings were before.
pub const SYSCTLS: &str = "/run/causeway/sysctl-before";
/// The host's resolv.conf.
pub const RESOLV_CONF: &str = "/run/resolv.conf";

/// Runs a test on a host of its own.
pub fn host<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none).unwrap();
            std::fs::write(RESOLV_CONF, "nameserver 192.0.2.53\nsearch a.example\n").unwrap();
            sh("ip link set lo up");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let deadline = Duration::from_secs(240);
            runtime.block_on(async { tokio::time::timeout(deadline, test()).await }).expect("the test hangs");
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

pub fn kernel() -> LinuxKernel {
    LinuxKernel::new(Config {
        netns_dir: NETNS.into(),
        sysctl_record: SYSCTLS.into(),
        resolv_conf: RESOLV_CONF.into(),
    })
    .unwrap()
}

pub fn try_sh(line: &str) -> Output {
    Command::new("sh").args(["-c", line]).stdin(Stdio::null()).output().unwrap()
}

pub fn sh(line: &str) -> String {
    let output = try_sh(line);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// A shell line inside a sandbox.
pub fn inside(sandbox: u8, line: &str) -> Output {
    try_sh(&format!("nsenter --net={} -- {line}", path(sandbox).display()))
}

/// A namespace beyond the host's uplink, which knows the way to our networks and may try to use it.
pub fn outside() {
    sh("ip netns add outside && ip link add up0 type veth peer name eth0 netns outside");
    sh("ip addr add 192.0.2.1/24 dev up0 && ip addr add 2001:db8::1/64 dev up0 nodad && ip link set up0 up");
    sh(
        "ip -n outside addr add 192.0.2.2/24 dev eth0 && ip -n outside addr add 2001:db8::2/64 dev eth0 nodad",
    );
    sh("ip -n outside link set eth0 up");
    sh(
        "ip -n outside route add 10.100.0.0/16 via 192.0.2.1 && ip -n outside route add fd00::/16 via 2001:db8::1",
    );
}

/// Whether an answer comes in the end. Neighbours that could not be reached before are asked for again once a second only
/// (net.ipv4.neigh.default.retrans_time_ms), and a link's carrier may be noticed as late.
pub fn reaches(sandbox: u8, target: &str) -> bool {
    (0..20).any(|_| pings(sandbox, target))
}

/// One question, for what is not to be answered.
pub fn pings(sandbox: u8, target: &str) -> bool {
    inside(sandbox, &format!("busybox ping -c 1 -W 1 {target}")).status.success()
}

pub fn path(sandbox: u8) -> PathBuf {
    LinuxKernel::namespace_path(Path::new(NETNS), &sandbox_id(sandbox))
}

pub fn sandbox_id(n: u8) -> SandboxId {
    SandboxId::from_bytes([n; 32])
}

/// Bounds what would never come; longer than a machine is ever seen to stand still.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A small intent, made step by step.
#[derive(Default, Clone)]
pub struct World {
    pub intent: Intent,
    pub facts: HostFacts,
}

impl World {
    pub fn new() -> Self {
        World { intent: Intent::default(), facts: HostFacts { mtu: 1500, ..HostFacts::default() } }
    }

    /// Network `n`: 10.100.n.0/24 and fd00:n::/64.
    pub fn network(&mut self, n: u8, adjust: impl FnOnce(&mut Network)) -> NetworkId {
        let subnet = |subnet: String, gateway: String| Subnet {
            subnet: subnet.parse().unwrap(),
            gateway: Some(gateway.parse().unwrap()),
            gateway_chosen: false,
            ip_range: None,
            auxiliary: Default::default(),
            requested: false,
        };
        let mut network = Network {
            id: NetworkId::from_bytes([n; 32]),
            name: format!("net{n}"),
            driver: "bridge".into(),
            created_ns: 0,
            ipv4: true,
            ipv6: true,
            internal: false,
            attachable: false,
            predefined: false,
            config_only: false,
            config_from: None,
            foreign_link: false,
            subnets: vec![
                subnet(format!("10.100.{n}.0/24"), format!("10.100.{n}.1")),
                subnet(format!("fd00:{n}::/64"), format!("fd00:{n}::1")),
            ],
            idle_subnets: Vec::new(),
            labels: Default::default(),
            options: Default::default(),
            ipam_options: Default::default(),
        };
        adjust(&mut network);
        let id = network.id.clone();
        self.apply(Mutation::PutNetwork(network.into()));
        id
    }

    /// Sandbox `s`, attached to network `n` as .s.
    pub fn endpoint(&mut self, n: u8, s: u8) -> EndpointId {
        self.endpoint_on(n, 0, s)
    }

    /// The same, on a segment of the network.
    pub fn endpoint_on(&mut self, n: u8, segment: u16, s: u8) -> EndpointId {
        if self.intent.sandbox(&sandbox_id(s)).is_none() {
            let sandbox = Sandbox {
                id: sandbox_id(s),
                name: format!("box{s}"),
                owner: String::new(),
                namespace: NamespaceKind::Own,
                resolver: Resolver::default(),
                wishes: Vec::new(),
                ports: Vec::new(),
            };
            self.apply(Mutation::PutSandbox(sandbox.into()));
        }
        let network = self.intent.network(&NetworkId::from_bytes([n; 32])).unwrap();
        let count = self.intent.endpoints_in(&sandbox_id(s)).count();
        let ipv4: ipnet::Ipv4Net = format!("10.100.{n}.{s}/24").parse().unwrap();
        let mut id = [s; 32];
        id[0] = n;
        let endpoint = Endpoint {
            id: EndpointId::from_bytes(id),
            network: network.id.clone(),
            sandbox: sandbox_id(s),
            ifname: format!("eth{count}"),
            mac: Some(MacAddress::from_ipv4(ipv4.addr())),
            ipv4: Some(ipv4),
            ipv6: network.ipv6.then(|| format!("fd00:{n}::{s}/64").parse().unwrap()),
            aliases: Vec::new(),
            links: Default::default(),
            openings: Vec::new(),
            gateway_priority: 0,
            segment,
            link_local: Vec::new(),
            options: Default::default(),
        };
        let id = endpoint.id.clone();
        self.apply(Mutation::PutEndpoint(endpoint.into()));
        id
    }

    pub fn apply(&mut self, mutation: Mutation) {
        self.intent = self.intent.apply(&Change(vec![mutation]));
    }

    pub fn desired(&self) -> Desired {
        let mut out = Desired::new();
        let driver = BridgeDriver::default();
        driver.host_objects(&self.facts, &mut out);
        for network in self.intent.networks() {
            driver.network_objects(network, &self.facts, &mut out);
            for segment in self.intent.segments_of(&network.id).filter(|segment| *segment > 0) {
                driver.segment_objects(network, segment, &self.facts, &mut out);
            }
            for endpoint in self.intent.endpoints_on(&network.id) {
                driver.endpoint_objects(network, endpoint, &self.facts, &mut out);
                for opening in &endpoint.openings {
                    let others = self.intent.endpoints_in(&opening.sandbox);
                    for other in others.filter(|other| other.network == network.id) {
                        driver.opening_objects(network, endpoint, other, opening, &mut out);
                    }
                }
            }
        }
        for sandbox in self.intent.sandboxes() {
            sandbox_objects(&self.intent, sandbox, &mut out);
        }
        out
    }
}

/// One pass over everything: what was planned, all of which must succeed.
pub async fn pass(kernel: &mut LinuxKernel, desired: &Desired) -> Plan {
    let scope = Scope::all(desired);
    scoped_pass(kernel, desired, &scope).await
}

pub async fn scoped_pass(kernel: &mut LinuxKernel, desired: &Desired, scope: &Scope) -> Plan {
    let observed = kernel.observe(scope).await.unwrap();
    let plan = plan(desired, &observed, scope);
    for result in kernel.apply(&plan.operations).await {
        result.unwrap_or_else(|error| panic!("{error}: {:?}\n{:#?}", error.cause, plan.operations));
    }
    plan
}

/// All that is told of what happened until now, whether the machine is fast or slow: the kernel tells in order, and the
/// last that is told is an address that comes and goes in this sandbox, which is left out.
pub async fn told(kernel: &mut LinuxKernel, sandbox: u8) -> Vec<Drift> {
    let (mut told, mut last) = (Vec::new(), last_word(sandbox));
    loop {
        let next = tokio::time::timeout(PATIENCE, kernel.changed()).await;
        let mut drift = next.unwrap_or_else(|_| panic!("{last} was not told of, only {told:?}"));
        let mut is_last = false;
        match &mut drift.what {
            Drifted::Keys(keys) if keys.contains(&last) => {
                // With an address goes, perhaps, a default route.
                let ns = Ns::Sandbox(sandbox_id(sandbox));
                keys.retain(|key| *key != last && !matches!(key, Key::Route { ns: of, .. } if *of == ns));
                is_last = true;
            }
            Drifted::Keys(_) => {}
            // Who is to look at everything is told nothing else, the last word included.
            Drifted::All | Drifted::Lost => last = last_word(sandbox),
        }
        if drift.host || !matches!(&drift.what, Drifted::Keys(keys) if keys.is_empty()) {
            told.push(drift);
        }
        if is_last {
            return told;
        }
    }
}

fn last_word(sandbox: u8) -> Key {
    static COUNT: AtomicU8 = AtomicU8::new(0);
    let address = format!("198.18.0.{}/32", COUNT.fetch_add(1, Ordering::Relaxed));
    let line = format!("ip addr add {address} dev eth0 && ip addr del {address} dev eth0");
    let said = inside(sandbox, &format!("sh -c '{line}'"));
    assert!(said.status.success(), "{line}: {}", String::from_utf8_lossy(&said.stderr));
    Key::Address {
        ns: Ns::Sandbox(sandbox_id(sandbox)),
        link: "eth0".into(),
        address: address.parse().unwrap(),
    }
}

/// Makes it so, and shows that nothing is left to do, be everything looked at or exactly what is desired.
pub async fn settle(kernel: &mut LinuxKernel, world: &World) {
    let desired = world.desired();
    pass(kernel, &desired).await;
    assert_settled(kernel, &desired).await;
}

pub async fn assert_settled(kernel: &mut LinuxKernel, desired: &Desired) {
    for scope in [Scope::all(desired), Scope::Keys(desired.keys().cloned().collect())] {
        let again = plan(desired, &kernel.observe(&scope).await.unwrap(), &scope);
        assert!(again.is_empty(), "a second pass would do {again:#?}");
    }
}
