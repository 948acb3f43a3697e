//! The two entries of a flow: `TOWARDS` by what the client sends, `BACK` by what the container answers. Each can be
//! found from the other, and each says what its packets become, so that either direction is one lookup.
//!
//! A flow begins on probation. When the container has answered, and the client sends again, it is confirmed, and moves to
//! the table of those that nobody pushes out, if its source has not had its share of it. So a flood, of forged
//! addresses or from one address, pushes out what is on probation: other floods, and flows in their first moments.

use aya_ebpf::{bindings::BPF_NOEXIST, helpers::bpf_ktime_get_coarse_ns, macros::map, maps::PerCpuArray};

use crate::{
    SCTP, TCP, UDP,
    layouts::{ANSWERED, BACK, FIN_BACK, FIN_TOWARDS, Flow, FlowKey, HELD_BACK, RESET, TOWARDS, Target},
    maps::{CLOSED, FLOWS, PROBATION},
    packet::{ACK, FIN, Packet, RST, SYN},
    ports, sources,
};

/// Seconds after which a flow without a packet is over, as conntrack has it: a stream of datagrams, an established
/// connection, and one that both ends have closed, either has reset or nobody has answered.
const UDP_IDLE: u32 = 120;
const TCP_IDLE: u32 = 5 * 24 * 3600;
const TCP_SHORT: u32 = 120;
/// An association sends heartbeats twice a minute.
const SCTP_IDLE: u32 = 210;

#[inline(always)]
pub fn seconds() -> u32 {
    (unsafe { bpf_ktime_get_coarse_ns() } / 1_000_000_000) as u32
}

/// Which table an entry is in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Confirmed,
    Probation,
}

#[inline(always)]
pub fn find(key: &FlowKey) -> Option<(&'static mut Flow, Place)> {
    if let Some(flow) = FLOWS.get_ptr_mut(key) {
        return Some((unsafe { &mut *flow }, Place::Confirmed));
    }
    PROBATION.get_ptr_mut(key).map(|flow| (unsafe { &mut *flow }, Place::Probation))
}

/// Where the flow's packets go. When its target is gone, but another of the same lineage has its port, it is that one's
/// from now on. `link`: what the packet came by.
#[inline(always)]
pub fn target(key: &FlowKey, flow: &mut Flow, link: u32) -> Option<&'static Target> {
    if let Some(target) = ports::target(flow.target) {
        return Some(target);
    }
    ports::target(inherit(key, flow, link))
}

/// The id of the target that the flow is given; 0, which none has, if there is none.
#[inline(never)]
fn inherit(key: &FlowKey, flow: &mut Flow, link: u32) -> u32 {
    let towards = key.direction == TOWARDS;
    let (host, port, container) = if towards {
        (&key.destination, key.destination_port, &flow.destination)
    } else {
        (&flow.source, flow.source_port, &key.source)
    };
    let Some(id) = ports::published_locally(key.protocol, host, port) else { return 0 };
    let id = ports::by_link(id, link);
    let Some(target) = ports::target(id) else { return 0 };
    if target.lineage != flow.lineage || target.address != *container {
        return 0;
    }
    flow.target = id;
    if let Some(Entry { key: other_key, .. }) = other(key, flow)
        && let Some((other, _)) = find(other_key)
        && other.lineage == flow.lineage
    {
        other.target = id;
    }
    id
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

/// A flow's other entry.
#[repr(C)]
struct Entry {
    key: FlowKey,
    flow: Flow,
}

/// The stack is too small for it.
#[map]
static OTHER: PerCpuArray<Entry> = PerCpuArray::with_max_entries(1, 0);

#[inline(always)]
fn other(key: &FlowKey, flow: &Flow) -> Option<&'static Entry> {
    let other = unsafe { &mut *OTHER.get_ptr_mut(0)? };
    other.key = other_key(key, flow);
    other.flow.source = key.destination;
    other.flow.destination = key.source;
    other.flow.source_port = key.destination_port;
    other.flow.destination_port = key.source_port;
    other.flow.target = flow.target;
    other.flow.lineage = flow.lineage;
    other.flow.seen = flow.seen;
    other.flow.state = flow.state;
    other.flow.zero = [0; 3];
    Some(other)
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
    } else if is_closed(flow.state) || flow.state & ANSWERED == 0 {
        TCP_SHORT
    } else {
        TCP_IDLE
    };
    // The coarse clock of another CPU may be a tick ahead: then nothing has passed.
    let idle = now.wrapping_sub(flow.seen) as i32;
    idle > limit as i32 || ports::target(flow.target).is_none()
}

/// Whether the flow's other entry is in place; puts it there, beside the first, when it is missing or another flow's that
/// is over. Called for a new flow, and about once a second of one that is used: the two entries age apart in the LRU.
#[inline(never)]
pub fn pair(key: &FlowKey, flow: &Flow, now: u32, place: Place) -> bool {
    let Some(Entry { key: other_key, flow: other }) = other(key, flow) else { return false };
    if let Some((present, _)) = find(other_key) {
        if leads_alike(present, other) && present.target == other.target {
            present.seen = now;
            present.state = flow.state;
            return true;
        }
        if !is_over(other_key, present, now) {
            return false;
        }
        let _ = FLOWS.remove(other_key);
        let _ = PROBATION.remove(other_key);
    }
    // NOEXIST: another CPU may just have given the place to another flow.
    match place {
        Place::Confirmed => FLOWS.insert(other_key, other, BPF_NOEXIST.into()).is_ok(),
        Place::Probation => PROBATION.insert(other_key, other, BPF_NOEXIST.into()).is_ok(),
    }
}

/// Whether the client's packet shows that the flow is one: it was answered, and the client has more to say.
#[inline(always)]
pub fn is_confirmed(flow: &Flow, tcp_flags: u8) -> bool {
    flow.state & ANSWERED != 0 && tcp_flags & (SYN | RST) == 0
}

/// Moves a confirmed flow, whose other entry is in place, off probation, as far as its source has a share left. `flow`
/// must not lie in a map of flows. True: it was the first time that there was none.
#[inline(never)]
pub fn confirm(key: &FlowKey, flow: &Flow) -> bool {
    if !sources::take(&key.source) {
        return flow.state & HELD_BACK == 0;
    }
    let Some(Entry { key: other_key, flow: other }) = other(key, flow) else { return false };
    // NOEXIST: another CPU may just have done it. The other entry may have stayed when the first was pushed out.
    if FLOWS.insert(key, flow, BPF_NOEXIST.into()).is_err() {
        sources::give_back(&key.source);
        return false;
    }
    let _ = FLOWS.insert(other_key, other, 0);
    let _ = PROBATION.remove(key);
    let _ = PROBATION.remove(other_key);
    if flow.state & HELD_BACK == 0 {
        sources::confirmed();
    }
    false
}

/// Takes the entry by which the client's packets are found away. The other one may be another flow's by now.
#[inline(never)]
pub fn forget(key: &FlowKey) {
    if FLOWS.remove(key).is_ok() {
        sources::give_back(&key.source);
    }
    let _ = PROBATION.remove(key);
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
        if packet.key.direction == BACK {
            let _ = CLOSED.remove(&packet.key);
        } else if let Some(flow) = CLOSED.get_ptr_mut(&packet.key) {
            // It goes when the other has begun: the host's filter may be asked first.
            let flow = unsafe { &*flow };
            if !is_over(&packet.key, flow, now) {
                packet.before = flow.source_port;
            }
        }
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
    let Some(Entry { key: other_key, flow: other }) = other(key, flow) else { return };
    let _ = CLOSED.insert(key, flow, 0);
    let _ = CLOSED.insert(other_key, other, 0);
    let (towards, back) = if key.direction == TOWARDS { (key, other_key) } else { (other_key, key) };
    forget(towards);
    let _ = FLOWS.remove(back);
    let _ = PROBATION.remove(back);
}

/// Notes in both entries that the container answered, and what the packet does to the TCP connection. A handshake that
/// begins anew clears the latter.
#[inline(always)]
pub fn track(key: &FlowKey, flow: &mut Flow, flags: u8) {
    let towards = key.direction == TOWARDS;
    let mut state = flow.state;
    if !towards {
        state |= ANSWERED;
    }
    if key.protocol == TCP && flags & (SYN | FIN | RST) != 0 {
        if towards && flags & (SYN | ACK) == SYN {
            state &= !(FIN_TOWARDS | FIN_BACK | RESET);
        }
        if flags & FIN != 0 {
            state |= if towards { FIN_TOWARDS } else { FIN_BACK };
        }
        if flags & RST != 0 {
            state |= RESET;
        }
    }
    if state == flow.state {
        return;
    }
    flow.state = state;
    share_state(key, flow);
}

#[inline(never)]
fn share_state(key: &FlowKey, flow: &Flow) {
    if let Some((other, _)) = find(&other_key(key, flow)) {
        other.state = flow.state;
    }
}
