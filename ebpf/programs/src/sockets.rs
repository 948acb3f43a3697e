//! Host processes. The hooks run for every process of the machine in the cgroup hierarchy, so the first thing they look
//! at is whether it is in the engine's host namespace.

use core::ptr::read_volatile;

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_netns_cookie, bpf_get_socket_cookie},
    programs::SockAddrContext,
};

use crate::{
    TCP, UDP, figures,
    layouts::{
        ANY_IPV4, ANY_IPV6, Address, LOOPBACK_IPV4, LOOPBACK_IPV6, PROBE, SocketKey, SocketOrigin, is_loopback, mapped,
    },
    local,
    maps::{HOST_COOKIE, SETTINGS, SOCKETS},
    ports,
};

/// Leads a connect or a datagram for a published port to the container. The kernel then picks the source address as it
/// does for any peer on the bridge: the gateway's, unless the process chose one.
#[inline(always)]
pub fn lead<const FAMILY: u8>(ctx: &SockAddrContext) {
    if !in_host_namespace(ctx) {
        return;
    }
    let protocol = unsafe { (*ctx.sock_addr).protocol } as u8;
    if protocol != TCP && protocol != UDP {
        return;
    }
    let (asked, port) = read::<FAMILY>(ctx);
    let address = if asked == ANY_IPV4 {
        LOOPBACK_IPV4
    } else if asked == ANY_IPV6 {
        LOOPBACK_IPV6
    } else {
        asked
    };
    let Some(id) = ports::published_locally(protocol, &address, port) else { return };
    let Some(target) = ports::target(id) else { return };
    if is_bound_to_loopback::<FAMILY>(ctx) && local::mark(ctx) {
        return;
    }
    let led_to = ports::container_port(target, port);
    let key = SocketKey {
        cookie: unsafe { bpf_get_socket_cookie(ctx.as_ptr()) },
        address: target.address,
        port: led_to,
        protocol,
        zero: [0; 5],
    };
    let origin = SocketOrigin { address, port, zero: 0 };
    if SOCKETS.insert(&key, &origin, 0).is_ok() {
        write::<FAMILY>(ctx, &target.address, led_to);
        figures::begun(id);
    }
}

/// Whether the call would take a port that is published on its address. The kernel picks a port (0) after this.
#[inline(always)]
pub fn is_reserved<const FAMILY: u8>(ctx: &SockAddrContext) -> bool {
    if !in_host_namespace(ctx) {
        return false;
    }
    let (address, port) = read::<FAMILY>(ctx);
    let (protocol, mark) = unsafe {
        let sk = (&raw const (*ctx.sock_addr).__bindgen_anon_1.sk).read_volatile();
        ((*ctx.sock_addr).protocol as u8, (&raw const (*sk).mark).read_volatile())
    };
    if port == 0 || (protocol != TCP && protocol != UDP) {
        return false;
    }
    // The engine asks whether a process has the port: what is published it knows.
    if mark != 0 && SETTINGS.get(PROBE).copied() == Some(mark) {
        return false;
    }
    if ports::published_locally(protocol, &address, port).is_some() {
        return true;
    }
    // Nearly all such sockets are IPv4's too; which are not, the hook is not told.
    FAMILY == 6 && address == ANY_IPV6 && ports::published_on(protocol, &ANY_IPV4, port).is_some()
}

/// Gives the peer's address back as the process knows it.
#[inline(always)]
pub fn restore<const FAMILY: u8>(ctx: &SockAddrContext) {
    if !in_host_namespace(ctx) {
        return;
    }
    let (address, port) = read::<FAMILY>(ctx);
    let key = SocketKey {
        cookie: unsafe { bpf_get_socket_cookie(ctx.as_ptr()) },
        address,
        port,
        protocol: unsafe { (*ctx.sock_addr).protocol } as u8,
        zero: [0; 5],
    };
    if let Some(origin) = unsafe { SOCKETS.get(&key) } {
        write::<FAMILY>(ctx, &origin.address, origin.port);
    }
}

#[inline(always)]
fn is_bound_to_loopback<const FAMILY: u8>(ctx: &SockAddrContext) -> bool {
    let address = unsafe {
        let sk = (&raw const (*ctx.sock_addr).__bindgen_anon_1.sk).read_volatile();
        if FAMILY == 4 {
            mapped((&raw const (*sk).src_ip4).read_volatile().to_ne_bytes())
        } else {
            let words = (&raw const (*sk).src_ip6).cast::<u32>();
            let ip = [
                words.read_volatile(),
                words.add(1).read_volatile(),
                words.add(2).read_volatile(),
                words.add(3).read_volatile(),
            ];
            core::mem::transmute::<[u32; 4], Address>(ip)
        }
    };
    is_loopback(&address)
}

#[inline(always)]
fn in_host_namespace(ctx: &SockAddrContext) -> bool {
    unsafe { bpf_get_netns_cookie(ctx.as_ptr()) == read_volatile(&raw const HOST_COOKIE) }
}

/// The address and port (network byte order) of the call. Read and written word by word, as the verifier wants it.
#[inline(always)]
fn read<const FAMILY: u8>(ctx: &SockAddrContext) -> (Address, u16) {
    let a = ctx.sock_addr;
    unsafe {
        let port = (&raw const (*a).user_port).read_volatile() as u16;
        if FAMILY == 4 {
            return (mapped((&raw const (*a).user_ip4).read_volatile().to_ne_bytes()), port);
        }
        let words = (&raw const (*a).user_ip6).cast::<u32>();
        let ip = [
            words.read_volatile(),
            words.add(1).read_volatile(),
            words.add(2).read_volatile(),
            words.add(3).read_volatile(),
        ];
        (core::mem::transmute::<[u32; 4], Address>(ip), port)
    }
}

#[inline(always)]
fn write<const FAMILY: u8>(ctx: &SockAddrContext, address: &Address, port: u16) {
    let a = ctx.sock_addr;
    unsafe {
        (&raw mut (*a).user_port).write_volatile(port.into());
        let ip = core::mem::transmute::<Address, [u32; 4]>(*address);
        if FAMILY == 4 {
            (&raw mut (*a).user_ip4).write_volatile(ip[3]);
            return;
        }
        let words = (&raw mut (*a).user_ip6).cast::<u32>();
        words.write_volatile(ip[0]);
        words.add(1).write_volatile(ip[1]);
        words.add(2).write_volatile(ip[2]);
        words.add(3).write_volatile(ip[3]);
    }
}
