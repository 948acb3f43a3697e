//! Datagrams in fragments. Only the first has ports, and by them a flow; what became of its addresses is kept for the
//! others, which have the datagram's id in common with it. One that overtakes the first finds nothing, and the datagram is
//! lost as if a fragment were.

use crate::{
    layouts::FragmentKey,
    maps::FRAGMENTS,
    packet::{FIRST, Packet},
};

/// Seconds in which all fragments must come, as the kernel's own reassembly has it (net.ipv4.ipfrag_time).
const PATIENCE: i32 = 30;

#[inline(always)]
fn key(packet: &Packet) -> FragmentKey {
    FragmentKey {
        source: packet.key.source,
        destination: packet.key.destination,
        id: packet.id,
        protocol: packet.key.protocol,
        direction: packet.key.direction,
        zero: [0; 2],
    }
}

/// What an earlier datagram of the same id left is not this one's.
#[inline(never)]
pub fn forget(packet: &Packet) {
    if packet.fragment == FIRST {
        let _ = FRAGMENTS.remove(key(packet));
    }
}

/// Keeps what a first fragment becomes, which is in `packet.to`.
#[inline(never)]
pub fn remember(packet: &Packet) {
    if packet.fragment == FIRST {
        let _ = FRAGMENTS.insert(key(packet), &packet.to, 0);
    }
}

/// Of a later fragment: what the first became, in `packet.to`. False: it is not ours, or came before the first.
#[inline(never)]
pub fn follow(packet: &mut Packet, now: u32) -> bool {
    let Some(first) = FRAGMENTS.get_ptr(key(packet)) else { return false };
    packet.to = unsafe { *first };
    now.wrapping_sub(packet.to.seen) as i32 <= PATIENCE
}
