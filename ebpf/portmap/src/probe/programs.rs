//! The three small programs that asking takes, put together here.

use std::{
    io,
    net::{IpAddr, Ipv6Addr},
    os::fd::OwnedFd,
};

use aya_obj::generated::{bpf_attach_type, bpf_insn, bpf_prog_type};

use crate::sys;

pub(super) fn load(name: &str, instructions: &[bpf_insn]) -> io::Result<OwnedFd> {
    let kind = (bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS, bpf_attach_type::BPF_TCX_EGRESS);
    sys::load_program(name, kind, instructions, c"Dual MIT/GPL")
}

fn instruction(code: u8, registers: (u8, u8), offset: i16, immediate: i32) -> bpf_insn {
    let (to, from) = registers;
    bpf_insn {
        code,
        _bitfield_align_1: [],
        _bitfield_1: bpf_insn::new_bitfield_1(to, from),
        off: offset,
        imm: immediate,
    }
}

const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// Of 32 bits: what was loaded is not extended by its sign.
const JUMP_UNLESS_EQUAL: u8 = 0x56;
/// From what the register points to.
const LOAD_MEMBER: u8 = 0x61;
/// From the packet, in the host's byte order.
const LOAD_BYTE: u8 = 0x30;
const LOAD_WORD: u8 = 0x20;
/// linux/filter.h: offsets of these loads that count from the network header, whatever the link puts in front of it.
const NETWORK: i32 = -0x10_0000;
/// `struct __sk_buff`: `protocol`.
const PROTOCOL: i16 = 16;
/// linux/bpf.h.
const TCX_NEXT: i32 = -1;
const TC_ACT_SHOT: i32 = 2;

/// `bpf_clone_redirect(packet, index, BPF_F_INGRESS)`. It takes the Ethernet header off where the interface has none.
pub(super) fn inject(index: u32) -> [bpf_insn; 5] {
    const CLONE_REDIRECT: i32 = 13;
    const INGRESS: i32 = 1;
    [
        instruction(MOVE, (2, 0), 0, index as i32),
        instruction(MOVE, (3, 0), 0, INGRESS),
        instruction(CALL, (0, 0), 0, CLONE_REDIRECT),
        instruction(MOVE, (0, 0), 0, 0),
        instruction(EXIT, (0, 0), 0, 0),
    ]
}

/// The next program sees all.
pub(super) fn pass() -> [bpf_insn; 2] {
    [instruction(MOVE, (0, 0), 0, TCX_NEXT), instruction(EXIT, (0, 0), 0, 0)]
}

/// Drops what is for that address, or asks for it (ARP, neighbour discovery); the next program sees the rest.
pub(super) fn silence(client: IpAddr) -> Vec<bpf_insn> {
    const IPV4: u16 = 0x0800;
    const ARP: u16 = 0x0806;
    const IPV6: u16 = 0x86dd;
    const ICMPV6: i32 = 58;
    const SOLICITATION: i32 = 135;
    // The loads of packets' bytes take the context in register 6.
    let mut program = vec![instruction(MOVE_REGISTER, (6, 1), 0, 0)];
    match client {
        IpAddr::V4(client) => {
            let client = [u32::from(client) as i32];
            program.extend(drop_if(IPV4, &[(LOAD_WORD, 16, &client)]));
            program.extend(drop_if(ARP, &[(LOAD_WORD, 24, &client)]));
        }
        IpAddr::V6(client) => {
            let client = words(client);
            program.extend(drop_if(IPV6, &[(LOAD_WORD, 24, &client)]));
            let asks = [
                (LOAD_BYTE, 6, &[ICMPV6][..]),
                (LOAD_BYTE, 40, &[SOLICITATION][..]),
                (LOAD_WORD, 48, &client[..]),
            ];
            program.extend(drop_if(IPV6, &asks));
        }
    }
    program.extend(pass());
    program
}

fn words(ip: Ipv6Addr) -> [i32; 4] {
    let octets = ip.octets();
    std::array::from_fn(|i| i32::from_be_bytes(std::array::from_fn(|j| octets[4 * i + j])))
}

/// Drops a packet of that EtherType which has all of these values, one behind the other from an offset in it. Of another, goes
/// on with what follows.
fn drop_if(kind: u16, fields: &[(u8, i32, &[i32])]) -> Vec<bpf_insn> {
    let mut checks = vec![(instruction(LOAD_MEMBER, (0, 6), PROTOCOL, 0), i32::from(kind.to_be()))];
    for (load, offset, values) in fields {
        checks.extend(values.iter().zip(0..).map(|(value, i)| {
            let at = NETWORK + offset + i * if *load == LOAD_WORD { 4 } else { 1 };
            (instruction(*load, (0, 0), 0, at), *value)
        }));
    }
    let mut program = Vec::new();
    for (left, (load, value)) in (0..checks.len() as i16).rev().zip(checks) {
        // Over the checks that are left, and the end.
        program.extend([load, instruction(JUMP_UNLESS_EQUAL, (0, 0), 2 * left + 2, value)]);
    }
    program.extend([instruction(MOVE, (0, 0), 0, TC_ACT_SHOT), instruction(EXIT, (0, 0), 0, 0)]);
    program
}
