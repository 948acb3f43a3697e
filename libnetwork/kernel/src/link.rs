//! Links in rtnetlink's words (linux/if_link.h).

use std::os::fd::{AsRawFd, BorrowedFd};

use libnetwork_model::MacAddress;
use libnetwork_plan::{Cause, Ipv6, Link, LinkKind, LinkRank, Name, Peer};

use crate::{
    netlink::{Message, Request, Socket, attributes, bytes, i32_at, text, u8, u32_at},
    ownership::{GROUP, alias},
};

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_GROUP: u16 = 27;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_EXT_MASK: u16 = 29;

const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const VETH_INFO_PEER: u16 = 1;

const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
/// Within IFLA_AF_SPEC, by address family.
const AF_INET6: u16 = libc::AF_INET6 as u16;
const IFLA_INET6_CONF: u16 = 2;
/// Places in IFLA_INET6_CONF (linux/ipv6.h).
const DEVCONF_ACCEPT_RA: usize = 3;
const DEVCONF_DISABLE_IPV6: usize = 26;
const DEVCONF_ACCEPT_DAD: usize = 27;

const UP: u32 = libc::IFF_UP as u32;
/// Every namespace's loopback (LOOPBACK_IFINDEX, net/flow.h).
const LOOPBACK: i32 = 1;

/// A link as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Found {
    pub(crate) index: i32,
    pub(crate) up: bool,
    pub(crate) loopback: bool,
    pub(crate) name: Name,
    pub(crate) mtu: u32,
    pub(crate) mac: Option<[u8; 6]>,
    pub(crate) group: u32,
    pub(crate) alias: String,
    pub(crate) kind: String,
    /// Index of the bridge that it is a port of; 0 for none.
    pub(crate) master: i32,
    /// Index of a veth's far end, in whichever namespace that is.
    pub(crate) other: i32,
    pub(crate) isolated: bool,
    /// disable_ipv6, accept_ra, accept_dad.
    ipv6: Option<(bool, i32, i32)>,
}

impl Found {
    pub(crate) fn mac(&self) -> Option<MacAddress> {
        self.mac.map(MacAddress)
    }

    pub(crate) fn rank(&self) -> LinkRank {
        match self.kind.as_str() {
            "bridge" => LinkRank::Bridge,
            "veth" => LinkRank::Veth,
            _ => LinkRank::Other,
        }
    }

    pub(crate) fn ipv6(&self) -> Ipv6 {
        match self.ipv6 {
            // A link with an MTU below IPv6's least has none.
            None | Some((true, ..)) => Ipv6::Off,
            Some((false, 0, 0)) => Ipv6::Static,
            Some(_) => Ipv6::Other,
        }
    }
}

/// Reads RTM_NEWLINK and RTM_DELLINK. A bridge's own reports about its ports (AF_BRIDGE) are nothing here.
pub(crate) fn read(message: &Message<'_>) -> Option<Found> {
    let payload = message.payload;
    let attrs = payload.get(16..)?;
    if u8(payload) != libc::AF_UNSPEC as u8 {
        return None;
    }
    let mut found = Found {
        index: i32_at(payload, 4)?,
        up: u32_at(payload, 8)? & UP != 0,
        loopback: u32_at(payload, 8)? & libc::IFF_LOOPBACK as u32 != 0,
        name: "".into(),
        mtu: 0,
        mac: None,
        group: 0,
        alias: String::new(),
        kind: String::new(),
        master: 0,
        other: 0,
        isolated: false,
        ipv6: None,
    };
    for (kind, value) in attributes(attrs) {
        match kind {
            IFLA_IFNAME => found.name = text(value).into(),
            IFLA_MTU => found.mtu = u32_at(value, 0)?,
            IFLA_ADDRESS => found.mac = value.try_into().ok(),
            IFLA_GROUP => found.group = u32_at(value, 0)?,
            IFLA_IFALIAS => found.alias = text(value).to_owned(),
            IFLA_MASTER => found.master = i32_at(value, 0)?,
            IFLA_LINK => found.other = i32_at(value, 0)?,
            IFLA_LINKINFO => read_info(value, &mut found),
            IFLA_AF_SPEC => found.ipv6 = read_ipv6(value),
            _ => {}
        }
    }
    Some(found)
}

fn read_info(info: &[u8], found: &mut Found) {
    for (kind, value) in attributes(info) {
        match kind {
            IFLA_INFO_KIND => found.kind = text(value).to_owned(),
            IFLA_INFO_SLAVE_DATA => {
                let isolated = attributes(value).find(|(kind, _)| *kind == IFLA_BRPORT_ISOLATED);
                found.isolated = isolated.is_some_and(|(_, value)| u8(value) != 0);
            }
            _ => {}
        }
    }
}

fn read_ipv6(families: &[u8]) -> Option<(bool, i32, i32)> {
    let (_, family) = attributes(families).find(|(kind, _)| *kind == AF_INET6)?;
    let (_, conf) = attributes(family).find(|(kind, _)| *kind == IFLA_INET6_CONF)?;
    let at = |place: usize| bytes(conf, place * 4).map(i32::from_ne_bytes);
    Some((at(DEVCONF_DISABLE_IPV6)? != 0, at(DEVCONF_ACCEPT_RA)?, at(DEVCONF_ACCEPT_DAD)?))
}

pub(crate) fn list(socket: &mut Socket) -> Result<Vec<Found>, Cause> {
    let mut request = Request::new(libc::RTM_GETLINK, 0, &header(0, 0, 0));
    request.u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    socket.dump(request, read)
}

pub(crate) fn by_name(socket: &mut Socket, name: &str) -> Result<Option<Found>, Cause> {
    let mut request = Request::new(libc::RTM_GETLINK, 0, &header(0, 0, 0));
    request.text(IFLA_IFNAME, name).u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    socket.get(request, read)
}

pub(crate) fn by_index(socket: &mut Socket, index: i32) -> Result<Option<Found>, Cause> {
    let mut request = Request::new(libc::RTM_GETLINK, 0, &header(index, 0, 0));
    request.u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    socket.get(request, read)
}

/// Makes a link, down: its IPv6 settings come before it is up. `peer` is the far end's namespace, none when it is the
/// host's own.
pub(crate) fn create(
    name: &str,
    link: &Link,
    master: Option<i32>,
    peer_ns: Option<BorrowedFd<'_>>,
) -> Request {
    let mut request =
        Request::new(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &header(0, 0, 0));
    // A bridge follows the smallest MTU among its ports until its own was changed once (BROPT_MTU_SET_BY_USER): it starts
    // out with another one, so that giving it its own is a change.
    let mtu = if link.kind == LinkKind::Bridge { link.mtu ^ 1 } else { link.mtu };
    request.text(IFLA_IFNAME, name).u32(IFLA_MTU, mtu).u32(IFLA_GROUP, GROUP);
    if let Some(MacAddress(mac)) = link.mac {
        request.bytes(IFLA_ADDRESS, &mac);
    }
    if let Some(master) = master {
        request.u32(IFLA_MASTER, master as u32);
    }
    request.nest(IFLA_LINKINFO, |info| match &link.kind {
        LinkKind::Veth { peer: Some(peer) } => {
            info.text(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |data| {
                data.nest(VETH_INFO_PEER, |far| far_end(far, peer, peer_ns));
            });
        }
        LinkKind::Veth { peer: None } => {
            info.text(IFLA_INFO_KIND, "veth");
        }
        LinkKind::Bridge => {
            info.text(IFLA_INFO_KIND, "bridge");
        }
        LinkKind::Other(kind) => {
            info.text(IFLA_INFO_KIND, kind);
        }
    });
    request
}

fn far_end(request: &mut Request, peer: &Peer, ns: Option<BorrowedFd<'_>>) {
    request.raw(&header(0, 0, 0));
    request.text(IFLA_IFNAME, &peer.name).u32(IFLA_MTU, peer.mtu).u32(IFLA_GROUP, GROUP);
    if let Some(MacAddress(mac)) = peer.mac {
        request.bytes(IFLA_ADDRESS, &mac);
    }
    if let Some(ns) = ns {
        request.u32(IFLA_NET_NS_FD, ns.as_raw_fd() as u32);
    }
}

/// The alias (ignored by the kernel at creation, so given after it) and the group, with the flags.
pub(crate) fn mark(name: &str, link: &Link) -> Request {
    let (kind, peer) = match &link.kind {
        LinkKind::Bridge => ("bridge", None),
        LinkKind::Veth { peer } => ("veth", peer.as_ref().map(|peer| (&peer.ns, &peer.name))),
        LinkKind::Other(_) => ("link", None),
    };
    let mut request = change(name, link.up);
    request.text(IFLA_IFALIAS, &alias(kind, &link.id, peer)).u32(IFLA_GROUP, GROUP);
    request
}

/// MTU, MAC and bridge; index 0 takes it out of its bridge.
pub(crate) fn reshape(name: &str, link: &Link, master: i32) -> Request {
    let mut request = neutral(name);
    request.u32(IFLA_MTU, link.mtu).u32(IFLA_MASTER, master as u32);
    if let Some(MacAddress(mac)) = link.mac {
        request.bytes(IFLA_ADDRESS, &mac);
    }
    request
}

/// The far end's own MTU, MAC and flags, said in its namespace.
pub(crate) fn reshape_peer(peer: &Peer) -> Request {
    let mut request = change(&peer.name, peer.up);
    request.u32(IFLA_MTU, peer.mtu);
    if let Some(MacAddress(mac)) = peer.mac {
        request.bytes(IFLA_ADDRESS, &mac);
    }
    request
}

/// Of a port: its bridge must be set before.
pub(crate) fn isolate(name: &str, isolated: bool) -> Request {
    let mut request = neutral(name);
    request.nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_SLAVE_KIND, "bridge").nest(IFLA_INFO_SLAVE_DATA, |data| {
            data.u8(IFLA_BRPORT_ISOLATED, isolated.into());
        });
    });
    request
}

pub(crate) fn regroup(name: &str, group: u32) -> Request {
    let mut request = neutral(name);
    request.u32(IFLA_GROUP, group);
    request
}

pub(crate) fn delete(name: &str) -> Request {
    let mut request = Request::new(libc::RTM_DELLINK, 0, &header(0, 0, 0));
    request.text(IFLA_IFNAME, name);
    request
}

/// All of a group at once: the kernel waits for its readers once, not once per link.
pub(crate) fn delete_group(group: u32) -> Request {
    let mut request = Request::new(libc::RTM_DELLINK, 0, &header(0, 0, 0));
    request.u32(IFLA_GROUP, group);
    request
}

pub(crate) fn loopback_up() -> Request {
    Request::new(libc::RTM_NEWLINK, 0, &header(LOOPBACK, UP, UP))
}

/// Settings below /proc/sys that put a link into a mode, in the order to write them.
pub(crate) fn ipv6_settings(name: &str, mode: Ipv6) -> Vec<(String, &'static str)> {
    let setting = |setting: &str, value| (format!("net/ipv6/conf/{name}/{setting}"), value);
    match mode {
        Ipv6::Off => vec![setting("disable_ipv6", "1")],
        Ipv6::Static => {
            vec![setting("accept_ra", "0"), setting("accept_dad", "0"), setting("disable_ipv6", "0")]
        }
        Ipv6::Other => Vec::new(),
    }
}

fn neutral(name: &str) -> Request {
    let mut request = Request::new(libc::RTM_NEWLINK, 0, &header(0, 0, 0));
    request.text(IFLA_IFNAME, name);
    request
}

fn change(name: &str, up: bool) -> Request {
    let mut request = Request::new(libc::RTM_NEWLINK, 0, &header(0, if up { UP } else { 0 }, UP));
    request.text(IFLA_IFNAME, name);
    request
}

/// struct ifinfomsg: family u8, padding, type u16, index i32, flags u32, change u32.
fn header(index: i32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..].copy_from_slice(&change.to_ne_bytes());
    header
}
