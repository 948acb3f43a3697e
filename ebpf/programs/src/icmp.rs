//! ICMP errors about packets of a flow: port unreachable, too big, time exceeded. Each quotes the packet that it is about as
//! it was where the error arose, behind or in front of our change of its addresses. It is given on with the quoted packet
//! as the one who gets it knows it, and every checksum, the quoted ones too, as it must be.

use core::mem::zeroed;

use aya_ebpf::{
    bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM},
    cty::c_long,
    macros::map,
    maps::PerCpuArray,
    programs::TcContext,
};

use crate::{
    SCTP, TCP, UDP, flows,
    layouts::{Address, FlowKey, TOWARDS, mapped},
    packet::{Packet, csum_diff, store},
    ports,
};

pub const ICMP: u8 = 1;
pub const ICMPV6: u8 = 58;
/// Bytes in front of the quoted packet.
const HEADER: u32 = 8;

/// Addresses side by side, then ports, as `FlowKey` and `Flow` have them.
#[repr(C)]
#[derive(Clone, Copy)]
struct Ends {
    source: Address,
    destination: Address,
    /// Network byte order, as is the next.
    source_port: u16,
    destination_port: u16,
}

#[repr(C)]
struct Error {
    /// Of the quoted packet, as it is and as it becomes.
    old: Ends,
    new: Ends,
    /// Of the error itself; without ports.
    outer_old: Ends,
    outer_new: Ends,
    /// Where the quoted packet begins, and its transport header.
    quoted: u32,
    transport: u32,
}

/// The stack is too small for it.
#[map]
static ERROR: PerCpuArray<Error> = PerCpuArray::with_max_entries(1, 0);

/// What became of the packet. Numbers: what is called may return nothing else.
pub const NOT_OURS: u32 = 0;
/// `packet.to` is the flow's that the error is about.
pub const TRANSLATED: u32 = 1;
/// It is in an unknown state: drop it.
pub const BROKEN: u32 = 2;

#[inline(never)]
pub fn translate(ctx: &TcContext, packet: &mut Packet) -> u32 {
    match try_to(ctx, packet) {
        None => NOT_OURS,
        Some(Ok(())) => TRANSLATED,
        Some(Err(_)) => BROKEN,
    }
}

#[inline(always)]
fn try_to(ctx: &TcContext, packet: &mut Packet) -> Option<Result<(), c_long>> {
    let error = unsafe { &mut *ERROR.get_ptr_mut(0)? };
    let kind: u8 = ctx.load(packet.transport as usize).ok()?;
    // Unreachable (too big among them), time exceeded, parameter problem; the same with IPv6, where too big is one more.
    let is_error = if packet.ipv4 { kind == 3 || kind == 11 || kind == 12 } else { 1 <= kind && kind <= 4 };
    if !is_error {
        return None;
    }
    error.quoted = packet.transport + HEADER;
    let protocol = if packet.ipv4 { quoted_ipv4(ctx, error)? } else { quoted_ipv6(ctx, error)? };
    if protocol != TCP && protocol != UDP && protocol != SCTP {
        return None;
    }
    let [source_port, destination_port]: [u16; 2] = ctx.load(error.transport as usize).ok()?;
    (error.old.source_port, error.old.destination_port) = (source_port, destination_port);
    let outer = unsafe { &mut *(&raw mut error.outer_old) };
    *outer = unsafe { zeroed() };
    outer.source = packet.key.source;
    outer.destination = packet.key.destination;
    // Only who sent the packet is told of it.
    if outer.destination != error.old.source {
        return None;
    }

    // What the quoted packet answers: that is what this direction has an entry for.
    packet.key = FlowKey {
        source: error.old.destination,
        destination: error.old.source,
        source_port: destination_port,
        destination_port: source_port,
        protocol,
        direction: packet.key.direction,
        zero: [0; 2],
    };
    packet.to = *flows::find(&packet.key)?.0;
    let flow = &packet.to;
    let target = ports::target(flow.target)?;
    if flows::is_over(&packet.key, flow, flows::seconds()) {
        return None;
    }
    let towards = packet.key.direction == TOWARDS;
    if !towards && target.link != unsafe { (*ctx.skb.skb).ifindex } {
        return None;
    }
    error.new = Ends {
        source: flow.destination,
        destination: flow.source,
        source_port: flow.destination_port,
        destination_port: flow.source_port,
    };
    error.outer_new = error.outer_old;
    error.outer_new.destination = flow.destination;
    if !towards {
        // The container is not known by its own address out there.
        error.outer_new.source = flow.source;
    } else if error.outer_old.source == packet.key.source {
        error.outer_new.source = flow.source;
    }
    Some(rewrite(ctx, packet, error, protocol))
}

#[inline(always)]
fn quoted_ipv4(ctx: &TcContext, error: &mut Error) -> Option<u8> {
    let h: [u8; 20] = ctx.load(error.quoted as usize).ok()?;
    let words = u32::from(h[0] & 0x0f);
    // Of a fragment but the first, the ports are not there.
    if h[0] >> 4 != 4 || words < 5 || u16::from_be_bytes([h[6], h[7]]) & 0x1fff != 0 {
        return None;
    }
    error.old.source = mapped([h[12], h[13], h[14], h[15]]);
    error.old.destination = mapped([h[16], h[17], h[18], h[19]]);
    error.transport = error.quoted + words * 4;
    Some(h[9])
}

#[inline(always)]
fn quoted_ipv6(ctx: &TcContext, error: &mut Error) -> Option<u8> {
    let h: [u8; 8] = ctx.load(error.quoted as usize).ok()?;
    if h[0] >> 4 != 6 {
        return None;
    }
    let [source, destination]: [Address; 2] = ctx.load(error.quoted as usize + 8).ok()?;
    (error.old.source, error.old.destination) = (source, destination);
    error.transport = error.quoted + 40;
    Some(h[6])
}

#[inline(always)]
fn rewrite(ctx: &TcContext, packet: &Packet, error: &Error, protocol: u8) -> Result<(), c_long> {
    let network = packet.network as usize;
    let (quoted, transport) = (error.quoted as usize, error.transport as usize);
    let sum = packet.transport as usize + 2;
    let addresses = csum_diff(&error.old.source, &error.new.source, 32);
    let ports = csum_diff(&error.old.source_port, &error.new.source_port, 4);

    // The quoted checksum, if so much is quoted; a UDP one of 0 means none over IPv4.
    let (field, mangled) = match protocol {
        TCP => (transport + 16, 0),
        _ => (transport + 6, u64::from(BPF_F_MARK_MANGLED_0)),
    };
    if protocol != SCTP
        && let Ok(old) = ctx.load::<u16>(field)
    {
        ctx.l4_csum_replace(field, 0, addresses, mangled)?;
        ctx.l4_csum_replace(field, 0, ports, mangled)?;
        let (old, new) = ([old, 0], [ctx.load::<u16>(field)?, 0]);
        ctx.l4_csum_replace(sum, 0, csum_diff(&old, &new, 4), 0)?;
    }
    ctx.l4_csum_replace(sum, 0, ports, 0)?;
    store(ctx, transport, &error.new.source_port, 4, 0)?;

    let outer = csum_diff(&error.outer_old.source, &error.outer_new.source, 32);
    if packet.ipv4 {
        // What the quoted header's own checksum takes back adds nothing to the error's.
        ctx.l3_csum_replace(quoted + 10, 0, addresses, 0)?;
        store(ctx, quoted + 12, &error.new.source[12], 4, 0)?;
        store(ctx, quoted + 16, &error.new.destination[12], 4, 0)?;
        ctx.l3_csum_replace(network + 10, 0, outer, 0)?;
        store(ctx, network + 12, &error.outer_new.source[12], 4, 0)?;
        return store(ctx, network + 16, &error.outer_new.destination[12], 4, 0);
    }
    ctx.l4_csum_replace(sum, 0, addresses, 0)?;
    store(ctx, quoted + 8, &error.new.source, 32, 0)?;
    ctx.l4_csum_replace(sum, 0, outer, u64::from(BPF_F_PSEUDO_HDR))?;
    // See packet::rewrite.
    store(ctx, network + 8, &error.outer_new.source, 32, u64::from(BPF_F_RECOMPUTE_CSUM))
}

#[inline(always)]
pub fn is_icmp(packet: &Packet) -> bool {
    packet.key.protocol == if packet.ipv4 { ICMP } else { ICMPV6 }
}
