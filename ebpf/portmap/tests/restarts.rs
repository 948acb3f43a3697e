//! What a restart of the mapper costs, and what it finds and leaves.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use aya::maps::{Array, LpmTrie, Map, MapData, lpm_trie::Key};
use ebpf_portmap::purge;
use libnetwork_core::{Bridges, PortMapper, PortMapping};
use libnetwork_model::{HostFacts, Protocol};
use world::{
    World, both_bridges, mapping, sandbox,
    talk::{Connection, PATIENCE, bind, datagram_socket, listen, receive, retransmitted},
    web,
};

const CLIENTS: [(&str, &str); 5] = [
    ("outside", "192.0.2.1:8080"),
    ("outside", "[2001:db8::1]:8080"),
    ("host", "127.0.0.1:8080"),
    ("c", "192.0.2.1:8080"),
    ("a", "192.0.2.1:8080"),
];

#[derive(Default)]
struct Counts {
    datagrams: AtomicU64,
    connections: AtomicU64,
}

/// Sends every datagram back as it is, greets every connection by a byte, and counts both.
fn serve_counting(world: &World, place: &str, port: u16) -> Arc<Counts> {
    let counts = Arc::new(Counts::default());
    for any in ["0.0.0.0", "::"] {
        let address = SocketAddr::new(any.parse().unwrap(), port);
        // Bound before the threads serve, so that nothing has to wait for them.
        let (listener, socket) =
            world.inside(place, || (listen(address), UdpSocket::from(bind(address, libc::SOCK_DGRAM))));
        let counted = counts.clone();
        world.spawn(place, move || {
            while let Ok((mut stream, _)) = listener.accept() {
                counted.connections.fetch_add(1, Ordering::Relaxed);
                let _ = stream.write_all(b"!");
            }
        });
        let counted = counts.clone();
        world.spawn(place, move || {
            let mut buffer = [0; 64];
            while let Ok((length, client)) = socket.recv_from(&mut buffer) {
                counted.datagrams.fetch_add(1, Ordering::Relaxed);
                let _ = socket.send_to(&buffer[..length], client);
            }
        });
    }
    counts
}

/// How many connections a second a container begins to itself. It is given ports for them that last for a minute, at 270 a
/// second. Then it gets one whose last connection it may remember, and has to reset that and to begin again.
const TO_ITSELF: u128 = 150;

/// What a client sent that was answered, and the connections that it began.
#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
struct Load {
    datagrams: u64,
    connections: u64,
}

/// Numbered datagrams of one flow, each answered before the next, and a new connection with each, as far as ports last.
fn load(to: &str, is_to_itself: bool, stop: &AtomicBool) -> Load {
    let address: SocketAddr = to.parse().unwrap();
    let socket = datagram_socket(address, 0).unwrap();
    let (start, mut done) = (Instant::now(), Load::default());
    while !stop.load(Ordering::Relaxed) || done.connections == 0 {
        let Load { datagrams: round, connections } = done;
        let (sent, mut answer) = (round.to_be_bytes(), [0; 64]);
        socket.send_to(&sent, address).unwrap();
        // A lost one is an error here, after the patience of the socket; one that comes twice has the wrong number.
        let received = receive(&socket, &mut answer);
        let (length, from) = received.unwrap_or_else(|e| panic!("the answer to datagram {round}: {e}"));
        assert_eq!((&answer[..length], from), (&sent[..], address), "the answer to datagram {round}");
        done.datagrams += 1;
        if is_to_itself && u128::from(connections) * 1000 > start.elapsed().as_millis() * TO_ITSELF {
            continue;
        }
        let stream = TcpStream::connect_timeout(&address, PATIENCE);
        let mut stream = stream.unwrap_or_else(|e| panic!("connection {connections}: {e}"));
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.read_exact(&mut [0]).unwrap();
        // One may be sent again though it arrived: it was answered late.
        let again = retransmitted(&stream);
        assert!(again < 2, "the handshake of connection {connections} was sent {again} times again");
        done.connections += 1;
    }
    done
}

#[test]
fn restarts_lose_no_connection_no_packet_and_refuse_nothing() {
    under_load(|world, ports| {
        for _ in 0..10 {
            world.reopen();
            world.publish(ports);
        }
    });
}

#[test]
fn changes_of_the_maps_layout_lose_no_connection_no_packet_and_refuse_nothing() {
    under_load(|world, ports| {
        for _ in 0..10 {
            world.layout += 1;
            world.reopen();
            world.publish(ports);
            let pinned = |layout| world.pins().join(format!("v{layout}")).exists();
            assert!(pinned(world.layout) && !pinned(world.layout - 1));
        }
    });
}

/// Lets five clients send datagrams and begin connections while mappers end and others take over, and counts at both ends.
fn under_load(restarts: impl FnOnce(&mut World, &[PortMapping])) {
    let mut world = World::open();
    world.serve("a", 80);
    let counts = serve_counting(&world, "a", 900);
    let mut ports = web();
    ports.extend([Protocol::Tcp, Protocol::Udp].map(|p| mapping(p, None, 9000, 9000, 900)));
    world.publish(&ports);
    let connections: Vec<_> =
        CLIENTS.map(|(place, to)| world.inside(place, || Connection::open(to).unwrap())).into();
    let stop = Arc::new(AtomicBool::new(false));
    let clients = CLIENTS.map(|(place, to)| {
        let stop = stop.clone();
        world.spawn(place, move || load(&to.replace("8080", "9000"), place == "a", &stop))
    });
    restarts(&mut world, &ports);
    stop.store(true, Ordering::Relaxed);
    let (mut all, mut broken) = (Load::default(), Vec::new());
    for (client, (place, to)) in clients.into_iter().zip(CLIENTS) {
        let Ok(done) = client.join() else {
            broken.push(format!("{place} to {to}"));
            continue;
        };
        println!("{place} to {to}: {done:?}");
        all.datagrams += done.datagrams;
        all.connections += done.connections;
    }
    assert_eq!(broken, Vec::<String>::new());
    let served = Load {
        datagrams: counts.datagrams.load(Ordering::Relaxed),
        connections: counts.connections.load(Ordering::Relaxed),
    };
    assert_eq!(served, all, "at the server and at the clients");
    for mut connection in connections {
        assert_eq!(connection.echo(b"still here").unwrap(), b"still here");
    }
}

/// It remembers connections that it closed itself for a minute, and answers a handshake from the same port with what was
/// the last of them.
#[test]
fn a_container_that_is_its_own_client_begins_no_connection_from_a_port_that_it_remembers() {
    const EACH: u32 = 250;
    let mut world = World::open();
    let counts = serve_counting(&world, "a", 900);
    let ports = [mapping(Protocol::Tcp, None, 9000, 9000, 900)];
    world.publish(&ports);
    let again = |world: &World| {
        let connect = |_| {
            let mut stream =
                TcpStream::connect_timeout(&"192.0.2.1:9000".parse().unwrap(), PATIENCE).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 1);
            retransmitted(&stream)
        };
        world.inside("a", || (0..EACH).map(connect).sum::<u32>())
    };
    let first = again(&world);
    world.reopen();
    world.publish(&ports);
    let of_the_same_maps = again(&world);
    world.layout += 1;
    world.reopen();
    world.publish(&ports);
    assert_eq!([first, of_the_same_maps, again(&world)], [0; 3], "segments that were sent again");
    assert_eq!(counts.connections.load(Ordering::Relaxed), u64::from(3 * EACH));
}

#[test]
fn what_an_earlier_process_published_is_there_before_anything_is_said() {
    let mut world = World::open();
    world.serve("a", 80);
    world.publish(&web());
    world.reopen();
    assert_eq!(world.mapper(|m| m.sandboxes().unwrap()), BTreeSet::from([sandbox()]));
    for (place, to) in CLIENTS {
        world.tcp(place, to).unwrap();
    }
    world.publish(&[]);
    assert!(world.tcp("outside", "192.0.2.1:8080").is_err());
}

#[test]
fn a_start_that_was_cut_off_is_finished() {
    let mut world = World::open();
    world.serve("a", 5000);
    let range = [mapping(Protocol::Tcp, None, 4000, 5999, 4000)];
    world.publish(&range);
    let version = world.pins().join(format!("v{}", ebpf_layouts::VERSION));
    for link in fs::read_dir(version.join("links")).unwrap().step_by(2) {
        fs::remove_file(link.unwrap().path()).unwrap();
    }
    // And a range half written, with a port that leads nowhere.
    let map = Map::LpmTrie(MapData::from_pin(version.join("maps/PORTS")).unwrap());
    let mut ports = LpmTrie::<_, [u8; 20], u32>::try_from(map).unwrap();
    let keys: Vec<_> = ports.keys().map(Result::unwrap).collect();
    for key in keys.iter().step_by(2) {
        ports.remove(key).unwrap();
    }
    let stray = keys[0].data();
    ports
        .insert(&Key::new(160, [stray[0], 0, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 1, 1]), 77, 0)
        .unwrap();

    world.reopen();
    assert_eq!(ports.keys().count(), keys.len());
    world.publish(&range);
    for (place, to) in CLIENTS {
        world.tcp(place, &to.replace("8080", "5000")).unwrap();
    }
}

#[test]
fn maps_of_another_layout_are_replaced() {
    let mut world = World::open();
    world.serve("a", 80);
    world.publish(&web());
    let version = world.pins().join(format!("v{}", ebpf_layouts::VERSION));
    let older = world.pins().join("v0/maps");
    fs::create_dir_all(&older).unwrap();
    Array::<MapData, u32>::create(1, 0).unwrap().pin(older.join("ELSE")).unwrap();
    let ports = version.join("maps/PORTS");
    fs::remove_file(&ports).unwrap();
    Array::<MapData, u32>::create(1, 0).unwrap().pin(&ports).unwrap();

    world.reopen();
    assert!(!older.exists());
    assert!(world.mapper(|m| m.sandboxes().unwrap()).is_empty());
    assert!(world.tcp("outside", "192.0.2.1:8080").is_err());
    world.publish(&web());
    for (place, to) in CLIENTS {
        world.tcp(place, to).unwrap();
    }
}

#[test]
fn a_port_may_be_withdrawn_and_published_again_at_once() {
    let mut world = World::open();
    world.serve("a", 80);
    for _ in 0..5 {
        world.publish(&web());
        world.tcp("outside", "192.0.2.1:8080").unwrap();
        world.publish(&[]);
        let (facts, none) = (world.facts(), HostFacts::default());
        world.mapper(|m| m.uplinks(&none).and_then(|()| m.uplinks(&facts)).unwrap());
    }
}

#[test]
fn two_hosts_on_one_machine_do_not_disturb_each_other() {
    let (mut one, mut other) = (World::open(), World::open());
    for world in [&mut one, &mut other] {
        world.serve("a", 80);
        world.publish(&web());
    }
    for (place, to) in CLIENTS {
        one.tcp(place, to).unwrap();
        other.tcp(place, to).unwrap();
    }
    one.publish(&[]);
    drop(one);
    for (place, to) in CLIENTS {
        other.tcp(place, to).unwrap();
    }
}

#[test]
fn purging_leaves_nothing_attached_and_no_file() {
    let mut world = World::open();
    world.serve("a", 80);
    world.publish(&web());
    let pins = world.pins();
    let attached = |world: &World, link: &'static str| {
        world.inside("host", move || {
            use aya::programs::{SchedClassifier, TcAttachType};
            SchedClassifier::query_tcx(link, TcAttachType::Ingress).unwrap().1.len()
        })
    };
    assert_eq!(attached(&world, "up0"), 1);
    world.close();
    purge(&pins).unwrap();
    assert_eq!(attached(&world, "up0"), 0);
    assert!(!pins.exists());
    for (place, to) in CLIENTS {
        assert_eq!(world.tcp(place, to).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
    purge(&pins).unwrap();
}

#[test]
fn a_container_that_comes_back_on_another_veth_is_reached() {
    let mut world = World::open();
    world.serve("a", 80);
    world.publish(&web());
    world.tcp("outside", "192.0.2.1:8080").unwrap();
    world.ip("host", "link delete cwa");
    world.join_a();
    world.publish(&web());
    for (place, to) in CLIENTS {
        world.tcp(place, to).unwrap_or_else(|e| panic!("{place} to {to}: {e}"));
    }
    world.ip("host", "link delete cwa");
    world.publish(&[]);
    world.reopen();
    assert!(world.mapper(|m| m.sandboxes().unwrap()).is_empty());
}

#[test]
fn uplinks_come_and_go() {
    let mut world = World::open();
    world.serve("a", 80);
    world.publish(&web());
    world.mapper(|m| m.uplinks(&HostFacts::default()).unwrap());
    assert_eq!(world.tcp("outside", "192.0.2.1:8080").unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    // The host still knows itself by its address.
    world.tcp("host", "192.0.2.1:8080").unwrap();

    let facts = world.facts();
    world.mapper(|m| m.uplinks(&facts).unwrap());
    world.tcp("outside", "192.0.2.1:8080").unwrap();

    // An address that comes, and one that goes.
    world.ip("host", "address add 192.0.2.9/24 dev up0");
    assert!(world.tcp("outside", "192.0.2.9:8080").is_err());
    world.mapper(|m| m.uplinks(&facts).unwrap());
    world.tcp("outside", "192.0.2.9:8080").unwrap();
    world.ip("host", "link delete up0");
    world.mapper(|m| m.uplinks(&facts).unwrap());
    world.mapper(|m| m.uplinks(&HostFacts::default()).unwrap());
    world.tcp("c", "10.2.0.1:8080").unwrap();
}

#[test]
fn bridges_come_go_and_are_made_anew() {
    let mut world = World::open();
    world.serve("a", 80);
    world.publish(&web());
    let both = both_bridges();
    let mut first = both.clone();
    first.remove("br-000000000002");
    world.mapper(|m| m.bridges(&first).unwrap());
    assert!(world.tcp("c", "192.0.2.1:8080").is_err());
    world.mapper(|m| m.bridges(&both).unwrap());
    world.tcp("c", "192.0.2.1:8080").unwrap();
    // Also by an address that the host has on another network.
    world.tcp("c", "10.1.0.1:8080").unwrap();
    world.tcp("c", "10.2.0.1:8080").unwrap();
    // The bridge that the published port itself is on needs no word.
    world.mapper(|m| m.bridges(&Bridges::new()).unwrap());
    world.tcp("b", "192.0.2.1:8080").unwrap();

    world.mapper(|m| m.bridges(&both).unwrap());
    world.ip("host", "link delete br-000000000002");
    world.ip("host", "link add br-000000000002 type bridge");
    world.ip("host", "link set br-000000000002 up");
    world.ip("host", "address add 10.2.0.1/24 dev br-000000000002");
    world.ip("host", "link set cwc master br-000000000002");
    world.mapper(|m| m.bridges(&both).unwrap());
    world.tcp("c", "192.0.2.1:8080").unwrap();
}
