//! Which published range a packet or a call is for.

use aya_ebpf::maps::lpm_trie::Key;

use crate::{
    layouts::{ANY_IPV4, ANY_IPV6, Address, BesideKey, PORT_KEY_BITS, PortKey, Target, is_ipv4, is_loopback},
    maps::{ADDRESSES, BESIDE, PORTS, TARGETS},
};

/// The id of the range that is published on just this address.
#[inline(always)]
pub fn published_on(protocol: u8, address: &Address, port: u16) -> Option<u32> {
    let key = PortKey { protocol, zero: 0, address: *address, port: port.to_ne_bytes() };
    PORTS.get(Key::new(PORT_KEY_BITS, key)).copied()
}

/// The id of the range that is published on every address of the family of `address`.
#[inline(always)]
pub fn published_on_any(protocol: u8, address: &Address, port: u16) -> Option<u32> {
    let any = if is_ipv4(address) { ANY_IPV4 } else { ANY_IPV6 };
    published_on(protocol, &any, port)
}

/// The id of the range that a packet to this address is for.
#[inline(always)]
pub fn published(protocol: u8, address: &Address, port: u16) -> Option<u32> {
    if let Some(id) = published_on(protocol, address, port) {
        return Some(id);
    }
    if !is_host_address(address) {
        return None;
    }
    published_on_any(protocol, address, port)
}

/// The id of the range that a process of the host means by this address, which may be the loopback's.
#[inline(always)]
pub fn published_locally(protocol: u8, address: &Address, port: u16) -> Option<u32> {
    if let Some(id) = published_on(protocol, address, port) {
        return Some(id);
    }
    if !is_loopback(address) && !is_host_address(address) {
        return None;
    }
    published_on_any(protocol, address, port)
}

#[inline(always)]
pub fn is_host_address(address: &Address) -> bool {
    unsafe { ADDRESSES.get(address) }.is_some()
}

#[inline(always)]
pub fn target(id: u32) -> Option<&'static Target> {
    unsafe { TARGETS.get(id) }
}

/// The id of the target that the range has for packets which come by this link.
#[inline(always)]
pub fn by_link(id: u32, link: u32) -> u32 {
    unsafe { BESIDE.get(BesideKey { target: id, link }) }.copied().unwrap_or(id)
}

/// Where a port of the published range leads; both in network byte order.
#[inline(always)]
pub fn container_port(target: &Target, port: u16) -> u16 {
    let offset = u16::from_be(port).wrapping_sub(target.first);
    target.container_port.wrapping_add(offset).to_be()
}
