//! What the reconciler makes of changes behind its back, and how often it looks.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use libnetwork_core::Join;
use libnetwork_model::{SandboxId, Uplink};
use libnetwork_plan::{Drift, Drifted, Key, LinkRank, Ns, Object, Owner, Route};
use tokio::time::sleep;
use world::{
    Process, World,
    requests::{network, port, sandbox},
};

/// Counts warnings.
struct Warnings(&'static AtomicUsize);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

fn drift(keys: impl IntoIterator<Item = Key>) -> Drift {
    Drift { what: Drifted::Keys(keys.into_iter().collect()), host: false }
}

#[tokio::test(start_paused = true)]
async fn a_container_s_own_default_route_is_left_to_the_slow_tick_until_it_goes() {
    static WARNINGS: AtomicUsize = AtomicUsize::new(0);
    let _counted = tracing::subscriber::set_default(Warnings(&WARNINGS));
    let world = World::default();
    let Process { core, drifts, .. } = world.start().await;
    core.create_network(network("web")).await.unwrap();
    core.join(sandbox(1, &["web"])).await.unwrap();
    let ns = Ns::Sandbox(SandboxId::from_bytes([1; 32]));
    let find = || {
        let kernel = world.kernel.lock().unwrap();
        let default = |key: &&Key| matches!(key, Key::Route { ns: n, .. } if *n == ns);
        let key = kernel.objects().keys().find(default).unwrap().clone();
        let (owner, object) = kernel.objects()[&key].clone();
        (key, owner, object)
    };
    let (key, _, object) = find();
    let Object::Route(route) = object else { panic!("{object:?}") };
    {
        let mut kernel = world.kernel.lock().unwrap();
        kernel.vanish(&key).unwrap();
        let object = Object::Route(Route { gateway: None, ..route });
        kernel.put_foreign(key.clone(), object).unwrap();
    }
    let before = *world.full_looks.lock().unwrap();
    drifts.send(drift([key.clone()])).unwrap();
    sleep(Duration::from_secs(100)).await;
    assert_eq!(find().1, Owner::Foreign);
    let looks = *world.full_looks.lock().unwrap() - before;
    assert!((1..=4).contains(&looks), "{looks} looks at everything in 100 s");
    assert_eq!(WARNINGS.load(Ordering::Relaxed), 1);

    world.kernel.lock().unwrap().vanish(&key).unwrap();
    drifts.send(drift([key])).unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(find().1, Owner::Ours);
    world.check(&core.intent().1).unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_others_do_to_the_host_s_network_is_looked_at_by_the_second_and_not_missed() {
    let world = World::default();
    let Process { core, drifts, .. } = world.start().await;
    core.create_network(network("web")).await.unwrap();
    core.join(sandbox(1, &["web"])).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    let before = *world.host_looks.lock().unwrap();
    let change = || drifts.send(Drift { host: true, ..drift([]) }).unwrap();
    // One alone is seen soon.
    world.host.lock().unwrap().mtu = 1490;
    change();
    sleep(Duration::from_millis(150)).await;
    assert_eq!(core.host().mtu, 1490);
    for n in 0..3000 {
        world.host.lock().unwrap().mtu = 1400 + n % 50;
        change();
        sleep(Duration::from_millis(1)).await;
    }
    sleep(Duration::from_secs(2)).await;
    let looks = *world.host_looks.lock().unwrap() - before;
    assert!(looks <= 8, "{looks} looks at the host in 5 s");
    assert_eq!(core.host().mtu, 1449);
    sleep(Duration::from_secs(3)).await;
    world.check(&core.intent().1).unwrap();
}

#[tokio::test(start_paused = true)]
async fn notifications_that_are_lost_again_and_again_neither_keep_it_looking_nor_hold_up_a_repair() {
    let world = World::default();
    let Process { core, drifts, .. } = world.start().await;
    core.create_network(network("web")).await.unwrap();
    core.join(sandbox(1, &["web"])).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    let before = *world.full_looks.lock().unwrap();
    let veth = {
        let kernel = world.kernel.lock().unwrap();
        let veth = |key: &&Key| matches!(key, Key::Link { rank: LinkRank::Veth, .. });
        kernel.objects().keys().find(veth).unwrap().clone()
    };
    let is_there = || world.kernel.lock().unwrap().objects().contains_key(&veth);
    for n in 0..200 {
        drifts.send(Drift { what: Drifted::Lost, host: false }).unwrap();
        sleep(Duration::from_millis(100)).await;
        // Just after everything was looked at, and the next look is two seconds away.
        if n % 50 == 5 {
            world.kernel.lock().unwrap().vanish(&veth).unwrap();
            drifts.send(drift([veth.clone()])).unwrap();
            sleep(Duration::from_millis(300)).await;
            assert!(is_there(), "not repaired within 300 ms");
        }
    }
    let looks = *world.full_looks.lock().unwrap() - before;
    assert!((5..=12).contains(&looks), "{looks} looks at everything in 21 s");
    // What was lost is found all the same.
    world.kernel.lock().unwrap().vanish(&veth).unwrap();
    drifts.send(Drift { what: Drifted::Lost, host: false }).unwrap();
    sleep(Duration::from_millis(2200)).await;
    assert!(is_there());
}

#[tokio::test(start_paused = true)]
async fn an_uplink_that_the_mapper_refused_is_tried_again_until_it_is_served() {
    let world = World::default();
    let Process { core, drifts, .. } = world.start().await;
    let uplink = Uplink { index: 7, mtu: 1500, addresses: Vec::new() };
    world.host.lock().unwrap().uplinks.insert("up0".into(), uplink);
    world.ports.lock().unwrap().refuse_uplinks = true;
    drifts.send(Drift { host: true, ..drift([]) }).unwrap();
    sleep(Duration::from_secs(3)).await;
    assert!(core.host().uplinks.contains_key("up0"));
    assert_eq!(world.ports.lock().unwrap().uplinks.len(), 0);
    world.ports.lock().unwrap().refuse_uplinks = false;
    sleep(Duration::from_secs(3)).await;
    assert!(world.ports.lock().unwrap().uplinks.contains("up0"), "nobody told the mapper again");
}

#[tokio::test]
async fn a_refused_uplink_keeps_no_port_from_being_published_at_start() {
    let world = World::default();
    let Process { core, shutdown, running, .. } = world.start().await;
    core.join(Join { ports: vec![port(8080)], ..sandbox(1, &["bridge"]) }).await.unwrap();
    shutdown.cancel();
    running.finished().await.unwrap();
    // As after a boot, but for the containers.
    world.ports.lock().unwrap().set.clear();
    world.ports.lock().unwrap().refuse_uplinks = true;
    let Process { core, .. } = world.start().await;
    world.check(&core.intent().1).unwrap();
}
