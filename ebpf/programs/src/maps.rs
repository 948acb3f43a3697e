//! The maps, pinned by user space under these names, and what it sets before loading.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap},
};

use crate::layouts::{
    Address, BesideKey, Figures, Flow, FlowKey, FragmentKey, Judged, PortKey, Pressure, SocketKey, SocketOrigin, Source, Target,
};

/// Published ranges, as prefixes of ports: a target's id.
#[map]
pub static PORTS: LpmTrie<PortKey, u32> = LpmTrie::with_max_entries(1 << 20, BPF_F_NO_PREALLOC);

#[map]
pub static TARGETS: HashMap<u32, Target> = HashMap::with_max_entries(1 << 18, BPF_F_NO_PREALLOC);

/// For clients on other networks of the sandbox, by range and link: a target's id.
#[map]
pub static BESIDE: HashMap<BesideKey, u32> = HashMap::with_max_entries(1 << 18, BPF_F_NO_PREALLOC);

/// The host's own addresses: those that a port is published on when no address is named.
#[map]
pub static ADDRESSES: HashMap<Address, u8> = HashMap::with_max_entries(1 << 16, BPF_F_NO_PREALLOC);

/// Flows that nobody else's can push out: those that are confirmed, of each source no more than its share. User space
/// sets the size.
#[map]
pub static FLOWS: LruHashMap<FlowKey, Flow> = LruHashMap::with_max_entries(1 << 17, 0);

/// All other flows, which work the same, but make room for each other. User space sets the size.
#[map]
pub static PROBATION: LruHashMap<FlowKey, Flow> = LruHashMap::with_max_entries(1 << 16, 0);

/// How many flows a source has in `FLOWS`. User space counts again when somebody has too many by it.
#[map]
pub static SOURCES: LruHashMap<Source, u64> = LruHashMap::with_max_entries(1 << 14, 0);

#[map]
pub static PRESSURE: PerCpuArray<Pressure> = PerCpuArray::with_max_entries(1, 0);

/// What became of the first fragment of a datagram, for the others.
#[map]
pub static FRAGMENTS: LruHashMap<FragmentKey, Flow> = LruHashMap::with_max_entries(1 << 12, 0);

/// The answers that wait for nobody but the host: to datagrams that left by an uplink from a published address and port.
/// When the last one left, in seconds of CLOCK_MONOTONIC.
#[map]
pub static SENT: LruHashMap<FlowKey, u32> = LruHashMap::with_max_entries(1 << 13, 0);

/// The entries of TCP connections that are closed, for their last packets. User space sets the size.
#[map]
pub static CLOSED: LruHashMap<FlowKey, Flow> = LruHashMap::with_max_entries(1 << 16, 0);

#[map]
pub static SOCKETS: LruHashMap<SocketKey, SocketOrigin> = LruHashMap::with_max_entries(1 << 14, 0);

/// The cookie of the engine's host namespace; user space sets it before loading. No namespace has cookie 0.
#[unsafe(no_mangle)]
pub static HOST_COOKIE: u64 = 0;

/// First packets that the host's filter is asked about, or has accepted. Small: each is there for some microseconds.
#[map]
pub static JUDGED: LruHashMap<FlowKey, Judged> = LruHashMap::with_max_entries(1 << 13, 0);

/// Which of the spare ports was given last: see `towards::spare_port`.
#[map]
pub static LAST_SPARE: Array<u32> = Array::with_max_entries(1, 0);

#[map]
pub static SETTINGS: Array<u32> = Array::with_max_entries(4, 0);

/// An entry comes with the first packet, so that a port which nobody uses costs nothing.
#[map]
pub static FIGURES: PerCpuHashMap<u32, Figures> = PerCpuHashMap::with_max_entries(1 << 18, BPF_F_NO_PREALLOC);

/// The low byte of the mark of waiting clones: programs of two layouts may be in place at once. User space sets it before
/// loading.
#[unsafe(no_mangle)]
pub static GENERATION: u8 = 0;

/// Where `struct sk_buff` has its pointer to the data, in this kernel; user space sets it before loading.
#[unsafe(no_mangle)]
pub static SKB_DATA: u64 = 0;
