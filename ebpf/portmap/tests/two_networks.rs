//! A container on two networks publishes by the first, and answers clients on the second by that, as its routes say.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::io;

use libnetwork_core::{PortMapper, PortMapping, PortTarget, Publication};
use libnetwork_model::{MacAddress, Protocol};
use world::{
    World, hardware_address, mapping, publication, sandbox,
    talk::{Connection, datagram_socket},
    web,
};

/// From where, to which address, and who the container sees.
const WAYS: [(&str, &str, &str); 8] = [
    ("outside", "192.0.2.1", "192.0.2.2"),
    ("outside", "[2001:db8::1]", "2001:db8::2"),
    ("host", "127.0.0.1", "10.1.0.1"),
    ("b", "192.0.2.1", "10.1.0.3"),
    ("c", "192.0.2.1", "10.2.0.2"),
    ("c", "10.2.0.1", "10.2.0.2"),
    ("c", "[2001:db8::1]", "fd00:2::2"),
    ("a", "192.0.2.1", "10.1.0.1"),
];

fn on_both(world: &mut World) {
    world.link(("host", "cwa2"), ("a", "eth1"));
    // A bridge takes the lowest address of its ports, and clients would go on using the one that they know.
    world.ip("host", "link set cwa2 address fe:ff:ff:ff:ff:fe");
    world.ip("host", "link set cwa2 master br-000000000002");
    world.ip("a", "address add 10.2.0.9/24 dev eth1");
    world.ip("a", "address add fd00:2::9/64 dev eth1 nodad");
    publish(world, &ports(), true);
}

/// Port 8080 leads to the server, UDP port 8081 to nobody.
fn ports() -> Vec<PortMapping> {
    web().into_iter().chain([mapping(Protocol::Udp, None, 8081, 8081, 81)]).collect()
}

fn publish(world: &mut World, mappings: &[PortMapping], on_both: bool) {
    let mac = world.inside("a", || on_both.then(|| hardware_address("eth1")));
    let way = |address: &str, gateway: &str| PortTarget {
        address: address.parse().unwrap(),
        link: "cwa2".into(),
        mac: MacAddress(mac.unwrap_or_default()),
        bridge: "br-000000000002".into(),
        gateway: gateway.parse().unwrap(),
        apart: false,
    };
    let beside = [way("10.2.0.9", "10.2.0.1"), way("fd00:2::9", "fd00:2::1")];
    let beside = beside.into_iter().filter(|_| on_both).collect();
    let wanted = Publication { beside, ..publication(mappings) };
    world.mapper(|m| m.set(&sandbox(), &wanted).unwrap());
}

fn check(world: &World) {
    world.seen_from(&WAYS, 8080);
}

#[test]
fn clients_on_either_network_are_answered_also_after_a_restart() {
    let mut world = World::open();
    world.serve("a", 80);
    on_both(&mut world);
    check(&world);
    world.reopen();
    check(&world);
    publish(&mut world, &ports(), true);
    check(&world);
}

#[test]
fn long_answers_fragments_and_errors_come_by_the_second_network_too() {
    let mut world = World::open();
    world.serve("a", 80);
    on_both(&mut world);
    let sent: Vec<u8> = (0..1u32 << 18).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    for address in ["192.0.2.1", "[2001:db8::1]"] {
        world.inside("c", || {
            let mut connection = Connection::open(&format!("{address}:8080")).unwrap();
            assert!(connection.echo(&sent).unwrap() == sent);
            let [web, nobody] = [8080, 8081].map(|port| format!("{address}:{port}").parse().unwrap());
            let socket = datagram_socket(web, 0).unwrap();
            // The second in fragments.
            for length in [10, 4000] {
                socket.send_to(&vec![7; length], web).unwrap();
                assert_eq!(socket.recv_from(&mut [0; 64]).unwrap().1, web, "{length} bytes");
            }
            let socket = datagram_socket(nobody, 0).unwrap();
            socket.connect(nobody).unwrap();
            socket.send(b"anybody there?").unwrap();
            assert_eq!(socket.recv(&mut [0; 64]).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        });
    }
}

#[test]
fn a_container_that_leaves_its_second_network_answers_by_the_first() {
    let mut world = World::open();
    world.serve("a", 80);
    on_both(&mut world);
    check(&world);
    world.ip("host", "link delete cwa2");
    publish(&mut world, &ports(), false);
    check(&world);
    on_both(&mut world);
    check(&world);
    world.publish(&[]);
    assert!(world.tcp("c", "192.0.2.1:8080").is_err());
}

#[test]
fn flows_of_the_second_network_go_on_when_others_of_their_range_are_withdrawn_and_end_with_their_port() {
    let mut world = World::open();
    world.serve("a", 8085);
    on_both(&mut world);
    let range = |first, last| vec![mapping(Protocol::Tcp, None, first, last, first)];
    publish(&mut world, &range(8080, 8089), true);
    let mut connection = world.inside("c", || Connection::open("192.0.2.1:8085").unwrap());
    assert_eq!(connection.echo(b"one").unwrap(), b"one");
    publish(&mut world, &range(8084, 8086), true);
    assert_eq!(connection.echo(b"two").unwrap(), b"two");
    world.reopen();
    assert_eq!(connection.echo(b"three").unwrap(), b"three");
    publish(&mut world, &range(8086, 8086), true);
    assert!(connection.echo(b"four").is_err());
}
