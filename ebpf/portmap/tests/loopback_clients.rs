//! Processes of the host whose sockets are bound to a loopback address before they connect.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use libnetwork_core::{PortFigures, PortMapper};
use libnetwork_model::Protocol;
use nix::sys::socket::{SockaddrStorage, connect};
use world::{
    World, mapping, sandbox,
    talk::{Connection, PATIENCE, ask, bind},
    web,
};

/// What the socket is bound to, where it connects to, and who the container sees.
const WAYS: [(&str, &str, &str); 6] = [
    ("127.0.0.1:0", "127.0.0.1:8080", "10.1.0.1"),
    ("127.0.0.1:0", "127.9.9.9:8080", "10.1.0.1"),
    ("127.0.0.2:0", "127.0.0.1:8080", "10.1.0.1"),
    ("127.0.0.1:0", "192.0.2.1:8080", "10.1.0.1"),
    ("[::1]:0", "[::1]:8080", "fd00:1::1"),
    ("[::1]:0", "[2001:db8::1]:8080", "fd00:1::1"),
];

fn world() -> World {
    let mut world = World::open();
    world.serve("a", 80);
    world.publish(&web());
    world
}

/// To be called in the host's namespace.
fn open(from: &str, to: &str) -> io::Result<Connection> {
    let stream = TcpStream::from(bind(from.parse().unwrap(), libc::SOCK_STREAM));
    let to: SocketAddr = to.parse().unwrap();
    connect(stream.as_raw_fd(), &SockaddrStorage::from(to))?;
    Connection::greet(stream, to)
}

fn datagrams(from: &str) -> UdpSocket {
    let socket = UdpSocket::bind(from).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

#[test]
fn a_process_that_chose_a_loopback_address_is_led_too() {
    let world = world();
    for (from, to, seen) in WAYS {
        let address: SocketAddr = to.parse().unwrap();
        world.inside("host", || {
            let connection = open(from, to).unwrap_or_else(|e| panic!("tcp from {from} to {to}: {e}"));
            assert_eq!(connection.seen.ip().to_string(), seen, "tcp from {from} to {to}");
            let bound: SocketAddr = from.parse().unwrap();
            assert_eq!(connection.stream.local_addr().unwrap().ip(), bound.ip());

            // The first datagram of a socket that is not connected, and more; and of one that is.
            let socket = datagrams(from);
            for round in 0..3 {
                let (client, answered) =
                    ask(&socket, address).unwrap_or_else(|e| panic!("udp {round} from {from} to {to}: {e}"));
                assert_eq!((client.ip().to_string().as_str(), answered), (seen, address));
            }
            let socket = datagrams(from);
            socket.connect(address).unwrap();
            assert_eq!(socket.peer_addr().unwrap(), address);
            socket.send(b"who?").unwrap();
            assert_eq!(socket.recv_from(&mut [0; 64]).unwrap().1, address);
        });
    }
}

#[test]
fn an_ipv6_socket_that_talks_ipv4_from_the_loopback_is_led_too() {
    let world = world();
    world.inside("host", || {
        let socket = datagrams("[::ffff:127.0.0.1]:0");
        let (client, from) = ask(&socket, "[::ffff:127.0.0.1]:8080".parse().unwrap()).unwrap();
        assert_eq!((client.ip().to_string(), from.port()), ("10.1.0.1".to_owned(), 8080));
    });
}

#[test]
fn what_it_sends_arrives_whole_and_is_counted() {
    let mut world = world();
    let sent: Vec<u8> = (0..1u32 << 20).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    for (from, to, _) in [WAYS[0], WAYS[4]] {
        let back = world.inside("host", || open(from, to).unwrap().echo(&sent));
        assert!(back.unwrap_or_else(|e| panic!("{from} to {to}: {e}")) == sent, "{from} to {to}");
    }
    let ports: Vec<_> = web().into_iter().map(|mapping| mapping.port).collect();
    let PortFigures { bytes, refusals, .. } =
        world.mapper(|m| m.figures(&sandbox(), &ports).unwrap().unwrap()).remove(0);
    assert!(bytes > 16 << 20 && refusals == 0, "{bytes} bytes, {refusals} refusals");
}

#[test]
fn it_learns_what_others_learn() {
    let mut world = world();
    world.publish(&[web(), vec![mapping(Protocol::Udp, None, 8081, 8081, 81)]].concat());
    for (from, to) in [("127.0.0.1:0", "127.0.0.1:8081"), ("[::1]:0", "[::1]:8081")] {
        world.inside("host", || {
            // Nobody listens in the container.
            let socket = datagrams(from);
            socket.connect(to).unwrap();
            socket.send(b"anybody there?").unwrap();
            assert_eq!(socket.recv(&mut [0; 64]).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
            // Nothing is published.
            let unpublished = to.replace("8081", "8082");
            let error = open(from, &unpublished).map(drop).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{unpublished}");
        });
    }
    // The port is withdrawn.
    let mut held: Vec<TcpStream> = world
        .inside("host", || [WAYS[0], WAYS[4]].map(|(from, to, _)| open(from, to).unwrap().stream).into());
    world.publish(&[]);
    for stream in &mut held {
        let asked = stream.write_all(b"and now?");
        let ended = asked.and_then(|()| stream.read(&mut [0; 64])).map_err(|error| error.kind());
        assert_eq!(ended, Err(io::ErrorKind::ConnectionReset));
    }
}

/// The last acknowledgement of a client that closes first is sent by no socket any more.
#[test]
fn a_connection_that_it_closes_is_closed_in_the_container() {
    let world = world();
    for (from, to, _) in [WAYS[0], WAYS[4]] {
        world.inside("host", || drop(open(from, to).unwrap()));
    }
    let left = || {
        let tables = ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"];
        world.inside("a", || {
            let states = tables.iter().flat_map(|table| {
                let table = std::fs::read_to_string(table).unwrap();
                let state = |line: &str| line.split_whitespace().nth(3).unwrap().to_owned();
                table.lines().skip(1).map(state).collect::<Vec<_>>()
            });
            // All but listening ones.
            states.filter(|state| state != "0A").count()
        })
    };
    // It would ask for that acknowledgement a hundred seconds long.
    let deadline = Instant::now() + Duration::from_secs(30);
    while left() > 0 {
        assert!(Instant::now() < deadline, "the container waits for an acknowledgement");
    }
}

#[test]
fn restarts_and_changes_of_layout_and_of_ranges_leave_it_alone() {
    let mut world = world();
    let mut held: Vec<_> =
        world.inside("host", || [WAYS[0], WAYS[4]].map(|(from, to, _)| open(from, to).unwrap()).into());
    for step in 0..4 {
        world.layout += step % 2;
        world.close();
        let reached = |world: &World| {
            world.inside("host", || {
                for (from, to, _) in WAYS {
                    open(from, to).unwrap_or_else(|e| panic!("step {step}, from {from} to {to}: {e}"));
                }
            });
        };
        reached(&world);
        world.reopen();
        let longer = mapping(Protocol::Tcp, None, 8080, 8080 + step as u16, 80);
        world.publish(&[longer]);
        reached(&world);
        for connection in &mut held {
            assert_eq!(connection.echo(b"still here").unwrap(), b"still here");
        }
    }
}

#[test]
fn what_the_host_says_to_itself_otherwise_stays_there() {
    let mut world = world();
    world.serve("host", 9090);
    world.publish(&[web(), vec![mapping(Protocol::Udp, Some("192.0.2.1"), 9090, 9090, 80)]].concat());
    world.inside("host", || {
        let socket = datagrams("127.0.0.1:0");
        // It has been led once, and is marked.
        let there: SocketAddr = "127.0.0.1:8080".parse().unwrap();
        assert_eq!(ask(&socket, there).unwrap().0.ip().to_string(), "10.1.0.1");
        let here: SocketAddr = "127.0.0.1:9090".parse().unwrap();
        assert_eq!(ask(&socket, here).unwrap(), (socket.local_addr().unwrap(), here));
        let connection = open("127.0.0.1:0", "127.0.0.1:9090").unwrap();
        assert_eq!(connection.seen, connection.stream.local_addr().unwrap());
    });
}

#[test]
fn an_answer_in_fragments_comes_whole() {
    let mut world = world();
    world.publish(&[mapping(Protocol::Udp, None, 8081, 8081, 81)]);
    for (from, to, any) in
        [("127.0.0.1:0", "127.0.0.1:8081", "0.0.0.0:81"), ("[::1]:0", "[::1]:8081", "[::]:81")]
    {
        let server = world.inside("a", || UdpSocket::from(bind(any.parse().unwrap(), libc::SOCK_DGRAM)));
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        let client = world.inside("host", || datagrams(from));
        client.send_to(b"much", to).unwrap();
        let (_, seen) = server.recv_from(&mut [0; 64]).unwrap();
        let much: Vec<u8> = (0..4000_u16).map(|i| (i * 7 + i / 256) as u8).collect();
        server.send_to(&much, seen).unwrap();
        let mut buffer = vec![0; 1 << 16];
        let (length, answered) = client.recv_from(&mut buffer).unwrap();
        assert_eq!(answered, to.parse().unwrap());
        assert!(buffer[..length] == much, "{length} bytes");
    }
}
