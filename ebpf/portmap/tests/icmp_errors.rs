//! Errors about translated packets reach the one who sent them.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::io;

use libnetwork_model::Protocol;
use world::{
    World, mapping,
    talk::{Connection, datagram_socket},
    web,
};

/// Asks where nobody listens.
fn unanswered(to: &str) -> io::ErrorKind {
    let to = to.parse().unwrap();
    let socket = datagram_socket(to, 0).unwrap();
    socket.connect(to).unwrap();
    socket.send(b"anybody there?").unwrap();
    socket.recv(&mut [0; 64]).unwrap_err().kind()
}

#[test]
fn a_client_learns_that_nobody_listens() {
    let mut world = World::open();
    world.publish(&[mapping(Protocol::Udp, None, 8081, 8081, 81)]);
    for place in ["outside", "b", "c", "a", "host"] {
        for to in ["192.0.2.1:8081", "[2001:db8::1]:8081"] {
            let answer = world.inside(place, || unanswered(to));
            assert_eq!(answer, io::ErrorKind::ConnectionRefused, "{place} to {to}");
        }
    }
}

#[test]
fn a_narrow_path_behind_another_router_is_found_out() {
    let mut world = World::open();
    world.serve("a", 80);
    world.publish(&web());
    // A client two links away. By the router's word the farther one is narrow; were it narrow by its own MTU, it would drop
    // what the client sends, which nobody is told of.
    world.link(("outside", "far0"), ("c", "eth1"));
    world.forward("outside");
    world.ip("outside", "address add 198.51.100.1/24 dev far0");
    world.ip("outside", "address add 2001:db8:5::1/64 dev far0 nodad");
    world.ip("outside", "route replace 198.51.100.2 dev far0 mtu lock 1300");
    world.ip("outside", "-6 route replace 2001:db8:5::2 dev far0 mtu lock 1300");
    world.ip("c", "address add 198.51.100.2/24 dev eth1");
    world.ip("c", "address add 2001:db8:5::2/64 dev eth1 nodad");
    world.ip("c", "route add 192.0.2.0/24 via 198.51.100.1");
    world.ip("c", "-6 route add 2001:db8::/64 via 2001:db8:5::1");
    world.ip("host", "route add 198.51.100.0/24 via 192.0.2.2");
    world.ip("host", "-6 route add 2001:db8:5::/64 via 2001:db8::2");
    let sent: Vec<u8> = (0..1u32 << 18).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    for (to, client) in [("192.0.2.1:8080", "198.51.100.2"), ("[2001:db8::1]:8080", "2001:db8:5::2")] {
        let back = world.inside("c", || {
            let mut connection = Connection::open(to).unwrap();
            assert_eq!(connection.seen.ip().to_string(), client);
            connection.echo(&sent)
        });
        assert!(back.unwrap_or_else(|e| panic!("{to}: {e}")) == sent);
        let route = world.program("a", "ip", &["route", "get", client]);
        assert!(route.contains("mtu 1300"), "the container was not told: {route}");
    }
}
