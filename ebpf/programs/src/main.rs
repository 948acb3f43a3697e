//! Published ports, in the kernel. Seven programs see packets and ten see the calls of host processes:
//!
//! * `towards`, at the ingress of every uplink and of every bridge: a packet for a published port of the host is given
//!   the container's address and handed into the container, past the host's stack.
//! * `back`, at the ingress of the host's end of a publishing container's veth: an answer is given the address that the
//!   client knows and sent the way that the host's routes say.
//! * `sent`, at the egress of every uplink: what answers a datagram that the host itself sent is the host's.
//! * `towards_bare` and `sent_bare`: the same two, for uplinks whose packets have no Ethernet header.
//! * `local`, at the egress of the loopback: for host processes whose sockets cannot be led elsewhere.
//! * `judge`, at the end of the host's input hooks: what the host's filter let in may begin a flow.
//! * `connect4` to `getpeername6`, on the cgroup hierarchy: a host process that connects to a published port by an
//!   address of the host, 127.0.0.1 included, is led to the container before there is a packet.
//! * `bind4` and `bind6`, there too: a host process that wants a published port for itself is told that it is taken.
//!
//! What a program does not understand it passes on untouched (`TCX_NEXT`), never drops.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

// Not a dependency: see there. Some of it is for user space alone.
#[allow(dead_code)]
#[path = "../../layouts/src/maps.rs"]
mod layouts;

mod back;
mod figures;
mod flows;
mod fragments;
mod icmp;
mod judge;
mod local;
mod maps;
mod packet;
mod ports;
mod sent;
mod sockets;
mod sources;
mod towards;

use aya_ebpf::{
    helpers::bpf_set_retval,
    macros::{cgroup_sock_addr, classifier},
    programs::{SockAddrContext, TcContext},
};

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

#[classifier]
pub fn towards(ctx: TcContext) -> i32 {
    towards::run(&ctx, packet::ETHERNET)
}

#[classifier]
pub fn towards_bare(ctx: TcContext) -> i32 {
    towards::run(&ctx, packet::BARE)
}

#[classifier]
pub fn back(ctx: TcContext) -> i32 {
    back::run(&ctx)
}

#[classifier]
pub fn sent(ctx: TcContext) -> i32 {
    sent::run(&ctx, packet::ETHERNET)
}

#[classifier]
pub fn sent_bare(ctx: TcContext) -> i32 {
    sent::run(&ctx, packet::BARE)
}

#[classifier]
pub fn local(ctx: TcContext) -> i32 {
    local::run(&ctx)
}

/// Of type BPF_PROG_TYPE_NETFILTER, whatever its section says: aya knows none for it, and the loader builds this one itself.
#[unsafe(no_mangle)]
#[unsafe(link_section = "socket")]
pub extern "C" fn judge(ctx: *const judge::NetfilterContext) -> i32 {
    judge::run(ctx)
}

/// The verdicts of a hook on a socket address: the call goes on, or fails with what was set.
const GO_ON: i32 = 1;
const FAIL: i32 = 0;
const EADDRINUSE: i32 = 98;

#[inline(always)]
fn bind<const FAMILY: u8>(ctx: &SockAddrContext) -> i32 {
    if !sockets::is_reserved::<FAMILY>(ctx) {
        return GO_ON;
    }
    unsafe { bpf_set_retval(-EADDRINUSE) };
    FAIL
}

#[cgroup_sock_addr(bind4)]
pub fn bind4(ctx: SockAddrContext) -> i32 {
    bind::<4>(&ctx)
}

#[cgroup_sock_addr(bind6)]
pub fn bind6(ctx: SockAddrContext) -> i32 {
    bind::<6>(&ctx)
}

#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    sockets::lead::<4>(&ctx);
    GO_ON
}

#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    sockets::lead::<6>(&ctx);
    GO_ON
}

#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    sockets::lead::<4>(&ctx);
    GO_ON
}

#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    sockets::lead::<6>(&ctx);
    GO_ON
}

#[cgroup_sock_addr(recvmsg4)]
pub fn recvmsg4(ctx: SockAddrContext) -> i32 {
    sockets::restore::<4>(&ctx);
    GO_ON
}

#[cgroup_sock_addr(recvmsg6)]
pub fn recvmsg6(ctx: SockAddrContext) -> i32 {
    sockets::restore::<6>(&ctx);
    GO_ON
}

#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(ctx: SockAddrContext) -> i32 {
    sockets::restore::<4>(&ctx);
    GO_ON
}

#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(ctx: SockAddrContext) -> i32 {
    sockets::restore::<6>(&ctx);
    GO_ON
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

// Some of the helpers are for programs under the GPL only; the programs are under either licence.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
