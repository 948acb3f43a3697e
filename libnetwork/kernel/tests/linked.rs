//! What endpoints of a network without icc reach of each other by openings.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use libnetwork_model::{Endpoint, Mutation, Opening, PortRange, Protocol};
use nix::sched::{CloneFlags, setns};
use support::*;

/// Sandboxes 2 and 3 on the first bridge, 4 and 5 on the second, none of which reaches another.
fn apart() -> World {
    let mut world = World::new();
    let icc = "com.docker.network.bridge.enable_icc";
    world.network(1, |network| network.options.extend([(icc.into(), "false".into())]));
    for (segment, sandbox) in [(0, 2), (0, 3), (1, 4), (1, 5)] {
        world.endpoint_on(1, segment, sandbox);
    }
    world
}

fn opening(sandbox: u8, protocol: Protocol, first: u16, last: u16) -> Opening {
    Opening { sandbox: sandbox_id(sandbox), protocol, ports: PortRange::new(first, last).unwrap() }
}

fn open(world: &mut World, sandbox: u8, openings: Vec<Opening>) {
    let before = world.intent.endpoints_in(&sandbox_id(sandbox)).next().unwrap();
    let after = Endpoint { openings, ..(**before).clone() };
    world.apply(Mutation::PutEndpoint(after.into()));
}

/// Runs in a sandbox's network.
fn within<T: Send>(sandbox: u8, run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(File::open(path(sandbox)).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            run()
        });
        thread.join().unwrap()
    })
}

/// By IPv4 and by IPv6.
fn addresses(sandbox: u8, port: u16) -> [SocketAddr; 2] {
    [format!("10.100.1.{sandbox}:{port}"), format!("[fd00:1::{sandbox}]:{port}")].map(|a| a.parse().unwrap())
}

/// A socket where there was one just now: a child that another test has just begun holds that open for a moment.
fn bound<T>(mut bind: impl FnMut() -> std::io::Result<T>) -> T {
    let mut socket = None;
    eventually("the port is free", || match bind() {
        Err(error) if error.kind() == ErrorKind::AddrInUse => false,
        done => {
            socket = Some(done.unwrap());
            true
        }
    });
    socket.unwrap()
}

/// Whether a sandbox's server is reached, by family.
fn connects(from: u8, to: u8, port: u16) -> [bool; 2] {
    addresses(to, port).map(|address| {
        let server = within(to, || bound(|| TcpListener::bind(address)));
        let client = within(from, || TcpStream::connect_timeout(&address, Duration::from_millis(500)));
        client.is_ok_and(|mut client| {
            client.write_all(b"x").unwrap();
            server.accept().unwrap().0.read_exact(&mut [0]).is_ok()
        })
    })
}

/// A neighbour that could not be reached before may not be asked for again at once.
fn reached(from: u8, to: u8, port: u16) {
    eventually(&format!("{from} reaches port {port} of {to}"), || connects(from, to, port) == [true; 2]);
}

fn unreached(from: u8, to: u8, port: u16) {
    assert_eq!(connects(from, to, port), [false; 2], "{from} reaches port {port} of {to}");
}

/// Whether a datagram is answered, by family.
fn answers(from: u8, to: u8, port: u16) -> [bool; 2] {
    addresses(to, port).map(|address| {
        let socket = |address: SocketAddr| {
            let socket = bound(|| UdpSocket::bind(address));
            socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            socket
        };
        let server = within(to, || socket(address));
        let client = within(from, || socket(addresses(from, 0)[usize::from(address.is_ipv6())]));
        client.send_to(b"x", address).unwrap();
        server.recv_from(&mut [0; 8]).is_ok_and(|(_, back)| {
            server.send_to(b"y", back).unwrap();
            client.recv(&mut [0; 8]).is_ok()
        })
    })
}

#[test]
fn an_opening_lets_its_holder_reach_those_ports_and_nothing_else() {
    host(|| async {
        let (mut kernel, mut world) = (kernel(), apart());
        settle(&mut kernel, &world).await;
        unreached(2, 3, 80);
        unreached(2, 4, 80);

        use Protocol::{Tcp, Udp};
        open(
            &mut world,
            2,
            vec![opening(3, Tcp, 80, 80), opening(4, Tcp, 8000, 8010), opening(4, Udp, 53, 53)],
        );
        // One on another bridge than the first, to who is on each.
        open(&mut world, 4, vec![opening(3, Tcp, 80, 80), opening(5, Tcp, 80, 80)]);
        settle(&mut kernel, &world).await;
        for (from, to, port) in [(2, 3, 80), (2, 4, 8000), (2, 4, 8010), (4, 3, 80), (4, 5, 80)] {
            reached(from, to, port);
        }
        eventually("an answer by UDP", || answers(2, 4, 53) == [true; 2]);
        let closed = [
            (2, 3, 81),
            (2, 4, 7999),
            (2, 4, 8011),
            (2, 4, 53),
            (2, 5, 80),
            (3, 2, 80),
            (3, 4, 8000),
            (3, 5, 80),
            (4, 2, 80),
            (5, 4, 80),
        ];
        for (from, to, port) in closed {
            unreached(from, to, port);
        }
        assert_eq!([answers(2, 3, 80), answers(2, 4, 8000)], [[false; 2]; 2]);
        for (from, to) in [(2, 3), (2, 4), (2, 5), (4, 2)] {
            assert!(!pings(from, &format!("10.100.1.{to}")), "{to} is reached from {from}");
        }
        for from in [2, 3, 4, 5] {
            assert!(reaches(from, "10.100.1.1") && reaches(from, "fd00:1::1"), "the gateway, from {from}");
        }

        // It goes with the opening, and with who it is to.
        open(&mut world, 2, vec![opening(3, Tcp, 80, 80)]);
        let gone = world.intent.endpoints_in(&sandbox_id(5)).next().unwrap().id.clone();
        world.apply(Mutation::RemoveEndpoint(gone));
        settle(&mut kernel, &world).await;
        reached(2, 3, 80);
        unreached(2, 4, 8000);
        let opened = sh("nft list set bridge causeway linked4") + &sh("nft list set inet causeway linked4");
        assert!(opened.contains("10.100.1.2 . 10.100.1.3") && !opened.contains("10.100.1.5"), "{opened}");
        open(&mut world, 2, Vec::new());
        settle(&mut kernel, &world).await;
        unreached(2, 3, 80);
    });
}

#[test]
fn nobody_gets_around_the_wall_by_way_of_the_gateway() {
    host(|| async {
        let (mut kernel, mut world) = (kernel(), apart());
        open(&mut world, 2, vec![opening(3, Protocol::Tcp, 80, 80)]);
        settle(&mut kernel, &world).await;
        sh("echo 1 > /proc/sys/net/ipv4/ip_forward && echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
        for from in [2, 3, 4] {
            for to in [2, 3, 4].into_iter().filter(|to| *to != from) {
                for route in
                    [format!("10.100.1.{to}/32 via 10.100.1.1"), format!("fd00:1::{to}/128 via fd00:1::1")]
                {
                    assert!(inside(from, &format!("ip route add {route}")).status.success());
                }
            }
        }
        reached(2, 3, 80);
        for (from, to, port) in [(2, 3, 81), (3, 2, 80), (4, 3, 80), (2, 4, 80)] {
            unreached(from, to, port);
        }
    });
}

#[test]
fn openings_hold_where_bridged_frames_are_handed_to_the_inet_rules() {
    host(|| async {
        let (mut kernel, mut world) = (kernel(), apart());
        for setting in ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"] {
            // As most hosts with another container engine have it; some kernels cannot.
            try_sh(&format!("echo 1 > /proc/sys/net/bridge/{setting}"));
        }
        open(&mut world, 2, vec![opening(3, Protocol::Tcp, 80, 80), opening(4, Protocol::Tcp, 80, 80)]);
        settle(&mut kernel, &world).await;
        reached(2, 3, 80);
        reached(2, 4, 80);
        for (from, to, port) in [(2, 3, 81), (2, 4, 81), (3, 2, 80)] {
            unreached(from, to, port);
        }
    });
}
