//! What commands answer, in Docker's words.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use libnetwork_core::{CreateNetwork, EndpointSpec, Join, chain};
use libnetwork_model::{ErrorKind, HasKind, NamespaceKind, PortWish, SandboxId};
use libnetwork_plan::{Key, Link, LinkKind, LinkRank, Ns, Object};
use world::{
    Process, World, foreign_link,
    requests::{network, on, port, sandbox, with_subnet},
};

async fn world() -> (World, Process) {
    let world = World::default();
    let process = world.start().await;
    (world, process)
}

#[track_caller]
fn is<T: std::fmt::Debug>(result: Result<T, libnetwork_core::Error>, kind: ErrorKind, text: &str) {
    let error = result.unwrap_err();
    assert_eq!((error.kind(), chain(&error).as_str()), (kind, text));
}

#[tokio::test]
async fn the_predefined_networks_exist_from_the_start_and_stay() {
    let (_, Process { core, .. }) = world().await;
    let (_, intent) = core.intent();
    let names: Vec<_> = intent.networks().map(|n| (n.name.as_str(), n.driver.as_str())).collect();
    for wanted in [("bridge", "bridge"), ("host", "host"), ("none", "null")] {
        assert!(names.contains(&wanted), "{names:?}");
    }
    assert_eq!(intent.network_by_name("bridge").unwrap().subnets[0].subnet.to_string(), "172.17.0.0/16");
    let refused = core.remove_network("none".into()).await;
    is(refused, ErrorKind::InUse, "none is a pre-defined network and cannot be removed");
    let refused = core.create_network(network("host")).await;
    is(refused, ErrorKind::InUse, "operation is not permitted on predefined host network");
}

#[tokio::test]
async fn a_network_that_cannot_be_is_refused_with_its_name() {
    let (_, Process { core, .. }) = world().await;
    let (_, id) = core.create_network(with_subnet("web", "10.7.0.0/24")).await.unwrap();
    is(
        core.create_network(network("web")).await,
        ErrorKind::Conflict,
        "network with name web already exists",
    );
    is(
        core.create_network(network("x\u{1b}[2J")).await,
        ErrorKind::Invalid,
        "invalid network name \"x\\u{1b}[2J\": give at most 255 bytes, of characters that can be seen",
    );
    is(
        core.create_network(with_subnet("other", "10.7.0.128/25")).await,
        ErrorKind::InUse,
        "invalid pool request: Pool overlaps with other one on this address space: 10.7.0.128/25 and 10.7.0.0/24 \
         of network web",
    );
    is(
        core.create_network(CreateNetwork { driver: "weave".into(), ..network("x") }).await,
        ErrorKind::NotFound,
        "plugin \"weave\" not found",
    );
    is(core.remove_network("nope".into()).await, ErrorKind::NotFound, "network nope not found");
    core.remove_network(id.short().into()).await.unwrap();
}

#[tokio::test]
async fn a_network_in_use_names_who_uses_it() {
    let (_, Process { core, .. }) = world().await;
    core.create_network(network("web")).await.unwrap();
    let intent = core.join(sandbox(1, &["web"])).await.unwrap();
    let endpoint = intent.endpoints().next().unwrap().id.short().to_owned();
    is(
        core.remove_network("web".into()).await,
        ErrorKind::InUse,
        &format!(
            "error while removing network: network web has active endpoints (name:\"box1\" id:\"{endpoint}\")"
        ),
    );
}

#[tokio::test]
async fn a_network_that_many_use_names_some_and_counts_the_others() {
    let (_, Process { core, .. }) = world().await;
    core.create_network(network("web")).await.unwrap();
    for n in 1..=6 {
        core.join(sandbox(n, &["web"])).await.unwrap();
    }
    let text = core.remove_network("web".into()).await.unwrap_err().to_string();
    assert_eq!(text.matches("name:\"box").count(), 5, "{text}");
    assert!(text.ends_with(" and 1 more)"), "{text}");
}

#[tokio::test]
async fn an_ambiguous_prefix_is_refused() {
    let (_, Process { core, .. }) = world().await;
    let mut firsts = std::collections::BTreeSet::new();
    for n in 0..17 {
        let (_, id) = core.create_network(network(&format!("n{n}"))).await.unwrap();
        let first = id.as_str()[..1].to_owned();
        if !firsts.insert(first.clone()) {
            let error = core.remove_network(first.clone()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().ends_with(&format!("network {first} is ambiguous")), "{error}");
            return;
        }
    }
    panic!("17 ids with 17 first digits");
}

#[tokio::test]
async fn a_wished_for_address_is_given_once() {
    let (_, Process { core, .. }) = world().await;
    core.create_network(with_subnet("web", "10.7.0.0/24")).await.unwrap();
    core.create_network(network("pooled")).await.unwrap();
    let wish = |n: u8, network: &str, address: &str| Join {
        endpoints: vec![EndpointSpec { ipv4: address.parse().ok(), ..on(network) }],
        ..sandbox(n, &[])
    };
    let intent = core.join(wish(1, "web", "10.7.0.9")).await.unwrap();
    let endpoint = intent.endpoints().next().unwrap();
    assert_eq!(endpoint.ipv4.unwrap().to_string(), "10.7.0.9/24");
    assert_eq!(endpoint.mac.unwrap().to_string(), "02:42:0a:07:00:09");
    is(core.join(wish(2, "web", "10.7.0.9")).await, ErrorKind::InUse, "Address already in use");
    let outside = "no configured subnet or ip-range contain the IP address 10.8.0.9";
    is(core.join(wish(2, "web", "10.8.0.9")).await, ErrorKind::Invalid, outside);
    let pooled = "invalid config for network pooled: invalid endpoint settings:\nuser specified IP address is supported \
                  only when connecting to networks with user configured subnets";
    is(core.join(wish(2, "pooled", "172.18.0.9")).await, ErrorKind::Invalid, pooled);
    let user_defined = "user specified IP address is supported on user defined networks only";
    is(core.join(wish(2, "bridge", "172.17.0.9")).await, ErrorKind::Invalid, user_defined);
    assert_eq!(core.intent().1.sandboxes().count(), 1);
}

#[tokio::test]
async fn a_join_that_is_repeated_changes_nothing() {
    let (world, Process { core, .. }) = world().await;
    core.create_network(network("web")).await.unwrap();
    let any = PortWish { host_ports: None, ..port(1) };
    let request = Join { ports: vec![any, port(8080)], ..sandbox(1, &["web", "bridge"]) };
    let first = core.join(request.clone()).await.unwrap();
    let tried = world.kernel.lock().unwrap().tried;
    let second = core.join(request.clone()).await.unwrap();
    assert!(first.endpoints().eq(second.endpoints()));
    assert!(first.sandboxes().eq(second.sandboxes()));
    assert_eq!(world.kernel.lock().unwrap().tried, tried);
    // With another network, what stays keeps its address.
    let third = core.join(Join { endpoints: vec![on("bridge")], ..request }).await.unwrap();
    assert_eq!(third.endpoints().count(), 1);
    assert!(first.endpoints().any(|e| third.endpoint(&e.id) == Some(e)));
    world.check(&core.intent().1).unwrap();
}

#[tokio::test]
async fn networks_that_do_not_go_together_are_refused() {
    let (_, Process { core, .. }) = world().await;
    let both = core.join(sandbox(1, &["none", "bridge"])).await;
    assert_eq!(both.unwrap_err().kind(), ErrorKind::Invalid);
    let host = core.join(sandbox(1, &["host"])).await;
    assert_eq!(host.unwrap_err().kind(), ErrorKind::Invalid);
    let join = Join { namespace: NamespaceKind::Host, ports: vec![port(80)], ..sandbox(1, &["host"]) };
    assert!(core.join(join).await.unwrap().sandboxes().next().unwrap().ports.is_empty());
    let id = SandboxId::from_bytes([1; 32]);
    assert_eq!(core.connect(id, on("bridge")).await.unwrap_err().kind(), ErrorKind::Invalid);

    core.join(sandbox(2, &["bridge"])).await.unwrap();
    let id = SandboxId::from_bytes([2; 32]);
    let twice = core.connect(id.clone(), on("bridge")).await;
    is(twice, ErrorKind::InUse, "endpoint with name box2 already exists in network bridge");
    core.create_network(network("web")).await.unwrap();
    let absent = core.disconnect(id, "web".into()).await;
    is(absent, ErrorKind::NotFound, "container box2 is not connected to the network web");
}

#[tokio::test]
async fn a_foreign_link_in_the_way_is_named_and_left_alone() {
    let (world, Process { core, .. }) = world().await;
    let key = Key::Link { rank: LinkRank::Bridge, ns: Ns::Host, name: "br-mine".into() };
    let link = foreign_link(LinkKind::Bridge);
    world.kernel.lock().unwrap().put_foreign(key.clone(), Object::Link(link)).unwrap();
    let options = [("com.docker.network.bridge.name".to_owned(), "br-mine".to_owned())];
    let refused = core.create_network(CreateNetwork { options: options.into(), ..network("web") }).await;
    is(
        refused,
        ErrorKind::Conflict,
        "cannot set up network web: cannot create link br-mine in host: link br-mine exists and is not ours",
    );
    assert!(core.intent().1.network_by_name("web").is_none());
    assert!(world.kernel.lock().unwrap().objects().contains_key(&key));
    world.check(&core.intent().1).unwrap();
}

#[tokio::test]
async fn many_commands_at_once_share_few_commits() {
    let (world, Process { core, .. }) = world().await;
    let created = (0..200).map(|n| {
        let core = core.clone();
        tokio::spawn(async move { core.create_network(network(&format!("n{n}"))).await.map(drop) })
    });
    for created in created.collect::<Vec<_>>() {
        created.await.unwrap().unwrap();
    }
    assert_eq!(core.intent().1.networks().count(), 203);
    let commits = *world.commits.lock().unwrap();
    assert!(commits <= 20, "{commits} commits");
    world.check(&core.intent().1).unwrap();
}

#[tokio::test]
async fn watchers_hear_of_networks_and_endpoints_once_they_are() {
    let (_, Process { core, .. }) = world().await;
    let mut events = core.watch();
    core.create_network(network("web")).await.unwrap();
    core.join(sandbox(1, &["web"])).await.unwrap();
    core.leave(SandboxId::from_bytes([1; 32]), false).await.unwrap();
    core.remove_network("web".into()).await.unwrap();
    let mut heard = Vec::new();
    for _ in 0..4 {
        let event = events.recv().await.unwrap();
        assert_eq!(event.network.unwrap().1, "web");
        heard.push(event.action);
    }
    assert_eq!(heard, ["create", "connect", "disconnect", "destroy"]);
}

#[tokio::test]
async fn a_network_changes_while_it_is_used_or_refuses_whole() {
    let world = World::default();
    let Process { core, .. } = world.start().await;
    core.create_network(network("web")).await.unwrap();
    let joined = core.join(sandbox(1, &["web"])).await.unwrap();
    let set = |pairs: &[(&str, &str)]| {
        let settings = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        core.set_network("web".into(), settings)
    };
    for wrong in [("icc", "maybe"), ("mtu", "1"), ("subnet", "10.0.0.0/8"), ("color", "red")] {
        let error = set(&[("internal", "true"), wrong]).await.unwrap_err();
        assert!(error.to_string().contains(wrong.0) || error.to_string().contains(wrong.1), "{error}");
        assert_eq!(core.intent().1, joined);
    }
    set(&[("icc", "false"), ("mtu", "1400"), ("internal", "true"), ("label.a", "b")]).await.unwrap();
    let intent = core.intent().1;
    world.check(&intent).unwrap();
    let changed = intent.network_by_name("web").unwrap();
    assert!(changed.internal && changed.labels["a"] == "b");
    // Without a way out there is no default route, and with one there is again.
    assert!(intent.gateway_endpoint(&SandboxId::from_bytes([1; 32]), false).is_none());
    set(&[("icc", ""), ("mtu", ""), ("internal", "false"), ("label.a", "")]).await.unwrap();
    assert_eq!(core.intent().1, joined);
    world.check(&joined).unwrap();
}

#[tokio::test]
async fn a_network_takes_its_options_from_another() {
    let world = World::default();
    let Process { core, .. } = world.start().await;
    let mut config = with_subnet("office", "10.6.0.0/24");
    config.config_only = true;
    config.options = [("com.docker.network.driver.mtu".to_owned(), "1400".to_owned())].into();
    let (intent, id) = core.create_network(config).await.unwrap();
    assert_eq!(intent.network(&id).unwrap().driver, "null");
    assert!(core.join(sandbox(1, &["office"])).await.is_err());
    let user = CreateNetwork { config_from: Some("office".into()), ..network("web") };
    let (intent, id) = core.create_network(user).await.unwrap();
    let made = intent.network(&id).unwrap();
    assert_eq!(made.subnets[0].subnet.to_string(), "10.6.0.0/24");
    assert_eq!(made.options["com.docker.network.driver.mtu"], "1400");
    world.check(&intent).unwrap();
    let refused = core.remove_network("office".into()).await.unwrap_err();
    assert!(refused.to_string().contains("in use"), "{refused}");
    let both = CreateNetwork { config_from: Some("office".into()), ..with_subnet("x", "10.8.0.0/24") };
    assert!(core.create_network(both).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn links_follow_the_mtu_of_the_host_s_way_out() {
    let (world, Process { core, drifts, .. }) = world().await;
    core.create_network(network("web")).await.unwrap();
    let mut fixed = network("fixed");
    fixed.options = [("com.docker.network.driver.mtu".to_owned(), "1300".to_owned())].into();
    core.create_network(fixed).await.unwrap();
    core.join(sandbox(1, &["web", "fixed"])).await.unwrap();
    world.host.lock().unwrap().mtu = 1400;
    let what = libnetwork_plan::Drifted::Keys(Default::default());
    drifts.send(libnetwork_plan::Drift { what, host: true }).unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    world.check(&core.intent().1).unwrap();
    let kernel = world.kernel.lock().unwrap();
    let mtus = kernel.objects().values().filter_map(|(_, object)| match object {
        Object::Link(Link { kind: LinkKind::Veth { .. }, mtu, .. }) => Some(*mtu),
        _ => None,
    });
    let mut mtus: Vec<u32> = mtus.collect();
    mtus.sort_unstable();
    assert_eq!(mtus, [1300, 1400]);
}

#[tokio::test]
async fn a_network_grows_by_bridges_until_it_is_full_and_shrinks_with_its_endpoints() {
    let (world, Process { core, .. }) = world().await;
    core.create_network(network("web")).await.unwrap();
    for n in 0..6 {
        core.join(sandbox(n, &["web"])).await.unwrap();
        world.check(&core.intent().1).unwrap();
    }
    let segment = |n: u8| {
        let (_, intent) = core.intent();
        intent.endpoints_in(&SandboxId::from_bytes([n; 32])).next().map(|e| e.segment)
    };
    assert_eq!((0..6).map(segment).collect::<Vec<_>>(), [0, 0, 1, 1, 2, 2].map(Some));
    is(
        core.join(sandbox(6, &["web"])).await,
        ErrorKind::Exhausted,
        "network web has 6 endpoints, and takes no more: use another network",
    );
    // A join that is repeated disturbs nothing; room is used where it comes first.
    core.join(sandbox(5, &["web"])).await.unwrap();
    assert_eq!(segment(5), Some(2));
    for n in [2, 3] {
        core.leave(SandboxId::from_bytes([n; 32]), false).await.unwrap();
        world.check(&core.intent().1).unwrap();
    }
    core.join(sandbox(6, &["web"])).await.unwrap();
    assert_eq!(segment(6), Some(1));
    world.check(&core.intent().1).unwrap();
    // What is said of the network is said of its bridges.
    let id = core.intent().1.network_by_name("web").unwrap().id.clone();
    core.set_network("web".into(), [("mtu".to_owned(), "1400".to_owned())].into()).await.unwrap();
    world.check(&core.intent().1).unwrap();
    for n in [0, 1, 4, 5, 6] {
        core.leave(SandboxId::from_bytes([n; 32]), false).await.unwrap();
    }
    assert_eq!(core.intent().1.segments_of(&id).count(), 0);
    world.check(&core.intent().1).unwrap();
}
