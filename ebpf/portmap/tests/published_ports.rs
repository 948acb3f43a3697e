//! Every way in to a published port, with real packets.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::io;

use libnetwork_core::PortMapper;
use libnetwork_model::{ErrorKind, Protocol};
use world::{World, mapping, publication, sandbox, talk::Connection, web};

/// From where, to which address, and who the container sees.
const WAYS: [(&str, &str, &str); 16] = [
    ("outside", "192.0.2.1", "192.0.2.2"),
    ("outside", "[2001:db8::1]", "2001:db8::2"),
    ("host", "192.0.2.1", "10.1.0.1"),
    ("host", "[2001:db8::1]", "fd00:1::1"),
    ("host", "127.0.0.1", "10.1.0.1"),
    ("host", "127.9.9.9", "10.1.0.1"),
    ("host", "[::1]", "fd00:1::1"),
    ("host", "10.1.0.1", "10.1.0.1"),
    ("b", "192.0.2.1", "10.1.0.3"),
    ("b", "10.1.0.1", "10.1.0.3"),
    ("b", "[2001:db8::1]", "fd00:1::3"),
    ("c", "192.0.2.1", "10.2.0.2"),
    ("c", "[2001:db8::1]", "fd00:2::2"),
    ("a", "192.0.2.1", "10.1.0.1"),
    ("a", "[2001:db8::1]", "fd00:1::1"),
    ("a", "10.1.0.1", "10.1.0.1"),
];

#[test]
fn a_published_port_is_reached_every_way_and_the_container_sees_the_client() {
    let mut world = World::open();
    world.serve("a", 80);
    world.publish(&web());
    world.seen_from(&WAYS, 8080);
}

#[test]
fn an_ipv6_socket_that_talks_ipv4_is_led_too() {
    let mut world = World::open();
    world.serve("a", 80);
    world.publish(&web());
    assert_eq!(world.tcp("host", "[::ffff:127.0.0.1]:8080").unwrap().ip().to_string(), "10.1.0.1");
    assert_eq!(world.udp("host", "[::ffff:192.0.2.1]:8080").unwrap().ip().to_string(), "10.1.0.1");
}

#[test]
fn only_the_address_that_a_port_is_published_on_leads_to_the_container() {
    let mut world = World::open();
    world.serve("a", 80);
    world.publish(&[
        mapping(Protocol::Tcp, Some("127.0.0.1"), 8001, 8001, 80),
        mapping(Protocol::Tcp, Some("192.0.2.1"), 8002, 8002, 80),
        mapping(Protocol::Tcp, Some("::"), 8003, 8003, 80),
        mapping(Protocol::Tcp, Some("0.0.0.0"), 8004, 8004, 80),
    ]);
    let reached = [
        ("host", "127.0.0.1:8001"),
        ("host", "192.0.2.1:8002"),
        ("outside", "192.0.2.1:8002"),
        ("c", "192.0.2.1:8002"),
        ("outside", "[2001:db8::1]:8003"),
        ("host", "[::1]:8003"),
        ("outside", "192.0.2.1:8004"),
    ];
    for (place, to) in reached {
        world.tcp(place, to).unwrap_or_else(|e| panic!("from {place} to {to}: {e}"));
    }
    let refused = [
        ("outside", "192.0.2.1:8001"),
        ("host", "192.0.2.1:8001"),
        ("host", "127.0.0.1:8002"),
        ("c", "10.2.0.1:8002"),
        ("outside", "192.0.2.1:8003"),
        ("host", "127.0.0.1:8003"),
        ("outside", "[2001:db8::1]:8004"),
    ];
    for (place, to) in refused {
        assert_eq!(
            world.tcp(place, to).unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused,
            "{place} to {to}"
        );
    }
}

#[test]
fn processes_in_other_namespaces_are_left_alone() {
    let mut world = World::open();
    world.serve("a", 80);
    world.publish(&web());
    for place in ["outside", "a", "c"] {
        let error = world.tcp(place, "127.0.0.1:8080").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{place}");
    }
    // And an address that is no host's goes where it went.
    world.serve("outside", 8080);
    assert_eq!(world.tcp("host", "192.0.2.2:8080").unwrap().ip().to_string(), "192.0.2.1");
}

#[test]
fn a_range_leads_port_by_port_and_costs_what_one_port_costs() {
    let mut world = World::open();
    world.serve("a", 12345);
    world.publish(&[
        mapping(Protocol::Tcp, None, 20_000, 29_999, 10_000),
        mapping(Protocol::Udp, None, 20_000, 29_999, 10_000),
    ]);
    for (place, address, _) in WAYS {
        world.tcp(place, &format!("{address}:22345")).unwrap();
        world.udp(place, &format!("{address}:22345")).unwrap();
    }
    for port in [19_999, 20_000, 29_999, 30_000] {
        let error = world.tcp("outside", &format!("192.0.2.1:{port}")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{port}");
    }
    let entries = entries(&world);
    assert!(entries <= 2 * 2 * ebpf_layouts::MAX_PREFIXES, "{entries} entries");

    world.publish(&[mapping(Protocol::Tcp, None, 1, 65_535, 1)]);
    assert_eq!(self::entries(&world), 2 * 16);
    world.tcp("outside", "192.0.2.1:12345").unwrap();
}

#[test]
fn what_the_host_has_open_in_a_published_range_keeps_its_packets() {
    let mut world = World::open();
    world.serve("outside", 53);
    world.serve("a", 53);
    world.serve("c", 53);
    world.publish(&[
        mapping(Protocol::Tcp, None, 1024, 65_535, 1024),
        mapping(Protocol::Udp, None, 1024, 65_535, 1024),
    ]);
    for to in ["192.0.2.2:53", "[2001:db8::2]:53", "10.1.0.2:53", "[fd00:2::2]:53"] {
        world.tcp("host", to).unwrap_or_else(|e| panic!("tcp to {to}: {e}"));
        world.udp("host", to).unwrap_or_else(|e| panic!("udp to {to}: {e}"));
    }
}

#[test]
fn a_port_withdrawn_takes_no_connection_and_resets_the_ones_it_had() {
    let mut world = World::open();
    world.serve("a", 80);
    world.publish(&web());
    let mut connection = world.inside("outside", || Connection::open("192.0.2.1:8080").unwrap());
    assert_eq!(connection.echo(b"still here").unwrap(), b"still here");
    assert_eq!(world.mapper(|m| m.sandboxes().unwrap()), [sandbox()].into());

    world.publish(&[]);
    assert!(world.mapper(|m| m.sandboxes().unwrap()).is_empty());
    assert_eq!(entries(&world), 0);
    for (place, address, _) in WAYS {
        let error = world.tcp(place, &format!("{address}:8080")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{place} to {address}");
    }
    assert_eq!(connection.echo(b"and now?").unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn one_port_withdrawn_leaves_the_others_connections_alone() {
    let mut world = World::open();
    world.serve("a", 80);
    let kept = mapping(Protocol::Tcp, None, 8080, 8080, 80);
    world.publish(&[kept.clone(), mapping(Protocol::Tcp, None, 9090, 9090, 80)]);
    let mut connection = world.inside("outside", || Connection::open("192.0.2.1:8080").unwrap());
    world.publish(&[kept]);
    assert_eq!(connection.echo(b"still here").unwrap(), b"still here");
    assert!(world.tcp("outside", "192.0.2.1:9090").is_err());
}

#[test]
fn a_mapping_that_cannot_be_is_refused_and_leaves_nothing() {
    let mut world = World::open();
    let too_far = mapping(Protocol::Tcp, None, 1, 10, 65_530);
    let error = world.mapper(|m| m.set(&sandbox(), &publication(&[too_far])).unwrap_err());
    assert_eq!(error.kind, ErrorKind::Invalid);
    let sctp = mapping(Protocol::Sctp, None, 1, 10, 2);
    let error = world.mapper(|m| m.set(&sandbox(), &publication(&[sctp])).unwrap_err());
    assert_eq!(error.kind, ErrorKind::Unimplemented);
    let mut gone = mapping(Protocol::Tcp, None, 1, 10, 1);
    gone.ipv4.as_mut().unwrap().link = "cwgone".into();
    let error = world.mapper(|m| m.set(&sandbox(), &publication(&[gone])).unwrap_err());
    assert!(error.to_string().contains("cwgone"), "{error}");
    assert!(world.mapper(|m| m.sandboxes().unwrap()).is_empty());
    assert_eq!(entries(&world), 0);
}

/// The entries of the map of ports, read from its pin.
fn entries(world: &World) -> usize {
    use aya::maps::{LpmTrie, Map, MapData};
    let pin = world.pins().join(format!("v{}/maps/PORTS", ebpf_layouts::VERSION));
    let map = Map::LpmTrie(MapData::from_pin(pin).unwrap());
    LpmTrie::<_, [u8; 20], u32>::try_from(map).unwrap().keys().count()
}
