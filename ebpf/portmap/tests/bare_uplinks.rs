//! Uplinks whose packets are IP without an Ethernet header: tun, and with it WireGuard and IP in IP.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
};

use ebpf_portmap::Watch;
use libnetwork_core::PortMapper;
use libnetwork_model::Protocol;
use world::{
    World, mapping,
    packets::{ip, transport},
    sandbox,
    talk::{Connection, PATIENCE, ask, bind, datagram_socket},
    tun::Tunnel,
    web,
};

const WEB: [&str; 2] = ["198.51.100.1:8080", "[2001:db8:51::1]:8080"];
/// From where, to which address, and who the container sees.
const WAYS: [(&str, &str, &str); 2] =
    [("c", "198.51.100.1", "198.51.100.2"), ("c", "[2001:db8:51::1]", "2001:db8:51::2")];

/// With a client in c, beyond a tunnel.
fn tunnelled() -> (World, Tunnel) {
    let mut world = World::open();
    world.serve("a", 80);
    world.publish(&web());
    let tunnel = world.tunnel("c");
    world.tell_uplinks();
    (world, tunnel)
}

#[test]
fn a_client_beyond_a_tunnel_reaches_published_ports_and_is_seen_as_itself() {
    let (world, _tunnel) = tunnelled();
    world.seen_from(&WAYS, 8080);
    // By the other uplink's address, and clients there are as before.
    world.ip("c", "route add 192.0.2.0/24 via 198.51.100.1");
    world.seen_from(&[("c", "192.0.2.1", "198.51.100.2"), ("outside", "192.0.2.1", "192.0.2.2")], 8080);
    world.seen_from(&[("host", "198.51.100.1", "10.1.0.1")], 8080);
}

#[test]
fn a_container_that_answers_by_another_uplink_than_the_client_came_by_is_heard() {
    let (world, _tunnel) = tunnelled();
    // There by the tunnel, back by Ethernet, and the other way round: the host's routes say.
    world.link(("outside", "far0"), ("c", "eth1"));
    world.forward("outside");
    world.ip("outside", "address add 203.0.113.1/24 dev far0");
    world.ip("c", "address add 203.0.113.2/24 dev eth1");
    world.ip("host", "route add 203.0.113.0/24 via 192.0.2.2");
    for (host, client) in [("198.51.100.1", "203.0.113.2"), ("192.0.2.1", "198.51.100.2")] {
        let (by, gateway) =
            if host == "192.0.2.1" { ("eth1", "203.0.113.1") } else { ("tun0", "198.51.100.1") };
        world.ip("c", &format!("route add {host}/32 via {gateway} dev {by} src {client}"));
        for name in ["all", "eth1", "tun0"] {
            world
                .inside("c", || fs::write(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"), "0").unwrap());
        }
        world.seen_from(&[("c", host, client)], 8080);
    }
}

#[test]
fn large_transfers_and_datagrams_in_fragments_pass_whole() {
    let (mut world, _tunnel) = tunnelled();
    let sent: Vec<u8> = (0..1u32 << 18).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    for to in WEB {
        let back = world.inside("c", || Connection::open(to).unwrap().echo(&sent));
        assert!(back.unwrap_or_else(|e| panic!("{to}: {e}")) == sent, "{to}");
    }
    world.obey = false;
    world.reopen();
    world.publish(&[mapping(Protocol::Udp, None, 8081, 8081, 81)]);
    for any in ["0.0.0.0:81", "[::]:81"] {
        let socket = world.inside("a", || UdpSocket::from(bind(any.parse().unwrap(), libc::SOCK_DGRAM)));
        std::thread::spawn(move || {
            let mut buffer = [0; 1 << 16];
            while let Ok((length, client)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(&buffer[..length], client);
            }
        });
    }
    for to in ["198.51.100.1:8081", "[2001:db8:51::1]:8081"] {
        let to: SocketAddr = to.parse().unwrap();
        let back = world.inside("c", || {
            let socket = datagram_socket(to, 0).unwrap();
            [4000, 100, 30_000].map(|length| {
                let mut buffer = vec![0; 1 << 16];
                socket.send_to(&sent[..length], to).unwrap();
                let (length, _) =
                    socket.recv_from(&mut buffer).unwrap_or_else(|e| panic!("{length} to {to}: {e}"));
                buffer[..length] == sent[..length]
            })
        });
        assert_eq!(back, [true; 3], "{to}");
    }
}

#[test]
fn errors_find_their_way_in_and_out() {
    let (mut world, _tunnel) = tunnelled();
    let more = mapping(Protocol::Udp, None, 8081, 8082, 81);
    world.publish(&[web(), vec![more]].concat());
    for host in ["198.51.100.1", "[2001:db8:51::1]"] {
        // Nobody listens in the container: the client is told.
        let to: SocketAddr = format!("{host}:8081").parse().unwrap();
        let told = world.inside("c", || {
            let socket = datagram_socket(to, 0).unwrap();
            socket.connect(to).unwrap();
            socket.send(b"anybody there?").unwrap();
            socket.recv(&mut [0; 64]).unwrap_err().kind()
        });
        assert_eq!(told, io::ErrorKind::ConnectionRefused, "{to}");

        // The client is gone: the container is told.
        let to: SocketAddr = format!("{host}:8082").parse().unwrap();
        let any = if to.is_ipv4() { "0.0.0.0:82" } else { "[::]:82" };
        let server = world.inside("a", || UdpSocket::from(bind(any.parse().unwrap(), libc::SOCK_DGRAM)));
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        let client = world.inside("c", || {
            let socket = datagram_socket(to, 0).unwrap();
            socket.send_to(b"for a moment", to).unwrap();
            socket
        });
        let (_, seen) = server.recv_from(&mut [0; 64]).unwrap();
        drop(client);
        server.connect(seen).unwrap();
        server.send(b"too late").unwrap();
        let told = server.recv(&mut [0; 64]).unwrap_err().kind();
        assert_eq!(told, io::ErrorKind::ConnectionRefused, "{to}, in the container");
    }
}

#[test]
fn a_tunnel_that_takes_less_than_containers_send_says_so() {
    let (world, _tunnel) = tunnelled();
    // The far end drops nothing by its own word; the host's end is narrow.
    world.ip("host", "link set tun0 mtu 1300");
    let sent: Vec<u8> = (0..1u32 << 16).flat_map(u32::to_le_bytes).collect();
    for (to, client) in WEB.into_iter().zip(["198.51.100.2", "2001:db8:51::2"]) {
        let back = world.inside("c", || Connection::open(to).unwrap().echo(&sent));
        assert!(back.unwrap_or_else(|e| panic!("{to}: {e}")) == sent, "{to}");
        let route = world.program("a", "ip", &["route", "get", client]);
        assert!(route.contains("mtu 1300"), "the container was not told: {route}");
    }
}

#[test]
fn the_hosts_filter_is_obeyed_and_what_passes_is_counted() {
    let (mut world, _tunnel) = tunnelled();
    let filter = |rules: &str| {
        format!(
            "add table inet hosts\ndelete table inet hosts\ntable inet hosts {{\n chain input {{\n\
             type filter hook input priority 0; policy drop;\n meta l4proto ipv6-icmp accept\n\
             ct state established,related accept\n {rules}\n }}\n }}\n"
        )
    };
    world.nft(&filter("iifname tun0 reject with tcp reset\n reject"));
    for to in WEB {
        for answer in [world.tcp("c", to), world.udp("c", to)] {
            assert_eq!(answer.unwrap_err().kind(), io::ErrorKind::ConnectionRefused, "{to}");
        }
    }
    let ports: Vec<_> = web().into_iter().map(|mapping| mapping.port).collect();
    let figures = |world: &mut World| world.mapper(|m| m.figures(&sandbox(), &ports).unwrap().unwrap());
    let [tcp, udp] = figures(&mut world)[..] else { panic!() };
    assert_eq!([tcp.refusals, udp.refusals, tcp.open_flows, tcp.packets], [2, 2, 0, 0]);

    world.nft(&filter("iifname tun0 ct state new th dport 8080 meta mark 0 accept"));
    for to in WEB {
        world.tcp_at_once("c", to);
    }
    world.udp("c", WEB[0]).unwrap();
    let [tcp, udp] = figures(&mut world)[..] else { panic!() };
    assert!(tcp.packets > 10 && tcp.refusals == 2, "{tcp:?}");
    // Two sockets, a question and an answer each, of 20 + 8 bytes and a text.
    assert_eq!((udp.packets, udp.open_flows), (4, 2));
    assert!((112..250).contains(&udp.bytes), "{udp:?}");
}

#[test]
fn a_flood_from_a_tunnel_pushes_out_no_flow() {
    let (mut world, tunnel) = tunnelled();
    world.close();
    ebpf_portmap::purge(&world.pins()).unwrap();
    world.flows = 512;
    world.reopen();
    world.publish(&web());
    let mut watch = Watch::open(&world.pins()).unwrap();
    let mut ours = world.inside("c", || Connection::open(WEB[0]).unwrap());
    let mut outside = world.inside("outside", || Connection::open("192.0.2.1:8080").unwrap());
    for connection in [&mut ours, &mut outside] {
        connection.echo(b"confirmed").unwrap();
    }
    for protocol in [6, 17] {
        for i in 0..2048_u16 {
            let (source, host) = ([198, 51, 100, 2], [198, 51, 100, 1]);
            let packet = transport(protocol, &source, &host, [1024 + i, 8080], b"who?");
            tunnel.inject(&ip(protocol, &source, &host, 0, &packet)).unwrap();
        }
    }
    let flood = watch.look().unwrap().unwrap();
    assert!(flood.unconfirmed > 512, "{flood:?}");
    for connection in [&mut ours, &mut outside] {
        assert_eq!(connection.echo(b"still here").unwrap(), b"still here");
    }
}

#[test]
fn tunnels_come_and_go_and_come_again() {
    let (mut world, tunnel) = tunnelled();
    let mut elsewhere = world.inside("outside", || Connection::open("192.0.2.1:8080").unwrap());
    world.seen_from(&WAYS, 8080);
    drop(tunnel);
    world.tell_uplinks();
    assert!(world.tcp("c", WEB[0]).is_err());
    for _ in 0..3 {
        let _tunnel = world.tunnel("c");
        world.tell_uplinks();
        world.seen_from(&WAYS, 8080);
    }
    // One that is gone before it could be looked at.
    world.tell_uplinks();
    world.reopen();
    assert_eq!(elsewhere.echo(b"still here").unwrap(), b"still here");
    let links = fs::read_dir(world.pins().join(format!("v{}/links", ebpf_layouts::VERSION))).unwrap();
    let left = links.filter(|link| link.as_ref().unwrap().file_name().to_string_lossy().contains("bare"));
    assert_eq!(left.count(), 0);
}

#[test]
fn a_restart_and_a_change_of_layout_keep_what_goes_by_a_tunnel() {
    let (mut world, _tunnel) = tunnelled();
    let mut connections: Vec<_> =
        world.inside("c", || WEB.iter().map(|to| Connection::open(to).unwrap()).collect());
    for step in 0..4 {
        world.layout += step % 2;
        world.close();
        // Nobody is there to see to it.
        world.seen_from(&WAYS, 8080);
        world.reopen();
        world.publish(&web());
        world.seen_from(&WAYS, 8080);
        for connection in &mut connections {
            assert_eq!(connection.echo(b"still here").unwrap(), b"still here");
        }
    }
}

#[test]
fn answers_to_what_the_host_sends_by_a_tunnel_from_a_published_port_are_the_hosts() {
    let (mut world, _tunnel) = tunnelled();
    world.serve("c", 53);
    world.publish(&[mapping(Protocol::Udp, None, 1024, 65_535, 1024), web().remove(0)]);
    for to in ["198.51.100.2:53", "[2001:db8:51::2]:53"] {
        let to: SocketAddr = to.parse().unwrap();
        let socket =
            world.inside("host", || UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }));
        let socket = socket.unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        ask(&socket, to).unwrap_or_else(|e| panic!("{to}: {e}"));
    }
    // And of a container behind the host's masquerading, which keeps the port.
    world.nft(
        "table ip masquerading {\n chain out {\n type nat hook postrouting priority 100\n\
         ip saddr 10.0.0.0/8 oifname tun0 masquerade\n }\n }\n",
    );
    let to: SocketAddr = "198.51.100.2:53".parse().unwrap();
    let (seen, from) = world.inside("b", || ask(&datagram_socket(to, 3000).unwrap(), to)).unwrap();
    assert_eq!((seen.to_string(), from), ("198.51.100.1:3000".to_owned(), to));
}

#[test]
fn a_port_withdrawn_resets_its_clients_beyond_a_tunnel() {
    let (mut world, _tunnel) = tunnelled();
    let mut streams: Vec<TcpStream> =
        world.inside("c", || WEB.iter().map(|to| Connection::open(to).unwrap().stream).collect());
    world.publish(&[]);
    for (stream, to) in streams.iter_mut().zip(WEB) {
        let asked = stream.write_all(b"and now?");
        let ended = asked.and_then(|()| stream.read(&mut [0; 64])).map_err(|error| error.kind());
        assert_eq!(ended, Err(io::ErrorKind::ConnectionReset), "{to}");
        assert_eq!(world.tcp("c", to).unwrap_err().kind(), io::ErrorKind::ConnectionRefused, "{to}");
    }
}
