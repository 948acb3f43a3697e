//! Programs by themselves: BPF_PROG_TEST_RUN.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use aya::{maps::MapInfo, programs::loaded_programs};

use super::{World, packets::sum};

pub const TC_ACT_UNSPEC: u32 = u32::MAX;
pub const TC_ACT_SHOT: u32 = 2;
pub const TC_ACT_REDIRECT: u32 = 7;

pub const CLIENT: &[u8] = &[192, 0, 2, 2];
pub const HOST: &[u8] = &[192, 0, 2, 1];
pub const CONTAINER: &[u8] = &[10, 1, 0, 2];
pub const CLIENT6: &[u8] = &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
pub const HOST6: &[u8] = &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
pub const CONTAINER6: &[u8] = &[0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

/// What a change of addresses and ports must leave as it is: the sums of the header and of the transport, with those of a
/// quoted packet. Of a later fragment, what is behind the header, since the sum is in the first.
pub fn sums(packet: &[u8]) -> Vec<u16> {
    let mut found = Vec::new();
    let (addresses, protocol, transport) = if packet[0] >> 4 == 4 {
        let length = usize::from(packet[0] & 15) * 4;
        found.push(sum(&[&packet[..length]]));
        if u16::from_be_bytes([packet[6], packet[7]]) & 0x1fff != 0 {
            found.push(sum(&[&packet[length..]]));
            return found;
        }
        (&packet[12..20], packet[9], &packet[length..])
    } else {
        let (mut next, mut at) = (packet[6], 40);
        while (next == 0 || next == 60 || next == 44) && at + 4 <= packet.len() {
            if next == 44 {
                if packet[at + 2] != 0 || packet[at + 3] & 0xf8 != 0 {
                    return vec![sum(&[&packet[at..]])];
                }
                (next, at) = (packet[at], at + 8);
                continue;
            }
            (next, at) = (packet[at], at + 8 * (usize::from(packet[at + 1]) + 1));
        }
        (&packet[8..40], next, packet.get(at..).unwrap_or_default())
    };
    match protocol {
        // SCTP's is of the packet alone, which stays as it is.
        132 => found.push(sum(&[transport])),
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

pub struct Runner {
    program: OwnedFd,
    index: u32,
    mark: u32,
}

impl Runner {
    pub fn new(world: &World, program: &str, link: &str) -> Self {
        let index = world.inside("host", || nix::net::if_::if_nametoindex(link).unwrap());
        let pin = world.pins().join(format!("v{}/maps/FLOWS", ebpf_layouts::VERSION));
        let flows = MapInfo::from_pin(pin).unwrap().id();
        let program = loaded_programs()
            .filter_map(Result::ok)
            .filter(|info| info.name_as_str() == Some(program))
            // Those of other tests come and go.
            .find(|info| info.map_ids().ok().flatten().unwrap_or_default().contains(&flows))
            .unwrap();
        Self { program: program.fd().unwrap().as_fd().try_clone_to_owned().unwrap(), index, mark: 0 }
    }

    /// With that mark on every packet.
    pub fn marked(self, mark: u32) -> Self {
        Self { mark, ..self }
    }

    /// The verdict, and the frame as it is then. To be called in the host's namespace.
    pub fn run(&self, frame: &[u8]) -> (u32, Vec<u8>) {
        const BPF_PROG_TEST_RUN: libc::c_int = 10;
        let mut context = [0u8; 192];
        context[8..12].copy_from_slice(&self.mark.to_ne_bytes());
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
    pub fn check(&self, frame: &[u8]) -> u32 {
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
}
