//! The adapter among others who change the same tables at the same time, and through many states.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::{
    process::{Child, Command, Stdio},
    time::Instant,
};

use libnetwork_core::Kernel;
use libnetwork_plan::{Cause, Desired, KernelError, Scope, plan};
use support::*;

#[test]
fn a_listing_during_other_people_s_changes_is_whole() {
    host(|| async {
        let (mut kernel, mut world) = (kernel(), World::new());
        for n in 1..9 {
            world.network(n, |_| {});
            world.endpoint(n, n + 1);
        }
        settle(&mut kernel, &world).await;
        let desired = world.desired();
        let scope = Scope::all(&desired);
        // Links, addresses, routes and tables that come and go, beside ours.
        let churn = "while :; do ip link add churn type bridge; ip link set churn up; \
                     ip addr add 198.18.0.1/24 dev churn; ip route add 198.19.0.0/24 dev churn; \
                     nft add table inet churn; nft add chain inet churn c; nft delete table inet churn; \
                     ip link del churn; done";
        let churning = Command::new("sh").args(["-c", churn]).stderr(Stdio::null()).spawn();
        let _churning = Killed(churning.unwrap());
        let (mut whole, mut given_up) = (0, 0);
        while whole < 40 {
            match kernel.observe(&scope).await {
                // A slow reader is interrupted again and again, and says so.
                Err(KernelError { cause: Cause::Interrupted, .. }) => {
                    given_up += 1;
                    assert!(given_up < 40, "{given_up} listings were given up, and {whole} were whole");
                    continue;
                }
                observed => {
                    let surplus = plan(&desired, &observed.unwrap(), &scope);
                    assert!(surplus.is_empty(), "{surplus:#?}");
                }
            }
            whole += 1;
        }
    });
}

/// Ends with the test, however that ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The planner's properties hold against the kernel itself: a walk through states, with damage in between.
#[test]
fn a_walk_through_many_states_settles_at_each() {
    host(|| async {
        let mut kernel = kernel();
        let mut dice = Dice(0x5eed);
        for step in 0..30 {
            let mut world = World::new();
            for n in 1..4u8 {
                if dice.roll(4) == 0 {
                    continue;
                }
                let (ipv6, internal, icc, mtu) = (dice.roll(2), dice.roll(4), dice.roll(2), dice.roll(2));
                world.network(n, |network| {
                    (network.ipv6, network.internal) = (ipv6 == 0, internal == 0);
                    let options = [
                        ("com.docker.network.bridge.enable_icc", if icc == 0 { "0" } else { "1" }),
                        ("com.docker.network.driver.mtu", if mtu == 0 { "1400" } else { "" }),
                    ];
                    network.options.extend(options.map(|(k, v)| (k.into(), v.into())));
                });
                for s in 10..13 {
                    if dice.roll(2) == 0 {
                        world.endpoint(n, s);
                    }
                }
            }
            damage(&mut dice);
            let desired = world.desired();
            // Damage shows only after others are repaired, as when a namespace's end takes its links later: how much later is
            // the machine's affair.
            let (scope, begin) = (Scope::all(&desired), Instant::now());
            loop {
                let planned = plan(&desired, &kernel.observe(&scope).await.unwrap(), &scope);
                if planned.is_empty() {
                    break;
                }
                assert!(begin.elapsed() < PATIENCE, "step {step}: {planned:#?}");
                kernel.apply(&planned.operations).await;
            }
        }
        pass(&mut kernel, &Desired::new()).await;
        assert_settled(&mut kernel, &Desired::new()).await;
    });
}

/// Something of ours is destroyed by hand, if there is any.
fn damage(dice: &mut Dice) {
    let links = sh("ip -br link | awk '{print $1}' | sed 's/@.*//' | grep -E '^(br-|cw)' || true");
    let names: Vec<&str> = links.lines().collect();
    let Some(name) = names.get(dice.roll(names.len().max(1))) else { return };
    let line = match dice.roll(6) {
        0 => format!("ip link del {name}"),
        1 => format!("ip link set {name} down"),
        2 => format!("ip addr flush dev {name}"),
        3 => "nft flush ruleset".into(),
        4 => format!("umount {NETNS}/$(ls {NETNS} | head -1)"),
        _ => format!("ip link set {name} alias nobody"),
    };
    let _whatever = try_sh(&line);
}

/// A sequence that is the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        // Knuth's constants for a linear congruential generator.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

#[test]
fn a_name_that_was_just_given_up_is_free_at_once() {
    host(|| async {
        let (mut kernel, mut world) = (kernel(), World::new());
        world.network(1, |_| {});
        let with_none = world.desired();
        world.endpoint(1, 2);
        let with_one = world.desired();
        for _ in 0..20 {
            pass(&mut kernel, &with_one).await;
            pass(&mut kernel, &with_none).await;
        }
        pass(&mut kernel, &with_one).await;
        assert_settled(&mut kernel, &with_one).await;
        assert!(reaches(2, "10.100.1.1"));
    });
}

#[test]
fn a_host_that_learns_its_own_route_from_its_router_goes_on_doing_so() {
    host(|| async {
        sh("ip link add up0 type veth peer name up1 && echo 1 > /proc/sys/net/ipv6/conf/up0/accept_ra");
        sh("echo 0 > /proc/sys/net/ipv6/conf/up1/accept_ra");
        let (mut kernel, mut world) = (kernel(), World::new());
        world.network(1, |_| {});
        settle(&mut kernel, &world).await;
        assert_eq!(sh("cat /proc/sys/net/ipv6/conf/all/forwarding"), "1\n");
        assert_eq!(sh("cat /proc/sys/net/ipv6/conf/up0/accept_ra"), "2\n");
        assert_eq!(sh("cat /proc/sys/net/ipv6/conf/up1/accept_ra"), "0\n");
    });
}
