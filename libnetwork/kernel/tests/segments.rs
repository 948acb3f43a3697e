//! Networks of more than one bridge.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::{
    collections::BTreeSet,
    fs::File,
    net::{Ipv6Addr, UdpSocket},
};

use libnetwork_model::Network;
use libnetwork_plan::{Drifted, Scope};
use nix::sched::{CloneFlags, setns};
use support::*;

const ICC: &str = "com.docker.network.bridge.enable_icc";

/// Sandboxes 2 and 3 on the first bridge, 4 and 5 on the second, 6 on the third.
fn three_segments(adjust: impl FnOnce(&mut Network)) -> World {
    let mut world = World::new();
    world.network(1, adjust);
    for (segment, sandbox) in [(0, 2), (0, 3), (1, 4), (1, 5), (2, 6)] {
        world.endpoint_on(1, segment, sandbox);
    }
    world
}

#[test]
fn sandboxes_on_all_bridges_are_on_one_ethernet_segment() {
    host(|| async {
        let (mut kernel, world) = (kernel(), three_segments(|_| {}));
        settle(&mut kernel, &world).await;
        for (from, to) in [(2, 3), (2, 4), (4, 3), (4, 5), (5, 6), (6, 2)] {
            for target in [format!("10.100.1.{to}"), format!("fd00:1::{to}")] {
                assert!(reaches(from, &target), "{target} is not reached from {from}");
            }
        }
        for from in [2, 4, 6] {
            assert!(reaches(from, "10.100.1.1") && reaches(from, "fd00:1::1"), "the gateway, from {from}");
        }
        // What is said to all, or to a group, is heard by all.
        let heard = heard_of(4, &[2, 3, 5, 6], &["10.100.1.255", "239.1.2.3"]);
        assert_eq!(heard, [[2, 3, 5, 6]; 2]);
    });
}

#[test]
fn without_icc_bridges_are_kept_apart_as_ports_are() {
    host(|| async {
        let without = |network: &mut Network| network.options.extend([(ICC.into(), "false".into())]);
        let (mut kernel, mut world) = (kernel(), three_segments(without));
        settle(&mut kernel, &world).await;
        for from in [2, 4, 6] {
            assert!(reaches(from, "10.100.1.1") && reaches(from, "fd00:1::1"), "the gateway, from {from}");
        }
        for (from, to) in [(2, 4), (4, 2), (4, 5), (4, 6)] {
            assert!(!pings(from, &format!("10.100.1.{to}")), "{to} is reached from {from}");
        }
        world.network(1, |_| {});
        settle(&mut kernel, &world).await;
        assert!(reaches(2, "10.100.1.4") && reaches(4, "10.100.1.6"));
    });
}

#[test]
fn who_is_beyond_the_first_bridge_goes_out_as_the_host() {
    host(|| async {
        outside();
        let (mut kernel, world) = (kernel(), three_segments(|_| {}));
        // As most hosts with another container engine have it.
        for setting in ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"] {
            try_sh(&format!("echo 1 > /proc/sys/net/bridge/{setting}"));
        }
        settle(&mut kernel, &world).await;
        // Without masquerade the answers would come all the same, by the routes that the outside has.
        sh("ip -n outside route del 10.100.0.0/16 && ip -n outside route del fd00::/16");
        for (from, target) in [(2, "192.0.2.2"), (4, "192.0.2.2"), (6, "2001:db8::2")] {
            assert!(reaches(from, target), "{target} is not reached from {from}");
        }
    });
}

#[test]
fn a_question_for_an_address_is_put_to_its_holder_alone() {
    host(|| async {
        let (mut kernel, mut world) = (kernel(), three_segments(|_| {}));
        settle(&mut kernel, &world).await;
        // What each is asked about others.
        for s in [2, 3, 4, 5, 6] {
            let ipv6: Ipv6Addr = format!("fd00:1::{s}").parse().unwrap();
            let ipv6 = u128::from(ipv6);
            let rules = format!(
                "chain in {{ type filter hook ingress device eth0 priority 0; \
                 arp operation request arp daddr ip != 10.100.1.{s} counter; \
                 icmpv6 type nd-neighbor-solicit @th,64,128 != {ipv6:#x} counter; }};"
            );
            let said = inside(s, &format!("nft 'table netdev questions {{ {rules} }}'"));
            assert!(said.status.success(), "{said:?}");
        }
        let asked = |sandbox: u8| -> Vec<u32> {
            let listing = inside(sandbox, "nft list table netdev questions");
            let listing = String::from_utf8(listing.stdout).unwrap();
            let count = |line: &str| line.split("packets ").nth(1)?.split(' ').next()?.parse().ok();
            listing.lines().filter_map(count).collect()
        };
        // Nobody has said a word yet that a bridge could have learned from.
        for (from, to) in [(2, 3), (2, 4), (4, 5), (4, 6), (6, 1)] {
            for target in [format!("10.100.1.{to}"), format!("fd00:1::{to}")] {
                assert!(reaches(from, &target), "{target} is not reached from {from}");
            }
        }
        // Nor does the host ask.
        for target in ["10.100.1.3", "10.100.1.5", "fd00:1::6"] {
            let answers = || try_sh(&format!("busybox ping -c 1 -W 1 {target}")).status.success();
            assert!((0..20).any(|_| answers()), "{target} is not reached from the host");
        }
        assert_eq!([2, 3, 4, 5, 6].map(asked), [(); 5].map(|()| vec![0, 0]));
        // One that is gone is not answered for, and an announcement is heard by all.
        let gone = world.intent.endpoints_in(&sandbox_id(5)).next().unwrap().id.clone();
        world.apply(libnetwork_model::Mutation::RemoveEndpoint(gone));
        settle(&mut kernel, &world).await;
        assert!(!inside(4, "busybox arping -c 1 -w 1 -I eth0 10.100.1.5").status.success());
        eventually("what nobody has is asked for", || asked(6)[0] > 0);
        let before = asked(6)[0];
        inside(4, "busybox arping -U -c 1 -I eth0 10.100.1.4");
        eventually("the announcement is heard", || asked(6)[0] > before);
    });
}

#[test]
fn a_bridge_s_way_to_the_first_is_repaired_whichever_end_of_it_is_hurt() {
    host(|| async {
        let (mut kernel, world) = (kernel(), three_segments(|_| {}));
        settle(&mut kernel, &world).await;
        let desired = world.desired();
        let links = || sh("ip -o link show").lines().map(name).collect::<BTreeSet<_>>();
        let (before, far) = (links(), "cu0101010101-1");
        told(&mut kernel, 3).await;
        for hurt in ["down", "nomaster", "mtu 1300"] {
            sh(&format!("ip link set {far} {hurt}"));
            let keys = told(&mut kernel, 3).await.into_iter().flat_map(|drift| match drift.what {
                Drifted::Keys(keys) => keys,
                other => panic!("{hurt}: {other:?}"),
            });
            let keys = keys.collect();
            let plan = scoped_pass(&mut kernel, &desired, &Scope::Keys(keys)).await;
            assert!(!plan.is_empty(), "{hurt} is not noticed");
            assert_settled(&mut kernel, &desired).await;
            assert!(reaches(4, "10.100.1.2"), "{hurt} is not repaired");
        }
        sh(&format!("ip link del {far}"));
        pass(&mut kernel, &desired).await;
        assert_settled(&mut kernel, &desired).await;
        assert_eq!(links(), before);
        assert!(reaches(4, "10.100.1.2"));
    });
}

#[test]
fn a_bridge_goes_with_its_last_endpoint_and_leaves_nothing() {
    host(|| async {
        let (mut kernel, mut world) = (kernel(), three_segments(|_| {}));
        settle(&mut kernel, &world).await;
        assert!(sh("ip -o link show").contains("cb0101010101-2"));
        let last = world.intent.endpoints_in(&sandbox_id(6)).next().unwrap().id.clone();
        world.apply(libnetwork_model::Mutation::RemoveEndpoint(last));
        settle(&mut kernel, &world).await;
        let left = sh("ip -o link show");
        assert!(!left.contains("0101010101-2") && left.contains("cb0101010101-1"), "{left}");
        world.intent = libnetwork_model::Intent::default();
        settle(&mut kernel, &world).await;
        eventually("nothing is left", || !sh("ip -o link show").contains("0101010101"));
    });
}

/// Which of the listeners hear the datagram that a sandbox sends to each of the broadcast or multicast addresses.
fn heard_of(from: u8, listeners: &[u8], targets: &[&str]) -> Vec<Vec<u8>> {
    let within = |sandbox: u8, port: u16| {
        let at = move || {
            setns(File::open(path(sandbox)).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            let socket = UdpSocket::bind(("0.0.0.0", port)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let own = format!("10.100.1.{sandbox}").parse().unwrap();
            socket.join_multicast_v4(&"239.1.2.3".parse().unwrap(), &own).unwrap();
            socket.set_broadcast(true).unwrap();
            socket
        };
        std::thread::spawn(at).join().unwrap()
    };
    // One for all targets: a child that another test has just begun holds it open beyond its close here.
    let sockets: Vec<(u8, UdpSocket)> = listeners.iter().map(|s| (*s, within(*s, 4000))).collect();
    let sender = within(from, 0);
    let hearing = |target: &&str| {
        sender.send_to(target.as_bytes(), (*target, 4000)).unwrap();
        // What came twice of the target before is not this one's.
        let hears = |socket: &UdpSocket| {
            let mut word = [0; 32];
            loop {
                match socket.recv(&mut word) {
                    Ok(length) if word[..length] == *target.as_bytes() => return true,
                    Ok(_) => {}
                    Err(_) => return false,
                }
            }
        };
        sockets.iter().filter(|(_, socket)| hears(socket)).map(|(sandbox, _)| *sandbox).collect()
    };
    targets.iter().map(hearing).collect()
}

/// As `ip -o link show` has it.
fn name(line: &str) -> String {
    line.split(": ").nth(1).unwrap().split('@').next().unwrap().to_owned()
}
