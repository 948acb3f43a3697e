//! From the container to the client.

use core::ptr;

use aya_ebpf::{
    EbpfContext,
    bindings::{
        BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS, BPF_FIB_LOOKUP_SKIP_NEIGH, TC_ACT_SHOT,
        bpf_fib_lookup as Fib, bpf_redir_neigh, tcx_action_base::TCX_NEXT,
    },
    helpers::{bpf_fib_lookup, bpf_redirect_neigh},
    programs::TcContext,
};

use crate::{
    figures, flows, fragments, icmp,
    layouts::{BACK, Target, is_loopback},
    packet::{self, Packet, last4},
    ports,
};

/// linux/if_packet.h
const PACKET_HOST: u32 = 0;
/// LOOPBACK_IFINDEX, in every network namespace.
const LOOPBACK_LINK: u32 = 1;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

#[inline(always)]
pub fn run(ctx: &TcContext) -> i32 {
    let Some(packet) = packet::parse(ctx, BACK, packet::ETHERNET) else { return TCX_NEXT };
    let now = flows::seconds();
    let is_error = icmp::is_icmp(packet);
    fragments::forget(packet);
    let target = if is_error {
        match icmp::translate(ctx, packet) {
            icmp::NOT_OURS => return TCX_NEXT,
            icmp::TRANSLATED => {}
            _ => return TC_ACT_SHOT as i32,
        }
        let Some(target) = ports::target(packet.to.target) else { return TC_ACT_SHOT as i32 };
        target
    } else if packet.fragment == packet::LATER {
        if !fragments::follow(packet, now) {
            return TCX_NEXT;
        }
        let Some(target) = at_veth(ctx, ports::target(packet.to.target)) else { return TCX_NEXT };
        target
    } else if let Some((flow, _)) = flows::find(&packet.key) {
        let link = unsafe { (*ctx.skb.skb).ifindex };
        let Some(target) = at_veth(ctx, flows::target(&packet.key, flow, link)) else { return TCX_NEXT };
        if flows::is_over(&packet.key, flow, now) {
            return TCX_NEXT;
        }
        if flow.seen != now {
            flow.seen = now;
        }
        flows::track(&packet.key, flow, packet.tcp_flags);
        packet.to = *flow;
        if flows::is_closed(packet.to.state) {
            flows::close(&packet.key, &packet.to);
        }
        target
    } else if flows::closed(packet, now) {
        let Some(target) = at_veth(ctx, ports::target(packet.to.target)) else { return TCX_NEXT };
        target
    } else {
        return TCX_NEXT;
    };
    if is_loopback(&packet.to.destination) {
        return to_loopback(ctx, packet, is_error);
    }
    let mut next_hop: NextHop = unsafe { core::mem::zeroed() };
    if !route(ctx, packet, target, &mut next_hop) {
        // An error's addresses are changed already: where no way leads to the client, it ends here.
        return if is_error { TC_ACT_SHOT as i32 } else { TCX_NEXT };
    }
    if !is_error && packet::rewrite(ctx, packet).is_err() {
        return TC_ACT_SHOT as i32;
    }
    fragments::remember(packet);
    figures::passed(packet, unsafe { (*ctx.skb.skb).len } - packet::ETHERNET);
    let size = size_of::<bpf_redir_neigh>() as i32;
    unsafe { bpf_redirect_neigh(next_hop.link, &mut next_hop.neighbour, size, 0) as i32 }
}

/// To a process of the host: see `local`. By the loopback's egress, so that the packet has the route that one from the host
/// itself would have.
#[inline(always)]
fn to_loopback(ctx: &TcContext, packet: &Packet, is_error: bool) -> i32 {
    if !is_error && packet::rewrite(ctx, packet).is_err() {
        return TC_ACT_SHOT as i32;
    }
    fragments::remember(packet);
    figures::passed(packet, unsafe { (*ctx.skb.skb).len } - packet::ETHERNET);
    // It was for the bridge, not for the veth; the loopback does not look whose it is.
    let _ = ctx.change_type(PACKET_HOST);
    unsafe { bpf_redirect_neigh(LOOPBACK_LINK, ptr::null_mut(), 0, 0) as i32 }
}

/// The target, if the packet comes from its veth: from another, the source address is forged.
#[inline(always)]
fn at_veth(ctx: &TcContext, target: Option<&'static Target>) -> Option<&'static Target> {
    target.filter(|target| target.link == unsafe { (*ctx.skb.skb).ifindex })
}

struct NextHop {
    link: u32,
    neighbour: bpf_redir_neigh,
}

/// The way to the client by the host's routes. False: leave the packet as the container sent it to the host's stack,
/// which answers the container what there is to answer: that there is no route, or that the packet is too big.
#[inline(never)]
fn route(ctx: &TcContext, packet: &Packet, target: &Target, next_hop: &mut NextHop) -> bool {
    let flow = &packet.to;
    let mut fib: Fib = unsafe { core::mem::zeroed() };
    fib.l4_protocol = packet.key.protocol;
    fib.sport = flow.source_port;
    fib.dport = flow.destination_port;
    fib.ifindex = target.bridge;
    // 0 checks nothing: what may be fragmented is, and what cannot be measured goes.
    let length = if packet.no_fragments && packet.length <= 0xffff { packet.length as u16 } else { 0 };
    fib.__bindgen_anon_1.tot_len = length;
    if packet.ipv4 {
        fib.family = AF_INET;
        fib.__bindgen_anon_3.ipv4_src = last4(&flow.source);
        fib.__bindgen_anon_4.ipv4_dst = last4(&flow.destination);
    } else {
        fib.family = AF_INET6;
        unsafe {
            fib.__bindgen_anon_3.ipv6_src = core::mem::transmute::<[u8; 16], [u32; 4]>(flow.source);
            fib.__bindgen_anon_4.ipv6_dst = core::mem::transmute::<[u8; 16], [u32; 4]>(flow.destination);
        }
    }
    let size = size_of::<Fib>() as i32;
    let result = unsafe { bpf_fib_lookup(ctx.as_ptr(), &mut fib, size, BPF_FIB_LOOKUP_SKIP_NEIGH) };
    match result as u32 {
        BPF_FIB_LKUP_RET_SUCCESS | BPF_FIB_LKUP_RET_NO_NEIGH => {}
        _ => return false,
    }
    let neighbour = &mut next_hop.neighbour;
    // The gateway's family, where the route has one, may be another than the packet's.
    neighbour.nh_family = fib.family.into();
    unsafe {
        if fib.family == AF_INET {
            neighbour.__bindgen_anon_1.ipv4_nh = fib.__bindgen_anon_4.ipv4_dst;
        } else {
            neighbour.__bindgen_anon_1.ipv6_nh = fib.__bindgen_anon_4.ipv6_dst;
        }
    }
    next_hop.link = fib.ifindex;
    true
}
