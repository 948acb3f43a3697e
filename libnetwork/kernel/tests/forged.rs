//! A container that forges what it sends is heard by nobody, shown by packets; and the same packets arrive where the
//! guard is off, so that it is the guard that keeps them.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use libnetwork_kernel::LinuxKernel;
use libnetwork_model::MacAddress;
use support::{
    frames::{Wire, arp_request, frame, udp},
    *,
};

/// Of sandboxes 2 and 3.
const FORGER: [u8; 6] = [0x02, 0x42, 10, 100, 1, 2];
const LISTENER: [u8; 6] = [0x02, 0x42, 10, 100, 1, 3];

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

/// IEEE 802.1D, table 7-10: a bridge takes frames to 01:80:c2:00:00:00 and the next fifteen for itself, past the rules for
/// all others.
fn to_bridges(last: u8) -> [u8; 6] {
    [0x01, 0x80, 0xc2, 0, 0, last]
}

#[test]
fn a_forged_mac_in_a_frame_that_is_for_bridges_takes_nobody_s_frames() {
    for guarded in [true, false] {
        host(move || async move {
            let (_kernel, world) = two(guarded).await;
            let listener = world.intent.endpoints_in(&sandbox_id(3)).next().unwrap();
            let port = sh("bridge -o fdb show").lines().find_map(|entry| {
                let words: Vec<&str> = entry.split(' ').collect();
                (words[0] == listener.mac.unwrap().to_string()).then(|| words[2].to_owned())
            });
            let port = port.expect("the bridge knows where the listener is");
            let wire = Wire::open(&path(2), "eth0");
            for last in [0x00, 0x02, 0x03, 0x0e, 0x0f] {
                wire.send(&frame(&[&to_bridges(last), &LISTENER, &[0x88, 0xcc], b"hijack"]));
                wire.send(&frame(&[&to_bridges(last), &[2, 0, 0, 0, 9, last], &[0x88, 0xcc], b"flood"]));
            }
            let known = || sh("bridge -o fdb show");
            let moved = || !known().contains(&format!("02:42:0a:64:01:03 dev {port}"));
            let flooded = || known().contains("02:00:00:00:09:");
            // A frame is where it belongs before the next one is sent on the same pair.
            assert!(!guarded || reaches(2, "10.100.1.3"));
            expect(!guarded, flooded);
            assert!(!guarded || !moved(), "{}", known());
        });
    }
}

#[test]
fn a_frame_that_is_for_bridges_carries_no_forged_packet_to_the_host() {
    host(|| async {
        let (_kernel, _world) = two(true).await;
        sh("sysctl -qw net.ipv4.conf.all.rp_filter=0");
        sh("for each in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $each; done");
        let ear = std::net::UdpSocket::bind("10.100.1.1:12345").unwrap();
        ear.set_nonblocking(true).unwrap();
        let wire = Wire::open(&path(2), "eth0");
        let say = |to: [u8; 6], source: u8, text: &[u8]| {
            wire.send(&frame(&[&to, &FORGER, &[8, 0], &udp([10, 100, 1, source], [10, 100, 1, 1], text)]));
        };
        for last in 0..16 {
            say(to_bridges(last), 99, b"forged");
        }
        let gateway: MacAddress =
            sh("ip -br link show type bridge").split_whitespace().nth(2).unwrap().parse().unwrap();
        let mut text = [0; 16];
        eventually("a frame to the gateway arrives", || {
            say(gateway.0, 2, b"honest");
            ear.recv(&mut text).is_ok()
        });
        assert!(text.starts_with(b"honest"), "{}", String::from_utf8_lossy(&text));
    });
}

#[test]
fn what_is_forged_below_two_tags_is_not_believed() {
    for guarded in [true, false] {
        host(move || async move {
            let (_kernel, _world) = two(guarded).await;
            let (wire, ear) = (Wire::open(&path(2), "eth0"), Wire::open(&path(3), "eth0"));
            // IEEE 802.1Q: a tag of VLAN 0 says a priority and no more, so whoever gets the frame takes off all of them.
            let tag: &[u8] = &[0x81, 0, 0, 0];
            let question = arp_request(FORGER, [10, 100, 1, 4], [10, 100, 1, 3]);
            wire.send(&frame(&[&LISTENER, &FORGER, tag, tag, &[8, 6], &question]));
            let forged = udp([10, 100, 1, 9], [10, 100, 1, 3], b"forged");
            wire.send(&frame(&[&LISTENER, &FORGER, tag, tag, &[8, 0], &forged]));
            let honest = udp([10, 100, 1, 2], [10, 100, 1, 3], b"honest");
            wire.send(&frame(&[&LISTENER, &FORGER, &[8, 0], &honest]));
            assert_eq!(ear.hears(b"forged", b"honest"), !guarded);
            let known = inside(3, "ip neigh show 10.100.1.4");
            assert_eq!(String::from_utf8_lossy(&known.stdout).contains("02:42:0a:64:01:02"), !guarded);
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

#[test]
fn an_endpoint_that_has_ipv6_by_its_own_settings_is_heard_by_its_neighbours() {
    host(|| async {
        let (mut kernel, mut world) = (kernel(), World::new());
        world.network(1, |n| n.ipv6 = false);
        for sandbox in [2, 3] {
            let id = world.endpoint(1, sandbox);
            let mut endpoint = (**world.intent.endpoint(&id).unwrap()).clone();
            let settings = "net.ipv6.conf.IFNAME.disable_ipv6=0";
            endpoint.options.insert("com.docker.network.endpoint.sysctls".into(), settings.into());
            world.apply(libnetwork_model::Mutation::PutEndpoint(endpoint.into()));
        }
        settle(&mut kernel, &world).await;
        // What the kernel made of 02:42:0a:64:01:03, once it has found out that nobody else has it.
        eventually("the neighbour answers", || pings(2, "fe80::42:aff:fe64:103%eth0"));
        run(2, "ip addr add fe80::99/64 dev eth0 nodad");
        expect(false, || arrives(2, "fe80::99%eth0", "fe80::42:aff:fe64:103%eth0"));
    });
}
