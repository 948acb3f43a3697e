//! Processes of the host that have bound their socket to a loopback address before they connect. Such a socket cannot be led
//! to the container by another address, as others are (`sockets`): the kernel lets nothing with a source on the loopback leave
//! by another link. So its packets go to the loopback as they are, with a mark that the socket was given, and are caught there.
//! The container sees the gateway, as with any client on the host, with a port of our own: the client's may be another
//! socket's there.

use aya_ebpf::{
    EbpfContext,
    bindings::{TC_ACT_SHOT, tcx_action_base::TCX_NEXT},
    helpers::{bpf_redirect, bpf_setsockopt, bpf_sk_fullsock},
    programs::{SockAddrContext, TcContext},
};

use crate::{
    figures, flows, fragments,
    layouts::TOWARDS,
    packet::{self, Packet},
    ports, towards,
};

/// The mark of such sockets and of what they send, to the loopback alone.
const MARK: u32 = 0xca57_2200;

const SOL_SOCKET: i32 = 1;
const SO_MARK: i32 = 36;

/// Gives the calling socket the mark. False: it has one of somebody else's.
#[inline(always)]
pub fn mark(ctx: &SockAddrContext) -> bool {
    let sk = unsafe { (&raw const (*ctx.sock_addr).__bindgen_anon_1.sk).read_volatile() };
    let present = unsafe { (&raw const (*sk).mark).read_volatile() };
    if present != 0 {
        return present == MARK;
    }
    let mut mark = MARK;
    let (value, size) = ((&raw mut mark).cast(), size_of::<u32>() as i32);
    unsafe { bpf_setsockopt(ctx.as_ptr(), SOL_SOCKET, SO_MARK, value, size) == 0 }
}

/// Whether the packet has the mark, or its socket, which a datagram that is on its way already was given too late for its own.
#[inline(always)]
fn is_marked(ctx: &TcContext) -> bool {
    let mark = unsafe { (*ctx.skb.skb).mark };
    if mark != 0 {
        return mark == MARK;
    }
    let sk = unsafe { (*ctx.skb.skb).__bindgen_anon_2.sk };
    if sk.is_null() {
        return false;
    }
    let sk = unsafe { bpf_sk_fullsock(sk) };
    !sk.is_null() && unsafe { (*sk).mark } == MARK
}

/// At the egress of the loopback, by which all passes that the host says to itself: what is not marked is left at once.
#[inline(always)]
pub fn run(ctx: &TcContext) -> i32 {
    if !is_marked(ctx) {
        return TCX_NEXT;
    }
    let Some(packet) = packet::parse_local(ctx, TOWARDS) else { return TCX_NEXT };
    if packet.fragment == packet::LATER {
        return TCX_NEXT;
    }
    let now = flows::seconds();
    if !towards::follow(ctx, packet, now) && !flows::closed(packet, now) && !begin(packet, now) {
        return TCX_NEXT;
    }
    let Some(target) = ports::target(packet.to.target) else { return TC_ACT_SHOT as i32 };
    if packet::rewrite(ctx, packet).is_err() || ctx.store(0, &[target.mac, target.bridge_mac], 0).is_err() {
        return TC_ACT_SHOT as i32;
    }
    fragments::remember(packet);
    figures::passed(packet, unsafe { (*ctx.skb.skb).len } - packet::ETHERNET);
    // Not past the link, by bpf_redirect_peer: at an egress there is none.
    unsafe { bpf_redirect(target.link, 0) as i32 }
}

/// Begins a flow with the packet, if it is for a published port. The host's filter is not asked about the host's own.
#[inline(never)]
fn begin(packet: &mut Packet, now: u32) -> bool {
    let key = &packet.key;
    if !packet::may_begin(packet) {
        return false;
    }
    let Some(id) = ports::published_locally(key.protocol, &key.destination, key.destination_port) else {
        return false;
    };
    let Some(target) = ports::target(id) else { return false };
    let port = towards::port_at_container(packet);
    towards::begin(packet, id, target, target.gateway, port, now)
}
