//! What is read from a packet and how its addresses are changed. Packets are read and written through helpers alone,
//! which bound every access and keep the checksums of offloaded and GSO packets right.

use core::{mem::offset_of, ptr};

use aya_ebpf::{
    bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM},
    cty::c_long,
    helpers::{bpf_csum_diff, bpf_skb_load_bytes, bpf_skb_store_bytes},
    macros::map,
    maps::PerCpuArray,
    programs::TcContext,
};

use crate::{
    SCTP, TCP, UDP,
    icmp::{ICMP, ICMPV6},
    layouts::{Address, Flow, FlowKey, LOOPBACK_IPV6, is_ipv4, mapped},
};

/// Bytes in front of a packet's IP header: by links that carry Ethernet, and by those that carry IP alone.
pub const ETHERNET: u32 = 14;
pub const BARE: u32 = 0;
const ETHERTYPE_IPV4: u32 = 0x0800;
const ETHERTYPE_IPV6: u32 = 0x86dd;
/// Extension headers looked behind, at most; a packet with more is passed on.
const EXTENSIONS: usize = 4;

/// RFC 9260, 3.2: the chunk that begins an association.
const SCTP_INIT: u8 = 1;

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const ACK: u8 = 0x10;

/// What part of a datagram the packet is. A later fragment has no ports: they are 0.
pub const WHOLE: u8 = 0;
pub const FIRST: u8 = 1;
pub const LATER: u8 = 2;

/// A TCP, UDP, SCTP or ICMP packet over IP; ICMP's ports are 0. It lies in a per-CPU map: the stack is too
/// small for it.
#[repr(C)]
pub struct Packet {
    /// Its addresses and ports as they arrive.
    pub key: FlowKey,
    /// What they become. A copy: an entry of the LRU may be given to another flow while the packet is changed, and the
    /// checksums must follow what is stored.
    pub to: Flow,
    /// Bytes in front of the IP header: [`ETHERNET`] or [`BARE`].
    pub network: u32,
    /// Bytes in front of the transport header.
    pub transport: u32,
    /// Bytes of IP that leave when the packet is sent: of one segment, if it stands for several (GSO).
    pub length: u32,
    pub ipv4: bool,
    /// One end is an address that is known only inside a machine.
    pub loopback: bool,
    /// SYN for the packet that begins an SCTP association; 0 for the others.
    pub tcp_flags: u8,
    /// The sender forbids fragmenting; always so with IPv6.
    pub no_fragments: bool,
    /// [`WHOLE`], [`FIRST`] or [`LATER`].
    pub fragment: u8,
    /// Of the datagram, if it is in fragments; network byte order.
    pub id: u32,
    /// The port that the connection before, between the same two, was given at the container; 0 for none. Network byte order.
    pub before: u16,
}

#[map]
static PACKET: PerCpuArray<Packet> = PerCpuArray::with_max_entries(1, 0);

/// Where the bytes of a packet come from. Offsets count from its first byte, which [`Packet::network`] bytes are in front of IP.
pub trait Bytes {
    fn load<T>(&self, offset: usize) -> Option<T>;
    /// For what is better not on the stack in between.
    fn load_to<T>(&self, offset: usize, to: *mut T) -> Option<()>;
}

impl Bytes for TcContext {
    #[inline(always)]
    fn load<T>(&self, offset: usize) -> Option<T> {
        TcContext::load(self, offset).ok()
    }

    #[inline(always)]
    fn load_to<T>(&self, offset: usize, to: *mut T) -> Option<()> {
        let result =
            unsafe { bpf_skb_load_bytes(self.skb.skb.cast(), offset as u32, to.cast(), size_of::<T>() as u32) };
        (result == 0).then_some(())
    }
}

/// None: not understood. Fragments of ICMP are among those. Packets are seen one at a time on a CPU, with softirqs off, so the
/// map's one entry is the caller's until it returns.
#[inline(always)]
pub fn parse(ctx: &TcContext, direction: u8, network: u32) -> Option<&'static mut Packet> {
    // Nobody on a link reaches what is published on 127.0.0.1.
    any(ctx, direction, network).filter(|packet| !packet.loopback)
}

/// The same at the loopback.
#[inline(always)]
pub fn parse_local(ctx: &TcContext, direction: u8) -> Option<&'static mut Packet> {
    any(ctx, direction, ETHERNET)
}

#[inline(always)]
fn any(ctx: &TcContext, direction: u8, network: u32) -> Option<&'static mut Packet> {
    let packet = unsafe { &mut *PACKET.get_ptr_mut(0)? };
    packet.network = network;
    packet.before = 0;
    packet.key.direction = direction;
    packet.key.zero = [0; 2];
    read(ctx, packet).then_some(packet)
}

/// Apart, so that the verifier forgets by which of many ways it came to its end.
#[inline(never)]
fn read(ctx: &TcContext, packet: &mut Packet) -> bool {
    try_read(ctx, packet).is_some()
}

#[inline(always)]
fn try_read(ctx: &TcContext, packet: &mut Packet) -> Option<()> {
    let (protocol, vlan) = unsafe { ((*ctx.skb.skb).protocol, (*ctx.skb.skb).vlan_present) };
    // Tagged: it belongs to the VLAN's own interface, which has the program too.
    if vlan != 0 {
        return None;
    }
    match u32::from(u16::from_be(protocol as u16)) {
        ETHERTYPE_IPV4 => parse_ipv4(ctx, packet)?,
        ETHERTYPE_IPV6 => parse_ipv6(ctx, packet)?,
        _ => return None,
    }
    let header = parse_transport(ctx, packet)?;
    let segment = unsafe { (*ctx.skb.skb).gso_size };
    if segment != 0 {
        packet.length = packet.transport - packet.network + header + segment;
    }
    Some(())
}

/// A packet as the host's own hooks see it, which are not told by the way what version of IP it is.
#[inline(always)]
pub fn parse_bare(bytes: &impl Bytes, packet: &mut Packet) -> Option<()> {
    packet.network = BARE;
    let version: u8 = bytes.load(BARE as usize)?;
    if version >> 4 == 4 {
        parse_ipv4(bytes, packet)?
    } else {
        parse_ipv6(bytes, packet)?
    }
    parse_transport(bytes, packet).map(drop)
}

#[inline(always)]
fn parse_ipv4(ctx: &impl Bytes, packet: &mut Packet) -> Option<()> {
    let h: [u8; 20] = ctx.load(packet.network as usize)?;
    let words = u32::from(h[0] & 0x0f);
    let place = u16::from_be_bytes([h[6], h[7]]);
    if h[0] >> 4 != 4 || words < 5 {
        return None;
    }
    packet.ipv4 = true;
    packet.no_fragments = place & 0x4000 != 0;
    packet.fragment = fragment(place & 0x1fff, place & 0x2000);
    packet.id = u32::from(u16::from_ne_bytes([h[4], h[5]]));
    packet.transport = packet.network + words * 4;
    packet.length = u32::from(u16::from_be_bytes([h[2], h[3]]));
    packet.key.protocol = h[9];
    packet.key.source = mapped([h[12], h[13], h[14], h[15]]);
    packet.key.destination = mapped([h[16], h[17], h[18], h[19]]);
    packet.loopback = h[12] == 127 || h[16] == 127;
    // From one host to one host.
    let one_host = |first: u8| first != 0 && first < 224;
    (one_host(h[12]) && one_host(h[16])).then_some(())
}

#[inline(always)]
fn parse_ipv6(ctx: &impl Bytes, packet: &mut Packet) -> Option<()> {
    const HOP_BY_HOP: u8 = 0;
    const DESTINATION_OPTIONS: u8 = 60;
    const FRAGMENT: u8 = 44;

    let h: [u8; 8] = ctx.load(packet.network as usize)?;
    if h[0] >> 4 != 6 {
        return None;
    }
    // Side by side in both.
    ctx.load_to(packet.network as usize + 8, (&raw mut packet.key).cast::<[Address; 2]>())?;
    if !is_one_host(&packet.key.source) || !is_one_host(&packet.key.destination) {
        return None;
    }
    packet.loopback = packet.key.source == LOOPBACK_IPV6 || packet.key.destination == LOOPBACK_IPV6;
    let (mut next, mut transport) = (h[6], packet.network + 40);
    packet.fragment = WHOLE;
    packet.id = 0;
    for _ in 0..EXTENSIONS {
        if next == FRAGMENT {
            let h: [u8; 8] = ctx.load(transport as usize)?;
            let place = u16::from_be_bytes([h[2], h[3]]);
            next = h[0];
            transport += 8;
            packet.fragment = fragment(place >> 3, place & 1);
            packet.id = u32::from_ne_bytes([h[4], h[5], h[6], h[7]]);
            // Behind it, the headers of a later one are data.
            if packet.fragment == LATER {
                break;
            }
            continue;
        }
        if next != HOP_BY_HOP && next != DESTINATION_OPTIONS {
            break;
        }
        let [following, length]: [u8; 2] = ctx.load(transport as usize)?;
        next = following;
        transport += (u32::from(length) + 1) * 8;
    }
    packet.ipv4 = false;
    packet.no_fragments = true;
    packet.transport = transport;
    packet.length = 40 + u32::from(u16::from_be_bytes([h[4], h[5]]));
    packet.key.protocol = next;
    Some(())
}

#[inline(always)]
fn fragment(offset: u16, more: u16) -> u8 {
    match (offset, more) {
        (0, 0) => WHOLE,
        (0, _) => FIRST,
        _ => LATER,
    }
}

/// A unicast address that a router may forward, or the loopback's. An IPv4 one in its mapped form is none: it would be taken for IPv4.
#[inline(always)]
fn is_one_host(a: &Address) -> bool {
    let word = |i: usize| u32::from_ne_bytes([a[i], a[i + 1], a[i + 2], a[i + 3]]);
    let unspecified = word(0) | word(4) | word(8) | word(12) == 0;
    let link_local = a[0] == 0xfe && a[1] & 0xc0 == 0x80;
    a[0] != 0xff && !link_local && !unspecified && !is_ipv4(a)
}

/// The length of its header.
#[inline(always)]
fn parse_transport(ctx: &impl Bytes, packet: &mut Packet) -> Option<u32> {
    if packet.fragment == LATER {
        // It is behind the whole header, or the header is a lie.
        let _: u8 = ctx.load(packet.transport as usize)?;
        packet.key.source_port = 0;
        packet.key.destination_port = 0;
        packet.tcp_flags = 0;
        return Some(0);
    }
    Some(match packet.key.protocol {
        TCP => {
            let h: [u8; 20] = ctx.load(packet.transport as usize)?;
            packet.key.source_port = u16::from_ne_bytes([h[0], h[1]]);
            packet.key.destination_port = u16::from_ne_bytes([h[2], h[3]]);
            packet.tcp_flags = h[13];
            u32::from(h[12] >> 4) * 4
        }
        UDP => {
            let h: [u8; 8] = ctx.load(packet.transport as usize)?;
            packet.key.source_port = u16::from_ne_bytes([h[0], h[1]]);
            packet.key.destination_port = u16::from_ne_bytes([h[2], h[3]]);
            packet.tcp_flags = 0;
            8
        }
        // The type of the first chunk is behind the common header.
        SCTP => {
            let h: [u8; 13] = ctx.load(packet.transport as usize)?;
            packet.key.source_port = u16::from_ne_bytes([h[0], h[1]]);
            packet.key.destination_port = u16::from_ne_bytes([h[2], h[3]]);
            packet.tcp_flags = if h[12] == SCTP_INIT { SYN } else { 0 };
            12
        }
        ICMP | ICMPV6 if packet.fragment == WHOLE => {
            packet.key.source_port = 0;
            packet.key.destination_port = 0;
            packet.tcp_flags = 0;
            8
        }
        _ => return None,
    })
}

/// Whether the packet can be the first of a flow.
#[inline(always)]
pub fn may_begin(packet: &Packet) -> bool {
    match packet.key.protocol {
        TCP | SCTP => packet.tcp_flags & (SYN | ACK) == SYN,
        _ => true,
    }
}

/// Gives the packet the addresses and ports of `to`. An error leaves it in an unknown state: drop it.
#[inline(always)]
pub fn rewrite(ctx: &TcContext, packet: &Packet) -> Result<(), c_long> {
    let flow = &packet.to;
    let (network, transport) = (packet.network as usize, packet.transport as usize);
    let (field, mangled) = match packet.key.protocol {
        TCP => (transport + 16, 0),
        // A UDP checksum of 0 means none, over IPv4: it stays 0, and none becomes 0.
        _ => (transport + 6, u64::from(BPF_F_MARK_MANGLED_0)),
    };
    let pseudo = mangled | u64::from(BPF_F_PSEUDO_HDR);
    let is_sctp = packet.key.protocol == SCTP;
    // The first fragment has the checksum of the whole.
    let has_sum = !is_sctp && packet.fragment != LATER;
    if is_sctp
        && packet.fragment != LATER
        && (packet.key.source_port, packet.key.destination_port) != (flow.source_port, flow.destination_port)
    {
        return Err(-1);
    }
    // Both structs hold the two addresses side by side, and the two ports. What mapped addresses share adds nothing.
    let difference = csum_diff(&packet.key.source, &flow.source, 32);
    if has_sum {
        ctx.l4_csum_replace(field, 0, difference, pseudo)?;
    }
    if packet.ipv4 {
        ctx.l3_csum_replace(network + 10, 0, difference, 0)?;
        store(ctx, network + 12, &flow.source[12], 4, 0)?;
        store(ctx, network + 16, &flow.destination[12], 4, 0)?;
    } else {
        // With no header checksum to make up for it, a change of the addresses changes what a card that sums whole
        // packets (CHECKSUM_COMPLETE) has summed. The helper above took it off already; the store puts it back.
        store(ctx, network + 8, &flow.source, 32, u64::from(BPF_F_RECOMPUTE_CSUM))?;
    }
    // SCTP's checksum, a CRC, is of the ports but not of the addresses: the ports stay.
    if !has_sum {
        return Ok(());
    }
    let difference = csum_diff(&packet.key.source_port, &flow.source_port, 4);
    ctx.l4_csum_replace(field, 0, difference, mangled)?;
    store(ctx, transport, &flow.source_port, 4, 0)
}

const _: () = assert!(offset_of!(FlowKey, source) == 0);
const _: () = assert!(offset_of!(FlowKey, destination) == offset_of!(FlowKey, source) + 16);
const _: () = assert!(offset_of!(Flow, destination) == offset_of!(Flow, source) + 16);
const _: () = assert!(offset_of!(FlowKey, destination_port) == offset_of!(FlowKey, source_port) + 2);
const _: () = assert!(offset_of!(Flow, destination_port) == offset_of!(Flow, source_port) + 2);

/// `size` bytes, which may reach past the field into the next one.
#[inline(always)]
pub fn csum_diff<T>(old: &T, new: &T, size: u32) -> u64 {
    unsafe {
        let (old, new) = (ptr::from_ref(old).cast_mut(), ptr::from_ref(new).cast_mut());
        bpf_csum_diff(old.cast(), size, new.cast(), size, 0) as u64
    }
}

#[inline(always)]
pub fn store<T>(ctx: &TcContext, offset: usize, from: &T, size: u32, flags: u64) -> Result<(), c_long> {
    match unsafe { bpf_skb_store_bytes(ctx.skb.skb, offset as u32, ptr::from_ref(from).cast(), size, flags) }
    {
        0 => Ok(()),
        error => Err(error),
    }
}

#[inline(always)]
pub fn last4(a: &Address) -> u32 {
    u32::from_ne_bytes([a[12], a[13], a[14], a[15]])
}
