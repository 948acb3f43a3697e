//! What is not ours is never touched, also when it is in the way.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use libnetwork_core::Kernel;
use libnetwork_model::{ErrorKind, HasKind};
use libnetwork_plan::{Key, Scope, plan};
use support::*;

#[test]
fn a_foreign_link_under_our_name_stays_and_is_named() {
    for kind in ["bridge", "veth peer name other"] {
        host(|| async move {
            sh(&format!("ip link add br-010101010101 type {kind}"));
            sh("ip addr add 10.9.9.1/24 dev br-010101010101");
            let before = sh("ip -d link show br-010101010101; ip -o addr show br-010101010101");
            let (mut kernel, mut world) = (kernel(), World::new());
            world.network(1, |_| {});
            world.endpoint(1, 2);
            world.network(2, |_| {});
            world.endpoint(2, 3);
            let desired = world.desired();
            let scope = Scope::all(&desired);
            for _ in 0..2 {
                let plan = plan(&desired, &kernel.observe(&scope).await.unwrap(), &scope);
                let [(Key::Link { name, .. }, _)] = &plan.foreign[..] else { panic!("{:?}", plan.foreign) };
                assert_eq!(&**name, "br-010101010101");
                for result in kernel.apply(&plan.operations).await {
                    result.unwrap();
                }
            }
            let after = sh("ip -d link show br-010101010101; ip -o addr show br-010101010101");
            assert_eq!(after, before);
            assert!(!sh("nft list table inet causeway").contains("br-010101010101"));
            assert!(reaches(3, "10.100.2.1"), "the other network suffers");
        });
    }
}

#[test]
fn foreign_addresses_routes_rules_and_namespaces_stay() {
    host(|| async {
        let (mut kernel, mut world) = (kernel(), World::new());
        world.network(1, |_| {});
        world.endpoint(1, 2);
        settle(&mut kernel, &world).await;
        sh("ip addr add 10.55.0.1/24 dev br-010101010101 && ip route add 10.56.0.0/16 via 10.100.1.9");
        sh("nft add table inet other && nft add chain inet other c && nft add rule inet other c drop");
        sh("ip netns add somebody && touch /run/causeway/netns/README");
        assert!(inside(2, "ip addr add 10.57.0.1/24 dev eth0").status.success());
        assert!(inside(2, "ip route add 10.58.0.0/16 via 10.100.1.1").status.success());
        settle(&mut kernel, &world).await;
        assert!(sh("ip -o addr show br-010101010101").contains("10.55.0.1/24"));
        assert!(sh("ip route").contains("10.56.0.0/16"));
        assert!(sh("nft list table inet other").contains("drop"));
        assert!(sh("ip netns").contains("somebody"));
        let own = String::from_utf8(inside(2, "sh -c 'ip -o addr; ip route'").stdout).unwrap();
        assert!(own.contains("10.57.0.1/24") && own.contains("10.58.0.0/16"), "{own}");
        // All of ours goes, none of theirs (what stood on our bridge goes with it).
        pass(&mut kernel, &Default::default()).await;
        assert!(sh("nft list ruleset").contains("other") && sh("ip netns").contains("somebody"));
        assert!(std::path::Path::new("/run/causeway/netns/README").exists());
    });
}

#[test]
fn a_name_that_a_container_took_for_itself_is_told() {
    host(|| async {
        let (mut kernel, mut world) = (kernel(), World::new());
        world.network(1, |_| {});
        world.network(2, |_| {});
        world.endpoint(1, 2);
        settle(&mut kernel, &world).await;
        assert!(inside(2, "ip link add eth1 type bridge").status.success());
        world.endpoint(2, 2);
        let desired = world.desired();
        let scope = Scope::all(&desired);
        let plan = plan(&desired, &kernel.observe(&scope).await.unwrap(), &scope);
        let errors: Vec<_> =
            kernel.apply(&plan.operations).await.into_iter().filter_map(|result| result.err()).collect();
        assert_eq!(errors[0].cause.to_string(), "link eth1 exists and is not ours");
        assert_eq!(errors[0].kind(), ErrorKind::Conflict);
        assert!(inside(2, "ip link show eth1").status.success());
    });
}
