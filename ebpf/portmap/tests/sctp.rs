//! SCTP, by hand: a kernel without it carries it too.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::FromRawFd,
};

use libnetwork_model::Protocol;
use world::{World, mapping, talk::PATIENCE};

const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const DATA: u8 = 0;

/// Sends and gets SCTP packets: the methods of a datagram socket fit, with ports of no meaning.
fn socket(ipv6: bool) -> UdpSocket {
    let family = if ipv6 { libc::AF_INET6 } else { libc::AF_INET };
    // SAFETY: a plain call; the descriptor is checked and has no other owner.
    let socket = unsafe {
        let fd = libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_SCTP);
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        UdpSocket::from_raw_fd(fd)
    };
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn packet(source: u16, destination: u16, chunk: u8) -> Vec<u8> {
    let mut bytes = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    // Tag, and a checksum that nobody looks at here; it must arrive as it is.
    bytes.extend([0, 0, 0, 9, 0xde, 0xad, 0xbe, 0xef]);
    bytes.extend([chunk, 0, 0, 20]);
    bytes.extend([7; 16]);
    bytes
}

fn receive(socket: &UdpSocket) -> io::Result<(Vec<u8>, String)> {
    let mut buffer = [0; 256];
    let (length, from) = socket.recv_from(&mut buffer)?;
    // IPv4's raw sockets give the header too.
    let skipped = if from.is_ipv4() { 20 } else { 0 };
    Ok((buffer[skipped..length].to_vec(), from.ip().to_string()))
}

#[test]
fn an_association_goes_through_a_port_published_under_its_own_number() {
    let mut world = World::open();
    world.publish(&[mapping(Protocol::Sctp, None, 3868, 3869, 3868)]);
    for (host, client, ipv6) in [("192.0.2.1", "192.0.2.2", false), ("2001:db8::1", "2001:db8::2", true)] {
        let outside = world.inside("outside", || socket(ipv6));
        let container = world.inside("a", || socket(ipv6));
        let to = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 0);
        // One that begins nothing is the host's.
        outside.send_to(&packet(5000, 3869, DATA), to(host)).unwrap();
        for (there, back) in [(INIT, INIT_ACK), (DATA, DATA)] {
            outside.send_to(&packet(5000, 3869, there), to(host)).unwrap();
            assert_eq!(receive(&container).unwrap(), (packet(5000, 3869, there), client.to_owned()));
            container.send_to(&packet(3869, 5000, back), to(client)).unwrap();
            assert_eq!(receive(&outside).unwrap(), (packet(3869, 5000, back), host.to_owned()));
        }
        // One that is not published, and one that is: the first to arrive.
        outside.send_to(&packet(5000, 3870, INIT), to(host)).unwrap();
        outside.send_to(&packet(5000, 3868, INIT), to(host)).unwrap();
        assert_eq!(receive(&container).unwrap(), (packet(5000, 3868, INIT), client.to_owned()));
    }
}
