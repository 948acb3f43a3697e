//! The numbers by which one namespace knows others (net/core/net_namespace.c).
//!
//! A socket with NETLINK_LISTEN_ALL_NSID hears what happens in every namespace that its own has a number for, and each
//! message says which: one socket listens to all sandboxes, where one in each would have the kernel go through all of them
//! for every single thing that it tells anybody.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use libnetwork_plan::Cause;
use netlink_packet_core::Parseable;
use netlink_packet_route::{
    RouteNetlinkMessage,
    nsid::{NsidAttribute, NsidMessage},
};

use crate::netlink::{Message, Request, Socket};

/// A namespace's number in another; unique while both are there.
pub(crate) type Nsid = i32;

/// NETNSA_NSID_NOT_ASSIGNED: as an answer there is none, in a request any will do.
const NONE: Nsid = -1;

/// The numbers of namespaces in the socket's own, given to those that had none, in order.
pub(crate) fn assign(socket: &mut Socket, namespaces: &[impl AsFd]) -> Result<Vec<Option<Nsid>>, Cause> {
    let give = |namespace: &_| {
        let attributes = vec![of(AsFd::as_fd(namespace)), NsidAttribute::Id(NONE)];
        Request::new(RouteNetlinkMessage::NewNsId(message(attributes)), 0)
    };
    let mut requests: Vec<Request> = namespaces.iter().map(give).collect();
    for result in socket.request(&mut requests) {
        match result {
            // It has one: so it is for all that a veth pair ever led to from here.
            Err(cause) if cause.errno() == Some(libc::EEXIST) => {}
            result => result?,
        }
    }
    let ask = |namespace: &_| vec![of(AsFd::as_fd(namespace))];
    namespaces.iter().map(|namespace| find(socket, ask(namespace))).collect()
}

/// The number that the socket's own namespace has for itself: none, unless somebody gave it one.
pub(crate) fn own(socket: &mut Socket) -> Result<Option<Nsid>, Cause> {
    // A thread's namespace is asked for by its own number, which is not the process's.
    find(socket, vec![NsidAttribute::Pid(nix::unistd::gettid().as_raw() as u32)])
}

fn find(socket: &mut Socket, attributes: Vec<NsidAttribute>) -> Result<Option<Nsid>, Cause> {
    socket.get(Request::new(RouteNetlinkMessage::GetNsId(message(attributes)), 0), read)
}

fn message(attributes: Vec<NsidAttribute>) -> NsidMessage {
    let mut message = NsidMessage::default();
    message.attributes = attributes;
    message
}

fn of(namespace: BorrowedFd<'_>) -> NsidAttribute {
    NsidAttribute::Fd(namespace.as_raw_fd() as u32)
}

fn read(message: &Message<'_>) -> Option<Nsid> {
    let found = NsidMessage::parse(message.payload).ok()?;
    found.attributes.iter().find_map(|attribute| match attribute {
        NsidAttribute::Id(id) if *id != NONE => Some(*id),
        _ => None,
    })
}
