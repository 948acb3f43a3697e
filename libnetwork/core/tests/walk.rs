//! From any state to any state, with failures anywhere and processes killed anywhere: a command that failed left
//! nothing, a command that succeeded is there, and the world ends up as the intent says.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use libnetwork_core::{CreateNetwork, EndpointSpec, Error, Handle, Join};
use libnetwork_model::{Intent, Opening, PortRange, Protocol, SandboxId};
use libnetwork_plan::{Drift, Drifted, Key, Owner};
use proptest::prelude::*;
use world::{World, check::check_intent, requests};

#[derive(Debug, Clone)]
enum Command {
    Create(u8),
    Remove(u8),
    Join {
        sandbox: u8,
        networks: Vec<u8>,
        port: Option<u16>,
    },
    Leave(u8),
    Connect(u8, u8),
    Disconnect(u8, u8),
    Rename(u8, u8),
    Set(u8, u8),
    Publish(u8, Option<u16>),
    /// What the first reaches of the last on a network.
    Open(u8, u8, Option<u8>),
}

#[derive(Debug, Clone)]
enum Step {
    /// All at once.
    Commands(Vec<Command>),
    /// While the operations from the `from`-th on, `count` of them, are refused with `errno`.
    Refused {
        commands: Vec<Command>,
        from: usize,
        count: usize,
        errno: i32,
    },
    PortsRefused(Vec<Command>),
    NamesRefused(Vec<Command>),
    CommitsRefused(Vec<Command>),
    /// The process is stopped dead at the `after`-th operation.
    Killed {
        commands: Vec<Command>,
        after: usize,
    },
    /// Someone removes an object of ours.
    Vanish(usize),
}

/// What should be, by what was answered: networks, and for each sandbox its networks.
#[derive(Debug, Default, PartialEq, Clone)]
struct Model {
    networks: BTreeSet<String>,
    sandboxes: BTreeMap<SandboxId, BTreeSet<String>>,
}

impl Model {
    fn of(intent: &Intent) -> Self {
        let name = |id| intent.network(id).unwrap().name.clone();
        Self {
            networks: intent.networks().filter(|n| !n.predefined).map(|n| n.name.clone()).collect(),
            sandboxes: intent
                .sandboxes()
                .map(|s| (s.id.clone(), intent.endpoints_in(&s.id).map(|e| name(&e.network)).collect()))
                .collect(),
        }
    }

    /// One command at a time has one right answer.
    fn follow(&mut self, command: &Command, result: &Result<(), Error>) {
        let lingers = matches!(result, Err(Error::Lingers { .. }));
        let refused = matches!(result, Err(Error::Refused { .. }));
        match command {
            Command::Create(n) if result.is_ok() => drop(self.networks.insert(network(*n))),
            Command::Remove(n) => {
                let used = self.sandboxes.values().any(|s| s.contains(&network(*n)));
                if result.is_ok() || lingers {
                    assert!(!used, "a network in use was removed");
                    assert!(self.networks.remove(&network(*n)));
                } else if self.networks.contains(&network(*n)) && !matches!(result, Err(Error::Store(_))) {
                    assert!(used, "a network with no endpoint was not removed: {result:?}");
                }
            }
            Command::Join { sandbox, networks, .. } => {
                if result.is_ok() {
                    self.sandboxes
                        .insert(sandbox_id(*sandbox), networks.iter().map(|n| network(*n)).collect());
                } else if refused {
                    self.sandboxes.remove(&sandbox_id(*sandbox));
                }
            }
            Command::Leave(s) if result.is_ok() || lingers => drop(self.sandboxes.remove(&sandbox_id(*s))),
            Command::Connect(s, n) if result.is_ok() => {
                assert!(self.sandboxes.get_mut(&sandbox_id(*s)).unwrap().insert(network(*n)));
            }
            Command::Disconnect(s, n) if result.is_ok() || lingers => {
                assert!(self.sandboxes.get_mut(&sandbox_id(*s)).unwrap().remove(&network(*n)));
            }
            _ => {}
        }
    }
}

fn network(n: u8) -> String {
    format!("net{n}")
}

fn sandbox_id(n: u8) -> SandboxId {
    SandboxId::from_bytes([n + 1; 32])
}

fn spec(n: u8) -> EndpointSpec {
    requests::on(&network(n))
}

async fn run(core: &Handle, command: &Command) -> Result<(), Error> {
    match command.clone() {
        Command::Create(n) => {
            let (ipv6, internal) = (Some(n % 2 == 1), n == 3);
            let request = CreateNetwork { ipv6, internal, ..requests::network(&network(n)) };
            core.create_network(request).await.map(drop)
        }
        Command::Remove(n) => core.remove_network(network(n)).await,
        Command::Join { sandbox, networks, port } => {
            let (endpoints, ports) =
                (networks.into_iter().map(spec).collect(), port.map(requests::port).into_iter().collect());
            let request =
                Join { id: sandbox_id(sandbox), endpoints, ports, ..requests::sandbox(sandbox, &[]) };
            core.join(request).await.map(drop)
        }
        // Some come back to what was kept for them.
        Command::Leave(s) => core.leave(sandbox_id(s), s % 2 == 1).await,
        Command::Set(n, setting) => {
            let (key, value) = [("icc", "false"), ("icc", ""), ("mtu", "1300"), ("internal", "true")]
                [usize::from(setting) % 4];
            let settings = BTreeMap::from([(key.to_owned(), value.to_owned())]);
            core.set_network(network(n), settings).await.map(drop)
        }
        Command::Connect(s, n) => core.connect(sandbox_id(s), spec(n)).await.map(drop),
        Command::Disconnect(s, n) => core.disconnect(sandbox_id(s), network(n)).await.map(drop),
        Command::Rename(s, n) => core.rename(sandbox_id(s), format!("other{n}")).await.map(drop),
        Command::Publish(s, port) => {
            core.set_ports(sandbox_id(s), port.map(requests::port).into_iter().collect()).await.map(drop)
        }
        Command::Open(s, n, other) => {
            let ports = PortRange::one(80).unwrap();
            let to = |other| Opening { sandbox: sandbox_id(other), protocol: Protocol::Tcp, ports };
            let openings = other.map(to).into_iter().collect();
            core.set_openings(sandbox_id(s), network(n), openings).await.map(drop)
        }
    }
}

/// Runs the commands at once; a single one is held against the model as well.
async fn run_all(core: &Handle, commands: &[Command], model: &mut Model) {
    let results = futures_util::future::join_all(commands.iter().map(|c| run(core, c))).await;
    if let ([command], [result]) = (commands, results.as_slice()) {
        model.follow(command, result);
        assert_eq!(*model, Model::of(&core.intent().1), "after {command:?}: {result:?}");
    } else {
        *model = Model::of(&core.intent().1);
    }
}

/// Long enough for two looks at everything; costs nothing, for the clock stands still while anybody works.
const REST: Duration = Duration::from_secs(70);

fn walk(steps: Vec<Step>) {
    let world = World::default();
    let mut model = Model::default();
    let mut steps = steps.into_iter().peekable();
    loop {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let killed = runtime.block_on(life(&world, &mut model, &mut steps));
        // What its threads that may block have begun is done before anybody looks; a process that is killed has no later.
        runtime.shutdown_timeout(Duration::from_secs(120));
        if !killed {
            return;
        }
        *world.life.lock().unwrap() = None;
        model = Model::of(&world.stored.lock().unwrap().1);
    }
}

/// One process, from its start to its death or to the end of the walk. Answers whether it was killed.
async fn life(world: &World, model: &mut Model, steps: &mut impl Iterator<Item = Step>) -> bool {
    let process = world.start().await;
    let core = &process.core;
    world.check(&core.intent().1).unwrap();
    for step in steps.by_ref() {
        let restored = match step {
            Step::Commands(commands) => {
                run_all(core, &commands, model).await;
                true
            }
            Step::Refused { commands, from, count, errno } => {
                let start = world.kernel.lock().unwrap().tried + from;
                let fault = move |n: usize, _: &_| (start..start + count).contains(&n).then_some(errno);
                world.kernel.lock().unwrap().inject(Some(Box::new(fault)));
                run_all(core, &commands, model).await;
                world.kernel.lock().unwrap().inject(None);
                tokio::time::sleep(REST).await;
                true
            }
            Step::PortsRefused(commands) => {
                world.ports.lock().unwrap().refuse = true;
                run_all(core, &commands, model).await;
                world.ports.lock().unwrap().refuse = false;
                // What a disconnect could not take away is tried again.
                tokio::time::sleep(REST).await;
                true
            }
            Step::NamesRefused(commands) => {
                world.names.lock().unwrap().refuse = true;
                run_all(core, &commands, model).await;
                world.names.lock().unwrap().refuse = false;
                tokio::time::sleep(REST).await;
                true
            }
            Step::CommitsRefused(commands) => {
                *world.commits_refused.lock().unwrap() = 1;
                run_all(core, &commands, model).await;
                *world.commits_refused.lock().unwrap() = 0;
                true
            }
            Step::Killed { commands, after } => {
                *world.life.lock().unwrap() = Some(after);
                let all = futures_util::future::join_all(commands.iter().map(|c| run(core, c)));
                let _ = tokio::time::timeout(Duration::from_secs(20), all).await;
                return true;
            }
            Step::Vanish(n) => {
                let key = {
                    let mut kernel = world.kernel.lock().unwrap();
                    let sysctl = |k: &&Key| matches!(k, Key::Sysctl { .. } | Key::LinkSysctl { .. });
                    let keys: Vec<Key> = kernel
                        .objects()
                        .iter()
                        .filter(|(_, (owner, _))| *owner == Owner::Ours)
                        .map(|(key, _)| key)
                        .filter(|key| !sysctl(key))
                        .cloned()
                        .collect();
                    let Some(key) = keys.get(n % keys.len().max(1)) else { continue };
                    kernel.vanish(key).unwrap();
                    key.clone()
                };
                let mut events = core.watch();
                let what =
                    if n.is_multiple_of(2) { Drifted::All } else { Drifted::Keys([key.clone()].into()) };
                process.drifts.send(Drift { what, host: false }).unwrap();
                let event = tokio::time::timeout(Duration::from_secs(1), events.recv()).await;
                let event = event.unwrap_or_else(|_| panic!("no repair of {key} within a second")).unwrap();
                assert!(event.attributes.contains_key("missing"), "{event:?}");
                tokio::time::sleep(REST).await;
                true
            }
        };
        let intent = core.intent().1;
        check_intent(&intent).unwrap();
        if restored {
            world.check(&intent).unwrap();
        }
    }
    // Nothing is left to do, neither for this process nor for the one after it.
    let tried = world.kernel.lock().unwrap().tried;
    tokio::time::sleep(REST).await;
    process.shutdown.cancel();
    process.running.finished().await.unwrap();
    let next = world.start().await;
    assert_eq!(world.kernel.lock().unwrap().tried, tried, "a second pass made an operation");
    let intent = next.core.intent().1;
    world.check(&intent).unwrap();
    // Whatever happened before, no network has endpoints that nobody can take away.
    for sandbox in intent.sandboxes() {
        next.core.leave(sandbox.id.clone(), false).await.unwrap();
    }
    for network in intent.networks().filter(|network| !network.predefined) {
        next.core.remove_network(network.id.to_string()).await.unwrap();
    }
    world.check(&next.core.intent().1).unwrap();
    false
}

fn command() -> impl Strategy<Value = Command> {
    let networks = prop::collection::btree_set(0u8..4, 1..3).prop_map(|s| s.into_iter().collect::<Vec<_>>());
    prop_oneof![
        3 => (0u8..4).prop_map(Command::Create),
        2 => (0u8..4).prop_map(Command::Remove),
        4 => (0u8..4, networks, prop::option::of(8080u16..8083))
            .prop_map(|(sandbox, networks, port)| Command::Join { sandbox, networks, port }),
        2 => (0u8..4).prop_map(Command::Leave),
        2 => (0u8..4, 0u8..4).prop_map(|(s, n)| Command::Connect(s, n)),
        2 => (0u8..4, 0u8..4).prop_map(|(s, n)| Command::Disconnect(s, n)),
        1 => (0u8..4, 0u8..4).prop_map(|(s, n)| Command::Rename(s, n)),
        2 => (0u8..4, 0u8..4).prop_map(|(n, s)| Command::Set(n, s)),
        2 => (0u8..4, prop::option::of(8080u16..8083)).prop_map(|(s, port)| Command::Publish(s, port)),
        2 => (0u8..4, 0u8..4, prop::option::of(0u8..4)).prop_map(|(s, n, other)| Command::Open(s, n, other)),
    ]
}

fn commands() -> impl Strategy<Value = Vec<Command>> {
    prop_oneof![3 => prop::collection::vec(command(), 1..=1), 1 => prop::collection::vec(command(), 2..6)]
}

fn step() -> impl Strategy<Value = Step> {
    // EBUSY and EAGAIN pass, ENOMEM, EEXIST and ENOBUFS do not.
    let errno = prop::sample::select(vec![16, 11, 12, 17, 105]);
    prop_oneof![
        10 => commands().prop_map(Step::Commands),
        4 => (commands(), 0usize..12, 1usize..20, errno)
            .prop_map(|(commands, from, count, errno)| Step::Refused { commands, from, count, errno }),
        1 => commands().prop_map(Step::PortsRefused),
        1 => commands().prop_map(Step::NamesRefused),
        1 => commands().prop_map(Step::CommitsRefused),
        3 => (commands(), 0usize..16).prop_map(|(commands, after)| Step::Killed { commands, after }),
        2 => any::<usize>().prop_map(Step::Vanish),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_world_becomes_the_intent(steps in prop::collection::vec(step(), 1..24)) {
        walk(steps);
    }
}
