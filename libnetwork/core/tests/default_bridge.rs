//! What a configuration that changed makes of a default bridge that containers live on.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use libnetwork_core::{Join, chain};
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
