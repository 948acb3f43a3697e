//! What a command that could not be carried out answers, and what it leaves.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use libnetwork_core::{CreateNetwork, chain};
use libnetwork_model::{ErrorKind, HasKind, SandboxId};
use libnetwork_plan::{Drift, Drifted, Key, LinkKind, LinkRank, Ns, Object};
use world::{
    Process, World, foreign_link,
    requests::{network, on, sandbox},
};

const LAN: &str = "lan0";

/// A network whose bridge is called `lan0`, and after a boot a link of that name that is somebody else's.
async fn world_with_a_link_in_the_way() -> (World, Process) {
    let world = World::default();
    let process = world.start().await;
    let options = [("com.docker.network.bridge.name".to_owned(), LAN.to_owned())].into();
    process.core.create_network(CreateNetwork { options, ..network("lan") }).await.unwrap();
    process.core.create_network(network("web")).await.unwrap();
    process.shutdown.cancel();
    process.running.finished().await.unwrap();

    *world.kernel.lock().unwrap() = Default::default();
    let key = Key::Link { rank: LinkRank::Other, ns: Ns::Host, name: LAN.into() };
    let link = foreign_link(LinkKind::Other("dummy".into()));
    world.kernel.lock().unwrap().put_foreign(key, Object::Link(link)).unwrap();
    let process = world.start().await;
    (world, process)
}

#[tokio::test]
async fn an_endpoint_on_a_bridge_whose_name_somebody_else_has_is_refused_with_that_name() {
    let (_, Process { core, .. }) = world_with_a_link_in_the_way().await;
    let refused = |error: libnetwork_core::Error| {
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(chain(&error).ends_with("link lan0 exists and is not ours"), "{}", chain(&error));
    };
    refused(core.join(sandbox(1, &["lan"])).await.unwrap_err());
    core.join(sandbox(2, &["web"])).await.unwrap();
    refused(core.connect(SandboxId::from_bytes([2; 32]), on("lan")).await.unwrap_err());
    let (_, intent) = core.intent();
    assert_eq!((intent.sandboxes().count(), intent.endpoints().count()), (1, 1));
}

#[tokio::test]
async fn a_bridge_in_the_way_of_one_command_fails_no_other_that_is_carried_out_with_it() {
    let (_, Process { core, .. }) = world_with_a_link_in_the_way().await;
    let all = (1..=8).map(|n| {
        let (core, on) = (core.clone(), if n % 2 == 0 { "web" } else { "lan" });
        tokio::spawn(async move { (on, core.join(sandbox(n, &[on])).await.is_ok()) })
    });
    for answer in all.collect::<Vec<_>>() {
        let (on, carried_out) = answer.await.unwrap();
        assert_eq!(carried_out, on == "web");
    }
    assert_eq!(core.intent().1.endpoints().count(), 4);
}

#[tokio::test(start_paused = true)]
async fn what_a_link_was_in_the_way_of_is_made_as_soon_as_it_goes() {
    let (world, Process { core, drifts, .. }) = world_with_a_link_in_the_way().await;
    let key = |rank| Key::Link { rank, ns: Ns::Host, name: LAN.into() };
    world.kernel.lock().unwrap().vanish(&key(LinkRank::Other)).unwrap();
    let what = Drifted::Keys([key(LinkRank::Bridge)].into());
    drifts.send(Drift { what, host: true }).unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    world.check(&core.intent().1).unwrap();
    core.join(sandbox(1, &["lan"])).await.unwrap();
}
