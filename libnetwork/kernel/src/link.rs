//! Links in rtnetlink's words (linux/if_link.h).

use std::os::fd::{AsRawFd, BorrowedFd};

use libnetwork_model::MacAddress;
use libnetwork_plan::{BridgePort, Cause, Ipv6, Link, LinkKind, LinkRank, Name, Ns, Peer};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NlaBuffer, Parseable, ParseableParametrized};
use netlink_packet_route::{
    AddressFamily,
    RouteNetlinkMessage::{DelLink, GetLink, NewLink},
    link::{
        AfSpecInet6, AfSpecUnspec, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth,
        LinkAttribute, LinkExtentMask, LinkFlags, LinkHeader, LinkMessage,
    },
};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use crate::{
    netlink::{Message, Request, Socket, attributes},
    ownership::{DOOMED, GROUP, alias, group_in, read_alias},
};

/// linux/if_link.h; the libc crate has it for Android only.
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const IFLA_BRPORT_UNICAST_FLOOD: u16 = 9;
const IFLA_BRPORT_GROUP_FWD_MASK: u16 = 31;
/// All of 01:80:c2:00:00:00 to 0f but 01, which are pauses and which no bridge forwards (BR_GROUPFWD_MACPAUSE).
const RESERVED: u16 = 0xfffd;
/// struct ifinfomsg.
const HEADER: usize = 16;
/// Every namespace's loopback (LOOPBACK_IFINDEX, net/flow.h).
const LOOPBACK: u32 = 1;

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
    pub(crate) port: BridgePort,
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

    /// The far end of the pair that this is the near end of, when it was put into the host's own namespace.
    pub(crate) fn far_end_in_host(&self) -> Option<Name> {
        match read_alias(&self.alias)?.peer? {
            (Ns::Host, name) => Some(name),
            _ => None,
        }
    }

    /// Whether it is ours where it is. What containers of earlier versions have is of the host's group, and has no alias.
    pub(crate) fn is_ours(&self, ns: &Ns) -> bool {
        let is_earlier = || self.group == GROUP && self.kind == "veth" && self.alias.is_empty();
        self.group == DOOMED || self.group == group_in(ns) || (*ns != Ns::Host && is_earlier())
    }

    /// Whether this is the near end of a pair whose far end is the other, both in the host's own namespace.
    pub(crate) fn leads_to(&self, far: &Found) -> bool {
        self.other == far.index
            && far.other == self.index
            && self.far_end_in_host().as_ref() == Some(&far.name)
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
    let header = LinkHeader::parse(message.payload).ok()?;
    if header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let mut found = Found {
        index: header.index as i32,
        up: header.flags.contains(LinkFlags::Up),
        loopback: header.flags.contains(LinkFlags::Loopback),
        name: "".into(),
        mtu: 0,
        mac: None,
        group: 0,
        alias: String::new(),
        kind: String::new(),
        master: 0,
        other: 0,
        port: BridgePort::default(),
        ipv6: None,
    };
    for attribute in attributes(message.payload.get(HEADER..)?) {
        // Decoded are only those that say something to us, out of sixty.
        match attribute.kind() {
            libc::IFLA_LINKINFO => read_info(attribute.value(), &mut found),
            libc::IFLA_IFNAME
            | libc::IFLA_MTU
            | libc::IFLA_ADDRESS
            | libc::IFLA_GROUP
            | libc::IFLA_IFALIAS
            | libc::IFLA_MASTER
            | libc::IFLA_LINK
            | libc::IFLA_AF_SPEC => read_attribute(&attribute, &mut found),
            _ => {}
        }
    }
    Some(found)
}

fn read_attribute(attribute: &NlaBuffer<&[u8]>, found: &mut Found) {
    // What is not UTF-8 is nothing of ours.
    match LinkAttribute::parse_with_param(attribute, AddressFamily::Unspec) {
        Ok(LinkAttribute::IfName(name)) => found.name = name.into(),
        Ok(LinkAttribute::Mtu(mtu)) => found.mtu = mtu,
        Ok(LinkAttribute::Address(mac)) => found.mac = mac.try_into().ok(),
        Ok(LinkAttribute::Group(group)) => found.group = group,
        Ok(LinkAttribute::IfAlias(alias)) => found.alias = alias,
        Ok(LinkAttribute::Controller(master)) => found.master = master as i32,
        Ok(LinkAttribute::Link(other)) => found.other = other as i32,
        Ok(LinkAttribute::AfSpecUnspec(families)) => found.ipv6 = read_ipv6(&families),
        _ => {}
    }
}

fn read_info(info: &[u8], found: &mut Found) {
    let mut port = None;
    for attribute in attributes(info) {
        match attribute.kind() {
            libc::IFLA_INFO_KIND => {
                found.kind = InfoKind::parse(&attribute).map(|kind| kind.to_string()).unwrap_or_default();
            }
            libc::IFLA_INFO_SLAVE_KIND => port = InfoPortKind::parse(&attribute).ok(),
            libc::IFLA_INFO_SLAVE_DATA if port == Some(InfoPortKind::Bridge) => {
                for attribute in attributes(attribute.value()) {
                    // Of one byte, 0 or 1, but for the mask.
                    let on = attribute.value() != [0];
                    match attribute.kind() {
                        IFLA_BRPORT_GROUP_FWD_MASK => {
                            found.port.forwards_reserved = attribute.value() == RESERVED.to_ne_bytes();
                        }
                        IFLA_BRPORT_ISOLATED => found.port.isolated = on,
                        IFLA_BRPORT_MODE => found.port.hairpin = on,
                        IFLA_BRPORT_UNICAST_FLOOD => found.port.known_only = !on,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
}

fn read_ipv6(families: &[AfSpecUnspec]) -> Option<(bool, i32, i32)> {
    let family = families.iter().find_map(|family| match family {
        AfSpecUnspec::Inet6(family) => Some(family),
        _ => None,
    })?;
    family.iter().find_map(|attribute| match attribute {
        AfSpecInet6::DevConf(conf) => Some((conf.disable_ipv6 != 0, conf.accept_ra, conf.accept_dad)),
        _ => None,
    })
}

pub(crate) fn list(socket: &mut Socket) -> Result<Vec<Found>, Cause> {
    socket.dump(question(LinkMessageBuilder::default()), read)
}

pub(crate) fn by_name(socket: &mut Socket, name: &str) -> Result<Option<Found>, Cause> {
    socket.get(question(neutral(name)), read)
}

pub(crate) fn by_index(socket: &mut Socket, index: i32) -> Result<Option<Found>, Cause> {
    socket.get(question(LinkUnspec::new_with_index(index as u32)), read)
}

pub(crate) fn question(link: LinkMessageBuilder<LinkUnspec>) -> Request {
    let counters = LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]);
    Request::new(GetLink(link.append_extra_attribute(counters).build()), 0)
}

/// Makes a link, down: its IPv6 settings come before it is up. `peer` is the far end's namespace, none when it is the
/// host's own.
pub(crate) fn create(
    name: &str,
    link: &Link,
    master: Option<i32>,
    peer_ns: Option<BorrowedFd<'_>>,
) -> Request {
    // A bridge follows the smallest MTU among its ports until its own was changed once (BROPT_MTU_SET_BY_USER): it starts
    // out with another one, so that giving it its own is a change.
    let mtu = if link.kind == LinkKind::Bridge { link.mtu ^ 1 } else { link.mtu };
    let kind = match &link.kind {
        LinkKind::Veth { .. } => InfoKind::Veth,
        LinkKind::Bridge => InfoKind::Bridge,
        LinkKind::Other(kind) => InfoKind::from(&**kind),
    };
    let message = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(kind);
    let mut message = with_mac(message.name(name).mtu(mtu).link_group(GROUP), link.mac);
    if matches!(link.kind, LinkKind::Veth { .. }) {
        message = one_queue(message);
    }
    if let Some(master) = master {
        message = message.controller(master as u32);
    }
    if let LinkKind::Veth { peer: Some(peer) } = &link.kind {
        message = message.set_info_data(InfoData::Veth(InfoVeth::Peer(far_end(peer, peer_ns))));
    }
    Request::new(NewLink(message.build()), NLM_F_CREATE | NLM_F_EXCL)
}

fn far_end(peer: &Peer, ns: Option<BorrowedFd<'_>>) -> LinkMessage {
    let named = neutral(&peer.name).mtu(peer.mtu).link_group(group_in(&peer.ns));
    let mut message = one_queue(with_mac(named, peer.mac));
    if let Some(ns) = ns {
        message = message.setns_by_fd(ns.as_raw_fd());
    }
    message.build()
}

/// An end of a pair works with one queue unless told otherwise, but the kernel makes as many as there can be CPUs, and then
/// waits until nobody can be using the others (veth_init_queues, drivers/net/veth.c): for milliseconds, while no other link
/// of the machine can be changed.
fn one_queue(message: LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec> {
    message
        .append_extra_attribute(LinkAttribute::NumTxQueues(1))
        .append_extra_attribute(LinkAttribute::NumRxQueues(1))
}

/// The alias (ignored by the kernel at creation, so given after it) and the group, with the flags; and what kind of port it
/// is to be, of a link whose bridge is set. All in one: each change is told to all who listen, and for that the kernel looks
/// through the numbers of all namespaces for the one that the far end is in.
pub(crate) fn mark(name: &str, link: &Link, port: Option<BridgePort>) -> Request {
    let (kind, peer) = match &link.kind {
        LinkKind::Bridge => ("bridge", None),
        LinkKind::Veth { peer } => ("veth", peer.as_ref().map(|peer| (&peer.ns, &peer.name))),
        LinkKind::Other(_) => ("link", None),
    };
    let alias = alias(kind, &link.id, peer);
    let mut message = flagged(name, link.up).alias(alias).link_group(GROUP);
    if let Some(port) = port {
        message = message.set_port_kind(InfoPortKind::Bridge).set_port_data(port_data(port));
    }
    Request::new(NewLink(message.build()), 0)
}

/// MTU, MAC and bridge; index 0 takes it out of its bridge. A MAC that it has already is not said again: the kernel
/// would forget the neighbours on it, permanent ones included (NETDEV_CHANGEADDR).
pub(crate) fn reshape(name: &str, before: Option<&Link>, link: &Link, master: i32) -> Request {
    let message = neutral(name).mtu(link.mtu).controller(master as u32);
    let mac = link.mac.filter(|mac| before.is_none_or(|before| before.mac != Some(*mac)));
    Request::new(NewLink(with_mac(message, mac).build()), 0)
}

/// The far end's own MTU, MAC, bridge and flags, said in its namespace. `master` is none where it is in no bridge of ours.
pub(crate) fn reshape_peer(peer: &Peer, master: Option<i32>) -> Request {
    let mut message = flagged(&peer.name, peer.up).mtu(peer.mtu);
    if let Some(master) = master {
        message = message.controller(master as u32);
    }
    Request::new(NewLink(with_mac(message, peer.mac).build()), 0)
}

fn port_data(port: BridgePort) -> InfoPortData {
    InfoPortData::BridgePort(vec![
        InfoBridgePort::Isolated(port.isolated),
        InfoBridgePort::UnicastFlood(!port.known_only),
        InfoBridgePort::HairpinMode(port.hairpin),
        InfoBridgePort::GroupFwdMask(if port.forwards_reserved { RESERVED } else { 0 }),
    ])
}

/// Marks a link for removal and takes it down, so that no packet enters or leaves by it from here on.
pub(crate) fn doom(name: &str) -> Request {
    Request::new(NewLink(neutral(name).down().link_group(DOOMED).build()), 0)
}

pub(crate) fn delete(name: &str) -> Request {
    Request::new(DelLink(neutral(name).build()), 0)
}

/// All of a group at once: the kernel waits for its readers once, not once per link.
pub(crate) fn delete_group(group: u32) -> Request {
    Request::new(DelLink(LinkMessageBuilder::<LinkUnspec>::new().link_group(group).build()), 0)
}

pub(crate) fn loopback_up() -> Request {
    Request::new(NewLink(LinkUnspec::new_with_index(LOOPBACK).up().build()), 0)
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

fn neutral(name: &str) -> LinkMessageBuilder<LinkUnspec> {
    LinkUnspec::new_with_name(name)
}

fn flagged(name: &str, up: bool) -> LinkMessageBuilder<LinkUnspec> {
    if up { neutral(name).up() } else { neutral(name).down() }
}

fn with_mac(
    message: LinkMessageBuilder<LinkUnspec>,
    mac: Option<MacAddress>,
) -> LinkMessageBuilder<LinkUnspec> {
    match mac {
        Some(MacAddress(mac)) => message.address(mac.to_vec()),
        None => message,
    }
}
