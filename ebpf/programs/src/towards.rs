//! From a client to the container.

use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_F_CURRENT_NETNS, TC_ACT_SHOT, bpf_sock_tuple, tcx_action_base::TCX_NEXT},
    helpers::{bpf_get_prandom_u32, bpf_redirect_peer, bpf_sk_lookup_udp, bpf_sk_release},
    programs::TcContext,
};

use crate::{
    SCTP, UDP, figures, flows, icmp,
    judge::{self, Verdict},
    layouts::{Flow, FlowKey, TOWARDS, Target},
    maps::FLOWS,
    packet::{self, Packet, last4},
    ports,
};

/// The packet was sent to this machine alone: not to a group, nor to a neighbour.
const PACKET_HOST: u32 = 0;

/// The ports that a client is given when its own cannot be told apart from another flow's: above the range that the
/// kernel picks ports from (net.ipv4.ip_local_port_range ends at 60999), so that no socket of the host has them.
const FIRST_SPARE: u32 = 61_000;
const SPARE: u32 = 65_536 - FIRST_SPARE;
const ATTEMPTS: u32 = 8;

#[inline(always)]
pub fn run(ctx: &TcContext) -> i32 {
    if unsafe { (*ctx.skb.skb).pkt_type } != PACKET_HOST {
        return TCX_NEXT;
    }
    let second_look = judge::is_second_look(ctx);
    let Some(packet) = packet::parse(ctx, TOWARDS) else { return TCX_NEXT };
    if icmp::is_icmp(packet) {
        return match icmp::translate(ctx, packet) {
            icmp::NOT_OURS => TCX_NEXT,
            icmp::TRANSLATED => match ports::target(packet.to.target) {
                Some(target) => hand_over(ctx, packet, target),
                None => TC_ACT_SHOT as i32,
            },
            _ => TC_ACT_SHOT as i32,
        };
    }
    let now = flows::seconds();

    if let Some(flow) = FLOWS.get_ptr_mut(&packet.key) {
        let flow = unsafe { &mut *flow };
        if let Some(target) = ports::target(flow.target)
            && keep(packet, flow, now)
        {
            if flows::is_closed(packet.to.state) {
                flows::close(&packet.key, &packet.to);
            }
            return deliver(ctx, packet, target);
        }
        let _ = FLOWS.remove(&packet.key);
    }
    if flows::closed(packet, now)
        && let Some(target) = ports::target(packet.to.target)
    {
        return deliver(ctx, packet, target);
    }

    // Of a clone, the packet itself is with the host already.
    let pass = if second_look { TC_ACT_SHOT as i32 } else { TCX_NEXT };
    let Some(id) = published(&packet.key) else { return pass };
    let Some(target) = ports::target(id) else { return pass };
    if belongs_to_host(ctx, packet) {
        return pass;
    }
    match judge::ask(ctx, packet, second_look, id, now) {
        Verdict::Accepted => {}
        Verdict::Asked => return TCX_NEXT,
        Verdict::Refused => return TC_ACT_SHOT as i32,
    }
    packet.to = Flow {
        source: packet.key.source,
        destination: target.address,
        source_port: packet.key.source_port,
        destination_port: ports::container_port(target, packet.key.destination_port),
        target: id,
        seen: now,
        state: 0,
        zero: [0; 3],
    };
    if !begin(packet, target, now) {
        figures::no_place(id);
        return TC_ACT_SHOT as i32;
    }
    figures::begun(id);
    deliver(ctx, packet, target)
}

/// Whether the flow goes on as it is: its answers still find back.
#[inline(always)]
fn keep(packet: &mut Packet, flow: &mut Flow, now: u32) -> bool {
    if flow.seen != now {
        flow.seen = now;
        if !flows::pair(&packet.key, flow, now) {
            return false;
        }
    }
    flows::track(&packet.key, flow, packet.tcp_flags);
    packet.to = *flow;
    true
}

#[inline(always)]
fn published(key: &FlowKey) -> Option<u32> {
    let (protocol, address, port) = (key.protocol, &key.destination, key.destination_port);
    if let Some(id) = ports::published_on(protocol, address, port) {
        return Some(id);
    }
    if !ports::is_host_address(address) {
        return None;
    }
    ports::published_on_any(protocol, address, port)
}

/// Whether the packet begins nothing, so that it may belong to what the host itself, or its masquerading, has open on a
/// port within a published range. TCP says so by its flags; with UDP, a socket of the host comes first.
#[inline(always)]
fn belongs_to_host(ctx: &TcContext, packet: &Packet) -> bool {
    if packet.key.protocol != UDP {
        return !packet::may_begin(packet);
    }
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

/// Enters the flow, both ways. The client keeps its address and port, with two exceptions: the container as its own
/// client appears as the gateway, since it would take a packet from its own address for a forged one; and a client that
/// reaches the same port of the container in two ways from one port of its own gets another port in one of them.
/// False: there is no port left to tell the flow apart by.
#[inline(always)]
fn begin(packet: &mut Packet, target: &Target, now: u32) -> bool {
    if packet.key.source == target.address {
        packet.to.source = target.gateway;
        if packet.key.protocol != SCTP {
            packet.to.source_port = spare_port();
        }
    }
    for _ in 0..ATTEMPTS {
        if flows::pair(&packet.key, &packet.to, now) {
            return FLOWS.insert(&packet.key, &packet.to, 0).is_ok();
        }
        // Its ports cannot be changed: see packet::rewrite.
        if packet.key.protocol == SCTP {
            return false;
        }
        packet.to.source_port = spare_port();
    }
    false
}

#[inline(always)]
fn spare_port() -> u16 {
    ((FIRST_SPARE + unsafe { bpf_get_prandom_u32() } % SPARE) as u16).to_be()
}

#[inline(always)]
fn deliver(ctx: &TcContext, packet: &Packet, target: &Target) -> i32 {
    if packet::rewrite(ctx, packet).is_err() {
        return TC_ACT_SHOT as i32;
    }
    hand_over(ctx, packet, target)
}

/// Into the container, past the host's stack.
#[inline(always)]
fn hand_over(ctx: &TcContext, packet: &Packet, target: &Target) -> i32 {
    if ctx.store(0, &[target.mac, target.bridge_mac], 0).is_err() {
        return TC_ACT_SHOT as i32;
    }
    figures::passed(packet, unsafe { (*ctx.skb.skb).len } - packet::ETHERNET as u32);
    unsafe { bpf_redirect_peer(target.link, 0) as i32 }
}
