//! What arrives and what does not, shown by packets.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use support::*;

fn outside_pings(target: &str) -> bool {
    try_sh(&format!("ip netns exec outside busybox ping -c 1 -W 1 {target}")).status.success()
}

#[test]
fn networks_do_not_reach_each_other() {
    host(|| async {
        let (mut kernel, mut world) = (kernel(), World::new());
        world.network(1, |_| {});
        world.network(2, |_| {});
        world.endpoint(1, 2);
        world.endpoint(2, 3);
        settle(&mut kernel, &world).await;
        assert!(reaches(2, "10.100.1.1"));
        for target in ["10.100.2.3", "fd00:2::3"] {
            assert!(!pings(2, target), "{target} is reached from another network");
        }
    });
}

#[test]
fn the_outside_is_reached_as_the_host_and_does_not_reach_in() {
    host(|| async {
        outside();
        let (mut kernel, mut world) = (kernel(), World::new());
        world.network(1, |_| {});
        world.endpoint(1, 2);
        settle(&mut kernel, &world).await;
        // Without masquerade the answers would come all the same, by the routes that the outside has.
        sh("ip -n outside route del 10.100.0.0/16 && ip -n outside route del fd00::/16");
        for target in ["192.0.2.2", "2001:db8::2"] {
            assert!(reaches(2, target), "{target} is not reached");
        }
        sh("ip -n outside route add 10.100.0.0/16 via 192.0.2.1");
        sh("ip -n outside route add fd00::/16 via 2001:db8::1");
        assert!(!outside_pings("10.100.1.2") && !outside_pings("fd00:1::2"));
    });
}

#[test]
fn without_masquerade_the_outside_sees_the_sandbox_itself() {
    host(|| async {
        outside();
        let (mut kernel, mut world) = (kernel(), World::new());
        let option = "com.docker.network.bridge.enable_ip_masquerade";
        world.network(1, |n| n.options.extend([(option.into(), "false".into())]));
        world.endpoint(1, 2);
        settle(&mut kernel, &world).await;
        assert!(reaches(2, "192.0.2.2"), "an answer that was asked for comes in");
        sh("ip -n outside route del 10.100.0.0/16");
        assert!(!pings(2, "192.0.2.2"));
    });
}

#[test]
fn an_internal_network_has_no_way_out() {
    host(|| async {
        outside();
        let (mut kernel, mut world) = (kernel(), World::new());
        world.network(1, |n| n.internal = true);
        world.endpoint(1, 2);
        world.endpoint(1, 3);
        settle(&mut kernel, &world).await;
        assert!(reaches(2, "10.100.1.3") && reaches(2, "10.100.1.1"));
        sh("echo 1 > /proc/sys/net/ipv4/ip_forward");
        // Whoever is root in a sandbox can give himself the route that it lacks.
        assert!(inside(2, "ip route add default via 10.100.1.1").status.success());
        assert!(!pings(2, "192.0.2.2"));
    });
}

#[test]
fn without_icc_sandboxes_reach_the_gateway_and_not_each_other() {
    host(|| async {
        let (mut kernel, mut world) = (kernel(), World::new());
        let option = "com.docker.network.bridge.enable_icc";
        world.network(1, |n| n.options.extend([(option.into(), "false".into())]));
        world.endpoint(1, 2);
        world.endpoint(1, 3);
        settle(&mut kernel, &world).await;
        assert!(reaches(2, "10.100.1.1") && reaches(2, "fd00:1::1"));
        assert!(!pings(2, "10.100.1.3") && !pings(2, "fd00:1::3"));
        // Nor by way of the host.
        assert!(inside(2, "ip route add 10.100.1.3/32 via 10.100.1.1").status.success());
        assert!(!pings(2, "10.100.1.3"));
        // Allowed live, and forbidden again.
        world.network(1, |_| {});
        settle(&mut kernel, &world).await;
        assert!(inside(2, "ip route del 10.100.1.3/32").status.success());
        for target in ["10.100.1.3", "fd00:1::3"] {
            assert!(reaches(2, target), "{target} is not reached");
        }
        world.network(1, |n| n.options.extend([(option.into(), "false".into())]));
        settle(&mut kernel, &world).await;
        assert!(!pings(2, "10.100.1.3"));
    });
}

#[test]
fn the_resolver_s_port_53_is_answered_elsewhere_and_stays_free() {
    host(|| async {
        let (mut kernel, mut world) = (kernel(), World::new());
        world.network(1, |_| {});
        world.endpoint(1, 2);
        settle(&mut kernel, &world).await;
        let path = path(2);
        // In the sandbox's own namespace, by a thread that stays there.
        let answered = std::thread::spawn(move || {
            use std::{
                io::{Read, Write},
                net::{TcpListener, TcpStream, UdpSocket},
            };
            let namespace = std::fs::File::open(path).unwrap();
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let address = (libnetwork_plan::DNS_ADDRESS, libnetwork_plan::DNS_PORT);
            let (server, listener) = (UdpSocket::bind(address).unwrap(), TcpListener::bind(address).unwrap());
            // The container's own: every address but the resolver's, and even that one's port is not taken.
            let own = UdpSocket::bind("0.0.0.0:53").unwrap();

            let client = UdpSocket::bind("0.0.0.0:0").unwrap();
            for socket in [&server, &client, &own] {
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
            }
            // Connected: an answer from any other port would be refused.
            client.connect((libnetwork_plan::DNS_ADDRESS, 53)).unwrap();
            client.send(b"question").unwrap();
            let mut buffer = [0; 64];
            let (_, from) = server.recv_from(&mut buffer).unwrap();
            server.send_to(b"answer", from).unwrap();
            let length = client.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"answer");

            let mut client = TcpStream::connect((libnetwork_plan::DNS_ADDRESS, 53)).unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            client.write_all(b"question").unwrap();
            stream.read_exact(&mut buffer[..8]).unwrap();
            stream.write_all(b"answer").unwrap();
            client.read_exact(&mut buffer[..6]).unwrap();
            assert_eq!(&buffer[..6], b"answer");
            assert_eq!(client.peer_addr().unwrap().port(), 53);
        })
        .join();
        assert!(answered.is_ok());
    });
}
