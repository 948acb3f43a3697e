//! A container that forges what it sends is heard by nobody, shown by packets; and the same packets arrive where the
//! guard is off, so that it is the guard that keeps them.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use libnetwork_kernel::LinuxKernel;
use support::*;

/// Network 1 with sandboxes 2, who forges, and 3, who listens.
async fn two(guarded: bool) -> (LinuxKernel, World) {
    let (mut kernel, mut world) = (kernel(), World::new());
    let option = ("causeway.bridge.anti_spoofing".to_owned(), guarded.to_string());
    world.network(1, |n| n.options.extend([option]));
    world.endpoint(1, 2);
    world.endpoint(1, 3);
    settle(&mut kernel, &world).await;
    for (from, target) in [(2, "10.100.1.3"), (2, "fd00:1::3"), (3, "10.100.1.2")] {
        assert!(reaches(from, target), "{target} from {from}, guarded: {guarded}");
    }
    (kernel, world)
}

fn run(sandbox: u8, command: &str) {
    let output = inside(sandbox, command);
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// One ping with a source of its own choosing.
fn arrives(from: u8, source: &str, target: &str) -> bool {
    inside(from, &format!("busybox ping -c 1 -W 1 -I {source} {target}")).status.success()
}

/// What is to arrive may need more than one attempt on a busy machine; what is not gets one.
fn expect(wanted: bool, mut arrives: impl FnMut() -> bool) {
    let arrived = if wanted { (0..20).any(|_| arrives()) } else { arrives() };
    assert_eq!(arrived, wanted, "whether it arrives");
}

#[test]
fn a_forged_source_does_not_arrive() {
    for guarded in [true, false] {
        host(move || async move {
            let (_kernel, _world) = two(guarded).await;
            run(2, "ip addr add 10.100.1.99/24 dev eth0");
            run(2, "ip addr add fd00:1::99/64 dev eth0 nodad");
            // The answers' way is given, so that ARP and ND have no part in it.
            run(3, "ip neigh add 10.100.1.99 lladdr 02:42:0a:64:01:02 dev eth0");
            run(3, "ip neigh add fd00:1::99 lladdr 02:42:0a:64:01:02 dev eth0");
            expect(!guarded, || arrives(2, "10.100.1.99", "10.100.1.3"));
            expect(!guarded, || arrives(2, "fd00:1::99", "fd00:1::3"));
            expect(true, || arrives(2, "10.100.1.2", "10.100.1.3"));
        });
    }
}

#[test]
fn a_forged_mac_does_not_arrive() {
    for guarded in [true, false] {
        host(move || async move {
            let (_kernel, _world) = two(guarded).await;
            run(2, "ip link set eth0 address 02:00:00:00:00:99");
            run(3, "ip neigh replace 10.100.1.2 lladdr 02:00:00:00:00:99 dev eth0");
            run(2, "ip neigh replace 10.100.1.3 lladdr 02:42:0a:64:01:03 dev eth0");
            expect(!guarded, || arrives(2, "10.100.1.2", "10.100.1.3"));
        });
    }
}

#[test]
fn a_forged_answer_to_arp_or_neighbour_discovery_is_not_believed() {
    for guarded in [true, false] {
        host(move || async move {
            let (_kernel, _world) = two(guarded).await;
            run(2, "ip addr add 10.100.1.4/24 dev eth0");
            run(2, "ip addr add fd00:1::4/64 dev eth0 nodad");
            // Nobody is .4: who answers for it lies.
            for target in ["10.100.1.4", "fd00:1::4"] {
                expect(!guarded, || pings(3, target));
                let known = inside(3, &format!("ip neigh show {target}"));
                let known = String::from_utf8_lossy(&known.stdout).contains("02:42:0a:64:01:02");
                assert_eq!(known, !guarded, "whether {target} is believed to be its");
            }
        });
    }
}

#[test]
fn what_nobody_guards_is_left_alone() {
    host(|| async {
        // A bridge of somebody else's, with a port that sends from where it likes.
        sh("ip netns add a && ip link add other0 type bridge && ip link set other0 up");
        sh("ip addr add 10.9.0.1/24 dev other0");
        sh("ip link add v0 type veth peer name eth0 netns a && ip link set v0 master other0 up");
        sh("ip -n a addr add 10.9.0.2/24 dev eth0 && ip -n a link set eth0 up");
        let (mut kernel, mut world) = (kernel(), World::new());
        world.network(1, |_| {});
        settle(&mut kernel, &world).await;
        expect(true, || try_sh("busybox ping -c 1 -W 1 10.9.0.2").status.success());
    });
}
