//! Networks on a bridge that somebody else made, and what is made of them while it is away.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::{sync::Arc, time::Duration};

use libnetwork_core::{CreateNetwork, Error, Join, chain};
use libnetwork_model::{Change, ErrorKind, HasKind, Mutation, Network, SandboxId};
use libnetwork_plan::{Drift, Drifted, Key, Link, LinkKind, LinkRank, Ns, Object, Operation, Owner};
use tokio::{sync::mpsc::UnboundedSender, time::sleep};
use world::{
    Process, World, foreign_link,
    requests::{network, port, sandbox, with_subnet},
};

const NAME: &str = "com.docker.network.bridge.name";

fn key() -> Key {
    Key::Link { rank: LinkRank::Bridge, ns: Ns::Host, name: "br0".into() }
}

/// Somebody makes br0.
fn make(world: &World) {
    world.kernel.lock().unwrap().put_foreign(key(), Object::Link(foreign_link(LinkKind::Bridge))).unwrap();
    let address = "10.0.0.1/24".parse().unwrap();
    let mut host = world.host.lock().unwrap();
    host.bridges.insert("br0".into(), vec![address]);
    host.taken.push(address.trunc());
}

/// Somebody removes br0.
fn remove(world: &World) {
    world.kernel.lock().unwrap().vanish(&key()).unwrap();
    let mut host = world.host.lock().unwrap();
    host.bridges.clear();
    host.taken.clear();
}

async fn is_heard(drifts: &UnboundedSender<Drift>) {
    drifts.send(Drift { what: Drifted::Keys([key()].into()), host: true }).unwrap();
    sleep(Duration::from_secs(5)).await;
}

/// The bridges that the ports of ours are in.
fn masters(world: &World) -> Vec<Option<String>> {
    let kernel = world.kernel.lock().unwrap();
    let links = kernel.objects().iter().filter_map(|(key, (owner, object))| match (key, object) {
        (Key::Link { rank: LinkRank::Veth, .. }, Object::Link(link)) if *owner == Owner::Ours => Some(link),
        _ => None,
    });
    links.map(|link| link.master.as_ref().map(ToString::to_string)).collect()
}

fn is_there(world: &World) -> bool {
    world.kernel.lock().unwrap().objects().contains_key(&key())
}

fn configured() -> World {
    let world = World::default();
    world.defaults.lock().unwrap().bridge_options.insert(NAME.into(), "br0".into());
    world
}

async fn refusal(world: &World) -> String {
    match world.try_start().await {
        Ok(_) => panic!("it starts"),
        Err(error) => chain(&error),
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_goes_is_not_made_and_what_hung_on_it_is_attached_again_when_it_is_back() {
    let world = configured();
    make(&world);
    let process = world.start().await;
    process.core.join(sandbox(1, &["bridge"])).await.unwrap();
    assert_eq!(masters(&world), [Some("br0".to_owned())]);

    remove(&world);
    is_heard(&process.drifts).await;
    assert!(!is_there(&world));
    assert_eq!(masters(&world), [None]);
    world.check(&process.core.intent().1).unwrap();
    let before = *world.full_looks.lock().unwrap();
    sleep(Duration::from_secs(100)).await;
    let looks = *world.full_looks.lock().unwrap() - before;
    assert!(looks <= 4, "{looks} looks at everything in 100 s");
    let error = process.core.join(sandbox(2, &["bridge"])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(chain(&error).contains("bridge br0 of network bridge is not there"), "{}", chain(&error));
    // One that is repeated finds its endpoint.
    process.core.join(sandbox(1, &["bridge"])).await.unwrap();

    make(&world);
    is_heard(&process.drifts).await;
    assert_eq!(masters(&world), [Some("br0".to_owned())]);
    process.core.join(sandbox(2, &["bridge"])).await.unwrap();
    world.check(&process.core.intent().1).unwrap();
}

#[tokio::test(start_paused = true)]
async fn ports_do_not_lead_by_one_that_is_away_and_do_again_when_it_is_back() {
    let world = configured();
    make(&world);
    let process = world.start().await;
    process.core.create_network(network("web")).await.unwrap();
    let publishing =
        |n, networks: &[&str]| Join { ports: vec![port(8080 + u16::from(n))], ..sandbox(n, networks) };
    process.core.join(publishing(1, &["bridge"])).await.unwrap();
    // What leads into this one does not depend on it.
    let mut beside = publishing(2, &["web", "bridge"]);
    beside.endpoints[0].gateway_priority = 1;
    process.core.join(beside).await.unwrap();
    let led = || {
        let ports = world.ports.lock().unwrap();
        let ways = |id| ports.set.get(&SandboxId::from_bytes([id; 32])).map(|set| set.beside.len());
        [ways(1), ways(2)]
    };
    assert_eq!(led(), [Some(0), Some(1)]);

    remove(&world);
    is_heard(&process.drifts).await;
    assert_eq!(led(), [None, Some(0)]);
    world.check(&process.core.intent().1).unwrap();
    let before = *world.full_looks.lock().unwrap();
    sleep(Duration::from_secs(100)).await;
    let looks = *world.full_looks.lock().unwrap() - before;
    assert!(looks <= 4, "{looks} looks at everything in 100 s");
    process.core.set_ports(SandboxId::from_bytes([2; 32]), vec![port(9090)]).await.unwrap();

    make(&world);
    is_heard(&process.drifts).await;
    assert_eq!(led(), [Some(0), Some(1)]);
    world.check(&process.core.intent().1).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_start_without_the_configured_one_is_refused_unless_containers_wait_for_it() {
    let world = configured();
    let refused = refusal(&world).await;
    assert!(refused.contains("br0 must be created manually"), "{refused}");

    make(&world);
    let process = world.start().await;
    process.core.join(sandbox(1, &["bridge"])).await.unwrap();
    let before = process.core.intent().1;
    process.end().await;
    remove(&world);
    let process = world.start().await;
    assert_eq!(process.core.intent().1, before, "all of it is known");
    assert!(!is_there(&world));
    make(&world);
    is_heard(&process.drifts).await;
    assert_eq!(masters(&world), [Some("br0".to_owned())]);
    process.end().await;
    // There, and as yet without its addresses.
    let had = world.host.lock().unwrap().bridges.insert("br0".into(), Vec::new()).unwrap();
    let process = world.start().await;
    assert_eq!(process.core.intent().1, before, "all of it is known");
    process.core.leave(sandbox(1, &[]).id, false).await.unwrap();
    process.end().await;
    let refused = refusal(&world).await;
    assert!(refused.contains("its addresses are: none"), "{refused}");
    world.host.lock().unwrap().bridges.insert("br0".into(), had);

    // As after a boot.
    remove(&world);
    let refused = refusal(&world).await;
    assert!(refused.contains("br0 must be created manually"), "{refused}");
    assert!(!is_there(&world));
}

#[tokio::test(start_paused = true)]
async fn a_start_without_the_configured_one_is_not_refused_while_containers_run_elsewhere() {
    let world = configured();
    make(&world);
    let process = world.start().await;
    process.core.create_network(network("web")).await.unwrap();
    process.core.join(sandbox(1, &["web"])).await.unwrap();
    let before = process.core.intent().1;
    process.end().await;

    remove(&world);
    let process = world.start().await;
    assert_eq!(process.core.intent().1, before, "all of it is known");
    assert!(!is_there(&world));
    let error = process.core.join(sandbox(2, &["bridge"])).await.unwrap_err();
    assert!(matches!(error, Error::BridgeAway { .. }), "{error}");
    process.end().await;

    make(&world);
    // There, and as yet without its addresses, or with another.
    for addresses in [vec![], vec!["fd00::1/64".parse().unwrap()]] {
        world.host.lock().unwrap().bridges.insert("br0".into(), addresses);
        let process = world.start().await;
        assert_eq!(process.core.intent().1, before, "all of it is known");
        process.end().await;
    }
    remove(&world);

    // A version before did not say whose the bridge is.
    let bridge = before.network_by_name("bridge").unwrap();
    let unsaid = Network { foreign_link: false, ..(**bridge).clone() };
    let change = Change(vec![Mutation::PutNetwork(Arc::new(unsaid))]);
    world.stored.lock().unwrap().1 = before.apply(&change);
    let process = world.start().await;
    assert_eq!(process.core.intent().1, before);
    assert!(!is_there(&world));
    process.core.leave(sandbox(1, &[]).id, false).await.unwrap();
    process.end().await;
    let refused = refusal(&world).await;
    assert!(refused.contains("br0 must be created manually"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn one_that_a_version_before_made_in_the_user_s_place_stays_until_it_is_gone() {
    let world = World::default();
    // As that version left it: with a link of ours, and nothing said of whose it is.
    let process = world.start().await;
    process.core.join(sandbox(1, &["bridge"])).await.unwrap();
    process.end().await;
    let stored = world.stored.lock().unwrap().1.clone();
    let mut unsaid = Network::clone(stored.network_by_name("bridge").unwrap());
    unsaid.options.insert(NAME.into(), "br0".into());
    let before = stored.apply(&Change(vec![Mutation::PutNetwork(Arc::new(unsaid))]));
    world.stored.lock().unwrap().1 = before.clone();
    world.defaults.lock().unwrap().bridge_options.insert(NAME.into(), "br0".into());
    let ours = Link {
        id: before.network_by_name("bridge").unwrap().id.as_str().into(),
        ..foreign_link(LinkKind::Bridge)
    };
    let made = Operation::Create { key: key(), object: Object::Link(ours) };
    world.kernel.lock().unwrap().apply(&[made]).pop().unwrap().unwrap();

    let process = world.start().await;
    assert_eq!(process.core.intent().1, before);
    assert_eq!(masters(&world), [Some("br0".to_owned())]);
    world.check(&before).unwrap();
    process.core.leave(sandbox(1, &[]).id, false).await.unwrap();
    process.end().await;
    let process = world.start().await;
    assert!(is_there(&world), "nobody lives on it, and it is the configured one all the same");
    process.end().await;
    // A boot.
    world.kernel.lock().unwrap().vanish(&key()).unwrap();
    let refused = refusal(&world).await;
    assert!(refused.contains("br0 must be created manually"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_network_that_was_made_on_one_waits_for_it_also_after_a_boot() {
    let world = World::default();
    make(&world);
    let process = world.start().await;
    let options = [(NAME.to_owned(), "br0".to_owned())].into();
    let request = CreateNetwork { options, ..with_subnet("net", "10.0.0.0/24") };
    process.core.create_network(request).await.unwrap();
    assert!(process.core.intent().1.network_by_name("net").unwrap().foreign_link);
    process.core.create_network(network("other")).await.unwrap();
    assert!(!process.core.intent().1.network_by_name("other").unwrap().foreign_link);
    process.end().await;

    remove(&world);
    let process = world.start().await;
    assert!(!is_there(&world));
    world.check(&process.core.intent().1).unwrap();
    let error = process.core.join(sandbox(1, &["net"])).await.unwrap_err();
    assert!(matches!(error, Error::BridgeAway { .. }), "{error}");
    make(&world);
    is_heard(&process.drifts).await;
    process.core.join(sandbox(1, &["net"])).await.unwrap();
    assert_eq!(masters(&world), [Some("br0".to_owned())]);
    process.core.leave(sandbox(1, &[]).id, false).await.unwrap();
    process.core.remove_network("net".into()).await.unwrap();
    assert!(is_there(&world), "it is the user's");
}

#[tokio::test(start_paused = true)]
async fn a_start_takes_note_of_one_that_is_in_the_place_of_a_network_s_own() {
    let world = World::default();
    let Process { core, drifts, shutdown, running } = world.start().await;
    let options = [(NAME.to_owned(), "br0".to_owned())].into();
    core.create_network(CreateNetwork { options, ..with_subnet("net", "10.0.0.0/24") }).await.unwrap();
    assert!(is_there(&world));
    Process { core, drifts, shutdown, running }.end().await;
    // A boot, and somebody else is first.
    world.kernel.lock().unwrap().vanish(&key()).unwrap();
    make(&world);
    let process = world.start().await;
    assert!(process.core.intent().1.network_by_name("net").unwrap().foreign_link);
    process.core.join(sandbox(1, &["net"])).await.unwrap();
    world.check(&process.core.intent().1).unwrap();
}
