//! What a change costs, and that it costs the same among many. Run by hand, released:
//! `cargo test --release -p libnetwork-kernel --test figures -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::time::{Duration, Instant};

use libnetwork_core::Kernel;
use libnetwork_model::Mutation;
use libnetwork_plan::{Scope, plan};
use support::*;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
#[ignore = "measures"]
fn the_cost_of_one_endpoint() {
    host(|| async {
        let (mut kernel, mut world) = (kernel(), World::new());
        world.network(1, |_| {});
        settle(&mut kernel, &world).await;
        let (mut observing, mut making, mut removing) = (Vec::new(), Vec::new(), Vec::new());
        for s in 2..42 {
            let before = world.desired();
            let endpoint = world.endpoint(1, s);
            let desired = world.desired();
            let scope =
                Scope::Keys(desired.keys().filter(|key| !before.contains_key(key)).cloned().collect());
            let start = Instant::now();
            let observed = kernel.observe(&scope).await.unwrap();
            observing.push(start.elapsed());
            let plan = plan(&desired, &observed, &scope);
            let start = Instant::now();
            for result in kernel.apply(&plan.operations).await {
                result.unwrap();
            }
            making.push(start.elapsed());
            if s % 2 == 0 {
                world.apply(Mutation::RemoveEndpoint(endpoint));
                world.apply(Mutation::RemoveSandbox(sandbox_id(s)));
                let start = Instant::now();
                scoped_pass(&mut kernel, &world.desired(), &scope).await;
                removing.push(start.elapsed());
            }
        }
        println!(
            "observe {:?}, make namespace and endpoint {:?}, remove both {:?}",
            median(observing),
            median(making),
            median(removing)
        );
    });
}

#[test]
#[ignore = "measures"]
fn a_thousand_networks_and_endpoints_are_adopted() {
    host(|| async {
        let mut kernel = kernel();
        let desired = big_world(1000);
        let start = Instant::now();
        pass(&mut kernel, &desired).await;
        println!("made {} objects in {:?}", desired.len(), start.elapsed());
        drop(kernel);
        let mut kernel = support::kernel();
        let start = Instant::now();
        let scope = Scope::all(&desired);
        let observed = kernel.observe(&scope).await.unwrap();
        let observing = start.elapsed();
        let start = Instant::now();
        assert!(plan(&desired, &observed, &scope).is_empty());
        println!("observed in {observing:?}, planned in {:?}", start.elapsed());
        let start = Instant::now();
        pass(&mut kernel, &Default::default()).await;
        println!("removed in {:?}", start.elapsed());
    });
}

/// Networks with one sandbox each.
fn big_world(count: u32) -> libnetwork_plan::Desired {
    use libnetwork_model::{EndpointId, NetworkId, SandboxId};
    let bytes = |n: u32| {
        let mut bytes = [7; 32];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        bytes
    };
    let mut world = World::new();
    let mut model = World::new();
    model.network(1, |n| n.ipv6 = false);
    model.endpoint(1, 2);
    let network = model.intent.networks().next().unwrap().clone();
    let endpoint = model.intent.endpoints().next().unwrap().clone();
    let sandbox = model.intent.sandboxes().next().unwrap().clone();
    for n in 0..count {
        let (a, b) = (n / 250, n % 250);
        let mut network = (*network).clone();
        (network.id, network.name) = (NetworkId::from_bytes(bytes(n)), format!("net{n}"));
        network.subnets.truncate(1);
        network.subnets[0].subnet = format!("10.{}.{b}.0/24", 100 + a).parse().unwrap();
        network.subnets[0].gateway = Some(format!("10.{}.{b}.1", 100 + a).parse().unwrap());
        let mut sandbox = (*sandbox).clone();
        sandbox.id = SandboxId::from_bytes(bytes(n));
        let mut endpoint = (*endpoint).clone();
        endpoint.id = EndpointId::from_bytes(bytes(n));
        (endpoint.network, endpoint.sandbox) = (network.id.clone(), sandbox.id.clone());
        endpoint.ipv4 = Some(format!("10.{}.{b}.2/24", 100 + a).parse().unwrap());
        world.apply(Mutation::PutNetwork(network.into()));
        world.apply(Mutation::PutSandbox(sandbox.into()));
        world.apply(Mutation::PutEndpoint(endpoint.into()));
    }
    world.desired()
}
