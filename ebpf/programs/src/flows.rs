//! The two entries of a flow: `TOWARDS` by what the client sends, `BACK` by what the container answers. Each can be
//! found from the other, and each says what its packets become, so that either direction is one lookup.

use aya_ebpf::{bindings::BPF_NOEXIST, helpers::bpf_ktime_get_coarse_ns};

use crate::{
    SCTP, TCP, UDP,
    layouts::{BACK, FIN_BACK, FIN_TOWARDS, Flow, FlowKey, RESET, TOWARDS},
    maps::{CLOSED, FLOWS},
    packet::{ACK, FIN, Packet, RST, SYN},
    ports,
};

/// Seconds after which a flow without a packet is over, as conntrack has it: a stream of datagrams, an established
/// connection, and one that both ends have closed or either has reset.
const UDP_IDLE: u32 = 120;
const TCP_IDLE: u32 = 5 * 24 * 3600;
const TCP_CLOSED: u32 = 120;
/// An association sends heartbeats twice a minute.
const SCTP_IDLE: u32 = 210;

#[inline(always)]
pub fn seconds() -> u32 {
    (unsafe { bpf_ktime_get_coarse_ns() } / 1_000_000_000) as u32
}

/// The key of a flow's other entry: what the far end answers to what this entry makes of a packet.
#[inline(always)]
pub fn other_key(key: &FlowKey, flow: &Flow) -> FlowKey {
    FlowKey {
        source: flow.destination,
        destination: flow.source,
        source_port: flow.destination_port,
        destination_port: flow.source_port,
        protocol: key.protocol,
        direction: if key.direction == TOWARDS { BACK } else { TOWARDS },
        zero: [0; 2],
    }
}

/// The value of a flow's other entry.
#[inline(always)]
pub fn other_flow(key: &FlowKey, flow: &Flow) -> Flow {
    Flow {
        source: key.destination,
        destination: key.source,
        source_port: key.destination_port,
        destination_port: key.source_port,
        target: flow.target,
        seen: flow.seen,
        state: flow.state,
        zero: [0; 3],
    }
}

#[inline(always)]
fn leads_alike(a: &Flow, b: &Flow) -> bool {
    a.source == b.source
        && a.destination == b.destination
        && a.source_port == b.source_port
        && a.destination_port == b.destination_port
}

#[inline(always)]
pub fn is_closed(state: u8) -> bool {
    state & RESET != 0 || state & (FIN_TOWARDS | FIN_BACK) == FIN_TOWARDS | FIN_BACK
}

/// Whether the entry is over, so that its addresses and ports may go to another flow.
#[inline(always)]
pub fn is_over(key: &FlowKey, flow: &Flow, now: u32) -> bool {
    let limit = if key.protocol == UDP {
        UDP_IDLE
    } else if key.protocol == SCTP {
        SCTP_IDLE
    } else if is_closed(flow.state) {
        TCP_CLOSED
    } else {
        TCP_IDLE
    };
    // The coarse clock of another CPU may be a tick ahead: then nothing has passed.
    let idle = now.wrapping_sub(flow.seen) as i32;
    idle > limit as i32 || ports::target(flow.target).is_none()
}

/// Whether the flow's other entry is in place; puts it there when it is missing or another flow's that is over.
/// Called for a new flow, and about once a second of one that is used: the two entries age apart in the LRU.
#[inline(never)]
pub fn pair(key: &FlowKey, flow: &Flow, now: u32) -> bool {
    let other_key = other_key(key, flow);
    let other = other_flow(key, flow);
    if let Some(present) = FLOWS.get_ptr_mut(&other_key) {
        let present = unsafe { &mut *present };
        if leads_alike(present, &other) && present.target == other.target {
            present.seen = now;
            return true;
        }
        if !is_over(&other_key, present, now) {
            return false;
        }
        return FLOWS.insert(&other_key, &other, 0).is_ok();
    }
    // NOEXIST: another CPU may just have given the place to another flow.
    FLOWS.insert(&other_key, &other, BPF_NOEXIST.into()).is_ok()
}

/// What becomes of a packet of a connection that is closed: a late one, or one sent again. A handshake begins another
/// connection between the same addresses and ports, perhaps one straight to the container, and ends this one for good. As
/// long as packets come the entry stays: the reset may have been a forged one, which neither end took. True: it is in
/// `packet.to`.
#[inline(always)]
pub fn closed(packet: &mut Packet, now: u32) -> bool {
    if packet.key.protocol != TCP {
        return false;
    }
    if packet.tcp_flags & SYN != 0 {
        let _ = CLOSED.remove(&packet.key);
        return false;
    }
    let Some(flow) = CLOSED.get_ptr_mut(&packet.key) else { return false };
    let flow = unsafe { &mut *flow };
    if is_over(&packet.key, flow, now) {
        return false;
    }
    if flow.seen != now {
        flow.seen = now;
    }
    packet.to = *flow;
    true
}

/// Moves both entries of a closed connection out of the way: many short connections must not push out the idle ones,
/// nor hold addresses and ports that others may use. `flow` must not lie in a map.
#[inline(never)]
pub fn close(key: &FlowKey, flow: &Flow) {
    let other_key = other_key(key, flow);
    let _ = CLOSED.insert(key, flow, 0);
    let _ = CLOSED.insert(&other_key, other_flow(key, flow), 0);
    let _ = FLOWS.remove(key);
    let _ = FLOWS.remove(&other_key);
}

/// Notes in both entries what the packet does to the TCP connection. A handshake that begins anew clears it.
#[inline(always)]
pub fn track(key: &FlowKey, flow: &mut Flow, flags: u8) {
    if key.protocol != TCP || flags & (SYN | FIN | RST) == 0 {
        return;
    }
    let towards = key.direction == TOWARDS;
    let mut state = flow.state;
    if towards && flags & (SYN | ACK) == SYN {
        state = 0;
    }
    if flags & FIN != 0 {
        state |= if towards { FIN_TOWARDS } else { FIN_BACK };
    }
    if flags & RST != 0 {
        state |= RESET;
    }
    if state == flow.state {
        return;
    }
    flow.state = state;
    if let Some(other) = FLOWS.get_ptr_mut(&other_key(key, flow)) {
        unsafe { (*other).state = state };
    }
}
