//! A bridge network in the kernel, seen by packets and by Debian's own tools.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use libnetwork_model::Mutation;
use libnetwork_plan::Scope;
use support::*;

#[test]
fn sandboxes_of_one_network_reach_each_other_and_their_gateway() {
    host(|| async {
        let (mut kernel, mut world) = (kernel(), World::new());
        world.network(1, |_| {});
        world.endpoint(1, 2);
        world.endpoint(1, 3);
        settle(&mut kernel, &world).await;
        for target in ["10.100.1.3", "fd00:1::3", "10.100.1.1", "fd00:1::1"] {
            assert!(reaches(2, target), "{target} is not reached");
        }
        let link = String::from_utf8(inside(2, "ip -d link show eth0").stdout).unwrap();
        assert!(link.contains("02:42:0a:64:01:02") && link.contains("mtu 1500"), "{link}");
    });
}

#[test]
fn a_second_process_finds_nothing_to_do() {
    host(|| async {
        let mut world = World::new();
        world.network(1, |n| n.options.extend([("com.docker.network.bridge.enable_icc".into(), "0".into())]));
        world.network(2, |n| n.internal = true);
        world.network(3, |n| n.ipv6 = false);
        for (n, s) in [(1, 2), (2, 2), (3, 2), (1, 4), (3, 5)] {
            world.endpoint(n, s);
        }
        settle(&mut kernel(), &world).await;
        assert_settled(&mut kernel(), &world.desired()).await;
    });
}

#[test]
fn a_change_is_made_by_looking_at_its_own_objects() {
    host(|| async {
        let (mut kernel, mut world) = (kernel(), World::new());
        world.network(1, |_| {});
        world.endpoint(1, 2);
        settle(&mut kernel, &world).await;
        let before = world.desired();
        let endpoint = world.endpoint(1, 3);
        let after = world.desired();
        let fresh = after.keys().filter(|key| !before.contains_key(key)).cloned().collect();
        let plan = scoped_pass(&mut kernel, &after, &Scope::Keys(fresh)).await;
        assert_eq!(plan.operations.len(), 18, "{:#?}", plan.operations);
        assert_settled(&mut kernel, &after).await;
        assert!(reaches(3, "10.100.1.2"));

        world.apply(Mutation::RemoveEndpoint(endpoint));
        world.apply(Mutation::RemoveSandbox(sandbox_id(3)));
        let gone = after.keys().filter(|key| !before.contains_key(key)).cloned().collect();
        scoped_pass(&mut kernel, &world.desired(), &Scope::Keys(gone)).await;
        assert_settled(&mut kernel, &before).await;
        assert!(!path(3).exists());
    });
}

#[test]
fn removing_everything_leaves_the_host_as_it_was() {
    host(|| async {
        let before = snapshot();
        let (mut kernel, mut world) = (kernel(), World::new());
        for n in 1..4 {
            world.network(n, |_| {});
            world.endpoint(n, 2);
            world.endpoint(n, n + 10);
        }
        settle(&mut kernel, &world).await;
        assert_ne!(snapshot(), before);
        pass(&mut kernel, &Default::default()).await;
        eventually("the links are gone", || snapshot() == before);
        assert_eq!(sh(&format!("ls {NETNS}")), "");
    });
}

#[test]
fn purging_needs_no_daemon_and_leaves_nothing() {
    host(|| async {
        sh("ip link add foreign type bridge && nft add table inet foreign");
        let before = snapshot();
        let mut world = World::new();
        world.network(1, |_| {});
        world.endpoint(1, 2);
        world.endpoint(1, 3);
        settle(&mut kernel(), &world).await;
        libnetwork_kernel::purge(NETNS.as_ref(), SYSCTLS.as_ref()).unwrap();
        assert_eq!(snapshot(), before);
        assert!(!std::path::Path::new(NETNS).exists());
        libnetwork_kernel::purge(NETNS.as_ref(), SYSCTLS.as_ref()).unwrap();
    });
}

#[test]
fn a_purge_gives_settings_back_unless_someone_changed_them_since() {
    host(|| async {
        let settings = || {
            sh("cd /proc/sys/net && grep . ipv4/ip_forward ipv?/conf/*/forwarding \
                ipv4/conf/*/accept_redirects ipv6/conf/*/accept_ra")
        };
        sh("ip link add up0 type bridge && ip link add up1 type bridge && ip link add up2 type bridge");
        sh("sysctl -qw net.ipv4.conf.up1.forwarding=1 net.ipv6.conf.up1.forwarding=1");
        sh("sysctl -qw net.ipv6.conf.up1.accept_ra=0 net.ipv4.conf.all.accept_redirects=0");
        let before = settings();
        let purge = || libnetwork_kernel::purge(NETNS.as_ref(), SYSCTLS.as_ref()).unwrap();
        let mut world = World::new();
        world.network(1, |_| {});
        // A second process notes nothing anew.
        for _ in 0..2 {
            settle(&mut kernel(), &world).await;
            assert_eq!(sh("sysctl -n net.ipv6.conf.up0.accept_ra net.ipv6.conf.up1.accept_ra"), "2\n0\n");
        }
        purge();
        assert_eq!(settings(), before);

        settle(&mut kernel(), &world).await;
        sh("sysctl -qw net.ipv6.conf.up2.accept_ra=0 net.ipv4.conf.up2.forwarding=0");
        purge();
        assert_eq!(sh("sysctl -n net.ipv6.conf.up2.accept_ra net.ipv4.conf.up2.forwarding"), "0\n0\n");
    });
}

/// Links, rules and our mounts, without what changes by itself. Mounts that were there when the test began go with those
/// of other tests.
fn snapshot() -> String {
    sh("ip -br link | sed 's/@.*//' ; ip -br addr | awk '{print $1, $3, $4}' | grep -v @; \
        ip route; nft list ruleset; grep ' /run/causeway' /proc/self/mountinfo; true")
}
