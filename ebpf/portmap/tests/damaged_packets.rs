//! The programs by themselves (BPF_PROG_TEST_RUN), with packets that are cut off, damaged or full of options. What they
//! do not understand they leave as it is; what they change keeps exactly the checksums that it had, right or wrong.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use aya::{maps::MapInfo, programs::loaded_programs};
use libnetwork_model::Protocol;
use world::{World, hardware_address, mapping};

const TC_ACT_UNSPEC: u32 = u32::MAX;
const TC_ACT_SHOT: u32 = 2;
const TC_ACT_REDIRECT: u32 = 7;

const CLIENT: &[u8] = &[192, 0, 2, 2];
const HOST: &[u8] = &[192, 0, 2, 1];
const CONTAINER: &[u8] = &[10, 1, 0, 2];
const CLIENT6: &[u8] = &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
const HOST6: &[u8] = &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const CONTAINER6: &[u8] = &[0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

/// The sum of RFC 1071, folded; of nothing and of a whole of right checksum it is 0xffff or 0.
fn sum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let total: u64 =
        words.map(|w| u64::from(u16::from_be_bytes([w[0], w.get(1).copied().unwrap_or_default()]))).sum();
    (total % 0xffff) as u16
}

/// A TCP (with a SYN or not), UDP or ICMP packet, its checksum filled in.
fn transport(protocol: u8, source: &[u8], destination: &[u8], ports: [u16; 2], body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let field = match protocol {
        6 => {
            bytes.extend(ports.iter().flat_map(|p| p.to_be_bytes()));
            bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x60, 0x02, 0x10, 0, 0, 0, 0, 0, 2, 4, 5, 0xb4]);
            16
        }
        17 => {
            bytes.extend(ports.iter().flat_map(|p| p.to_be_bytes()));
            bytes.extend((8 + body.len() as u16).to_be_bytes());
            bytes.extend([0, 0]);
            6
        }
        // Ports: type and code.
        _ => {
            bytes.extend([ports[0] as u8, ports[1] as u8, 0, 0, 0, 0, 5, 0]);
            2
        }
    };
    bytes.extend(body);
    let pseudo = [source, destination, &[0, protocol], &(bytes.len() as u16).to_be_bytes()].concat();
    let checksum = !if protocol == 1 { sum(&[&bytes]) } else { sum(&[&pseudo, &bytes]) };
    bytes[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// With options (of 8 bytes each) that mean nothing.
fn ip(protocol: u8, source: &[u8], destination: &[u8], options: u8, payload: &[u8]) -> Vec<u8> {
    let mut header;
    if source.len() == 4 {
        let words = 5 + 2 * options;
        header = vec![0x40 | words, 0];
        header.extend((u16::from(words) * 4 + payload.len() as u16).to_be_bytes());
        header.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
        header.extend([source, destination].concat());
        header.resize(usize::from(words) * 4, 1);
        let checksum = !sum(&[&header]);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
    } else {
        header = vec![0x60, 0, 0, 0];
        header.extend((8 * u16::from(options) + payload.len() as u16).to_be_bytes());
        header.extend([if options > 0 { 60 } else { protocol }, 64]);
        header.extend([source, destination].concat());
        for left in (0..options).rev() {
            header.extend([if left > 0 { 60 } else { protocol }, 0, 1, 4, 0, 0, 0, 0]);
        }
    }
    header.extend(payload);
    header
}

fn frame(mac: [u8; 6], packet: &[u8]) -> Vec<u8> {
    let kind: [u8; 2] = if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
    [&mac[..], &[2, 0, 0, 0, 0, 9], &kind, packet].concat()
}

/// What a change of addresses and ports must leave as it is: the sums of the header and of the transport, with those of a
/// quoted packet.
fn sums(packet: &[u8]) -> Vec<u16> {
    let mut found = Vec::new();
    let (addresses, protocol, transport) = if packet[0] >> 4 == 4 {
        let length = usize::from(packet[0] & 15) * 4;
        found.push(sum(&[&packet[..length]]));
        (&packet[12..20], packet[9], &packet[length..])
    } else {
        let (mut next, mut at) = (packet[6], 40);
        while (next == 0 || next == 60) && at + 2 <= packet.len() {
            (next, at) = (packet[at], at + 8 * (usize::from(packet[at + 1]) + 1));
        }
        (&packet[8..40], next, packet.get(at..).unwrap_or_default())
    };
    match protocol {
        // No checksum stays none.
        17 if transport.get(6..8) == Some(&[0, 0]) => found.push(0),
        1 => {
            found.push(sum(&[transport]));
            // Of the quoted packet's header.
            let length = transport.get(8).map_or(0, |first| usize::from(first & 15) * 4);
            found.push(transport.get(8..8 + length).map_or(0, |header| sum(&[header])));
        }
        _ => found.push(sum(&[addresses, transport])),
    }
    found
}

struct Runner {
    program: OwnedFd,
    index: u32,
}

impl Runner {
    fn new(world: &World, program: &str, link: &str) -> Self {
        let index = world.inside("host", || nix::net::if_::if_nametoindex(link).unwrap());
        let pin = world.pins().join(format!("v{}/maps/FLOWS", ebpf_layouts::VERSION));
        let flows = MapInfo::from_pin(pin).unwrap().id();
        let program = loaded_programs()
            .filter_map(Result::ok)
            .filter(|info| info.name_as_str() == Some(program))
            .find(|info| info.map_ids().unwrap().unwrap_or_default().contains(&flows))
            .unwrap();
        Self { program: program.fd().unwrap().as_fd().try_clone_to_owned().unwrap(), index }
    }

    /// The verdict, and the frame as it is then. To be called in the host's namespace.
    fn run(&self, frame: &[u8]) -> (u32, Vec<u8>) {
        const BPF_PROG_TEST_RUN: libc::c_int = 10;
        let mut context = [0u8; 192];
        context[40..44].copy_from_slice(&self.index.to_ne_bytes());
        let mut out = vec![0u8; frame.len() + 512];
        let mut attr = [0u8; 80];
        let mut put = |at: usize, bytes: &[u8]| attr[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.program.as_raw_fd().to_ne_bytes());
        put(8, &(frame.len() as u32).to_ne_bytes());
        put(12, &(out.len() as u32).to_ne_bytes());
        put(16, &(frame.as_ptr() as u64).to_ne_bytes());
        put(24, &(out.as_mut_ptr() as u64).to_ne_bytes());
        put(40, &(context.len() as u32).to_ne_bytes());
        put(48, &(context.as_ptr() as u64).to_ne_bytes());
        // SAFETY: the command reads and writes what its attributes point to, which is as long as they say.
        let result =
            unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN, attr.as_mut_ptr(), attr.len()) };
        if result < 0 {
            // The kernel runs no program on less than an IP header.
            let error = io::Error::last_os_error();
            assert!(frame.len() < 14 + 40, "{} bytes: {error}", frame.len());
            return (TC_ACT_UNSPEC, frame.to_vec());
        }
        let word = |at: usize| u32::from_ne_bytes(attr[at..at + 4].try_into().unwrap());
        out.truncate(word(12) as usize);
        (word(4), out)
    }

    /// Runs it and checks what holds for every frame. The verdict.
    fn check(&self, frame: &[u8]) -> u32 {
        let (verdict, out) = self.run(frame);
        match verdict {
            TC_ACT_UNSPEC => assert_eq!(out, frame, "passed on, but not as it was"),
            TC_ACT_SHOT => {}
            TC_ACT_REDIRECT => {
                assert_eq!(out.len(), frame.len());
                assert_eq!(sums(&out[14..]), sums(&frame[14..]), "{frame:02x?} became {out:02x?}");
            }
            other => panic!("verdict {other} on {frame:02x?}"),
        }
        verdict
    }

    /// The frame whole, cut off everywhere, and damaged in many ways.
    fn torment(&self, frame: &[u8]) {
        assert_eq!(self.check(frame), TC_ACT_REDIRECT, "{frame:02x?}");
        for length in 14..frame.len() {
            self.check(&frame[..length]);
        }
        let mut random = 0x9e37_79b9_7f4a_7c15u64;
        let mut next = |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 33) as usize % below
        };
        for _ in 0..2000 {
            let mut damaged = frame.to_vec();
            for _ in 0..=next(3) {
                let at = 12 + next(frame.len() - 12);
                damaged[at] = next(256) as u8;
            }
            damaged.truncate(frame.len() - if next(4) == 0 { next(frame.len() - 14) } else { 0 });
            self.check(&damaged);
        }
    }
}

#[test]
fn no_packet_leaves_with_another_checksum_than_it_came_with() {
    let mut world = World::new();
    world.obey = false;
    world.reopen();
    let ports = [Protocol::Tcp, Protocol::Udp].map(|protocol| mapping(protocol, None, 8080, 8080, 80));
    world.publish(&ports);
    let towards = Runner::new(&world, "towards", "up0");
    let back = Runner::new(&world, "back", "cwa");
    world.inside("host", || {
        let (up, veth) = (hardware_address("up0"), hardware_address("cwa"));
        for (client, host, container) in [(CLIENT, HOST, CONTAINER), (CLIENT6, HOST6, CONTAINER6)] {
            for (protocol, options) in [(6, 0), (17, 0), (6, 1), (17, 3)] {
                // Odd in length, so that the last byte counts for half a word.
                let body = &b"a body of an odd length"[..];
                let there = transport(protocol, client, host, [7, 8080], body);
                let inside = transport(protocol, client, container, [7, 80], body);
                let answer = transport(protocol, container, client, [80, 7], body);
                let answered = transport(protocol, host, client, [8080, 7], body);
                let begin = frame(up, &ip(protocol, client, host, options, &there));
                towards.torment(&begin);
                assert_eq!(towards.check(&begin), TC_ACT_REDIRECT);
                back.torment(&frame(veth, &ip(protocol, container, client, options, &answer)));

                // Unreachable, with as much of the packet as there is, and with eight bytes of it.
                let icmp = if client.len() == 4 { (1, [3, 3]) } else { (58, [1, 4]) };
                for length in [8, body.len()] {
                    // What was done to a connection may have closed it.
                    assert_eq!(towards.check(&begin), TC_ACT_REDIRECT);
                    let quoted = ip(protocol, client, container, 0, &inside);
                    let header = quoted.len() - inside.len();
                    let error = transport(icmp.0, container, client, icmp.1, &quoted[..header + length]);
                    back.torment(&frame(veth, &ip(icmp.0, container, client, 0, &error)));
                    let quoted = ip(protocol, host, client, 0, &answered);
                    let error = transport(icmp.0, client, host, icmp.1, &quoted[..header + length]);
                    towards.torment(&frame(up, &ip(icmp.0, client, host, 0, &error)));
                }
            }
        }
    });
}
