//! What a container forges at its own veth begins nothing and gets into nobody's flow. (A forged source address in front of
//! `towards` is dropped before, by the bridge's table: drivers/bridge.)
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::net::{SocketAddr, UdpSocket};

use libnetwork_core::PortMapper;
use libnetwork_model::{Protocol, SandboxId};
use world::{
    World, hardware_address, mapping,
    packets::{frame, ip, transport},
    publication,
    talk::{Connection, PATIENCE},
    web,
};

const OUTSIDE: [u8; 4] = [192, 0, 2, 2];
const A: [u8; 4] = [10, 1, 0, 2];
const B: [u8; 4] = [10, 1, 0, 3];

/// Container a publishes, and so does b, whose veth therefore has the program for answers too.
fn world() -> World {
    published(World::open())
}

fn published(mut world: World) -> World {
    world.serve("a", 80);
    world.publish(&web());
    let mut other = mapping(Protocol::Udp, None, 9090, 9090, 90);
    let target = other.ipv4.as_mut().unwrap();
    (target.address, target.link) = ("10.1.0.3".parse().unwrap(), "cwb".into());
    target.mac = "02:42:0a:01:00:03".parse().unwrap();
    other.ipv6 = None;
    world.mapper(|m| m.set(&SandboxId::from_bytes([0xb5; 32]), &publication(&[other])).unwrap());
    world
}

/// Sends a packet of a's from b, to the host's end of b's link and to the bridge.
fn forge(world: &World, protocol: u8, ports: [u16; 2]) {
    let macs = world.inside("host", || ["cwb", "br-000000000001"].map(hardware_address));
    world.inside("b", || {
        for mac in macs {
            let packet = transport(protocol, &A, &OUTSIDE, ports, b"forged");
            world::send_frame("eth0", &frame(mac, &ip(protocol, &A, &OUTSIDE, 0, &packet)));
        }
    });
}

fn flows(world: &World) -> usize {
    use aya::maps::{HashMap, Map, MapData};
    let maps = ["FLOWS", "PROBATION"].map(|map| {
        let pin = world.pins().join(format!("v{}/maps/{map}", ebpf_layouts::VERSION));
        Map::LruHashMap(MapData::from_pin(pin).unwrap())
    });
    maps.map(|map| HashMap::<_, [u8; 40], [u8; 52]>::try_from(map).unwrap().keys().count()).iter().sum()
}

#[test]
fn an_answer_from_another_containers_veth_reaches_no_client() {
    let world = world();
    let to: SocketAddr = "192.0.2.1:8080".parse().unwrap();
    let client =
        world.inside("outside", || UdpSocket::bind((std::net::Ipv4Addr::from(OUTSIDE), 7777)).unwrap());
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    // The forged packet may arrive as what it is, from the container's own address; here nothing drops it.
    client.connect(to).unwrap();
    let mut buffer = [0; 64];
    client.send(b"who?").unwrap();
    client.recv(&mut buffer).unwrap();

    let mut connection = world.inside("outside", || Connection::open_from(7778, "192.0.2.1:8080").unwrap());
    forge(&world, 17, [80, 7777]);
    forge(&world, 6, [80, 7778]);
    // The next that comes is the answer to this.
    client.send(b"who?").unwrap();
    let length = client.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"192.0.2.2:7777");
    assert_eq!(connection.echo(b"still here").unwrap(), b"still here");
}

#[test]
fn what_a_container_sends_by_itself_begins_no_flow() {
    let world = world();
    let before = flows(&world);
    forge(&world, 17, [80, 5555]);
    forge(&world, 6, [80, 5555]);
    let macs = world.inside("host", || ["cwb", "br-000000000001"].map(hardware_address));
    world.inside("b", || {
        for mac in macs {
            // As if from its own published port, as if from the host, and to the host's end of another's flow.
            for (source, ports) in
                [(B, [90, 5555]), ([192, 0, 2, 1], [9090, 5555]), ([192, 0, 2, 1], [8080, 5555])]
            {
                let packet = transport(17, &source, &OUTSIDE, ports, b"forged");
                world::send_frame("eth0", &frame(mac, &ip(17, &source, &OUTSIDE, 0, &packet)));
            }
        }
    });
    // What was sent before this has arrived when this has.
    world.udp("b", "192.0.2.1:8080").unwrap();
    let begun = flows(&world) - before;
    assert_eq!(begun, 2 * 2, "two questions, two entries each");
}

#[test]
fn what_comes_from_outside_under_an_address_of_the_host_s_begins_no_flow() {
    // Where the host's filter is obeyed the host is asked, and refuses it.
    let mut world = World::new();
    world.obey = false;
    world.reopen();
    let world = published(world);
    let before = flows(&world);
    let mac = world.inside("host", || hardware_address("up0"));
    world.inside("outside", || {
        // The uplink's own address, and the one that a container takes for the host's.
        for source in [[192, 0, 2, 1], [10, 1, 0, 1]] {
            let datagram = transport(17, &source, &[192, 0, 2, 1], [5555, 8080], b"trust me");
            world::send_frame("eth0", &frame(mac, &ip(17, &source, &[192, 0, 2, 1], 0, &datagram)));
        }
    });
    world.udp("outside", "192.0.2.1:8080").unwrap();
    assert_eq!(flows(&world) - before, 2 * 2, "two questions, two entries each");
}
