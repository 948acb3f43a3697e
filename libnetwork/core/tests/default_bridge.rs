//! What configurations make of the default bridge, and which of them it waits for.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use libnetwork_core::{Join, chain};
use libnetwork_model::{ErrorKind, HasKind, Intent, SandboxId, Subnet};
use libnetwork_plan::{Key, LinkKind, LinkRank, Ns, Object};
use world::{
    Process, World, foreign_link,
    requests::{port, sandbox, with_subnet},
};

fn bridge(name: &str) -> Key {
    Key::Link { rank: LinkRank::Bridge, ns: Ns::Host, name: name.into() }
}

fn configure(world: &World, option: &str, value: &str) {
    let option = format!("com.docker.network.bridge.{option}");
    world.defaults.lock().unwrap().bridge_options.insert(option, value.into());
}

#[tokio::test]
async fn it_stays_with_its_subnets_until_nobody_lives_on_it() {
    let world = World::default();
    let process = world.start().await;
    process.core.join(sandbox(1, &["bridge"])).await.unwrap();
    let before = process.core.intent().1;
    process.end().await;

    let object = Object::Link(foreign_link(LinkKind::Bridge));
    world.kernel.lock().unwrap().put_foreign(bridge("br0"), object).unwrap();
    world.host.lock().unwrap().bridges.insert("br0".into(), vec!["10.0.0.1/24".parse().unwrap()]);
    configure(&world, "name", "br0");
    configure(&world, "enable_icc", "false");
    // What br0 could not be used with is nothing to refuse docker0 by.
    let subnet = with_subnet("", "10.9.9.0/24").subnets;
    {
        let mut defaults = world.defaults.lock().unwrap();
        defaults.bridge_subnets = subnet;
        defaults.bridge_routers = ["10.9.9.9".parse().ok(), None];
    }
    let process = world.start().await;
    let after = process.core.intent().1;
    let [old, new] = [&before, &after].map(|intent| intent.network_by_name("bridge").unwrap().clone());
    assert_eq!(old.subnets, new.subnets);
    assert!(!new.foreign_link);
    assert_eq!(new.options["com.docker.network.bridge.name"], "docker0");
    assert_eq!(new.options["com.docker.network.bridge.enable_icc"], "false", "what they do not live by");
    assert!(world.kernel.lock().unwrap().objects().contains_key(&bridge("docker0")));
    world.check(&after).unwrap();
    process.core.leave(sandbox(1, &[]).id, false).await.unwrap();
    process.end().await;

    let refused = world.try_start().await.err().map(|error| chain(&error)).unwrap();
    assert!(refused.contains("needs the address 10.9.9.1/24 on it"), "{refused}");
    {
        let mut defaults = world.defaults.lock().unwrap();
        (defaults.bridge_subnets, defaults.bridge_routers) = Default::default();
    }
    let process = world.start().await;
    let network = process.core.intent().1.network_by_name("bridge").unwrap().clone();
    assert_eq!((network.foreign_link, network.subnets.len()), (true, 1));
    assert_eq!(network.subnets[0].subnet, "10.0.0.0/24".parse().unwrap());
    assert!(!world.kernel.lock().unwrap().objects().contains_key(&bridge("docker0")));
    world.check(&process.core.intent().1).unwrap();
}

#[tokio::test]
async fn the_ports_of_running_containers_follow_the_configured_address_and_stay_where_they_cannot() {
    let world = World::default();
    let process = world.start().await;
    for (n, on) in [(1, None), (2, Some("127.0.0.1"))] {
        let wish = libnetwork_model::PortWish {
            host_ip: on.map(|ip| ip.parse().unwrap()),
            ..port(8080 + u16::from(n))
        };
        process.core.join(Join { ports: vec![wish], ..sandbox(n, &["bridge"]) }).await.unwrap();
    }
    process.end().await;
    let published = |process: &Process| -> Vec<(String, u16)> {
        let intent = process.core.intent().1;
        let ports = intent.sandboxes().flat_map(|s| s.ports.clone());
        let on = |ip: Option<std::net::IpAddr>| ip.map_or("all".to_owned(), |ip| ip.to_string());
        let mut ports: Vec<_> = ports.map(|p| (on(p.host_ip), p.host_ports.first())).collect();
        ports.sort_by_key(|(_, port)| *port);
        ports
    };
    let expected = |first: &str| vec![(first.to_owned(), 8081), ("127.0.0.1".to_owned(), 8082)];

    configure(&world, "host_binding_ipv4", "127.0.0.1");
    let process = world.start().await;
    assert_eq!(published(&process), expected("127.0.0.1"));
    world.check(&process.core.intent().1).unwrap();
    process.end().await;

    *world.busy.lock().unwrap() = true;
    configure(&world, "host_binding_ipv4", "192.0.2.1");
    let process = world.start().await;
    assert_eq!(published(&process), expected("127.0.0.1"), "something else has the port there");
    world.check(&process.core.intent().1).unwrap();
}

#[tokio::test]
async fn it_is_as_configured_and_keeps_its_subnet_while_it_is_used() {
    let world = World::default();
    let subnet = Subnet {
        gateway: "10.200.0.1".parse().ok(),
        auxiliary: [("DefaultGatewayIPv4".to_owned(), "10.200.0.9".parse().unwrap())].into(),
        ..with_subnet("", "10.200.0.0/24").subnets.remove(0)
    };
    let bridge = |intent: &Intent| intent.network_by_name("bridge").unwrap().clone();
    let icc = "com.docker.network.bridge.enable_icc";

    let process = world.start().await;
    assert_eq!(bridge(&process.core.intent().1).subnets[0].subnet.to_string(), "172.17.0.0/16");
    process.end().await;

    world.defaults.lock().unwrap().bridge_subnets = vec![subnet];
    world.defaults.lock().unwrap().bridge_options = [(icc.to_owned(), "false".to_owned())].into();
    let process = world.start().await;
    let intent = process.core.join(sandbox(1, &["bridge"])).await.unwrap();
    let network = bridge(&intent);
    assert_eq!(
        (network.subnets[0].subnet.to_string().as_str(), network.options[icc].as_str()),
        ("10.200.0.0/24", "false")
    );
    world.check(&intent).unwrap();
    let way_out = |key: &Key, object: &Object| match (key, object) {
        (Key::Route { .. }, Object::Route(route)) => route.gateway,
        _ => None,
    };
    let gateway = world.kernel.lock().unwrap().objects().iter().find_map(|(k, (_, o))| way_out(k, o));
    assert_eq!(gateway, "10.200.0.9".parse().ok());
    process.end().await;

    // While a container has an address there, the rest changes and the subnet stays.
    *world.defaults.lock().unwrap() = Default::default();
    let process = world.start().await;
    let network = bridge(&process.core.intent().1);
    assert_eq!(
        (network.subnets[0].subnet.to_string().as_str(), network.options[icc].as_str()),
        ("10.200.0.0/24", "true")
    );
    world.check(&process.core.intent().1).unwrap();
    process.core.leave(SandboxId::from_bytes([1; 32]), false).await.unwrap();
    process.end().await;
    world.defaults.lock().unwrap().no_bridge = true;
    let process = world.start().await;
    assert!(process.core.intent().1.network_by_name("bridge").is_none());
    world.check(&process.core.intent().1).unwrap();
}

#[tokio::test]
async fn what_the_configuration_says_of_it_is_refused_as_a_command_and_labels_are_kept() {
    let world = World::default();
    let process = world.start().await;
    let core = &process.core;
    let set = |key: &str, value: &str| {
        core.set_network(
            "bridge".into(),
            [("label.a", "b"), (key, value)].map(|(k, v)| (k.into(), v.into())).into(),
        )
    };
    let before = core.intent().1;
    let error = set("icc", "false").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(
        chain(&error),
        "icc of the predefined network bridge cannot be changed by command: set \"icc\" in daemon.json and send SIGHUP, \
         or make a network of your own",
    );
    for (key, instead) in
        [("mtu", "\"mtu\""), ("masquerade", "\"ip-masq\""), ("gateway-mode-ipv4", "of your own")]
    {
        let error = set(key, "").await.unwrap_err().to_string();
        assert!(error.contains(key) && error.contains(instead), "{error}");
    }
    assert_eq!(core.intent().1, before);
    set("label.c", "d").await.unwrap();
    process.end().await;
    let process = world.start().await;
    let intent = process.core.intent().1;
    let labels: Vec<_> = intent.network_by_name("bridge").unwrap().labels.keys().cloned().collect();
    assert_eq!(labels, ["a", "c"]);
}
