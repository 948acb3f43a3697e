//! Commands that come while another is on its way, and is refused.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::time::Duration;

use libnetwork_core::{Error, Handle, Join};
use libnetwork_model::{Intent, PortRange, PortWish, SandboxId};
use libnetwork_plan::{Key, Operation};
use tokio::{
    task::{JoinHandle, yield_now},
    time::timeout,
};
use world::{
    Process, World,
    check::check_intent,
    requests::{network, port, sandbox},
};

const PATIENCE: Duration = Duration::from_secs(120);
const MODE: &str = "gateway-mode-ipv4";
const OPTION: &str = "com.docker.network.bridge.gateway_mode_ipv4";

fn id(n: u8) -> SandboxId {
    SandboxId::from_bytes([n; 32])
}

async fn until(core: &Handle, holds: impl Fn(&Intent) -> bool) {
    let wait = async {
        while !holds(&core.intent().1) {
            yield_now().await;
        }
    };
    timeout(PATIENCE, wait).await.expect("a commit");
}

/// With one thread for all that blocks, so that [`idle`] waits for what was begun before it.
fn run(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().max_blocking_threads(1).build().unwrap().block_on(test);
}

/// Lets everything run that can: nothing here waits for a clock or another thread but the store, on one that blocks.
async fn idle() {
    for _ in 0..20 {
        yield_now().await;
        tokio::task::spawn_blocking(|| ()).await.unwrap();
    }
}

fn route(core: &Handle) -> JoinHandle<Result<(), Error>> {
    let core = core.clone();
    let settings = [(MODE.to_owned(), "routed".to_owned())].into();
    tokio::spawn(async move { core.set_network("web".into(), settings).await.map(drop) })
}

/// With a container that publishes port 8080 from the network `web`.
async fn publishing() -> (World, Process) {
    let world = World::default();
    let process = world.start().await;
    process.core.create_network(network("web")).await.unwrap();
    process.core.join(Join { ports: vec![port(8080)], ..sandbox(1, &["web"]) }).await.unwrap();
    (world, process)
}

/// What tells a network of that mode apart.
fn refuse_routed(world: &World) {
    let refuse = |_: usize, operation: &Operation| match operation {
        Operation::Create { key: Key::SetElement { set, .. }, .. } if **set == *"routed4" => Some(12),
        _ => None,
    };
    world.kernel.lock().unwrap().inject(Some(Box::new(refuse)));
}

fn is_routed(intent: &Intent) -> bool {
    intent.sandbox(&id(1)).is_some_and(|sandbox| sandbox.ports.iter().any(|port| port.routed))
}

#[test]
fn a_container_that_leaves_while_its_network_changes_stays_away_when_the_change_is_refused() {
    run(async {
        let (world, Process { core, .. }) = publishing().await;
        refuse_routed(&world);
        let gate = world.gate.write().await;
        let changed = route(&core);
        until(&core, is_routed).await;
        let left = core.clone();
        let left = tokio::spawn(async move { left.leave(id(1), false).await });
        idle().await;
        drop(gate);
        assert!(matches!(changed.await.unwrap(), Err(Error::Refused { .. })));
        left.await.unwrap().unwrap();
        let (_, intent) = core.intent();
        assert_eq!((intent.sandboxes().count(), intent.endpoints().count()), (0, 0));
        world.check(&intent).unwrap();
    });
}

#[test]
fn what_a_network_s_change_made_of_ports_outlives_a_refused_rename() {
    run(async {
        let (world, Process { core, .. }) = publishing().await;
        world.names.lock().unwrap().refusals = 1;
        let gate = world.gate.write().await;
        let renamed = core.clone();
        let renamed = tokio::spawn(async move { renamed.rename(id(1), "other".into()).await });
        until(&core, |intent| intent.sandbox(&id(1)).unwrap().name == "other").await;
        let changed = route(&core);
        idle().await;
        drop(gate);
        assert!(matches!(renamed.await.unwrap(), Err(Error::Refused { .. })));
        changed.await.unwrap().unwrap();
        let (_, intent) = core.intent();
        assert_eq!(intent.sandbox(&id(1)).unwrap().name, "box1");
        assert!(is_routed(&intent), "{:?}", intent.sandbox(&id(1)).unwrap().ports);
        check_intent(&intent).unwrap();
    });
}

#[test]
fn ports_that_are_asked_for_while_a_network_changes_are_those_of_what_comes_of_it() {
    run(async {
        let world = World::default();
        let Process { core, .. } = world.start().await;
        core.create_network(network("web")).await.unwrap();
        core.join(sandbox(1, &["web"])).await.unwrap();
        refuse_routed(&world);
        let gate = world.gate.write().await;
        let changed = route(&core);
        until(&core, |intent| intent.network_by_name("web").unwrap().options.contains_key(OPTION)).await;
        let asked = core.clone();
        let asked = tokio::spawn(async move { asked.set_ports(id(1), vec![port(8080)]).await });
        idle().await;
        drop(gate);
        assert!(matches!(changed.await.unwrap(), Err(Error::Refused { .. })));
        let intent = asked.await.unwrap().unwrap();
        assert!(!is_routed(&intent));
        world.check(&core.intent().1).unwrap();
    });
}

#[test]
fn a_port_that_may_come_back_is_nobody_else_s_until_it_is_settled() {
    run(async {
        let (world, Process { core, .. }) = publishing().await;
        world.ports.lock().unwrap().refusals = 1;
        let gate = world.gate.write().await;
        let moved = core.clone();
        let moved = tokio::spawn(async move { moved.set_ports(id(1), vec![port(8081)]).await });
        until(&core, |intent| intent.sandbox(&id(1)).unwrap().ports[0].host_ports.first() == 8081).await;
        let other = || core.join(Join { ports: vec![port(8080)], ..sandbox(2, &["web"]) });
        let taken = timeout(PATIENCE, other()).await.expect("an answer").unwrap_err();
        assert_eq!(
            taken.to_string(),
            "Bind for 0.0.0.0:8080 failed: port is already allocated: container box1 publishes 8080/tcp"
        );
        // One that is free all along is had meanwhile, and so is one of several.
        let range = PortWish { host_ports: PortRange::new(8080, 8082), ..port(8080) };
        let any = core.clone();
        let any =
            tokio::spawn(async move { any.join(Join { ports: vec![range], ..sandbox(3, &["web"]) }).await });
        idle().await;
        drop(gate);
        assert!(matches!(moved.await.unwrap(), Err(Error::Refused { .. })));
        let intent = any.await.unwrap().unwrap();
        assert_eq!(intent.sandbox(&id(3)).unwrap().ports[0].host_ports.first(), 8082);
        check_intent(&core.intent().1).unwrap();
        core.set_ports(id(1), Vec::new()).await.unwrap();
        other().await.unwrap();
        world.check(&core.intent().1).unwrap();
    });
}

#[test]
fn a_join_that_waited_for_a_refused_one_is_not_undone_with_it_though_the_store_refuses_too() {
    run(async {
        let world = World::default();
        let Process { core, .. } = world.start().await;
        core.create_network(network("web")).await.unwrap();
        world.names.lock().unwrap().refusals = 1;
        let gate = world.gate.write().await;
        let join = || {
            let core = core.clone();
            tokio::spawn(async move { core.join(sandbox(1, &["web"])).await.map(drop) })
        };
        let first = join();
        until(&core, |intent| intent.sandbox(&id(1)).is_some()).await;
        let second = join();
        idle().await;
        *world.commits_refused.lock().unwrap() = 1;
        drop(gate);
        assert!(matches!(first.await.unwrap(), Err(Error::Refused { .. })));
        second.await.unwrap().unwrap();
        // With any other command comes what is owed still.
        core.create_network(network("other")).await.unwrap();
        let (_, intent) = core.intent();
        assert_eq!((intent.sandboxes().count(), intent.endpoints().count()), (1, 1));
        world.check(&intent).unwrap();
    });
}

#[test]
fn a_store_that_refuses_again_and_again_answers_all_and_owes_what_is_left() {
    run(async {
        let world = World::default();
        let Process { core, .. } = world.start().await;
        core.create_network(network("web")).await.unwrap();
        world.names.lock().unwrap().refusals = 1;
        let gate = world.gate.write().await;
        let join = |n: u8| {
            let core = core.clone();
            tokio::spawn(async move { core.join(sandbox(n, &["web"])).await.map(drop) })
        };
        let first = join(1);
        until(&core, |intent| intent.sandbox(&id(1)).is_some()).await;
        let waiting = [join(1), join(1)];
        idle().await;
        *world.commits_refused.lock().unwrap() = 100;
        drop(gate);
        assert!(matches!(first.await.unwrap(), Err(Error::Refused { .. })));
        for answer in waiting {
            assert!(matches!(timeout(PATIENCE, answer).await.unwrap().unwrap(), Err(Error::Store(_))));
        }
        assert!(*world.commits_refused.lock().unwrap() > 90, "it tries without end");
        *world.commits_refused.lock().unwrap() = 0;
        core.create_network(network("other")).await.unwrap();
        let (_, intent) = core.intent();
        assert_eq!((intent.sandboxes().count(), intent.endpoints().count()), (0, 0));
        world.check(&intent).unwrap();
    });
}
