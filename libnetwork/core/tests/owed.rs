//! What the port mapper refused is tried again until it takes it, also where no command and no change asks for it any more.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::time::Duration;

use libnetwork_core::{Error, Join};
use libnetwork_model::SandboxId;
use libnetwork_plan::{Drift, Drifted, Key, LinkRank, Operation};
use tokio::time::sleep;
use world::{
    Process, World,
    requests::{network, on, port, sandbox},
};

fn id() -> SandboxId {
    SandboxId::from_bytes([1; 32])
}

/// A container on the network `web` that publishes a port.
async fn published() -> (World, Process) {
    let world = World::default();
    let process = world.start().await;
    process.core.create_network(network("web")).await.unwrap();
    process.core.join(Join { ports: vec![port(8080)], ..sandbox(1, &["web"]) }).await.unwrap();
    (world, process)
}

fn link(world: &World, wanted: LinkRank, prefix: &str) -> Key {
    let kernel = world.kernel.lock().unwrap();
    let is_wanted = |key: &&Key| matches!(key, Key::Link { rank, name, .. } if *rank == wanted && name.starts_with(prefix));
    kernel.objects().keys().find(is_wanted).unwrap().clone()
}

/// Somebody deletes a link, and what the mapper led by it leads nowhere.
fn vanish(world: &World, process: &Process, link: Key) {
    world.kernel.lock().unwrap().vanish(&link).unwrap();
    world.ports.lock().unwrap().set.clear();
    process.drifts.send(Drift { what: Drifted::Keys([link].into()), host: false }).unwrap();
}

#[tokio::test(start_paused = true)]
async fn ports_by_a_link_that_was_repaired_are_published_though_the_mapper_refuses_them_once() {
    let (world, process) = published().await;
    world.ports.lock().unwrap().refusals = 1;
    vanish(&world, &process, link(&world, LinkRank::Veth, ""));
    sleep(Duration::from_secs(3)).await;
    assert_eq!(world.ports.lock().unwrap().refusals, 0, "nobody published again");
    world.check(&process.core.intent().1).unwrap();
}

#[tokio::test(start_paused = true)]
async fn ports_that_are_refused_for_long_bring_no_look_at_everything_and_no_telling_of_others() {
    let (world, process) = published().await;
    process.core.join(Join { ports: vec![port(8081)], ..sandbox(2, &["web"]) }).await.unwrap();
    let veth = link(&world, LinkRank::Veth, "");
    let looks = *world.full_looks.lock().unwrap();
    {
        let mut ports = world.ports.lock().unwrap();
        (ports.refusals, ports.tellings) = (5, 0);
    }
    world.kernel.lock().unwrap().vanish(&veth).unwrap();
    process.drifts.send(Drift { what: Drifted::Keys([veth].into()), host: false }).unwrap();
    sleep(Duration::from_secs(15)).await;
    let ports = world.ports.lock().unwrap();
    assert_eq!((ports.refusals, ports.tellings), (0, 6), "five refusals, and what was taken");
    assert_eq!(*world.full_looks.lock().unwrap(), looks);
}

#[tokio::test(start_paused = true)]
async fn a_bridge_that_was_repaired_is_told_again_though_the_mapper_refuses_it_once() {
    let (world, process) = published().await;
    let web = world.ports.lock().unwrap().bridges.last().unwrap().clone();
    world.ports.lock().unwrap().bridges.clear();
    world.ports.lock().unwrap().bridge_refusals = 1;
    vanish(&world, &process, link(&world, LinkRank::Bridge, &web));
    sleep(Duration::from_millis(200)).await;
    assert_eq!(world.ports.lock().unwrap().bridge_refusals, 0, "nobody told of the bridge");
    assert!(world.ports.lock().unwrap().set.contains_key(&id()), "ports wait for the bridge");
    sleep(Duration::from_secs(3)).await;
    assert!(world.ports.lock().unwrap().bridges.contains(&web), "nobody told of the bridge again");
}

#[tokio::test(start_paused = true)]
async fn ports_that_a_disconnect_moves_are_published_though_the_mapper_refuses_them_once() {
    let (world, Process { core, .. }) = published().await;
    core.create_network(network("aaa")).await.unwrap();
    core.connect(id(), on("aaa")).await.unwrap();
    world.ports.lock().unwrap().refusals = 1;
    // What is left has no way back, so the command cannot be refused.
    let way_out = core.intent().1.gateway_endpoint(&id(), false).unwrap().network.to_string();
    let error = core.disconnect(id(), way_out).await.unwrap_err();
    assert!(matches!(error, Error::Lingers { .. }), "{error}");
    sleep(Duration::from_secs(3)).await;
    world.check(&core.intent().1).unwrap();
}

#[tokio::test(start_paused = true)]
async fn ports_that_are_given_back_after_a_refusal_are_published_though_that_is_refused_too() {
    let (world, Process { core, .. }) = published().await;
    world.ports.lock().unwrap().refusals = 2;
    let error = core.set_ports(id(), vec![port(9090)]).await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    world.ports.lock().unwrap().set.clear();
    sleep(Duration::from_secs(3)).await;
    world.check(&core.intent().1).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_was_taken_back_leaves_nothing_to_look_for() {
    let (world, Process { core, .. }) = published().await;
    sleep(Duration::from_secs(3)).await;
    let looks = *world.full_looks.lock().unwrap();
    world.ports.lock().unwrap().refusals = 1;
    core.join(Join { ports: vec![port(9090)], ..sandbox(2, &["web"]) }).await.unwrap_err();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(*world.full_looks.lock().unwrap(), looks);
    world.check(&core.intent().1).unwrap();
}

#[tokio::test(start_paused = true)]
async fn ports_that_a_disconnect_moves_are_published_though_the_kernel_refuses_the_way_out_at_first() {
    let (world, Process { core, .. }) = published().await;
    core.create_network(network("aaa")).await.unwrap();
    core.connect(id(), on("aaa")).await.unwrap();
    let refuse = |_: usize, operation: &Operation| match operation.key() {
        Key::Route { .. } => Some(12),
        _ => None,
    };
    world.kernel.lock().unwrap().inject(Some(Box::new(refuse)));
    let way_out = core.intent().1.gateway_endpoint(&id(), false).unwrap().network.to_string();
    let error = core.disconnect(id(), way_out).await.unwrap_err();
    assert!(matches!(error, Error::Lingers { .. }), "{error}");
    world.kernel.lock().unwrap().inject(None);
    sleep(Duration::from_secs(3)).await;
    world.check(&core.intent().1).unwrap();
}
