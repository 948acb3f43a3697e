//! What changes behind our back is noticed at once and repaired by a plan of what was noticed.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use libnetwork_core::Kernel;
use libnetwork_kernel::LinuxKernel;
use libnetwork_plan::{Desired, Drift, Drifted, Scope};
use support::*;

/// A sandbox that nobody harms, on a network of its own, to hear the last word from.
const BYSTANDER: u8 = 9;

/// As the core does it: wait for what comes with it, look where something was noticed, plan, apply.
async fn repair(kernel: &mut LinuxKernel, desired: &Desired) -> Vec<String> {
    let mut done = Vec::new();
    for _ in 0..20 {
        let what = told(kernel, BYSTANDER).await.into_iter().map(|drift| drift.what);
        let what = what.reduce(|one, other| match (one, other) {
            (Drifted::Keys(keys), Drifted::Keys(others)) => Drifted::Keys(&keys | &others),
            _ => Drifted::All,
        });
        let scope = match what {
            None => return done,
            Some(Drifted::All | Drifted::Lost) => Scope::all(desired),
            Some(Drifted::Keys(keys)) => Scope::Keys(keys),
        };
        let plan = scoped_pass(kernel, desired, &scope).await;
        done.extend(plan.operations.iter().map(|o| format!("{} {}", o.verb(), o.key())));
    }
    panic!("it does not settle: {done:?}");
}

/// A host with two networks and two sandboxes that reach each other, a bystander, and nothing left to tell.
async fn quiet_host() -> (LinuxKernel, Desired) {
    let (mut kernel, mut world) = (kernel(), World::new());
    world.network(1, |_| {});
    world.network(2, |_| {});
    world.network(9, |_| {});
    for (n, s) in [(1, 2), (1, 3), (2, 2), (9, BYSTANDER)] {
        world.endpoint(n, s);
    }
    settle(&mut kernel, &world).await;
    let desired = world.desired();
    repair(&mut kernel, &desired).await;
    (kernel, desired)
}

async fn is_repaired(what: &str) -> Vec<String> {
    let (mut kernel, desired) = quiet_host().await;
    sh(what);
    let done = repair(&mut kernel, &desired).await;
    assert!(!done.is_empty(), "nothing was noticed of: {what}");
    assert_settled(&mut kernel, &desired).await;
    assert!(reaches(2, "10.100.1.3") && reaches(2, "fd00:1::3") && reaches(3, "10.100.1.1"), "after {what}");
    done
}

const BRIDGE: &str = "br-010101010101";
/// Network 1's endpoint in sandbox 2.
const VETH: &str = "cw010202020202";

fn in_sandbox(line: &str) -> String {
    format!("nsenter --net={} -- {line}", path(2).display())
}

#[test]
fn what_we_do_ourselves_is_no_news() {
    host(|| async {
        let (mut kernel, mut world) = (kernel(), World::new());
        world.network(9, |_| {});
        world.endpoint(9, BYSTANDER);
        let before = world.desired();
        pass(&mut kernel, &before).await;
        world.network(1, |_| {});
        world.endpoint(1, 2);
        pass(&mut kernel, &world.desired()).await;
        assert_eq!(told(&mut kernel, BYSTANDER).await, [], "of making");
        pass(&mut kernel, &before).await;
        // Links are removed behind its back, and told of then.
        let gone = || !try_sh(&format!("ip link show {VETH}")).status.success();
        eventually("the links are gone", gone);
        assert_eq!(told(&mut kernel, BYSTANDER).await, [], "of removing");
    });
}

#[test]
fn a_flushed_firewall_is_repaired() {
    host(|| async {
        let done = is_repaired("nft flush ruleset").await;
        assert_eq!(done[0], "create table inet causeway");
        assert!(sh("nft list set inet causeway bridges").contains(BRIDGE));
    });
}

#[test]
fn a_rule_or_an_element_removed_by_hand_is_repaired() {
    host(|| async {
        is_repaired("nft flush chain inet causeway forward").await;
    });
    host(|| async {
        is_repaired(&format!("nft delete element inet causeway bridges '{{ {BRIDGE} }}'")).await;
    });
    host(|| async {
        is_repaired("nft insert rule inet causeway forward accept").await;
    });
}

#[test]
fn a_deleted_veth_is_repaired_with_all_that_was_on_it() {
    host(|| async {
        is_repaired(&format!("ip link del {VETH}")).await;
    });
    host(|| async {
        is_repaired(&in_sandbox("ip link del eth0")).await;
    });
}

#[test]
fn a_dead_bridge_is_repaired_and_gets_its_ports_back() {
    host(|| async {
        is_repaired(&format!("ip link del {BRIDGE}")).await;
    });
    host(|| async {
        is_repaired(&format!("ip link set {BRIDGE} down")).await;
    });
    host(|| async {
        is_repaired(&format!("ip link set {VETH} nomaster")).await;
    });
}

#[test]
fn a_removed_address_or_route_is_repaired() {
    for line in [
        format!("ip addr del 10.100.1.1/24 dev {BRIDGE}"),
        format!("ip addr flush dev {BRIDGE}"),
        in_sandbox("ip addr del 10.100.1.2/24 dev eth0"),
        in_sandbox("ip -6 addr del fd00:1::2/64 dev eth0"),
        in_sandbox("ip route del default"),
        in_sandbox("ip -6 route del default"),
        in_sandbox("ip link set eth0 down"),
        in_sandbox("sh -c 'ip link set eth0 down; ip link set eth0 up'"),
        in_sandbox("ip link set eth0 mtu 1300"),
        in_sandbox("ip link set eth0 address 02:00:00:00:00:09"),
    ] {
        host(|| async {
            is_repaired(&line).await;
        });
    }
}

#[test]
fn a_renamed_interface_is_made_anew_under_its_name() {
    host(|| async {
        is_repaired(&in_sandbox("sh -c 'ip link set eth0 down; ip link set eth0 name mine'")).await;
    });
}

#[test]
fn what_somebody_else_had_in_the_place_of_ours_is_missed_when_it_goes() {
    for (comes, goes) in [
        (in_sandbox("ip route replace default dev lo"), in_sandbox("ip route del default dev lo")),
        (
            in_sandbox("sh -c 'ip addr flush dev eth0; ip addr add 10.100.1.2/24 dev eth0'"),
            in_sandbox("ip addr del 10.100.1.2/24 dev eth0"),
        ),
        (
            format!("ip link del {BRIDGE} && ip link add {BRIDGE} type veth peer name theirs"),
            format!("ip link del {BRIDGE}"),
        ),
    ] {
        host(|| async {
            let (mut kernel, desired) = quiet_host().await;
            sh(&comes);
            repair(&mut kernel, &desired).await;
            sh(&goes);
            let done = repair(&mut kernel, &desired).await;
            assert!(!done.is_empty(), "nothing was noticed of: {goes}");
        });
    }
}

#[test]
fn a_sandbox_that_loses_the_resolver_s_rules_gets_them_back() {
    for line in ["nft flush ruleset", "nft flush chain ip causeway resolver"] {
        host(|| async {
            let done = is_repaired(&in_sandbox(line)).await;
            assert!(done.iter().all(|what| what.ends_with("table ip causeway")), "{done:?}");
        });
    }
}

#[test]
fn what_happens_in_namespaces_that_are_not_ours_is_no_news() {
    host(|| async {
        let (mut kernel, _) = quiet_host().await;
        // A namespace that the host has a number for, as it has for each sandbox.
        sh("ip netns add foreign && ip link add there type veth peer name here netns foreign");
        told(&mut kernel, BYSTANDER).await;
        sh("ip -n foreign link set lo up && ip -n foreign addr add 198.18.0.1/32 dev lo && \
            ip netns exec foreign nft 'add table ip causeway; delete table ip causeway'");
        assert_eq!(told(&mut kernel, BYSTANDER).await, []);
    });
}

/// Both ends are up, and neither gets an address some time later that nobody gave it.
const UPLINK: &str = "ip link add up0 type veth peer name up1 && \
                      ip link set up0 addrgenmode none && ip link set up1 addrgenmode none && \
                      ip link set up0 up && ip link set up1 up";

#[test]
fn changes_to_the_host_s_own_network_are_told() {
    host(|| async {
        let (mut kernel, _) = quiet_host().await;
        for line in [
            UPLINK,
            "ip addr add 192.0.2.1/24 dev up0",
            "ip addr add fe80::7/64 dev up1 nodad",
            "ip route add default via 192.0.2.2",
            "ip link set up0 mtu 1400",
            "ip route add 198.51.100.0/24 dev up0 table 52",
            "ip route add 0.0.0.0/1 dev up0",
        ] {
            told(&mut kernel, BYSTANDER).await;
            sh(line);
            let told = told(&mut kernel, BYSTANDER).await;
            assert!(told.iter().any(|drift| drift.host), "nothing was told of: {line}");
        }
        let facts = kernel.host().await.unwrap();
        assert_eq!(facts.mtu, 1400);
        // The other end has its link-local address.
        assert_eq!(facts.uplinks.keys().collect::<Vec<_>>(), ["up0", "up1"]);
        assert!(facts.uplinks["up0"].addresses.contains(&"192.0.2.1/24".parse().unwrap()));
        for taken in ["192.0.2.0/24", "198.51.100.0/24"] {
            assert!(facts.taken.contains(&taken.parse().unwrap()), "{:?}", facts.taken);
        }
        assert!(!facts.taken.contains(&"0.0.0.0/1".parse().unwrap()), "the half of everything");
        assert!(!facts.taken.iter().any(|net| net.to_string().starts_with("10.100.")), "{:?}", facts.taken);
        assert_eq!(facts.resolvers, ["192.0.2.53".parse::<std::net::IpAddr>().unwrap()]);
        assert_eq!(facts.search, ["a.example"]);
    });
}

#[test]
fn a_route_that_the_host_replaces_is_a_matter_of_its_facts_alone() {
    host(|| async {
        let (mut kernel, _) = quiet_host().await;
        sh(UPLINK);
        sh("ip addr add 192.0.2.1/24 dev up0 && ip route add 198.51.100.0/24 via 192.0.2.2 && \
            ip route add default via 192.0.2.2");
        told(&mut kernel, BYSTANDER).await;
        for replaced in ["198.51.100.0/24", "default"] {
            sh(&format!("ip route replace {replaced} via 192.0.2.3"));
            let drift = Drift { what: Drifted::Keys(Default::default()), host: true };
            assert_eq!(told(&mut kernel, BYSTANDER).await, [drift], "{replaced}");
        }
    });
}

#[test]
fn lost_notifications_mean_that_everything_is_looked_at() {
    host(|| async {
        let (mut kernel, _) = quiet_host().await;
        // While the kernel's thread waits for something else nobody reads: more changes than fit the socket's buffer.
        sh(&format!("rm {RESOLV_CONF} && mkfifo {RESOLV_CONF}"));
        let mut looking = Box::pin(kernel.host());
        tokio::select! {
            biased;
            _ = &mut looking => panic!("it does not wait for the resolvers"),
            () = std::future::ready(()) => {}
        }
        // What is heard of before is told all the same.
        sh(&format!("ip addr del 10.100.1.1/24 dev {BRIDGE}"));
        let storm = "for i in $(seq 300); do for j in $(seq 120); do \
                     echo addr add 198.18.$((i % 250)).$j/32 dev lo; \
                     echo addr del 198.18.$((i % 250)).$j/32 dev lo; done; done | ip -force -batch -";
        sh(storm);
        let writer = std::fs::File::options().write(true).open(RESOLV_CONF).unwrap();
        sh(&format!("rm {RESOLV_CONF} && touch {RESOLV_CONF}"));
        drop(writer);
        looking.await.unwrap();
        let (mut lost, mut told) = (false, Vec::new());
        while !lost && let Ok(drift) = tokio::time::timeout(PATIENCE, kernel.changed()).await {
            lost = drift.what == Drifted::Lost;
            if let Drifted::Keys(keys) = drift.what {
                told.extend(keys.iter().map(ToString::to_string));
            }
        }
        assert!(lost, "36,000 changes fit");
        assert!(told.contains(&format!("address 10.100.1.1/24 on {BRIDGE}")), "{told:?}");
    });
}
