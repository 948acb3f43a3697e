//! A fuzz of the programs' reading and writing of packets (BPF_PROG_TEST_RUN). Each packet of a corpus is mutated in ways
//! that keep it nearly right; whatever comes, a program passes it on untouched, drops it, or changes it so that every
//! checksum stays as right or as wrong as it was. The same numbers in every run, so a failure comes again. What comes by
//! an uplink without Ethernet headers, which BPF_PROG_TEST_RUN cannot make, is put into a tun and looked at in the container.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use libnetwork_model::Protocol;
use world::{
    World, hardware_address, mapping,
    packets::{frame, ip, sum, transport},
    random::Random,
    runner::{
        CLIENT, CLIENT6, CONTAINER, CONTAINER6, HOST, HOST6, Runner, TC_ACT_REDIRECT, TC_ACT_UNSPEC, sums,
    },
};

/// Mutations of each packet of the corpus.
const ROUNDS: usize = 1500;
const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
/// IPv6 headers: of each hop's options, routing, fragments, authentication, none behind, the destination's options.
const EXTENSIONS: [u8; 6] = [0, 43, 44, 51, 59, 60];
const LOOPBACK6: [u8; 16] = std::net::Ipv6Addr::LOCALHOST.octets();
/// Numbers at which a comparison may be off by one.
const EDGES: [u8; 10] = [0, 1, 4, 5, 6, 0x1f, 0x20, 0x7f, 0x80, 0xff];

/// A packet's parts as they would be sent: offsets in units of 8 bytes.
fn fragments(packet: &[u8], id: u16) -> Vec<Vec<u8>> {
    let v4 = packet[0] >> 4 == 4;
    let header = if v4 { usize::from(packet[0] & 15) * 4 } else { 40 };
    let (head, body) = packet.split_at(header);
    let middle = (body.len() / 2).next_multiple_of(8).min(body.len());
    let parts = [(0u16, true, &body[..middle]), ((middle / 8) as u16, false, &body[middle..])];
    let part = |(offset, more, bytes): (u16, bool, &[u8])| {
        let mut packet = head.to_vec();
        if v4 {
            packet[2..4].copy_from_slice(&((header + bytes.len()) as u16).to_be_bytes());
            packet[4..6].copy_from_slice(&id.to_be_bytes());
            packet[6..8].copy_from_slice(&(offset | u16::from(more) << 13).to_be_bytes());
            right_header(&mut packet);
        } else {
            packet[4..6].copy_from_slice(&((8 + bytes.len()) as u16).to_be_bytes());
            let next = std::mem::replace(&mut packet[6], 44);
            packet.extend([next, 0]);
            packet.extend((offset << 3 | u16::from(more)).to_be_bytes());
            packet.extend(u32::from(id).to_be_bytes());
        }
        packet.extend(bytes);
        packet
    };
    parts.map(part).into()
}

/// Fills in the checksum of an IPv4 header.
fn right_header(packet: &mut [u8]) {
    let length = usize::from(packet[0] & 15) * 4;
    if let Some(header) = packet.get_mut(..length).filter(|header| header.len() >= 20) {
        header[10..12].fill(0);
        let sum = !sum(&[header]);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

/// The packets of one direction: plain, with options, in fragments, without a checksum.
fn corpus(source: &[u8], destination: &[u8], ports: [u16; 2]) -> Vec<Vec<u8>> {
    let body = b"an odd body, long enough to be cut in two where that is wanted.";
    let mut packets = Vec::new();
    for options in [0, 1, 4] {
        for protocol in [TCP, UDP] {
            let whole = ip(
                protocol,
                source,
                destination,
                options,
                &transport(protocol, source, destination, ports, body),
            );
            if options == 0 {
                packets.extend(fragments(&whole, 0x1234));
            }
            packets.push(whole);
        }
    }
    let mut unsummed = transport(UDP, source, destination, ports, body);
    unsummed[6..8].fill(0);
    if source.len() == 4 {
        packets.push(ip(UDP, source, destination, 0, &unsummed));
    }
    let association = [&[0x0f, 0x1c, 0x0f, 0x1c, 0, 0, 0, 0, 1, 2, 3, 4, 1, 0, 0, 20][..], &[7; 16]].concat();
    packets.push(ip(SCTP, source, destination, 0, &association));
    packets
}

/// One change that a wire, a bad stack or an attacker may make.
fn mutate(packet: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Random) {
    let at = random.below(packet.len());
    match random.below(9) {
        0 => packet[at] ^= 1 << random.below(8),
        1 => packet[at] = EDGES[random.below(EDGES.len())],
        // The header, where every bit has a meaning.
        2 => packet[random.below(40.min(at + 1))] = random.below(256) as u8,
        3 => packet.truncate(at.max(1)),
        4 => {
            let bytes = vec![random.below(256) as u8; 8 * (1 + random.below(5))];
            packet.splice(at..at, bytes);
        }
        5 => _ = packet.drain(at..(at + 1 + random.below(16)).min(packet.len())),
        // The end of another packet.
        6 => {
            let other = &others[random.below(others.len())];
            packet.truncate(at.max(1));
            packet.extend(&other[at.min(other.len())..]);
        }
        7 if packet.len() > 40 && packet[0] >> 4 == 6 => {
            let next = std::mem::replace(&mut packet[6], EXTENSIONS[random.below(EXTENSIONS.len())]);
            let mut header = vec![random.below(256) as u8; 8 * (1 + random.below(3))];
            (header[0], header[1]) = (next, random.below(4) as u8);
            packet.splice(40..40, header);
        }
        // What an honest sender of nonsense does.
        _ if packet.len() >= 20 && packet[0] >> 4 == 4 => right_header(packet),
        _ => {}
    }
}

/// How many of the packets went on to where they were to go.
fn fuzz(runner: &Runner, mac: [u8; 6], corpus: &[Vec<u8>], random: &mut Random) -> usize {
    let mut redirected = 0;
    for seed in corpus {
        // A flow that a mutation ended begins again.
        runner.check(&frame(mac, seed));
        for _ in 0..ROUNDS {
            let mut packet = seed.clone();
            for _ in 0..=random.below(4) {
                mutate(&mut packet, corpus, random);
                if packet.is_empty() {
                    packet.push(0x45);
                }
            }
            redirected += usize::from(runner.check(&frame(mac, &packet)) == TC_ACT_REDIRECT);
        }
    }
    redirected
}

#[test]
fn whatever_comes_is_passed_on_dropped_or_changed_rightly() {
    let mut world = World::new();
    world.obey = false;
    world.reopen();
    let ports = [Protocol::Tcp, Protocol::Udp].map(|protocol| mapping(protocol, None, 8080, 8080, 80));
    world.publish(&[&ports[..], &[mapping(Protocol::Sctp, None, 3868, 3868, 3868)]].concat());
    let towards = Runner::new(&world, "towards", "up0");
    let back = Runner::new(&world, "back", "cwa");
    let sent = Runner::new(&world, "sent", "up0");
    // As packets of sockets are that are bound to the loopback.
    let local = Runner::new(&world, "local", "lo").marked(0xca57_2200);
    world.inside("host", || {
        let (up, veth) = (hardware_address("up0"), hardware_address("cwa"));
        let mut random = Random(0x2545_f491_4f6c_dd1d);
        for (client, host, container) in [(CLIENT, HOST, CONTAINER), (CLIENT6, HOST6, CONTAINER6)] {
            let questions = corpus(client, host, [7, 8080]);
            let answers = corpus(container, client, [80, 7]);
            // Otherwise there would be little to check.
            assert!(fuzz(&towards, up, &questions, &mut random) > questions.len() * ROUNDS / 20);
            assert!(fuzz(&back, veth, &answers, &mut random) > answers.len() * ROUNDS / 20);
            let loopback: &[u8] = if client.len() == 4 { &[127, 0, 0, 1] } else { &LOOPBACK6 };
            let questions = corpus(loopback, loopback, [7, 8080]);
            assert!(fuzz(&local, [0; 6], &questions, &mut random) > questions.len() * ROUNDS / 20);
            for packet in corpus(host, client, [8080, 7]) {
                for _ in 0..ROUNDS / 10 {
                    let mut packet = packet.clone();
                    mutate(&mut packet, &questions, &mut random);
                    packet.resize(packet.len().max(1), 0x45);
                    assert_eq!(sent.check(&frame(up, &packet)), TC_ACT_UNSPEC);
                }
            }
        }
    });
}

#[test]
fn whatever_comes_by_a_tunnel_keeps_its_checksums_too() {
    let mut world = World::new();
    world.obey = false;
    let tunnel = world.tunnel("c");
    world.reopen();
    let ports = [Protocol::Tcp, Protocol::Udp].map(|protocol| mapping(protocol, None, 8080, 8080, 80));
    world.publish(&[&ports[..], &[mapping(Protocol::Sctp, None, 3868, 3868, 3868)]].concat());
    let arrivals = world.inside("a", || Arrivals::at("eth0"));
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let addresses: [(&[u8], &[u8]); 2] = [
        (&[198, 51, 100, 2], &[198, 51, 100, 1]),
        (
            &[0x20, 1, 0xd, 0xb8, 0, 0x51, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
            &[0x20, 1, 0xd, 0xb8, 0, 0x51, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        ),
    ];
    for (client, host) in addresses {
        let questions = corpus(client, host, [7, 8080]);
        let mut arrived = 0;
        for seed in &questions {
            for _ in 0..ROUNDS / 5 {
                let mut packet = seed.clone();
                for _ in 0..random.below(4) {
                    mutate(&mut packet, &questions, &mut random);
                    packet.resize(packet.len().max(1), 0x45);
                }
                // A tun takes nothing that is not IP.
                if tunnel.inject(&packet).is_err() {
                    continue;
                }
                // It is through when the call returns.
                for out in arrivals.frames() {
                    assert_eq!(out.len(), 14 + packet.len());
                    assert_eq!(out[12..14], if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] });
                    assert_eq!(sums(&out[14..]), sums(&packet), "{packet:02x?} became {out:02x?}");
                    arrived += 1;
                }
            }
        }
        assert!(arrived > questions.len() * ROUNDS / 100, "{arrived}");
    }
}

/// What an interface receives for its own address.
struct Arrivals(OwnedFd);

impl Arrivals {
    fn at(interface: &str) -> Self {
        // SAFETY: plain calls; the descriptor is checked, and the address is whole.
        unsafe {
            let all = (libc::ETH_P_ALL as u16).to_be();
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
            assert!(fd >= 0, "{}", std::io::Error::last_os_error());
            let socket = OwnedFd::from_raw_fd(fd);
            let mut at: libc::sockaddr_ll = std::mem::zeroed();
            (at.sll_family, at.sll_protocol) = (libc::AF_PACKET as u16, all);
            at.sll_ifindex = nix::net::if_::if_nametoindex(interface).unwrap() as i32;
            let size = size_of_val(&at) as libc::socklen_t;
            let bound = libc::bind(socket.as_raw_fd(), (&raw const at).cast(), size);
            assert_eq!(bound, 0, "{}", std::io::Error::last_os_error());
            Self(socket)
        }
    }

    /// Those that are there; not what the container sends, nor what its neighbours ask everybody.
    fn frames(&self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        loop {
            let mut frame = vec![0; 1 << 16];
            // SAFETY: the buffer and the address are as long as is said.
            let (length, from) = unsafe {
                let mut from: libc::sockaddr_ll = std::mem::zeroed();
                let mut size = size_of_val(&from) as libc::socklen_t;
                let buffer = frame.as_mut_ptr().cast();
                let wait = libc::MSG_DONTWAIT;
                let fd = self.0.as_raw_fd();
                (libc::recvfrom(fd, buffer, frame.len(), wait, (&raw mut from).cast(), &raw mut size), from)
            };
            let Ok(length) = usize::try_from(length) else { return frames };
            frame.truncate(length);
            // Neighbour discovery is its own, and from the bridge's link-local address or for one.
            let discovery = frame.get(54).is_some_and(|kind| (133..=137).contains(kind)) && frame[20] == 58;
            if from.sll_pkttype == libc::PACKET_HOST && frame[12..14] != [8, 6] && !discovery {
                frames.push(frame);
            }
        }
    }
}
