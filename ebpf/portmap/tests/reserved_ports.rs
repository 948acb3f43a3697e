//! A port that is published is not to be had for a process of the host.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::{
    io::{self, ErrorKind},
    net::{SocketAddr, TcpListener, UdpSocket},
};

use ebpf_portmap::host_port_in_use;
use libnetwork_model::Protocol;
use world::{World, mapping, web};

fn tcp(world: &World, place: &str, to: &str) -> io::Result<SocketAddr> {
    world.inside(place, || TcpListener::bind(to)?.local_addr())
}

fn udp(world: &World, place: &str, to: &str) -> io::Result<SocketAddr> {
    world.inside(place, || UdpSocket::bind(to)?.local_addr())
}

#[test]
fn a_process_is_refused_a_published_port_until_it_is_withdrawn() {
    let mut world = World::open();
    world.publish(&web());
    let addresses = [
        "0.0.0.0",
        "127.0.0.1",
        "192.0.2.1",
        "10.1.0.1",
        "[::]",
        "[::1]",
        "[2001:db8::1]",
        "[::ffff:127.0.0.1]",
    ];
    for address in addresses {
        let to = format!("{address}:8080");
        for refused in [tcp(&world, "host", &to), udp(&world, "host", &to)] {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::AddrInUse, "{to}");
        }
        tcp(&world, "host", &format!("{address}:8081")).unwrap();
        // Any port, and the same one elsewhere.
        udp(&world, "host", &format!("{address}:0")).unwrap();
    }
    for place in ["a", "c", "outside"] {
        tcp(&world, place, "0.0.0.0:8080").unwrap();
        udp(&world, place, "[::]:8080").unwrap();
    }
    world.publish(&[]);
    for address in addresses {
        tcp(&world, "host", &format!("{address}:8080")).unwrap();
        udp(&world, "host", &format!("{address}:8080")).unwrap();
    }
}

#[test]
fn a_port_is_taken_on_its_own_address_and_protocol_alone() {
    let mut world = World::open();
    world.publish(&[
        mapping(Protocol::Tcp, Some("127.0.0.1"), 9000, 9999, 80),
        mapping(Protocol::Udp, Some("192.0.2.1"), 7000, 7000, 80),
    ]);
    assert!(tcp(&world, "host", "127.0.0.1:9500").is_err());
    assert!(udp(&world, "host", "192.0.2.1:7000").is_err());
    // In IPv4 alone, as where the container's network has no IPv6.
    let mut half = mapping(Protocol::Tcp, None, 8080, 8080, 80);
    half.ipv6 = None;
    tcp(&world, "host", "192.0.2.1:9500").unwrap();
    tcp(&world, "host", "[::1]:9500").unwrap();
    udp(&world, "host", "127.0.0.1:9500").unwrap();
    udp(&world, "host", "127.0.0.1:7000").unwrap();
    tcp(&world, "host", "192.0.2.1:7000").unwrap();
    world.publish(&[half]);
    assert!(tcp(&world, "host", "[::]:8080").is_err());
    tcp(&world, "host", "[::1]:8080").unwrap();
}

#[test]
fn the_engine_that_publishes_a_port_still_sees_whether_a_process_has_it() {
    let mut world = World::open();
    world.publish(&web());
    let in_use =
        |world: &World| world.inside("host", || host_port_in_use(Protocol::Tcp, None, 8080).unwrap());
    assert!(!in_use(&world));
    world.publish(&[]);
    let listener = world.inside("host", || TcpListener::bind("192.0.2.1:8080").unwrap());
    world.publish(&web());
    assert!(in_use(&world));
    drop(listener);
    assert!(!in_use(&world));
    // And after a restart.
    world.reopen();
    assert!(!in_use(&world));
    assert!(tcp(&world, "host", "0.0.0.0:8080").is_err());
}
