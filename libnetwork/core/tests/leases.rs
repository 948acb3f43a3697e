//! Addresses that are kept for who had them or asked for them.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use libnetwork_core::{EndpointSpec, Join, Reserve};
use libnetwork_model::SandboxId;
use world::{
    Process, World,
    requests::{on, sandbox, with_subnet},
};

fn asks(number: u8, network: &str, address: &str) -> Join {
    Join {
        endpoints: vec![EndpointSpec { ipv4: address.parse().ok(), ..on(network) }],
        ..sandbox(number, &[])
    }
}

fn address_of(intent: &libnetwork_model::Intent, number: u8) -> String {
    let endpoint = intent.endpoints_in(&SandboxId::from_bytes([number; 32])).next().unwrap();
    endpoint.ipv4.unwrap().addr().to_string()
}

#[tokio::test]
async fn a_stopped_container_finds_its_address_again() {
    let world = World::default();
    let Process { core, .. } = world.start().await;
    core.create_network(with_subnet("web", "10.5.0.0/24")).await.unwrap();
    let id = |n| SandboxId::from_bytes([n; 32]);
    // 1 asked for the lowest address, 2 was given the next; both stop.
    core.join(asks(1, "web", "10.5.0.2")).await.unwrap();
    assert_eq!(address_of(&core.join(sandbox(2, &["web"])).await.unwrap(), 2), "10.5.0.3");
    core.leave(id(1), true).await.unwrap();
    core.leave(id(2), true).await.unwrap();
    // A neighbour gets neither, asked for or not.
    assert_eq!(address_of(&core.join(sandbox(3, &["web"])).await.unwrap(), 3), "10.5.0.4");
    let refused = core.join(asks(4, "web", "10.5.0.2")).await.unwrap_err();
    assert_eq!(refused.to_string(), "Address already in use");
    assert_eq!(address_of(&core.join(sandbox(2, &["web"])).await.unwrap(), 2), "10.5.0.3");
    // Once it is removed, it is anybody's.
    core.leave(id(1), false).await.unwrap();
    assert_eq!(address_of(&core.join(asks(4, "web", "10.5.0.2")).await.unwrap(), 4), "10.5.0.2");
}

#[tokio::test]
async fn what_is_reserved_before_anybody_joins_is_not_stolen() {
    let world = World::default();
    let Process { core, .. } = world.start().await;
    core.create_network(with_subnet("web", "10.5.0.0/24")).await.unwrap();
    let place = |address: &str| ("web".to_owned(), address.parse().unwrap());
    let reserve = |number: u8, fixed: &[&str]| Reserve {
        sandbox: SandboxId::from_bytes([number; 32]),
        fixed: fixed.iter().map(|a| place(a)).collect(),
        preferred: Vec::new(),
    };
    core.reserve(reserve(1, &["10.5.0.2", "10.9.0.1"])).await.unwrap();
    let again = core.reserve(reserve(2, &["10.5.0.2"])).await.unwrap();
    assert_eq!(again.reservations_of(&SandboxId::from_bytes([2; 32])).count(), 0);
    assert_eq!(address_of(&core.join(sandbox(3, &["web"])).await.unwrap(), 3), "10.5.0.3");
    // A network with nothing but reservations can be removed, and they go with it.
    core.leave(SandboxId::from_bytes([3; 32]), false).await.unwrap();
    core.remove_network("web".into()).await.unwrap();
    assert_eq!(core.intent().1.reservations().count(), 0);
}
