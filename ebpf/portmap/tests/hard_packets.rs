//! Packets that are easily got wrong.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::{net::UdpSocket, os::fd::AsRawFd};

use libnetwork_model::Protocol;
use world::{
    World, mapping,
    talk::{Connection, PATIENCE, ask, datagram_socket},
    web,
};

const CLIENTS: [(&str, &str); 6] = [
    ("outside", "192.0.2.1:8080"),
    ("outside", "[2001:db8::1]:8080"),
    ("host", "127.0.0.1:8080"),
    ("b", "192.0.2.1:8080"),
    ("c", "[2001:db8::1]:8080"),
    ("a", "192.0.2.1:8080"),
];

/// Bytes that differ from any others of theirs, so that a segment lost or moved shows.
fn bytes(length: u32) -> Vec<u8> {
    (0..length / 4).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

fn exchange(world: &World, length: u32) {
    let sent = bytes(length);
    for (place, to) in CLIENTS {
        let back = world.inside(place, || Connection::open(to).unwrap().echo(&sent));
        let back = back.unwrap_or_else(|e| panic!("{length} bytes from {place} to {to}: {e}"));
        assert!(back == sent, "{length} bytes from {place} to {to}");
    }
}

#[test]
fn large_transfers_arrive_whole_in_super_packets() {
    let mut world = World::open();
    world.serve("a", 80);
    world.publish(&web());
    exchange(&world, 16 << 20);
}

#[test]
fn checksums_are_right_where_hosts_make_and_check_them() {
    let mut world = World::open();
    // Without offload the sender sums each segment, and the receiver drops one whose sum is wrong.
    for place in ["outside", "a", "b", "c"] {
        world.without_checksum_offload(place, "eth0");
    }
    for link in ["up0", "cwa", "cwb", "cwc", "br-000000000001", "br-000000000002"] {
        world.without_checksum_offload("host", link);
    }
    world.serve("a", 80);
    world.publish(&web());
    exchange(&world, 1 << 20);
    for (place, to) in CLIENTS {
        world.udp(place, to).unwrap_or_else(|e| panic!("udp from {place} to {to}: {e}"));
    }
}

#[test]
fn headers_with_options_are_understood() {
    let mut world = World::open();
    world.serve("a", 80);
    world.publish(&web());
    // Two no-operations and a router alert, which nobody on the way acts on here; padding, in a header of its own.
    let options: [u8; 8] = [1, 1, 148, 4, 0, 0, 1, 0];
    let padding: [u8; 8] = [0, 0, 1, 4, 0, 0, 0, 0];
    let cases = [
        ("192.0.2.1:8080", libc::IPPROTO_IP, libc::IP_OPTIONS, options),
        ("[2001:db8::1]:8080", libc::IPPROTO_IPV6, libc::IPV6_DSTOPTS, padding),
        ("[2001:db8::1]:8080", libc::IPPROTO_IPV6, libc::IPV6_HOPOPTS, padding),
    ];
    for (to, level, option, value) in cases {
        for place in ["outside", "b", "c"] {
            let to = to.parse().unwrap();
            let (_, from) = world
                .inside(place, || {
                    let socket = datagram_socket(to, 0).unwrap();
                    set_option(&socket, level, option, &value);
                    ask(&socket, to)
                })
                .unwrap_or_else(|e| panic!("option {option} from {place} to {to}: {e}"));
            assert_eq!(from, to);
        }
    }
}

#[test]
fn datagrams_without_a_checksum_stay_without() {
    let mut world = World::open();
    world.serve("a", 80);
    world.publish(&web());
    for (place, to) in CLIENTS.iter().filter(|(_, to)| to.starts_with("192")) {
        let to = to.parse().unwrap();
        let (_, from) = world.inside(place, || {
            let socket = datagram_socket(to, 0).unwrap();
            set_option(&socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, &1i32.to_ne_bytes());
            ask(&socket, to).unwrap()
        });
        assert_eq!(from, to);
    }
}

#[test]
fn one_client_port_to_two_published_ports_is_told_apart() {
    let mut world = World::open();
    world.serve("a", 80);
    world.publish(&[
        mapping(Protocol::Tcp, None, 8080, 8081, 80),
        mapping(Protocol::Udp, None, 8080, 8080, 80),
        mapping(Protocol::Udp, None, 8081, 8081, 80),
        mapping(Protocol::Tcp, None, 9090, 9090, 80),
    ]);
    for (place, address, client) in
        [("outside", "192.0.2.1", "192.0.2.2"), ("c", "[2001:db8::1]", "fd00:2::2")]
    {
        let (first, second) = (format!("{address}:8080"), format!("{address}:9090"));
        let (mut one, mut other) = world.inside(place, || {
            (Connection::open_from(5555, &first).unwrap(), Connection::open_from(5555, &second).unwrap())
        });
        assert_ne!(one.seen, other.seen);
        for connection in [&mut one, &mut other] {
            assert_eq!(connection.seen.ip().to_string(), client);
            assert_eq!(connection.echo(b"here").unwrap(), b"here");
        }
        let (first, second) = (first.parse().unwrap(), format!("{address}:8081").parse().unwrap());
        world.inside(place, || {
            let socket = datagram_socket(first, 6666).unwrap();
            for to in [first, second, first, second] {
                let (seen, from) = ask(&socket, to).unwrap();
                assert_eq!((seen.ip().to_string().as_str(), from), (client, to));
            }
        });
    }
}

#[test]
fn a_port_used_for_a_published_connection_may_then_go_straight() {
    let mut world = World::open();
    world.serve("a", 80);
    world.publish(&web());
    for (published, straight) in [("192.0.2.1:8080", "10.1.0.2:80"), ("[2001:db8::1]:8080", "[fd00:1::2]:80")]
    {
        for _ in 0..3 {
            for to in [published, straight] {
                let mut connection = world.inside("b", || {
                    Connection::open_from(7777, to).unwrap_or_else(|e| panic!("to {to}: {e}"))
                });
                assert_eq!(connection.seen.port(), 7777);
                connection.echo(b"here").unwrap();
                // Both ends close in order, the container's first, so that the client's port is free at once.
                connection.stream.shutdown(std::net::Shutdown::Write).unwrap();
                let mut rest = Vec::new();
                std::io::Read::read_to_end(&mut connection.stream, &mut rest).unwrap();
                connection.reset();
            }
        }
    }
}

#[test]
fn a_narrow_path_to_the_client_is_found_out() {
    let mut world = World::open();
    world.serve("a", 80);
    world.publish(&web());
    world.ip("host", "link set up0 mtu 1300");
    world.ip("outside", "link set eth0 mtu 1300");
    // A client that claims to take what the path does not: the container learns it from the host.
    world.ip("outside", "route change 192.0.2.0/24 dev eth0 advmss 1460");
    world.ip("outside", "-6 route add 2001:db8::1/128 dev eth0 advmss 1440");
    let sent = bytes(1 << 20);
    for to in ["192.0.2.1:8080", "[2001:db8::1]:8080"] {
        let back = world.inside("outside", || Connection::open(to).unwrap().echo(&sent));
        assert!(back.unwrap_or_else(|e| panic!("{to}: {e}")) == sent);
    }
}

fn set_option(socket: &UdpSocket, level: libc::c_int, option: libc::c_int, value: &[u8]) {
    // SAFETY: the kernel reads as many bytes as it is told are there.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            value.as_ptr().cast(),
            value.len() as libc::socklen_t,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn what_is_published_on_localhost_is_not_reached_from_the_link() {
    let mut world = World::open();
    world.publish(&[
        mapping(Protocol::Udp, Some("127.0.0.1"), 9000, 9000, 80),
        mapping(Protocol::Udp, None, 8080, 8080, 80),
    ]);
    let server = world.inside("a", || {
        let server = UdpSocket::bind("0.0.0.0:80").unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        server
    });
    let host = world.inside("host", || world::hardware_address("up0"));
    let me = [192, 0, 2, 2];
    let frames = [
        (me, [127, 0, 0, 1], 9000),
        (me, [127, 0, 0, 1], 8080),
        (me, [192, 0, 2, 1], 9000),
        ([127, 0, 0, 1], [192, 0, 2, 1], 8080),
        (me, [255, 255, 255, 255], 8080),
        (me, [192, 0, 2, 255], 8080),
        // The last one is fine, and the only one to arrive.
        (me, [192, 0, 2, 1], 8080),
    ];
    world.inside("outside", || {
        for (source, destination, port) in frames {
            world::send_frame("eth0", &udp_frame(host, source, destination, port));
        }
    });
    let mut buffer = [0; 64];
    let (length, from) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(
        (&buffer[..length], from.to_string().as_str()),
        (&[192, 0, 2, 1, 0x1f, 0x90][..], "192.0.2.2:7")
    );
    server.set_read_timeout(Some(std::time::Duration::from_millis(100))).unwrap();
    assert!(server.recv_from(&mut buffer).is_err());
}

/// A datagram from port 7 that says where it was sent, in an Ethernet frame.
fn udp_frame(to: [u8; 6], source: [u8; 4], destination: [u8; 4], port: u16) -> Vec<u8> {
    let mut datagram = vec![0, 7];
    datagram.extend(port.to_be_bytes());
    datagram.extend([0, 14, 0, 0]);
    datagram.extend(destination);
    datagram.extend(port.to_be_bytes());
    let pseudo_header = [&source[..], &destination, &[0, 17, 0, 14], &datagram].concat();
    datagram[6..8].copy_from_slice(&checksum(&pseudo_header));

    let mut header = vec![0x45, 0, 0, 34, 0, 0, 0x40, 0, 64, 17, 0, 0];
    header.extend(source);
    header.extend(destination);
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum);

    let mut frame = to.to_vec();
    frame.extend([0x02, 0x42, 0xc0, 0, 0x02, 0x02, 0x08, 0x00]);
    frame.extend(header);
    frame.extend(datagram);
    frame
}

/// RFC 1071, of an even number of bytes.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    (!(folded as u16)).to_be_bytes()
}
