//! A flood pushes out nobody's flows but its own.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::{
    net::{SocketAddr, UdpSocket},
    time::Instant,
};

use ebpf_portmap::Watch;
use world::{
    World,
    packets::{frame, ip, transport},
    talk::{Connection, PATIENCE, ask, datagram_socket},
    web,
};

/// In all, and so an eighth of them for each source.
const FLOWS: u32 = 512;
const SHARE: usize = 64;
/// Some times what there is room for.
const FLOOD: u32 = 4 * FLOWS;
const TO: &str = "192.0.2.1:8080";

const TCP: u8 = 6;
const UDP: u8 = 17;

/// A connection and a stream of datagrams that are used all the time, and others that are not.
struct Clients {
    busy: Connection,
    idle: Connection,
    busy_datagrams: UdpSocket,
    idle_datagrams: UdpSocket,
}

impl Clients {
    fn open(world: &World) -> Self {
        let to: SocketAddr = TO.parse().unwrap();
        let clients = world.inside("c", || Self {
            busy: Connection::open(TO).unwrap(),
            idle: Connection::open(TO).unwrap(),
            busy_datagrams: datagram_socket(to, 0).unwrap(),
            idle_datagrams: datagram_socket(to, 0).unwrap(),
        });
        // A stream of datagrams is one with the second question.
        for _ in 0..2 {
            ask(&clients.busy_datagrams, to).unwrap();
            ask(&clients.idle_datagrams, to).unwrap();
        }
        clients
    }

    fn work(&mut self) {
        self.busy.echo(b"still here").unwrap();
        ask(&self.busy_datagrams, TO.parse().unwrap()).unwrap();
    }

    /// The datagrams still come from the port that the server knows: the flow is the same.
    fn are_there(mut self) {
        self.work();
        self.idle.echo(b"idle so long").unwrap();
        ask(&self.idle_datagrams, TO.parse().unwrap()).unwrap();
    }
}

fn world() -> World {
    let mut world = World::new();
    world.flows = FLOWS;
    world.reopen();
    // What answers forged addresses goes somewhere.
    world.ip("host", "route add default via 192.0.2.2");
    world.serve("a", 80);
    world.publish(&web());
    world
}

fn flood(world: &World, clients: &mut Clients, protocol: u8, source: impl Fn(u32) -> [u8; 4] + Sync) {
    let mac = world.inside("host", || world::hardware_address("up0"));
    for first in (0..FLOOD).step_by(FLOOD as usize / 16) {
        world.inside("outside", || {
            let frames = (first..first + FLOOD / 16).map(|i| {
                let (source, host) = (source(i), [192, 0, 2, 1]);
                let packet = transport(protocol, &source, &host, [1024 + i as u16, 8080], b"who?");
                frame(mac, &ip(protocol, &source, &host, 0, &packet))
            });
            world::send_frames("eth0", frames);
        });
        clients.work();
    }
}

/// How many entries a map has.
fn entries(world: &World, map: &str) -> usize {
    use aya::maps::{HashMap, Map, MapData};
    let pin = world.pins().join(format!("v{}/maps/{map}", ebpf_layouts::VERSION));
    let map = Map::LruHashMap(MapData::from_pin(pin).unwrap());
    HashMap::<_, [u8; 40], [u8; 52]>::try_from(map).unwrap().keys().count()
}

#[test]
fn first_packets_of_one_source_or_of_forged_ones_push_out_no_flow() {
    let world = world();
    let mut watch = Watch::open(&world.pins()).unwrap();
    for protocol in [TCP, UDP] {
        let mut clients = Clients::open(&world);
        assert_eq!(watch.look().unwrap(), None);
        flood(&world, &mut clients, protocol, |_| [192, 0, 2, 2]);
        flood(&world, &mut clients, protocol, |i| [198, 18, (i >> 8) as u8, i as u8]);
        clients.are_there();
        let flood = watch.look().unwrap().unwrap();
        assert!(flood.unconfirmed > u64::from(FLOWS), "{flood:?}");
        assert_eq!(flood.held_back, 0);
    }
}

#[test]
fn connections_of_one_source_push_out_no_other_flow_and_work_themselves() {
    let world = world();
    let mut watch = Watch::open(&world.pins()).unwrap();
    let mut clients = Clients::open(&world);
    let mine = entries(&world, "FLOWS");
    // More than its share, and all that fits on probation, at once; then as many again.
    let mut held: Vec<Connection> = Vec::new();
    for round in 0..2 {
        for _ in 0..FLOWS / 2 - 32 {
            held.push(world.inside("outside", || Connection::open(TO).unwrap()));
        }
        clients.work();
        held[round].echo(b"one of the share").unwrap();
        held.last_mut().unwrap().echo(b"one held back").unwrap();
    }
    assert!(entries(&world, "FLOWS") <= mine + 2 * SHARE);
    let flood = watch.look().unwrap().unwrap();
    assert!(flood.held_back > u64::from(FLOWS / 2), "{flood:?}");
    held.truncate(SHARE);
    clients.are_there();

    // Those that end give their places back.
    drop(held);
    let deadline = Instant::now() + PATIENCE;
    while entries(&world, "FLOWS") > mine {
        assert!(Instant::now() < deadline, "{} entries", entries(&world, "FLOWS"));
    }
    watch.look().unwrap();
    let mut late = world.inside("outside", || Connection::open(TO).unwrap());
    late.echo(b"has a share again").unwrap();
    assert_eq!(watch.look().unwrap(), None);
}

#[test]
fn a_source_that_was_counted_wrong_is_counted_again() {
    use aya::maps::{HashMap, Map, MapData};
    let world = world();
    let mut watch = Watch::open(&world.pins()).unwrap();
    let pin = world.pins().join(format!("v{}/maps/SOURCES", ebpf_layouts::VERSION));
    let map = Map::LruHashMap(MapData::from_pin(pin).unwrap());
    let mut sources = HashMap::<_, ebpf_layouts::Source, u64>::try_from(map).unwrap();
    let outside = ebpf_layouts::mapped([192, 0, 2, 2]);
    sources.insert(outside, 1000, 0).unwrap();

    let mut held = world.inside("outside", || Connection::open(TO).unwrap());
    held.echo(b"held back").unwrap();
    assert_eq!(watch.look().unwrap().unwrap().held_back, 1);
    assert!(sources.get(&outside, 0).is_err());
    // It tries again, once a second.
    let deadline = Instant::now() + PATIENCE;
    while !sources.get(&outside, 0).is_ok_and(|count| count == 1) {
        held.echo(b"and now?").unwrap();
        assert!(Instant::now() < deadline);
    }
}
