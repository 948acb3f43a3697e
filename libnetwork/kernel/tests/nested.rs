//! A container that is the host of a Causeway of its own: neither touches what the other made.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::fs::File;

use libnetwork_core::Kernel;
use libnetwork_kernel::{Config, LinuxKernel, purge};
use libnetwork_plan::{Owner, Scope};
use nix::sched::{CloneFlags, setns};
use support::*;

const INNER_NETNS: &str = "/run/inner/netns";
const INNER_SYSCTLS: &str = "/run/inner/sysctl-before";

/// Runs `work` with a sandbox as its host.
fn at_home_in<F: Future<Output = ()>>(sandbox: u8, work: impl FnOnce() -> F + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            setns(File::open(path(sandbox)).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work());
        });
        thread.join().unwrap();
    });
}

fn inner_kernel() -> LinuxKernel {
    let config = Config {
        netns_dir: INNER_NETNS.into(),
        sysctl_record: INNER_SYSCTLS.into(),
        resolv_conf: RESOLV_CONF.into(),
    };
    LinuxKernel::new(config).unwrap()
}

/// Network 7, which is nobody's outside, with sandbox 9 on it.
fn inner_world() -> World {
    let mut world = World::new();
    world.network(7, |n| {
        n.ipv6 = false;
        n.subnets.truncate(1);
    });
    world.endpoint(7, 9);
    world
}

fn inner(sandbox: u8, line: &str) -> std::process::Output {
    let space = LinuxKernel::namespace_path(INNER_NETNS.as_ref(), &sandbox_id(sandbox));
    try_sh(&format!("nsenter --net={} -- {line}", space.display()))
}

#[test]
fn a_causeway_in_a_container_leaves_what_the_outer_one_gave_it_and_is_left_alone() {
    host(|| async {
        let (mut outer, mut world) = (kernel(), World::new());
        world.network(1, |_| {});
        world.endpoint(1, 2);
        settle(&mut outer, &world).await;
        let desired = world.desired();
        let given = "sh -c 'ip -o link show eth0; ip -o addr show eth0; ip route show dev eth0; nft list table ip causeway'";
        let given = || String::from_utf8(inside(2, given).stdout).unwrap();
        // Told some time after it is up.
        eventually("the link is up", || given().contains("state UP") && !given().contains("tentative"));
        let before = given();
        assert!(
            before.contains("default via 10.100.1.1") && before.contains("table ip causeway"),
            "{before}"
        );

        at_home_in(2, || async {
            let (mut kernel, world) = (inner_kernel(), inner_world());
            let facts = kernel.host().await.unwrap();
            assert!(facts.uplinks.contains_key("eth0"), "{facts:?}");
            assert!(facts.taken.contains(&"10.100.1.0/24".parse().unwrap()), "{facts:?}");
            settle(&mut kernel, &world).await;
        });
        assert_eq!(given(), before);
        // The container's own way out serves what is inside it.
        assert!((0..20).any(|_| inner(9, "busybox ping -c 1 -W 1 10.100.1.1").status.success()));

        // Everything of the outer one's is looked at: nothing that the inner one made is in it.
        assert_settled(&mut outer, &desired).await;
        let seen = outer.observe(&Scope::all(&desired)).await.unwrap();
        let surplus: Vec<_> = seen.iter().filter(|(key, _)| !desired.contains_key(key)).collect();
        let ours = surplus.iter().filter(|(_, (owner, _))| *owner == Owner::Ours);
        assert_eq!(ours.count(), 0, "{surplus:#?}");
        assert!((0..20).any(|_| inner(9, "busybox ping -c 1 -W 1 10.100.7.1").status.success()));

        at_home_in(2, || async {
            purge(INNER_NETNS.as_ref(), INNER_SYSCTLS.as_ref()).unwrap();
        });
        assert_eq!(given(), before);
        assert_settled(&mut outer, &desired).await;
        let left = String::from_utf8(inside(2, "sh -c 'ip -br link; nft list tables'").stdout).unwrap();
        assert!(!left.contains("br-") && !left.contains("bridge causeway"), "{left}");
    });
}

#[test]
fn what_containers_of_an_earlier_version_have_is_ours_still() {
    host(|| async {
        let (mut kernel, mut world) = (kernel(), World::new());
        world.network(1, |_| {});
        world.endpoint(1, 2);
        settle(&mut kernel, &world).await;
        // There was one group for all links then.
        assert!(inside(2, "ip link set eth0 group 1129775105").status.success());
        let desired = world.desired();
        assert_settled(&mut kernel, &desired).await;
        assert!(inside(2, "ip route del default").status.success());
        pass(&mut kernel, &desired).await;
        assert_settled(&mut kernel, &desired).await;
    });
}
