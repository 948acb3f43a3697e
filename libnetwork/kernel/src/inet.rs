//! Addresses, routes, neighbours and forwarding entries in rtnetlink's words (linux/if_addr.h, rtnetlink.h,
//! neighbour.h).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use libnetwork_model::MacAddress;
use libnetwork_plan::{Cause, Route};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Parseable, ParseableParametrized};
use netlink_packet_route::{
    AddressFamily,
    RouteNetlinkMessage::{
        DelAddress, DelNeighbour, DelRoute, GetAddress, GetNeighbour, GetRoute, NewAddress, NewNeighbour,
        NewRoute,
    },
    address::{AddressAttribute, AddressFlags, AddressHeader, AddressMessage, AddressProtocol},
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourHeader, NeighbourMessage,
        NeighbourState,
    },
    route::{
        RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteLwEnCapType, RouteMessage, RouteProtocol,
        RouteScope, RouteType,
    },
};
use rtnetlink::AddressMessageBuilder;

use crate::{
    netlink::{Message, Request, Socket, attributes},
    ownership::PROTOCOL,
};

/// struct ifaddrmsg, struct rtmsg and struct ndmsg.
const ADDRESS_HEADER: usize = 8;
const ROUTE_HEADER: usize = 12;
const NEIGHBOUR_HEADER: usize = 12;

const MAIN: u8 = RouteHeader::RT_TABLE_MAIN;

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
    pub(crate) state: NeighbourState,
    pub(crate) protocol: u8,
}

pub(crate) fn read_address(message: &Message<'_>) -> Option<FoundAddress> {
    let header = AddressHeader::parse(message.payload).ok()?;
    let (mut address, mut local, mut protocol) = (None, None, 0);
    for attribute in attributes(message.payload.get(ADDRESS_HEADER..)?) {
        match AddressAttribute::parse(&attribute) {
            Ok(AddressAttribute::Address(found)) => address = Some(found),
            Ok(AddressAttribute::Local(found)) => local = Some(found),
            // Since 5.18.
            Ok(AddressAttribute::Protocol(found)) => protocol = found.into(),
            _ => {}
        }
    }
    // On a point-to-point link IFA_ADDRESS is the other side's.
    let address = IpNet::new(local.or(address)?, header.prefix_len).ok()?;
    let link_local = matches!(address, IpNet::V6(net) if net.addr().is_unicast_link_local());
    Some(FoundAddress { index: header.index as i32, address, protocol, link_local })
}

pub(crate) fn list_addresses(socket: &mut Socket) -> Result<Vec<FoundAddress>, Cause> {
    socket.dump(Request::new(GetAddress(AddressMessage::default()), 0), read_address)
}

pub(crate) fn list_addresses_of(socket: &mut Socket, index: i32) -> Result<Vec<FoundAddress>, Cause> {
    let mut question = AddressMessage::default();
    question.header.index = index as u32;
    let found = socket.dump(Request::new(GetAddress(question), 0), read_address)?;
    Ok(found.into_iter().filter(|a| a.index == index).collect())
}

/// Usable at once: duplicates cannot be, since leases are unique.
pub(crate) fn create_address(index: i32, address: IpNet) -> Request {
    let mut message = address_message(index, address);
    message.attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL)));
    if address.addr().is_ipv6() {
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    Request::new(NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
}

pub(crate) fn delete_address(index: i32, address: IpNet) -> Request {
    Request::new(DelAddress(address_message(index, address)), 0)
}

/// With its broadcast address, where a subnet has one.
fn address_message(index: i32, address: IpNet) -> AddressMessage {
    let (index, length) = (index as u32, address.prefix_len());
    match address.addr() {
        IpAddr::V4(ip) => AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(ip, length).build(),
        IpAddr::V6(ip) => AddressMessageBuilder::<Ipv6Addr>::new().index(index).address(ip, length).build(),
    }
}

pub(crate) fn read_route(message: &Message<'_>) -> Option<FoundRoute> {
    let header = RouteHeader::parse(message.payload).ok()?;
    let unspecified = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    // A cached decision is not a route.
    if header.flags.contains(RouteFlags::Cloned) || header.kind != RouteType::Unicast {
        return None;
    }
    let (mut destination, mut found) = (
        unspecified,
        FoundRoute {
            destination: IpNet::new(unspecified, 0).ok()?,
            metric: 0,
            table: header.table.into(),
            protocol: header.protocol.into(),
            index: 0,
            gateway: None,
            source: None,
        },
    );
    // Whatever a route is wrapped into says nothing to us.
    let context = (header.address_family, header.kind, RouteLwEnCapType::None);
    for attribute in attributes(message.payload.get(ROUTE_HEADER..)?) {
        match RouteAttribute::parse_with_param(&attribute, context) {
            Ok(RouteAttribute::Destination(address)) => destination = ip(&address)?,
            Ok(RouteAttribute::Oif(index)) => found.index = index as i32,
            Ok(RouteAttribute::Gateway(address)) => found.gateway = ip(&address),
            Ok(RouteAttribute::Priority(metric)) => found.metric = metric,
            Ok(RouteAttribute::PrefSource(address)) => found.source = ip(&address),
            Ok(RouteAttribute::Table(table)) => found.table = table,
            _ => {}
        }
    }
    found.destination = IpNet::new(destination, header.destination_prefix_length).ok()?;
    Some(found)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// The main table's routes, of both families.
pub(crate) fn list_routes(socket: &mut Socket) -> Result<Vec<FoundRoute>, Cause> {
    let routes = routes_of(socket, MAIN)?;
    Ok(routes.into_iter().filter(|route| route.table == u32::from(MAIN)).collect())
}

/// Those of every table: who routes by policy (WireGuard, Tailscale) keeps routes in tables of his own.
pub(crate) fn list_routes_everywhere(socket: &mut Socket) -> Result<Vec<FoundRoute>, Cause> {
    routes_of(socket, libc::RT_TABLE_UNSPEC)
}

fn routes_of(socket: &mut Socket, table: u8) -> Result<Vec<FoundRoute>, Cause> {
    let mut found = Vec::new();
    for address_family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut question = RouteMessage::default();
        question.header = RouteHeader { address_family, table, ..RouteHeader::default() };
        match socket.dump(Request::new(GetRoute(question), 0), read_route) {
            Ok(routes) => found.extend(routes),
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
    let scope = if route.gateway.is_none() { RouteScope::Link } else { RouteScope::Universe };
    let mut message = route_message(destination, metric, scope);
    message.attributes.push(RouteAttribute::Oif(index as u32));
    message.attributes.extend(route.gateway.map(|gateway| RouteAttribute::Gateway(gateway.into())));
    message.attributes.extend(route.source.map(|source| RouteAttribute::PrefSource(source.into())));
    Request::new(NewRoute(message), NLM_F_CREATE | if replace { NLM_F_REPLACE } else { NLM_F_EXCL })
}

/// Only one that is ours: the kernel compares the protocol. Of any scope.
pub(crate) fn delete_route(destination: IpNet, metric: u32) -> Request {
    Request::new(DelRoute(route_message(destination, metric, RouteScope::NoWhere)), 0)
}

fn route_message(destination: IpNet, metric: u32, scope: RouteScope) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(destination.addr()),
        destination_prefix_length: destination.prefix_len(),
        table: MAIN,
        protocol: RouteProtocol::Other(PROTOCOL),
        scope,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message.attributes.push(RouteAttribute::Destination(destination.addr().into()));
    if metric > 0 {
        message.attributes.push(RouteAttribute::Priority(metric));
    }
    message
}

pub(crate) fn read_neighbour(message: &Message<'_>) -> Option<FoundNeighbour> {
    let header = NeighbourHeader::parse(message.payload).ok()?;
    let (mut address, mut mac, mut protocol) = (None, None, 0);
    for attribute in attributes(message.payload.get(NEIGHBOUR_HEADER..)?) {
        match NeighbourAttribute::parse_with_param(&attribute, header.family) {
            Ok(NeighbourAttribute::Destination(NeighbourAddress::Inet(found))) => {
                address = Some(found.into())
            }
            Ok(NeighbourAttribute::Destination(NeighbourAddress::Inet6(found))) => {
                address = Some(found.into())
            }
            Ok(NeighbourAttribute::LinkLayerAddress(found)) => mac = found.try_into().ok().map(MacAddress),
            Ok(NeighbourAttribute::Protocol(found)) => protocol = found.into(),
            _ => {}
        }
    }
    let (index, state) = (header.ifindex as i32, header.state);
    Some(FoundNeighbour { index, address, mac: mac?, state, protocol })
}

/// Permanent ones only.
pub(crate) fn list_neighbours(socket: &mut Socket) -> Result<Vec<FoundNeighbour>, Cause> {
    list_of_state(socket, AddressFamily::Unspec, NeighbourState::Permanent)
}

/// Static entries of bridge ports.
pub(crate) fn list_forwarding(socket: &mut Socket) -> Result<Vec<FoundNeighbour>, Cause> {
    list_of_state(socket, AddressFamily::Bridge, NeighbourState::Noarp)
}

fn list_of_state(
    socket: &mut Socket,
    family: AddressFamily,
    state: NeighbourState,
) -> Result<Vec<FoundNeighbour>, Cause> {
    let question = Request::new(GetNeighbour(neighbour_message(family, 0)), 0);
    let found = socket.dump(question, read_neighbour)?;
    Ok(found.into_iter().filter(|neighbour| neighbour.state == state).collect())
}

/// One neighbour of a link, if it is there and permanent.
pub(crate) fn find_neighbour(
    socket: &mut Socket,
    index: i32,
    address: IpAddr,
) -> Result<Option<FoundNeighbour>, Cause> {
    let mut question = neighbour_message(family(address), index);
    question.attributes.push(NeighbourAttribute::Destination(address.into()));
    let found = socket.get(Request::new(GetNeighbour(question), 0), read_neighbour)?;
    Ok(found.filter(|neighbour| neighbour.state == NeighbourState::Permanent))
}

/// The entry that a bridge has for an Ethernet address, if it is static and leads to this port.
pub(crate) fn find_forwarding(
    socket: &mut Socket,
    index: i32,
    mac: MacAddress,
) -> Result<Option<FoundNeighbour>, Cause> {
    let question = Request::new(GetNeighbour(forwarding_message(index, mac)), 0);
    let found = socket.get(question, read_neighbour)?;
    Ok(found.filter(|entry| entry.state == NeighbourState::Noarp && entry.index == index))
}

pub(crate) fn put_neighbour(index: i32, address: IpAddr, mac: MacAddress) -> Request {
    let mut message = neighbour_message(family(address), index);
    message.header.state = NeighbourState::Permanent;
    message.attributes = vec![
        NeighbourAttribute::Destination(address.into()),
        NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()),
        NeighbourAttribute::Protocol(RouteProtocol::Other(PROTOCOL)),
    ];
    Request::new(NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
}

pub(crate) fn delete_neighbour(index: i32, address: IpAddr) -> Request {
    let mut message = neighbour_message(family(address), index);
    message.attributes.push(NeighbourAttribute::Destination(address.into()));
    Request::new(DelNeighbour(message), 0)
}

pub(crate) fn put_forwarding(index: i32, mac: MacAddress) -> Request {
    let mut message = forwarding_message(index, mac);
    message.header.state = NeighbourState::Noarp;
    Request::new(NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
}

pub(crate) fn delete_forwarding(index: i32, mac: MacAddress) -> Request {
    Request::new(DelNeighbour(forwarding_message(index, mac)), 0)
}

fn forwarding_message(index: i32, mac: MacAddress) -> NeighbourMessage {
    let mut message = neighbour_message(AddressFamily::Bridge, index);
    message.header.flags = NeighbourFlags::Controller;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    message
}

fn neighbour_message(family: AddressFamily, index: i32) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family;
    message.header.ifindex = index as u32;
    message
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet }
}
