//! What becomes of connections when the range that they came in by is cut, split or grown.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::{io::ErrorKind, net::SocketAddr};

use libnetwork_core::PortMapping;
use libnetwork_model::Protocol;
use world::{
    World, mapping,
    talk::{Connection, datagram_socket},
};

fn range(protocol: Protocol, first: u16, last: u16) -> PortMapping {
    mapping(protocol, None, first, last, first - 8000)
}

fn open(world: &World, place: &str, to: &str) -> Connection {
    world.inside(place, || Connection::open(to).unwrap())
}

#[test]
fn connections_of_the_ports_that_stay_go_on_and_those_of_the_others_are_reset() {
    let mut world = World::open();
    for port in [80, 81, 82, 83] {
        world.serve("a", port);
    }
    world.publish(&[range(Protocol::Tcp, 8080, 8083)]);
    let clients = [("outside", "192.0.2.1"), ("outside", "[2001:db8::1]"), ("c", "192.0.2.1")];
    for (place, host) in clients {
        world.publish(&[range(Protocol::Tcp, 8080, 8083)]);
        let mut held: Vec<_> =
            (8080..=8083).map(|port| open(&world, place, &format!("{host}:{port}"))).collect();
        // A hole in the middle, then another.
        world.publish(&[range(Protocol::Tcp, 8080, 8080), range(Protocol::Tcp, 8082, 8083)]);
        assert_eq!(held[1].echo(b"and now?").unwrap_err().kind(), ErrorKind::ConnectionReset);
        for i in [0, 2] {
            held[i].echo(b"still here").unwrap();
        }
        // The last one was silent through both changes.
        world.publish(&[range(Protocol::Tcp, 8080, 8080), range(Protocol::Tcp, 8083, 8083)]);
        assert_eq!(held[2].echo(b"and now?").unwrap_err().kind(), ErrorKind::ConnectionReset);
        for i in [0, 3] {
            held[i].echo(b"still here").unwrap();
        }
        world.reopen();
        // Grown again.
        world.publish(&[range(Protocol::Tcp, 8080, 8083)]);
        for i in [0, 3] {
            held[i].echo(b"still here").unwrap();
        }
        open(&world, place, &format!("{host}:8081"));
    }
}

#[test]
fn a_port_that_was_withdrawn_in_between_is_a_new_one() {
    let mut world = World::open();
    for port in [80, 81] {
        world.serve("a", port);
    }
    world.publish(&[range(Protocol::Tcp, 8080, 8081)]);
    let mut held = open(&world, "outside", "192.0.2.1:8081");
    world.publish(&[range(Protocol::Tcp, 8080, 8080)]);
    world.publish(&[range(Protocol::Tcp, 8080, 8080), range(Protocol::Tcp, 8081, 8081)]);
    assert_eq!(held.echo(b"and now?").unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn ports_that_lead_elsewhere_take_no_flow_with_them() {
    let mut world = World::open();
    for port in [80, 81, 90] {
        world.serve("a", port);
    }
    world.publish(&[range(Protocol::Tcp, 8080, 8081)]);
    let mut held = open(&world, "outside", "192.0.2.1:8080");
    world.publish(&[mapping(Protocol::Tcp, None, 8080, 8080, 90)]);
    assert_eq!(held.echo(b"and now?").unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn the_container_may_speak_first_after_the_change() {
    let mut world = World::open();
    world.publish(&[range(Protocol::Udp, 8080, 8083)]);
    let to: SocketAddr = "192.0.2.1:8083".parse().unwrap();
    let client = world.inside("outside", || datagram_socket(to, 0).unwrap());
    let server = world.inside("a", || datagram_socket("10.1.0.2:0".parse().unwrap(), 83).unwrap());
    let mut buffer = [0; 64];
    client.send_to(b"hello", to).unwrap();
    let (_, seen) = server.recv_from(&mut buffer).unwrap();
    world.publish(&[range(Protocol::Udp, 8082, 8083)]);
    server.send_to(b"late", seen).unwrap();
    assert_eq!(client.recv_from(&mut buffer).unwrap(), (4, to));
    // And the flow is the same for the client.
    client.send_to(b"again", to).unwrap();
    assert_eq!(server.recv_from(&mut buffer).unwrap().1, seen);
}
