//! Datagrams too large for the link, which come in fragments.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::net::{SocketAddr, UdpSocket};

use world::{
    World, hardware_address,
    packets::{frame, ip, transport},
    talk::{bind, datagram_socket, receive},
    web,
};

const LENGTH: usize = 4000;

/// From where to which address. The host's own processes, and the container itself, go by ways of their own.
const CLIENTS: [(&str, &str); 8] = [
    ("outside", "192.0.2.1:8080"),
    ("outside", "[2001:db8::1]:8080"),
    ("b", "192.0.2.1:8080"),
    ("b", "[2001:db8::1]:8080"),
    ("c", "192.0.2.1:8080"),
    ("c", "[2001:db8::1]:8080"),
    ("host", "127.0.0.1:8080"),
    ("a", "192.0.2.1:8080"),
];

/// With a container that sends each datagram back.
fn world(obey: bool) -> World {
    let mut world = World::new();
    world.obey = obey;
    world.reopen();
    world.publish(&web());
    for any in ["0.0.0.0:80", "[::]:80"] {
        let socket = world.inside("a", || UdpSocket::from(bind(any.parse().unwrap(), libc::SOCK_DGRAM)));
        std::thread::spawn(move || {
            let mut buffer = [0; 1 << 16];
            while let Ok((length, client)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(&buffer[..length], client);
            }
        });
    }
    world
}

fn datagram(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 + i / 256) as u8).collect()
}

fn echo(socket: &UdpSocket, to: SocketAddr, bytes: &[u8]) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    socket.send_to(bytes, to)?;
    loop {
        let (length, from) = receive(socket, &mut buffer)?;
        assert_eq!(from, to);
        // The late answer to another one, otherwise.
        if length == bytes.len() {
            assert!(&buffer[..length] == bytes, "others than were sent");
            return Ok(());
        }
    }
}

#[test]
fn datagrams_in_fragments_come_and_are_answered() {
    let world = world(false);
    for (place, to) in CLIENTS {
        let to: SocketAddr = to.parse().unwrap();
        world.inside(place, || {
            let socket = datagram_socket(to, 0).unwrap();
            for length in [LENGTH, 100, LENGTH, 30_000] {
                echo(&socket, to, &datagram(length))
                    .unwrap_or_else(|e| panic!("{length} bytes from {place} to {to}: {e}"));
            }
        });
    }
}

#[test]
fn a_flow_that_begins_with_fragments_is_judged_and_goes_on_with_the_next_datagram() {
    for tracked in [false, true] {
        begins_with_the_next_datagram(tracked);
    }
}

/// Where connections are tracked, the kernel puts datagrams together before any filter.
fn begins_with_the_next_datagram(tracked: bool) {
    let world = world(true);
    if tracked {
        world.nft(
            "table inet hosts {\n chain input {\n type filter hook input priority 0; policy accept;\n\
                   ct state established accept\n }\n }\n",
        );
    }
    for (place, to) in CLIENTS {
        let to: SocketAddr = to.parse().unwrap();
        world.inside(place, || {
            let socket = datagram_socket(to, 0).unwrap();
            socket.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
            // The host's filter is asked about the first one, which ends there.
            let tries = (0..200).find(|_| echo(&socket, to, &datagram(LENGTH)).is_ok());
            assert!(tries.is_some(), "{place} to {to}");
            socket.set_read_timeout(Some(world::talk::PATIENCE)).unwrap();
            echo(&socket, to, &datagram(LENGTH + 1)).unwrap();
        });
    }
}

#[test]
fn fragments_that_the_hosts_filter_denies_stay_out() {
    let mut world = world(true);
    world.nft(
        "table inet hosts {\n chain input {\n type filter hook input priority 0; policy accept;\n\
               udp dport 8080 drop\n }\n }\n",
    );
    let senders = ["192.0.2.1:8080", "[2001:db8::1]:8080"].map(|to| {
        let to: SocketAddr = to.parse().unwrap();
        let socket = world.inside("outside", || datagram_socket(to, 0).unwrap());
        for _ in 0..5 {
            socket.send_to(&datagram(LENGTH), to).unwrap();
        }
        (socket, to)
    });
    world.obey = false;
    world.reopen();
    // The first answer is to what is sent now.
    for (socket, to) in senders {
        let mut buffer = vec![0; 1 << 16];
        socket.send_to(&datagram(LENGTH + 1), to).unwrap();
        assert_eq!(socket.recv_from(&mut buffer).unwrap(), (LENGTH + 1, to));
    }
}

#[test]
fn fragments_to_a_socket_of_the_host_are_the_hosts() {
    let world = world(false);
    let host = world.inside("host", || UdpSocket::bind("192.0.2.1:9000").unwrap());
    host.set_read_timeout(Some(world::talk::PATIENCE)).unwrap();
    let mut buffer = vec![0; 1 << 16];
    world.inside("outside", || {
        let socket = datagram_socket("192.0.2.1:9000".parse().unwrap(), 0).unwrap();
        socket.send_to(&datagram(LENGTH), "192.0.2.1:9000").unwrap();
    });
    assert_eq!(host.recv_from(&mut buffer).unwrap().0, LENGTH);
}

/// The same identification, from the same client: first a datagram for the container, then one for the host.
#[test]
fn what_is_known_of_one_datagram_is_not_used_for_the_next_of_the_same_id() {
    let world = world(false);
    let host = world.inside("host", || UdpSocket::bind("192.0.2.1:9000").unwrap());
    host.set_read_timeout(Some(world::talk::PATIENCE)).unwrap();
    let mac = world.inside("host", || hardware_address("up0"));
    let (client, server) = ([192, 0, 2, 2], [192, 0, 2, 1]);
    let send = |port: u16| {
        let whole = transport(17, &client, &server, [7, port], &datagram(1992));
        let parts = [(0x2000, &whole[..1000]), (125, &whole[1000..])];
        world.inside("outside", || {
            for (place, part) in parts {
                let mut packet = ip(17, &client, &server, 0, part);
                packet[4..8].copy_from_slice(&[0x12, 0x34, (place >> 8) as u8, place as u8]);
                packet[10..12].fill(0);
                let sum = !world::packets::sum(&[&packet[..20]]);
                packet[10..12].copy_from_slice(&sum.to_be_bytes());
                world::send_frame("eth0", &frame(mac, &packet));
            }
        });
    };
    let outside = world.inside("outside", || UdpSocket::bind("192.0.2.2:7").unwrap());
    outside.set_read_timeout(Some(world::talk::PATIENCE)).unwrap();
    let mut buffer = vec![0; 1 << 16];
    for _ in 0..3 {
        send(8080);
        assert_eq!(outside.recv_from(&mut buffer).unwrap().0, 1992);
        send(9000);
        assert_eq!(host.recv_from(&mut buffer).unwrap().0, 1992);
    }
}
