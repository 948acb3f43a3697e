//! From a client to the container.

use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_F_CURRENT_NETNS, TC_ACT_OK, TC_ACT_SHOT, bpf_sock_tuple, tcx_action_base::TCX_NEXT},
    helpers::{bpf_get_prandom_u32, bpf_redirect_peer, bpf_sk_lookup_udp, bpf_sk_release, bpf_skb_change_head},
    programs::TcContext,
};

use crate::{
    SCTP, UDP, figures,
    flows::{self, Place},
    fragments, icmp,
    judge::{self, Look, Verdict},
    layouts::{APART, Address, Flow, HELD_BACK, SUCCEEDING, TOWARDS, Target},
    maps::{CLOSED, LAST_SPARE, PROBATION, SETTINGS},
    packet::{self, Packet, last4},
    ports, sent, sources,
};

/// The packet was sent to this machine alone: not to a group, nor to a neighbour.
const PACKET_HOST: u32 = 0;

/// The ports that a client is given when its own cannot be told apart from another flow's: below the range that the kernel
/// picks ports from, where the host's net.ipv4.ip_local_port_range begins at 32768 as it does by default: no connection of the
/// host's has them then. So many that they last for a minute, at 270 such connections a second: see `port_at_container`.
const FIRST_SPARE: u32 = 16_384;
const SPARE: u32 = 16_384;
const ATTEMPTS: u32 = 8;

#[inline(always)]
pub fn run(ctx: &TcContext, network: u32) -> i32 {
    if unsafe { (*ctx.skb.skb).pkt_type } != PACKET_HOST {
        return TCX_NEXT;
    }
    let look = judge::look(ctx);
    if look == Look::NotOurs {
        return TCX_NEXT;
    }
    let second_look = look == Look::Second;
    let Some(packet) = packet::parse(ctx, TOWARDS, network) else { return TCX_NEXT };
    if icmp::is_icmp(packet) {
        return match icmp::translate(ctx, packet) {
            icmp::NOT_OURS => TCX_NEXT,
            icmp::TRANSLATED => match ports::target(packet.to.target) {
                Some(target) => hand_over(ctx, packet, target, network),
                None => TC_ACT_SHOT as i32,
            },
            _ => TC_ACT_SHOT as i32,
        };
    }
    let now = flows::seconds();
    let known = if packet.fragment == packet::LATER {
        if !fragments::follow(packet, now) {
            return TCX_NEXT;
        }
        true
    } else {
        fragments::forget(packet);
        follow(ctx, packet, now) || flows::closed(packet, now)
    };
    if !known {
        match first(ctx, packet, second_look, now) {
            BEGUN => {}
            // Of a clone, the packet itself is with the host already.
            NOT_OURS if second_look => return TC_ACT_SHOT as i32,
            // It is not to be asked about a second time.
            ASKED if SETTINGS.get(SUCCEEDING).is_some_and(|it| *it != 0) => return TC_ACT_OK as i32,
            NOT_OURS | ASKED => return TCX_NEXT,
            _ => return TC_ACT_SHOT as i32,
        }
    }
    match ports::target(packet.to.target) {
        Some(target) => deliver(ctx, packet, target, network),
        None => TC_ACT_SHOT as i32,
    }
}

/// Whether the packet has a flow that goes on: it is in `packet.to`.
#[inline(never)]
pub fn follow(ctx: &TcContext, packet: &mut Packet, now: u32) -> bool {
    let Some((flow, place)) = flows::find(&packet.key) else { return false };
    let link = unsafe { (*ctx.skb.skb).ifindex };
    if flows::target(&packet.key, flow, link).is_none() || !keep(packet, flow, place, now) {
        flows::forget(&packet.key);
        return false;
    }
    if flows::is_closed(packet.to.state) {
        flows::close(&packet.key, &packet.to);
    }
    true
}

// What became of a packet without a flow.
const NOT_OURS: u32 = 0;
/// The flow is in `packet.to`.
const BEGUN: u32 = 1;
/// The host's filter is to see it first.
const ASKED: u32 = 2;
const REFUSED: u32 = 3;

/// Begins a flow with the packet, if it is for a published port and may. Apart, as the stack is small.
#[inline(never)]
fn first(ctx: &TcContext, packet: &mut Packet, second_look: bool, now: u32) -> u32 {
    let key = &packet.key;
    let Some(id) = ports::published(key.protocol, &key.destination, key.destination_port) else {
        return NOT_OURS;
    };
    let link = unsafe { (*ctx.skb.skb).ifindex };
    let id = ports::by_link(id, link);
    let Some(target) = ports::target(id) else { return NOT_OURS };
    // Nobody else sends from the host's own addresses: the host's routing, which refuses it, is not to be passed by.
    if ports::is_host_address(&key.source) {
        return NOT_OURS;
    }
    if sent::is_answer(key, now) || belongs_to_host(ctx, packet) {
        return NOT_OURS;
    }
    match judge::ask(ctx, packet, second_look, id, now) {
        Verdict::Accepted => {}
        Verdict::Asked => return ASKED,
        Verdict::Refused => return REFUSED,
    }
    // The container as its own client would take a packet from its own address for a forged one; one that is kept from others
    // of its network could not answer them.
    let hidden = packet.key.source == target.address || target.is(APART) && target.bridge == link;
    let source = if hidden { target.gateway } else { packet.key.source };
    let own_port = !hidden || packet.key.protocol == SCTP;
    let port = if own_port { packet.key.source_port } else { port_at_container(packet) };
    if begin(packet, id, target, source, port, now) { BEGUN } else { REFUSED }
}

/// Whether the flow goes on as it is: its answers still find back.
#[inline(always)]
fn keep(packet: &mut Packet, flow: &mut Flow, place: Place, now: u32) -> bool {
    // One that was held back tries again about once a second.
    let confirmed = place == Place::Probation
        && flows::is_confirmed(flow, packet.tcp_flags)
        && (flow.state & HELD_BACK == 0 || flow.seen != now);
    if flow.seen != now || confirmed {
        flow.seen = now;
        if !flows::pair(&packet.key, flow, now, place) {
            return false;
        }
    }
    flows::track(&packet.key, flow, packet.tcp_flags);
    packet.to = *flow;
    if confirmed && !flows::is_closed(packet.to.state) && flows::confirm(&packet.key, &packet.to) {
        flow.state |= HELD_BACK;
        sources::held_back();
    }
    true
}

/// Whether the packet begins nothing, so that it may belong to what the host itself, or its masquerading, has open on a
/// port within a published range. TCP says so by its flags; with UDP, a socket of the host comes first.
#[inline(always)]
fn belongs_to_host(ctx: &TcContext, packet: &Packet) -> bool {
    if packet.key.protocol != UDP {
        return !packet::may_begin(packet);
    }
    has_socket(ctx, packet)
}

#[inline(never)]
fn has_socket(ctx: &TcContext, packet: &Packet) -> bool {
    let mut tuple: bpf_sock_tuple = unsafe { core::mem::zeroed() };
    unsafe {
        let size = if packet.ipv4 {
            let t = &mut tuple.__bindgen_anon_1.ipv4;
            t.saddr = last4(&packet.key.source);
            t.daddr = last4(&packet.key.destination);
            t.sport = packet.key.source_port;
            t.dport = packet.key.destination_port;
            size_of_val(t)
        } else {
            let t = &mut tuple.__bindgen_anon_1.ipv6;
            t.saddr = core::mem::transmute::<[u8; 16], [u32; 4]>(packet.key.source);
            t.daddr = core::mem::transmute::<[u8; 16], [u32; 4]>(packet.key.destination);
            t.sport = packet.key.source_port;
            t.dport = packet.key.destination_port;
            size_of_val(t)
        };
        let socket =
            bpf_sk_lookup_udp(ctx.as_ptr(), &mut tuple, size as u32, BPF_F_CURRENT_NETNS as i64 as u64, 0);
        if socket.is_null() {
            return false;
        }
        bpf_sk_release(socket.cast());
    }
    true
}

/// Begins a flow of a client whom the container is to see at this address and port. False: there is no place for it.
#[inline(always)]
pub fn begin(
    packet: &mut Packet,
    id: u32,
    target: &Target,
    source: Address,
    source_port: u16,
    now: u32,
) -> bool {
    packet.to = Flow {
        source,
        destination: target.address,
        source_port,
        destination_port: ports::container_port(target, packet.key.destination_port),
        target: id,
        lineage: target.lineage,
        seen: now,
        state: 0,
        zero: [0; 3],
    };
    if !enter(packet, now) {
        figures::no_place(id);
        return false;
    }
    figures::begun(id);
    sources::begun();
    true
}

/// Enters the flow, both ways. A client that reaches the same port of the container in two ways from one port of its own gets
/// another port in one of them. False: there is no port left to tell the flow apart by.
#[inline(always)]
fn enter(packet: &mut Packet, now: u32) -> bool {
    for _ in 0..ATTEMPTS {
        if flows::pair(&packet.key, &packet.to, now, Place::Probation) {
            let _ = CLOSED.remove(&packet.key);
            return PROBATION.insert(&packet.key, &packet.to, 0).is_ok();
        }
        // Its ports cannot be changed: see packet::rewrite.
        if packet.key.protocol == SCTP {
            return false;
        }
        packet.to.source_port = spare_port();
    }
    false
}

/// Of a client that cannot keep its own. The same port of the client gets the same again: the container remembers the last
/// connection from a port that it closed itself for a minute (TIME_WAIT), and takes another from there only if that goes on where
/// the last one ended, as those of one port of a client do; or after a reset, which the client sends it then.
#[inline(always)]
pub fn port_at_container(packet: &Packet) -> u16 {
    if packet.before != 0 { packet.before } else { spare_port() }
}

/// In turn, from a random one on: the one that was given the longest time ago. (Two CPUs may read the same: the flow of one of
/// them gets the next.)
#[inline(always)]
fn spare_port() -> u16 {
    let Some(last) = LAST_SPARE.get_ptr_mut(0) else { return (FIRST_SPARE as u16).to_be() };
    let last = unsafe { &mut *last };
    *last = if *last == 0 { unsafe { bpf_get_prandom_u32() } } else { last.wrapping_add(1) };
    ((FIRST_SPARE + *last % SPARE) as u16).to_be()
}

#[inline(always)]
fn deliver(ctx: &TcContext, packet: &Packet, target: &Target, network: u32) -> i32 {
    if packet::rewrite(ctx, packet).is_err() {
        return TC_ACT_SHOT as i32;
    }
    fragments::remember(packet);
    hand_over(ctx, packet, target, network)
}

/// Into the container, past the host's stack.
#[inline(always)]
fn hand_over(ctx: &TcContext, packet: &Packet, target: &Target, network: u32) -> i32 {
    if network == packet::BARE && !add_ethernet(ctx) {
        return TC_ACT_SHOT as i32;
    }
    if ctx.store(0, &[target.mac, target.bridge_mac], 0).is_err() {
        return TC_ACT_SHOT as i32;
    }
    figures::passed(packet, unsafe { (*ctx.skb.skb).len } - packet::ETHERNET);
    unsafe { bpf_redirect_peer(target.link, 0) as i32 }
}

/// Puts an Ethernet header in front of a packet that came without, its addresses left empty.
#[inline(always)]
fn add_ethernet(ctx: &TcContext) -> bool {
    let kind = unsafe { (*ctx.skb.skb).protocol } as u16;
    let made = unsafe { bpf_skb_change_head(ctx.skb.skb, packet::ETHERNET, 0) };
    made == 0 && ctx.store(12, &kind, 0).is_ok()
}
