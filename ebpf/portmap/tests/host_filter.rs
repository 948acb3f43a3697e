//! The host's own filter has the last word on who may come in by a published port.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::{io, time::Instant};

use libnetwork_core::{DeniedPort, Families, PortFigures, PortMapper};
use libnetwork_model::Protocol;
use world::{
    World, mapping, publication, sandbox,
    talk::{Connection, PATIENCE},
    web,
};

const OUTSIDE: [&str; 2] = ["192.0.2.1:8080", "[2001:db8::1]:8080"];

/// A table of the host's that lets in by policy what the rules do not deny, or the other way round.
fn filter(policy: &str, rules: &str) -> String {
    format!(
        "add table inet hosts\ndelete table inet hosts\ntable inet hosts {{\n chain input {{\n\
         type filter hook input priority 0; policy {policy};\n\
         meta l4proto ipv6-icmp accept\n ct state established,related accept\n {rules}\n }}\n }}\n"
    )
}

fn reached(world: &World, place: &str, to: &str) {
    world.tcp_at_once(place, to);
    // Nothing of UDP is sent again.
    world.udp(place, to).unwrap_or_else(|e| panic!("udp from {place} to {to}: {e}"));
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
    let deadline = Instant::now() + PATIENCE;
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

/// Port, transport, uplink and clients of what is denied.
fn told(denied: &[DeniedPort]) -> Vec<(u16, Protocol, &str, Families)> {
    denied.iter().map(|d| (d.port, d.protocol, d.uplink.as_str(), d.families)).collect()
}

#[test]
fn what_the_filter_denies_is_told_by_family_and_uplink_before_and_when_it_is_published() {
    let mut world = World::new();
    let _tunnel = world.tunnel("c");
    world.reopen();
    world.serve("a", 80);
    world.nft(&filter(
        "accept",
        "tcp dport 8080 reject with tcp reset\n meta nfproto ipv6 udp dport 8080 reject\n ip6 nexthdr tcp tcp dport 8081 drop\n\
         meta nfproto ipv4 iifname tun0 tcp dport 8082 drop\n",
    ));
    let more = mapping(Protocol::Tcp, None, 8081, 8083, 81);
    let wanted = publication(&[web(), vec![more]].concat());
    let ports: Vec<_> = wanted.mappings.iter().map(|mapping| mapping.port.clone()).collect();
    let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
    let all = [
        (8080, tcp, "tun0", Families::Both),
        (8080, tcp, "up0", Families::Both),
        (8080, udp, "tun0", Families::Ipv6),
        (8080, udp, "up0", Families::Ipv6),
        (8081, tcp, "tun0", Families::Ipv6),
        (8081, tcp, "up0", Families::Ipv6),
    ];
    let before = world.mapper(|m| m.denied(&ports, Families::Both));
    assert_eq!(told(&before), all);
    let of_ipv4 = world.mapper(|m| m.denied(&ports, Families::Ipv4));
    let tcp_of_ipv4 = |uplink| (8080, tcp, uplink, Families::Ipv4);
    assert_eq!(told(&of_ipv4), [tcp_of_ipv4("tun0"), tcp_of_ipv4("up0")]);
    let one = mapping(Protocol::Tcp, Some("2001:db8:51::1"), 8080, 8080, 80).port;
    let of_one = world.mapper(|m| m.denied(&[one], Families::Both));
    assert_eq!(told(&of_one), [(8080, tcp, "tun0", Families::Ipv6)]);

    let published = world.mapper(|m| m.set(&sandbox(), &wanted).unwrap());
    assert_eq!(told(&published), all);
    // It is true.
    world.tcp("outside", OUTSIDE[0]).unwrap_err();
    world.udp("outside", OUTSIDE[0]).unwrap();
    assert!(
        world.mapper(|m| m.set(&sandbox(), &wanted).unwrap()).is_empty(),
        "what is published is told of once"
    );
}

/// By the filter's answers, which would look for the neighbour that seemed to ask.
#[test]
fn asking_the_filter_lets_nothing_leave_the_host() {
    let mut world = World::new();
    let _tunnel = world.tunnel("c");
    world.reopen();
    world.nft(&filter("accept", "th dport 8080 reject"));
    let watch = "table netdev watch {\n chain seen {\n type filter hook ingress device eth0 priority 0\n\
                 meta protocol { ip, arp } counter\n ip6 saddr != :: icmpv6 type nd-neighbor-solicit counter\n\
                 ip6 daddr 2001:db8::ffff:ffff:ffff:ffff counter\n }\n }\n\
                 table inet watch {\n chain seen {\n type filter hook prerouting priority -300\n\
                 iifname tun0 ip saddr 198.51.100.1 counter\n iifname tun0 ip6 saddr 2001:db8:51::1 counter\n }\n }\n";
    let received =
        |world: &World| ["outside", "c"].map(|place| world.program(place, "nft", &["list", "ruleset"]));
    world.nft_in("outside", watch);
    world.nft_in("c", watch);
    let before = received(&world);
    let ports: Vec<_> = web().into_iter().map(|mapping| mapping.port).collect();
    assert_eq!(world.mapper(|m| m.denied(&ports, Families::Both)).len(), 4);
    assert_eq!(received(&world), before);
}
