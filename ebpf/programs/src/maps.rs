//! The maps, pinned by user space under these names, and the one setting.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{HashMap, LpmTrie, LruHashMap},
};

use crate::layouts::{Address, Flow, FlowKey, PortKey, SocketKey, SocketOrigin, Target};

/// Published ranges, as prefixes of ports: a target's id.
#[map]
pub static PORTS: LpmTrie<PortKey, u32> = LpmTrie::with_max_entries(1 << 20, BPF_F_NO_PREALLOC);

#[map]
pub static TARGETS: HashMap<u32, Target> = HashMap::with_max_entries(1 << 18, BPF_F_NO_PREALLOC);

/// The host's own addresses: those that a port is published on when no address is named.
#[map]
pub static ADDRESSES: HashMap<Address, u8> = HashMap::with_max_entries(1 << 16, BPF_F_NO_PREALLOC);

/// User space sets the size.
#[map]
pub static FLOWS: LruHashMap<FlowKey, Flow> = LruHashMap::with_max_entries(1 << 17, 0);

/// The entries of TCP connections that are closed, for their last packets. User space sets the size.
#[map]
pub static CLOSED: LruHashMap<FlowKey, Flow> = LruHashMap::with_max_entries(1 << 16, 0);

#[map]
pub static SOCKETS: LruHashMap<SocketKey, SocketOrigin> = LruHashMap::with_max_entries(1 << 14, 0);

/// The cookie of the engine's host namespace; user space sets it before loading. No namespace has cookie 0.
#[unsafe(no_mangle)]
pub static HOST_COOKIE: u64 = 0;
