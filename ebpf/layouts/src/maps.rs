//! What lies in the maps. Every struct is `repr(C)`, has no padding (the kernel compares and hashes keys byte by byte)
//! and holds ports in network byte order where it says so.

/// The layout of the maps below. Raise it with every change to a struct, or to what a field of it means: an engine that
/// finds maps of an earlier version makes its own, and takes over what is in those.
pub const VERSION: u32 = 4;

/// Since this version structs have changed by fields that were added at the end, or in the place of padding, and that mean
/// in 0 what programs of the time before did. Raise it to `VERSION` with any other change: what is in maps of versions
/// before it is lost.
pub const EXTENDED_SINCE: u32 = 3;

/// An IPv6 address, or an IPv4 one as `::ffff:a.b.c.d`. A packet never carries the mapped form, so the two families
/// cannot meet in a key; an IPv6 socket that talks IPv4 uses it, so that one lookup serves both.
pub type Address = [u8; 16];

/// Every address of the host of that family: `0.0.0.0` and `::` as they are written in `-p`.
pub const ANY_IPV4: Address = mapped([0, 0, 0, 0]);
pub const ANY_IPV6: Address = [0; 16];

pub const LOOPBACK_IPV4: Address = mapped([127, 0, 0, 1]);
pub const LOOPBACK_IPV6: Address = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// The IPv4 address in its mapped form.
#[inline(always)]
pub const fn mapped(ip: [u8; 4]) -> Address {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ip[0], ip[1], ip[2], ip[3]]
}

#[inline(always)]
pub const fn is_ipv4(a: &Address) -> bool {
    u64::from_ne_bytes([a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]]) == 0
        && u32::from_ne_bytes([a[8], a[9], a[10], a[11]]) == u32::from_ne_bytes([0, 0, 0xff, 0xff])
}

/// Known only inside a machine: in 127.0.0.0/8, or `::1`.
#[inline(always)]
pub const fn is_loopback(a: &Address) -> bool {
    if is_ipv4(a) {
        return a[12] == 127;
    }
    u64::from_ne_bytes([a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]]) == 0
        && u64::from_ne_bytes([a[8], a[9], a[10], a[11], a[12], a[13], a[14], a[15]]) == 1u64.to_be()
}

/// Made of integers and bytes alone, without padding: any bit pattern is a value, and its bytes may be read.
///
/// # Safety
/// The type must be `repr(C)`, without padding, and valid for every bit pattern.
pub unsafe trait Plain: Copy {}

/// What a published port is looked up by, in the map `PORTS`: a longest-prefix trie, whose entries fix protocol and
/// address and a prefix of the port. A range of ports is at most [`MAX_PREFIXES`] of them, however long it is.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PortKey {
    /// IANA protocol number.
    pub protocol: u8,
    pub zero: u8,
    pub address: Address,
    /// Network byte order.
    pub port: [u8; 2],
}

/// The bits of a [`PortKey`] in front of the port.
pub const PORT_KEY_FIXED_BITS: u32 = 8 * 18;
/// All bits of a [`PortKey`].
pub const PORT_KEY_BITS: u32 = 8 * 20;
/// The prefixes that any range of 16-bit numbers falls into: two for each bit, without the first and the last.
pub const MAX_PREFIXES: usize = 30;

/// Where a published range leads, in one family; in the map `TARGETS` by an id that is never given out twice. It says
/// all there is to know of the mapping, so that the kernel's maps are the only record of it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    /// In the sandbox.
    pub address: Address,
    /// The host's own address on the bridge: who clients are that cannot be seen as themselves.
    pub gateway: Address,
    /// The sandbox's id.
    pub sandbox: [u8; 32],
    /// The host address that it is published on; [`ANY_IPV4`] or [`ANY_IPV6`] for all of them.
    pub host: Address,
    /// Interface index of the host's end of the veth pair.
    pub link: u32,
    /// Interface index of the bridge.
    pub bridge: u32,
    /// The id of the first of the targets of which each took over ports of the one before: see [`Flow::lineage`].
    pub lineage: u32,
    /// The published range, both ends included, in the host's byte order.
    pub first: u16,
    pub last: u16,
    /// Where `first` leads; host's byte order.
    pub container_port: u16,
    /// The interface in the sandbox.
    pub mac: [u8; 6],
    pub bridge_mac: [u8; 6],
    /// IANA protocol number.
    pub protocol: u8,
    /// [`BESIDE`], [`APART`].
    pub kind: u8,
}

/// In [`Target::kind`]: of a range that leads elsewhere by itself, this is the way for clients on another network of the
/// sandbox; see [`BesideKey`].
pub const BESIDE: u8 = 1;
/// In [`Target::kind`]: the sandbox cannot send to others on its bridge, so clients there appear as the gateway.
pub const APART: u8 = 2;

impl Target {
    pub fn is(&self, kind: u8) -> bool {
        self.kind & kind != 0
    }
}

/// In the map `BESIDE`: the id of the target that a published range has for packets that come by a certain link. A sandbox
/// answers clients on a network of its own by that network, and a process that has not chosen an address by the one there,
/// so that is also how they must be led.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct BesideKey {
    /// Key in `TARGETS`, of what the range leads to by itself.
    pub target: u32,
    /// Interface index: of the other network's bridge, by which clients come, or of the host's end of the sandbox's veth
    /// pair there, by which answers do.
    pub link: u32,
}

/// Towards the container, or back from it.
pub const TOWARDS: u8 = 0;
pub const BACK: u8 = 1;

/// A packet's addresses and ports as they arrive: in the map `PROBATION`, in `FLOWS` when the flow is confirmed and its
/// source has not had its share, in `CLOSED` when its TCP connection is closed. Each flow has two entries, one for each
/// direction.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowKey {
    pub source: Address,
    pub destination: Address,
    /// Network byte order, as is the next.
    pub source_port: u16,
    pub destination_port: u16,
    /// IANA protocol number.
    pub protocol: u8,
    /// [`TOWARDS`] or [`BACK`].
    pub direction: u8,
    pub zero: [u8; 2],
}

/// What such a packet's addresses and ports become.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flow {
    pub source: Address,
    pub destination: Address,
    /// Network byte order, as is the next.
    pub source_port: u16,
    pub destination_port: u16,
    /// Key in `TARGETS`: a flow is dead when its target is gone, unless another one of the same lineage has its port.
    pub target: u32,
    /// The target's: a range of which a part is withdrawn is published anew without it, and its flows go on.
    pub lineage: u32,
    /// When a packet was last seen, in seconds of CLOCK_MONOTONIC.
    pub seen: u32,
    /// Bits of [`FIN_TOWARDS`], [`FIN_BACK`], [`RESET`], [`ANSWERED`] and [`HELD_BACK`]; the same in both entries, but
    /// for the last.
    pub state: u8,
    pub zero: [u8; 3],
}

/// The client closed its direction (TCP).
pub const FIN_TOWARDS: u8 = 1;
/// The container closed its direction (TCP).
pub const FIN_BACK: u8 = 2;
/// Either end reset the connection (TCP).
pub const RESET: u8 = 4;
/// The container sent something.
pub const ANSWERED: u8 = 8;
/// Confirmed, but counted as one for which its source has no share left.
pub const HELD_BACK: u8 = 16;

/// How many flows in `FLOWS` are of one source, in the map `SOURCES` by [`source`]: one who has many addresses on his
/// link is one source.
pub type Source = Address;

/// An IPv4 address, or the first 64 bits of an IPv6 one.
#[inline(always)]
pub const fn source(a: &Address) -> Source {
    if is_ipv4(a) {
        return *a;
    }
    [a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], 0, 0, 0, 0, 0, 0, 0, 0]
}

/// How flows came and stayed, in the one entry of `PRESSURE`, for each CPU.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pressure {
    /// Flows that began.
    pub begun: u64,
    /// Those that the container answered, and whose client then sent again.
    pub confirmed: u64,
    /// Those of them that stayed on probation, since their source had its share.
    pub held_back: u64,
}

/// What the fragments of one datagram have in common, in the map `FRAGMENTS`; the value is what became of the first.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FragmentKey {
    pub source: Address,
    pub destination: Address,
    /// Network byte order; of IPv4, 16 bits.
    pub id: u32,
    /// IANA protocol number.
    pub protocol: u8,
    /// [`TOWARDS`] or [`BACK`].
    pub direction: u8,
    pub zero: [u8; 2],
}

/// What the host's own filter says of the first packet of a flow, in the map `JUDGED` by the packet's [`FlowKey`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Judged {
    /// Key in `TARGETS`.
    pub target: u32,
    /// When it was asked, in seconds of CLOCK_MONOTONIC.
    pub at: u32,
    /// [`ASKED`] or [`ACCEPTED`].
    pub state: u32,
}

pub const ASKED: u32 = 0;
pub const ACCEPTED: u32 = 1;

/// The entries of `SETTINGS`: whether the host's filter is asked ([`OBEY`] or [`OPEN`]), how many flows one source may
/// have in `FLOWS`, the mark of sockets that may be bound to published ports, and, while it is not 0, that programs of
/// another layout are behind these.
pub const FILTER: u32 = 0;
pub const SHARE: u32 = 1;
pub const PROBE: u32 = 2;
pub const SUCCEEDING: u32 = 3;

/// Published ports obey the host's filter, or are open whatever it says.
pub const OBEY: u32 = 0;
pub const OPEN: u32 = 1;

/// What passed through a target, in the map `FIGURES` by the target's id, for each CPU.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    pub packets_in: u64,
    /// Of IP, as the next but one; what stands for several packets counts as what it is, one.
    pub bytes_in: u64,
    pub packets_out: u64,
    pub bytes_out: u64,
    /// Flows and led calls of host processes that began.
    pub begun: u64,
    /// First packets that the host's filter did not let in.
    pub refused: u64,
    /// First packets for which there was no place.
    pub no_place: u64,
}

/// A host process's socket and where it was led, in the map `SOCKETS`: by this the answer is given back the address
/// that the process knows.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketKey {
    /// The kernel's cookie of the socket, unique for as long as the machine runs.
    pub cookie: u64,
    /// The container's.
    pub address: Address,
    /// Network byte order.
    pub port: u16,
    /// IANA protocol number.
    pub protocol: u8,
    pub zero: [u8; 5],
}

/// What the process asked for.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketOrigin {
    pub address: Address,
    /// Network byte order.
    pub port: u16,
    pub zero: u16,
}

// SAFETY: repr(C), of integers and arrays of them, and the sizes below leave no room for padding.
unsafe impl Plain for PortKey {}
// SAFETY: as above.
unsafe impl Plain for BesideKey {}
// SAFETY: as above.
unsafe impl Plain for Target {}
// SAFETY: as above.
unsafe impl Plain for FlowKey {}
// SAFETY: as above.
unsafe impl Plain for Flow {}
// SAFETY: as above.
unsafe impl Plain for SocketKey {}
// SAFETY: as above.
unsafe impl Plain for SocketOrigin {}
// SAFETY: as above.
unsafe impl Plain for Judged {}
// SAFETY: as above.
unsafe impl Plain for Figures {}
// SAFETY: as above.
unsafe impl Plain for Pressure {}

const _: () = assert!(size_of::<PortKey>() == 1 + 1 + 16 + 2);
const _: () = assert!(size_of::<Target>() == 16 * 2 + 32 + 16 + 4 * 3 + 2 * 3 + 6 * 2 + 2);
const _: () = assert!(size_of::<BesideKey>() == 4 * 2);
const _: () = assert!(size_of::<FlowKey>() == 16 * 2 + 2 * 2 + 4);
const _: () = assert!(size_of::<Flow>() == 16 * 2 + 2 * 2 + 4 * 3 + 4);
const _: () = assert!(size_of::<FragmentKey>() == 16 * 2 + 4 + 4);
const _: () = assert!(size_of::<Pressure>() == 8 * 3);
const _: () = assert!(size_of::<SocketKey>() == 8 + 16 + 2 + 1 + 5);
const _: () = assert!(size_of::<SocketOrigin>() == 16 + 2 + 2);
const _: () = assert!(size_of::<Judged>() == 4 * 3);
const _: () = assert!(size_of::<Figures>() == 8 * 7);
