//! What the host forwards between networks that are none of ours, shown by packets.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use libnetwork_core::Kernel as _;
use support::*;

/// Two namespaces on two sides of the host, which know each other by way of it.
fn sides() {
    for (name, net) in [("left", 1), ("right", 2)] {
        sh(&format!("ip netns add {name} && ip link add {name} type veth peer name eth0 netns {name}"));
        sh(&format!("ip addr add 192.0.{net}.1/24 dev {name} && ip link set {name} up"));
        sh(&format!("ip -n {name} addr add 192.0.{net}.2/24 dev eth0 && ip -n {name} link set eth0 up"));
        sh(&format!("ip -n {name} route add default via 192.0.{net}.1"));
    }
}

/// Whether the left side is answered from there.
fn is_answered(from: &str) -> bool {
    try_sh(&format!("ip netns exec left busybox ping -c 1 -W 1 {from}")).status.success()
}

async fn settled_host() {
    let (mut kernel, mut world) = (kernel(), World::new());
    world.facts.closed = kernel.host().await.unwrap().closed;
    world.network(1, |_| {});
    world.endpoint(1, 2);
    settle(&mut kernel, &world).await;
    // The next process still knows why the host forwards.
    assert_eq!(kernel.host().await.unwrap().closed, world.facts.closed);
    assert!(reaches(2, "192.0.2.2"), "a container reaches the outside");
}

#[test]
fn a_host_that_was_no_router_becomes_none_for_others() {
    host(|| async {
        sides();
        sh("echo 0 > /proc/sys/net/ipv4/ip_forward");
        settled_host().await;
        assert_eq!(sh("cat /proc/sys/net/ipv4/ip_forward").trim(), "1");
        assert!((0..20).any(|_| is_answered("192.0.1.1")), "the way to the host");
        assert!(!is_answered("192.0.2.2"));
    });
}

#[test]
fn a_router_goes_on_being_one() {
    host(|| async {
        sides();
        sh("echo 1 > /proc/sys/net/ipv4/ip_forward");
        settled_host().await;
        assert!((0..20).any(|_| is_answered("192.0.2.2")));
    });
}
