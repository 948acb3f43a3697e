//! The host's own filter has the last word on who may come in by a published port.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::{
    io,
    time::{Duration, Instant},
};

use libnetwork_core::{PortFigures, PortMapper};
use world::{World, sandbox, talk::Connection, web};

const OUTSIDE: [&str; 2] = ["192.0.2.1:8080", "[2001:db8::1]:8080"];
/// Sooner than a handshake or a datagram that was lost is sent again.
const AT_ONCE: Duration = Duration::from_millis(500);

/// A table of the host's that lets in by policy what the rules do not deny, or the other way round.
fn filter(policy: &str, rules: &str) -> String {
    format!(
        "add table inet hosts\ndelete table inet hosts\ntable inet hosts {{\n chain input {{\n\
         type filter hook input priority 0; policy {policy};\n\
         meta l4proto ipv6-icmp accept\n ct state established,related accept\n {rules}\n }}\n }}\n"
    )
}

fn reached(world: &World, place: &str, to: &str) {
    let begun = Instant::now();
    world.tcp(place, to).unwrap_or_else(|e| panic!("tcp from {place} to {to}: {e}"));
    world.udp(place, to).unwrap_or_else(|e| panic!("udp from {place} to {to}: {e}"));
    assert!(begun.elapsed() < AT_ONCE, "{place} to {to} took {:?}", begun.elapsed());
}

fn denied(world: &World, place: &str, to: &str) {
    for answer in [world.tcp(place, to), world.udp(place, to)] {
        assert_eq!(answer.unwrap_err().kind(), io::ErrorKind::ConnectionRefused, "{place} to {to}");
    }
}

#[test]
fn a_published_port_obeys_what_the_host_lets_in() {
    let mut world = World::open();
    world.serve("a", 80);
    world.publish(&web());
    // No rule of anybody's, a policy that accepts, one that needs a hole, one that has it.
    for to in OUTSIDE {
        reached(&world, "outside", to);
    }
    world.nft(&filter("accept", ""));
    for to in OUTSIDE {
        reached(&world, "outside", to);
    }
    let mut before = world.inside("outside", || Connection::open(OUTSIDE[0]).unwrap());
    world.nft(&filter("drop", "tcp dport 8080 reject with tcp reset\n reject"));
    for to in OUTSIDE {
        denied(&world, "outside", to);
    }
    denied(&world, "c", "192.0.2.1:8080");
    assert_eq!(before.echo(b"what is open stays open").unwrap(), b"what is open stays open");
    world.nft(&filter(
        "drop",
        "ip saddr 192.0.2.2 meta l4proto { tcp, udp } th dport 8080 accept\n reject with tcp reset",
    ));
    reached(&world, "outside", OUTSIDE[0]);
    // The host's own processes are on the inside.
    reached(&world, "host", "127.0.0.1:8080");
}

#[test]
fn the_filter_may_look_at_everything_about_the_packet_and_comes_in_any_number() {
    let mut world = World::open();
    world.serve("a", 80);
    world.publish(&web());
    world.nft(&filter("drop", "iifname up0 ct state new th dport 8080 meta mark 0 accept"));
    world.nft(
        "table ip last {\n chain input {\n type filter hook input priority 2147483645;\n\
         ip saddr 192.0.2.2 ip daddr 192.0.2.1 tcp dport 8080 counter reject with tcp reset\n }\n }\n",
    );
    let error = world.tcp("outside", OUTSIDE[0]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    reached(&world, "outside", OUTSIDE[1]);
    world.nft("delete table ip last\n");
    reached(&world, "outside", OUTSIDE[0]);
    // A port that the host leads elsewhere is the host's.
    world.nft(
        "table ip nat {\n chain pre {\n type nat hook prerouting priority -100;\n tcp dport 8080 redirect to :9\n }\n }\n",
    );
    world.nft(&filter("drop", "reject with tcp reset"));
    assert_eq!(world.tcp("outside", OUTSIDE[0]).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn what_is_published_may_be_open_whatever_the_filter_says() {
    let mut world = World::open();
    world.serve("a", 80);
    world.publish(&web());
    world.nft(&filter("drop", "reject with tcp reset"));
    world.obey = false;
    world.reopen();
    for to in OUTSIDE {
        reached(&world, "outside", to);
    }
    reached(&world, "c", "192.0.2.1:8080");
    world.obey = true;
    world.reopen();
    let error = world.tcp("outside", OUTSIDE[0]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn a_port_withdrawn_leaves_the_hosts_own_service_alone() {
    let mut world = World::open();
    world.serve("a", 80);
    world.publish(&web());
    reached(&world, "outside", OUTSIDE[0]);
    world.publish(&[]);
    world.serve("host", 8080);
    reached(&world, "outside", OUTSIDE[0]);
}

/// Of TCP and UDP port 8080.
fn figures(world: &mut World) -> Vec<PortFigures> {
    let ports: Vec<_> = web().into_iter().map(|mapping| mapping.port).collect();
    world.mapper(|m| m.figures(&sandbox(), &ports).unwrap().unwrap())
}

#[test]
fn what_goes_through_a_port_is_counted_and_who_was_refused() {
    let mut world = World::open();
    world.serve("a", 80);
    world.publish(&web());
    assert_eq!(figures(&mut world), [PortFigures::default(); 2]);
    let mut connection = world.inside("outside", || Connection::open(OUTSIDE[0]).unwrap());
    let mut other = world.inside("outside", || Connection::open(OUTSIDE[1]).unwrap());
    other.echo(b"here").unwrap();
    connection.echo(&[7; 100_000]).unwrap();
    world.udp("outside", OUTSIDE[0]).unwrap();
    let [tcp, udp] = figures(&mut world)[..] else { panic!() };
    assert!(tcp.bytes > 200_000 && tcp.packets > 10, "{tcp:?}");
    assert_eq!((tcp.open_flows, tcp.refusals), (2, 0));
    // Two sockets, a question and an answer each, of 20 + 8 bytes and a text.
    assert_eq!((udp.packets, udp.open_flows, udp.refusals), (4, 2, 0));
    assert!((112..250).contains(&udp.bytes), "{udp:?}");

    world.nft(&filter("drop", "reject with tcp reset"));
    world.tcp("outside", OUTSIDE[0]).unwrap_err();
    connection.reset();
    let deadline = Instant::now() + Duration::from_secs(3);
    loop {
        let [tcp, udp] = figures(&mut world)[..] else { panic!() };
        if (tcp.open_flows, tcp.refusals, udp.refusals) == (1, 1, 0) {
            break;
        }
        assert!(Instant::now() < deadline, "{tcp:?} {udp:?}");
    }
    world.publish(&[]);
    world.publish(&web());
    assert_eq!(figures(&mut world), [PortFigures::default(); 2]);
}
