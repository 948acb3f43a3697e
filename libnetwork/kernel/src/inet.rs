//! Addresses, routes, neighbours and forwarding entries in rtnetlink's words (linux/if_addr.h, rtnetlink.h,
//! neighbour.h).

use std::net::IpAddr;

use ipnet::IpNet;
use libnetwork_model::MacAddress;
use libnetwork_plan::{Cause, Route};

use crate::{
    netlink::{Message, Request, Socket, attributes, bytes, i32_at, u8, u16_at, u32_at},
    ownership::PROTOCOL,
};

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
/// Whose an address is (since 5.18).
const IFA_PROTO: u16 = 11;
const IFA_F_NODAD: u32 = 2;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_TABLE: u16 = 15;

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_PROTOCOL: u16 = 12;
const NUD_PERMANENT: u16 = 0x80;
const NUD_NOARP: u16 = 0x40;
const NTF_MASTER: u8 = 4;

const MAIN: u8 = libc::RT_TABLE_MAIN;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundAddress {
    pub(crate) index: i32,
    pub(crate) address: IpNet,
    pub(crate) protocol: u8,
    /// Given by the kernel itself, as IPv6 link-local ones are.
    pub(crate) link_local: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundRoute {
    pub(crate) destination: IpNet,
    pub(crate) metric: u32,
    pub(crate) table: u32,
    pub(crate) protocol: u8,
    /// Index of the link it leaves by; 0 when there are several, or none.
    pub(crate) index: i32,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) source: Option<IpAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundNeighbour {
    pub(crate) index: i32,
    /// None: a bridge's forwarding entry.
    pub(crate) address: Option<IpAddr>,
    pub(crate) mac: MacAddress,
    pub(crate) state: u16,
    pub(crate) protocol: u8,
}

pub(crate) fn read_address(message: &Message<'_>) -> Option<FoundAddress> {
    let payload = message.payload;
    let (length, index) = (*payload.get(1)?, i32_at(payload, 4)?);
    let (mut address, mut local, mut protocol) = (None, None, 0);
    for (kind, value) in attributes(payload.get(8..)?) {
        match kind {
            IFA_ADDRESS => address = ip(value),
            IFA_LOCAL => local = ip(value),
            IFA_PROTO => protocol = u8(value),
            _ => {}
        }
    }
    // On a point-to-point link IFA_ADDRESS is the other side's.
    let address = IpNet::new(local.or(address)?, length).ok()?;
    let link_local = matches!(address, IpNet::V6(net) if net.addr().is_unicast_link_local());
    Some(FoundAddress { index, address, protocol, link_local })
}

pub(crate) fn list_addresses(socket: &mut Socket) -> Result<Vec<FoundAddress>, Cause> {
    let request = Request::new(libc::RTM_GETADDR, 0, &[0; 8]);
    socket.dump(request, read_address)
}

pub(crate) fn list_addresses_of(socket: &mut Socket, index: i32) -> Result<Vec<FoundAddress>, Cause> {
    let request = Request::new(libc::RTM_GETADDR, 0, &address_header(0, 0, index));
    let found = socket.dump(request, read_address)?;
    Ok(found.into_iter().filter(|a| a.index == index).collect())
}

/// Usable at once: duplicates cannot be, since leases are unique.
pub(crate) fn create_address(index: i32, address: IpNet) -> Request {
    let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let mut request = address_request(libc::RTM_NEWADDR, flags, index, address);
    request.u8(IFA_PROTO, PROTOCOL);
    match address {
        IpNet::V4(net) if net.prefix_len() < 31 => {
            request.bytes(IFA_BROADCAST, &net.broadcast().octets());
        }
        IpNet::V4(_) => {}
        IpNet::V6(_) => {
            request.u32(IFA_FLAGS, IFA_F_NODAD);
        }
    }
    request
}

pub(crate) fn delete_address(index: i32, address: IpNet) -> Request {
    address_request(libc::RTM_DELADDR, 0, index, address)
}

fn address_request(kind: u16, flags: i32, index: i32, address: IpNet) -> Request {
    let family = family(address.addr());
    let mut request = Request::new(kind, flags, &address_header(family, address.prefix_len(), index));
    let octets = octets(address.addr());
    request.bytes(IFA_LOCAL, &octets).bytes(IFA_ADDRESS, &octets);
    request
}

/// struct ifaddrmsg: family, prefix length, flags, scope: u8 each; index u32.
fn address_header(family: u8, length: u8, index: i32) -> [u8; 8] {
    let [a, b, c, d] = index.to_ne_bytes();
    [family, length, 0, 0, a, b, c, d]
}

pub(crate) fn read_route(message: &Message<'_>) -> Option<FoundRoute> {
    let payload = message.payload;
    let (family, length) = (u8(payload), *payload.get(1)?);
    let unspecified = match i32::from(family) {
        libc::AF_INET => IpAddr::from([0; 4]),
        libc::AF_INET6 => IpAddr::from([0; 16]),
        _ => return None,
    };
    // RTM_F_CLONED: a cached decision, not a route.
    if u32_at(payload, 8)? & libc::RTM_F_CLONED != 0 || *payload.get(7)? != libc::RTN_UNICAST {
        return None;
    }
    let (mut destination, mut found) = (
        unspecified,
        FoundRoute {
            destination: IpNet::new(unspecified, 0).ok()?,
            metric: 0,
            table: (*payload.get(4)?).into(),
            protocol: *payload.get(5)?,
            index: 0,
            gateway: None,
            source: None,
        },
    );
    for (kind, value) in attributes(payload.get(12..)?) {
        match kind {
            RTA_DST => destination = ip(value)?,
            RTA_OIF => found.index = i32_at(value, 0)?,
            RTA_GATEWAY => found.gateway = ip(value),
            RTA_PRIORITY => found.metric = u32_at(value, 0)?,
            RTA_PREFSRC => found.source = ip(value),
            RTA_TABLE => found.table = u32_at(value, 0)?,
            _ => {}
        }
    }
    found.destination = IpNet::new(destination, length).ok()?;
    Some(found)
}

/// The main table's routes, of both families.
pub(crate) fn list_routes(socket: &mut Socket) -> Result<Vec<FoundRoute>, Cause> {
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let mut header = [0; 12];
        header[0] = family as u8;
        header[4] = MAIN;
        let request = Request::new(libc::RTM_GETROUTE, 0, &header);
        match socket.dump(request, read_route) {
            Ok(routes) => found.extend(routes.into_iter().filter(|r| r.table == MAIN.into())),
            // A table is made with its first route.
            Err(cause) if cause.errno() == Some(libc::ENOENT) => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(found)
}

/// `replace`: puts it in the place of the one that has the same destination and metric.
pub(crate) fn create_route(
    index: i32,
    destination: IpNet,
    metric: u32,
    route: &Route,
    replace: bool,
) -> Request {
    let mode = if replace { libc::NLM_F_REPLACE } else { libc::NLM_F_EXCL };
    let mut request = Request::new(
        libc::RTM_NEWROUTE,
        libc::NLM_F_CREATE | mode,
        &route_header(destination, route.gateway.is_none()),
    );
    request.bytes(RTA_DST, &octets(destination.addr())).u32(RTA_OIF, index as u32);
    if metric > 0 {
        request.u32(RTA_PRIORITY, metric);
    }
    if let Some(gateway) = route.gateway {
        request.bytes(RTA_GATEWAY, &octets(gateway));
    }
    if let Some(source) = route.source {
        request.bytes(RTA_PREFSRC, &octets(source));
    }
    request
}

/// Only one that is ours: the kernel compares the protocol.
pub(crate) fn delete_route(destination: IpNet, metric: u32) -> Request {
    let mut header = route_header(destination, false);
    // RT_SCOPE_NOWHERE: of any scope.
    header[6] = libc::RT_SCOPE_NOWHERE;
    let mut request = Request::new(libc::RTM_DELROUTE, 0, &header);
    request.bytes(RTA_DST, &octets(destination.addr()));
    if metric > 0 {
        request.u32(RTA_PRIORITY, metric);
    }
    request
}

/// struct rtmsg: family, destination length, source length, tos, table, protocol, scope, type: u8 each; flags u32.
fn route_header(destination: IpNet, on_link: bool) -> [u8; 12] {
    let scope = if on_link { libc::RT_SCOPE_LINK } else { libc::RT_SCOPE_UNIVERSE };
    let mut header = [0; 12];
    header[0] = family(destination.addr());
    header[1] = destination.prefix_len();
    header[4..8].copy_from_slice(&[MAIN, PROTOCOL, scope, libc::RTN_UNICAST]);
    header
}

pub(crate) fn read_neighbour(message: &Message<'_>) -> Option<FoundNeighbour> {
    let payload = message.payload;
    let (mut address, mut mac, mut protocol) = (None, None, 0);
    for (kind, value) in attributes(payload.get(12..)?) {
        match kind {
            NDA_DST => address = ip(value),
            NDA_LLADDR => mac = bytes(value, 0).map(MacAddress),
            NDA_PROTOCOL => protocol = u8(value),
            _ => {}
        }
    }
    Some(FoundNeighbour {
        index: i32_at(payload, 4)?,
        address,
        mac: mac?,
        state: u16_at(payload, 8)?,
        protocol,
    })
}

/// Permanent ones only.
pub(crate) fn list_neighbours(socket: &mut Socket) -> Result<Vec<FoundNeighbour>, Cause> {
    let request = Request::new(libc::RTM_GETNEIGH, 0, &[0; 12]);
    let found = socket.dump(request, read_neighbour)?;
    Ok(found.into_iter().filter(|n| n.state & NUD_PERMANENT != 0).collect())
}

/// Static entries of bridge ports.
pub(crate) fn list_forwarding(socket: &mut Socket) -> Result<Vec<FoundNeighbour>, Cause> {
    let mut header = [0; 12];
    header[0] = libc::AF_BRIDGE as u8;
    let found = socket.dump(Request::new(libc::RTM_GETNEIGH, 0, &header), read_neighbour)?;
    Ok(found.into_iter().filter(|n| n.state & NUD_NOARP != 0).collect())
}

pub(crate) fn put_neighbour(index: i32, address: IpAddr, mac: MacAddress) -> Request {
    let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
    let header = neighbour_header(family(address), index, NUD_PERMANENT, 0);
    let mut request = Request::new(libc::RTM_NEWNEIGH, flags, &header);
    request.bytes(NDA_DST, &octets(address)).bytes(NDA_LLADDR, &mac.0).u8(NDA_PROTOCOL, PROTOCOL);
    request
}

pub(crate) fn delete_neighbour(index: i32, address: IpAddr) -> Request {
    let mut request = Request::new(libc::RTM_DELNEIGH, 0, &neighbour_header(family(address), index, 0, 0));
    request.bytes(NDA_DST, &octets(address));
    request
}

pub(crate) fn put_forwarding(index: i32, mac: MacAddress) -> Request {
    let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
    let header = neighbour_header(libc::AF_BRIDGE as u8, index, NUD_NOARP, NTF_MASTER);
    let mut request = Request::new(libc::RTM_NEWNEIGH, flags, &header);
    request.bytes(NDA_LLADDR, &mac.0);
    request
}

pub(crate) fn delete_forwarding(index: i32, mac: MacAddress) -> Request {
    let header = neighbour_header(libc::AF_BRIDGE as u8, index, 0, NTF_MASTER);
    let mut request = Request::new(libc::RTM_DELNEIGH, 0, &header);
    request.bytes(NDA_LLADDR, &mac.0);
    request
}

/// struct ndmsg: family u8, padding, index i32, state u16, flags u8, type u8.
fn neighbour_header(family: u8, index: i32, state: u16, flags: u8) -> [u8; 12] {
    let mut header = [0; 12];
    header[0] = family;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..10].copy_from_slice(&state.to_ne_bytes());
    header[10] = flags;
    header
}

fn family(address: IpAddr) -> u8 {
    (if address.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET }) as u8
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    bytes::<4>(value, 0)
        .filter(|_| value.len() == 4)
        .map(IpAddr::from)
        .or_else(|| bytes::<16>(value, 0).map(IpAddr::from))
}
