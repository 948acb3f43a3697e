//! Published ports, as commands settle them.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::net::Ipv4Addr;

use libnetwork_core::{CreateNetwork, Join, chain};
use libnetwork_model::{ErrorKind, HasKind, Intent, PortWish, SandboxId};
use world::{
    World,
    requests::{network, on, port, sandbox},
};

#[tokio::test]
async fn a_published_port_belongs_to_one() {
    let world = World::default();
    let core = world.start().await.core;
    core.join(Join { ports: vec![port(8080)], ..sandbox(1, &["bridge"]) }).await.unwrap();
    let taken = "Bind for 0.0.0.0:8080 failed: port is already allocated: container box1 publishes 8080/tcp";
    let refused = core.join(Join { ports: vec![port(8080)], ..sandbox(2, &["bridge"]) }).await;
    assert_eq!(chain(&refused.unwrap_err()), taken);
    core.leave(SandboxId::from_bytes([1; 32]), false).await.unwrap();
    core.join(Join { ports: vec![port(8080)], ..sandbox(2, &["bridge"]) }).await.unwrap();
    world.check(&core.intent().1).unwrap();
}

#[tokio::test]
async fn who_has_ipv6_alone_leaves_the_ipv4_port_to_others() {
    let world = World::default();
    let core = world.start().await.core;
    let request = CreateNetwork { ipv4: Some(false), ipv6: Some(true), ..network("six") };
    core.create_network(request).await.unwrap();
    let on_ipv4 = || PortWish { host_ip: Some(Ipv4Addr::UNSPECIFIED.into()), ..port(8080) };
    let intent = core.join(Join { ports: vec![port(8080)], ..sandbox(1, &["six"]) }).await.unwrap();
    let addresses = |intent: &Intent, n: u8| -> Vec<_> {
        let sandbox = intent.sandbox(&SandboxId::from_bytes([n; 32])).unwrap();
        sandbox.ports.iter().map(|p| p.host_ip.map(|ip| ip.to_string()).unwrap_or_default()).collect()
    };
    assert_eq!(addresses(&intent, 1), ["::"]);
    core.join(Join { ports: vec![on_ipv4()], ..sandbox(2, &["bridge"]) }).await.unwrap();
    let intent = core.join(Join { ports: vec![on_ipv4()], ..sandbox(3, &["six"]) }).await.unwrap();
    assert_eq!(addresses(&intent, 3), [""; 0]);
    // With a way out of IPv4 it is to have that port, too, which another has.
    let id = SandboxId::from_bytes([1; 32]);
    assert!(core.connect(id.clone(), on("bridge")).await.is_err());
    core.leave(SandboxId::from_bytes([2; 32]), false).await.unwrap();
    let intent = core.connect(id, on("bridge")).await.unwrap();
    assert_eq!(addresses(&intent, 1), [""]);
    world.check(&core.intent().1).unwrap();
}

#[tokio::test]
async fn ports_change_on_a_live_sandbox_all_or_none() {
    let world = World::default();
    let core = world.start().await.core;
    let id = SandboxId::from_bytes([1; 32]);
    let any = PortWish { host_ports: None, ..port(1) };
    core.join(Join { ports: vec![any.clone()], ..sandbox(1, &["bridge"]) }).await.unwrap();
    core.join(Join { ports: vec![port(9000)], ..sandbox(2, &["bridge"]) }).await.unwrap();
    let ports = |intent: &Intent| intent.sandbox(&id).unwrap().ports.clone();
    let chosen = ports(&core.intent().1)[0].clone();
    // The port that was chosen stays; another one with the same wish is another one.
    let intent = core.set_ports(id.clone(), vec![any.clone(), any.clone(), port(8080)]).await.unwrap();
    assert_eq!((ports(&intent).len(), &ports(&intent)[0]), (3, &chosen));
    assert_ne!(ports(&intent)[1].host_ports, chosen.host_ports);
    world.check(&intent).unwrap();

    let taken = "Bind for 0.0.0.0:9000 failed: port is already allocated: container box2 publishes 9000/tcp";
    let refused = core.set_ports(id.clone(), vec![port(8081), port(9000)]).await;
    assert_eq!(chain(&refused.unwrap_err()), taken);
    assert_eq!(ports(&core.intent().1), ports(&intent));
    world.ports.lock().unwrap().refuse = true;
    assert!(core.set_ports(id.clone(), vec![port(8081)]).await.is_err());
    world.ports.lock().unwrap().refuse = false;
    assert_eq!(ports(&core.intent().1), ports(&intent));

    let intent = core.set_ports(id.clone(), Vec::new()).await.unwrap();
    assert!(ports(&intent).is_empty());
    world.check(&intent).unwrap();
    let nobody = core.set_ports(SandboxId::from_bytes([9; 32]), Vec::new()).await;
    assert_eq!(nobody.unwrap_err().kind(), ErrorKind::NotFound);
}
