//! The programs, as they are built in.

use aya::{include_bytes_aligned, maps::MapType};
use aya_obj::generated::bpf_attach_type;
use ebpf_layouts::{
    Address, BesideKey, Figures, Flow, FlowKey, FragmentKey, Judged, PortKey, Pressure, SocketKey,
    SocketOrigin, Source, Target,
};

/// Built by `ebpf/build` from `ebpf/programs`, and checked by `ebpf/check-object`.
pub(crate) static OBJECT: &[u8] = include_bytes_aligned!("../object/portmap.o");

/// At the ingress of uplinks and bridges, and of the veths of publishing containers.
pub(crate) const TOWARDS: &str = "towards";
pub(crate) const BACK: &str = "back";

/// At the egress of uplinks.
pub(crate) const SENT: &str = "sent";

/// The same for uplinks whose packets have no Ethernet header. Loaded when there is one: most hosts have none, and the
/// verifier takes its time with each.
pub(crate) const TOWARDS_BARE: &str = "towards_bare";
pub(crate) const SENT_BARE: &str = "sent_bare";

/// At the egress of the loopback.
pub(crate) const LOCAL: &str = "local";

/// On the cgroup hierarchy.
pub(crate) const SOCKET_HOOKS: [(&str, bpf_attach_type); 10] = [
    ("bind4", bpf_attach_type::BPF_CGROUP_INET4_BIND),
    ("bind6", bpf_attach_type::BPF_CGROUP_INET6_BIND),
    ("connect4", bpf_attach_type::BPF_CGROUP_INET4_CONNECT),
    ("connect6", bpf_attach_type::BPF_CGROUP_INET6_CONNECT),
    ("sendmsg4", bpf_attach_type::BPF_CGROUP_UDP4_SENDMSG),
    ("sendmsg6", bpf_attach_type::BPF_CGROUP_UDP6_SENDMSG),
    ("recvmsg4", bpf_attach_type::BPF_CGROUP_UDP4_RECVMSG),
    ("recvmsg6", bpf_attach_type::BPF_CGROUP_UDP6_RECVMSG),
    ("getpeername4", bpf_attach_type::BPF_CGROUP_INET4_GETPEERNAME),
    ("getpeername6", bpf_attach_type::BPF_CGROUP_INET6_GETPEERNAME),
];

pub(crate) const PORTS: &str = "PORTS";
pub(crate) const TARGETS: &str = "TARGETS";
pub(crate) const BESIDE: &str = "BESIDE";
pub(crate) const ADDRESSES: &str = "ADDRESSES";
pub(crate) const FLOWS: &str = "FLOWS";
pub(crate) const PROBATION: &str = "PROBATION";
pub(crate) const SOURCES: &str = "SOURCES";
pub(crate) const PRESSURE: &str = "PRESSURE";
pub(crate) const CLOSED: &str = "CLOSED";
pub(crate) const FRAGMENTS: &str = "FRAGMENTS";
pub(crate) const SENT_MAP: &str = "SENT";
pub(crate) const SOCKETS: &str = "SOCKETS";
pub(crate) const JUDGED: &str = "JUDGED";
pub(crate) const SETTINGS: &str = "SETTINGS";
pub(crate) const FIGURES: &str = "FIGURES";
pub(crate) const LAST_SPARE: &str = "LAST_SPARE";

/// A map that outlives this process.
pub(crate) struct Pinned {
    pub name: &'static str,
    pub kind: MapType,
    pub key: u32,
    pub value: u32,
}

/// A longest-prefix trie's keys begin with the length of the prefix.
const PREFIX_LENGTH: usize = 4;

pub(crate) const PINNED: [Pinned; 16] = [
    pinned::<u32>(PORTS, MapType::LpmTrie, PREFIX_LENGTH + size_of::<PortKey>()),
    pinned::<Target>(TARGETS, MapType::Hash, size_of::<u32>()),
    pinned::<u32>(BESIDE, MapType::Hash, size_of::<BesideKey>()),
    pinned::<u8>(ADDRESSES, MapType::Hash, size_of::<Address>()),
    pinned::<Flow>(FLOWS, MapType::LruHash, size_of::<FlowKey>()),
    pinned::<Flow>(PROBATION, MapType::LruHash, size_of::<FlowKey>()),
    pinned::<u64>(SOURCES, MapType::LruHash, size_of::<Source>()),
    pinned::<Pressure>(PRESSURE, MapType::PerCpuArray, size_of::<u32>()),
    pinned::<Flow>(FRAGMENTS, MapType::LruHash, size_of::<FragmentKey>()),
    pinned::<u32>(SENT_MAP, MapType::LruHash, size_of::<FlowKey>()),
    pinned::<Flow>(CLOSED, MapType::LruHash, size_of::<FlowKey>()),
    pinned::<SocketOrigin>(SOCKETS, MapType::LruHash, size_of::<SocketKey>()),
    pinned::<Judged>(JUDGED, MapType::LruHash, size_of::<FlowKey>()),
    pinned::<u32>(SETTINGS, MapType::Array, size_of::<u32>()),
    pinned::<Figures>(FIGURES, MapType::PerCpuHash, size_of::<u32>()),
    pinned::<u32>(LAST_SPARE, MapType::Array, size_of::<u32>()),
];

const fn pinned<V>(name: &'static str, kind: MapType, key: usize) -> Pinned {
    Pinned { name, kind, key: key as u32, value: size_of::<V>() as u32 }
}
