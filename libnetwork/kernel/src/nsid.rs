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

/// Numbers for sandboxes, each lower than the one before: for whatever a namespace tells, the kernel looks for its number
/// from the lowest on, and a new sandbox has most to tell. (By itself the kernel gives the lowest that is free.)
pub(crate) struct Numbers {
    next: Nsid,
}

/// Far above what the kernel gives by itself, and as far from the end.
const FIRST: Nsid = 1 << 30;
const LAST: Nsid = 1 << 29;

impl Numbers {
    /// Below all that earlier processes gave in the socket's namespace.
    pub(crate) fn open(socket: &mut Socket) -> Result<Self, Cause> {
        let all = socket.dump(Request::new(RouteNetlinkMessage::GetNsId(NsidMessage::default()), 0), read)?;
        let lowest = all.into_iter().filter(|nsid| (LAST..=FIRST).contains(nsid)).min();
        Ok(Self { next: lowest.map_or(FIRST, |lowest| lowest - 1) })
    }

    /// The numbers of namespaces in the socket's own, given to those that had none, in order.
    pub(crate) fn assign(
        &mut self,
        socket: &mut Socket,
        namespaces: &[impl AsFd],
    ) -> Result<Vec<Option<Nsid>>, Cause> {
        let numbers: Vec<Nsid> = namespaces.iter().map(|_| self.take()).collect();
        let give = |(namespace, number)| {
            let attributes = vec![of(AsFd::as_fd(namespace)), NsidAttribute::Id(number)];
            Request::new(RouteNetlinkMessage::NewNsId(message(attributes)), 0)
        };
        let mut requests: Vec<Request> = namespaces.iter().zip(numbers.iter().copied()).map(give).collect();
        let given = socket.request(&mut requests);
        let mut assigned = Vec::with_capacity(numbers.len());
        for ((namespace, number), result) in namespaces.iter().zip(numbers).zip(given) {
            assigned.push(match result {
                Ok(()) => Some(number),
                // It has one: so it is for all that a veth pair ever led to from here. Or somebody else has this one.
                Err(cause) if cause.errno() == Some(libc::EEXIST) => any(socket, namespace.as_fd())?,
                Err(cause) => return Err(cause),
            });
        }
        Ok(assigned)
    }

    fn take(&mut self) -> Nsid {
        let number = self.next;
        self.next = if number > LAST { number - 1 } else { FIRST };
        number
    }
}

/// The number that a namespace has, or any.
fn any(socket: &mut Socket, namespace: BorrowedFd<'_>) -> Result<Option<Nsid>, Cause> {
    if let Some(number) = find(socket, vec![of(namespace)])? {
        return Ok(Some(number));
    }
    let attributes = vec![of(namespace), NsidAttribute::Id(NONE)];
    let mut request = [Request::new(RouteNetlinkMessage::NewNsId(message(attributes)), 0)];
    socket.request(&mut request).into_iter().collect::<Result<(), Cause>>()?;
    find(socket, vec![of(namespace)])
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

#[cfg(test)]
mod tests {
    use std::fs::File;

    use nix::sched::{CloneFlags, unshare};

    use super::*;
    use crate::netlink::Protocol;

    /// A namespace that is there for as long as it is open.
    fn namespace() -> File {
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        made.join().unwrap()
    }

    #[test]
    fn each_number_is_below_those_before_also_of_earlier_processes() {
        let host = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let mut socket = Socket::open(Protocol::Route).unwrap();
            let namespaces: Vec<File> = (0..4).map(|_| namespace()).collect();
            let mut numbers = Numbers::open(&mut socket).unwrap();
            let first = numbers.assign(&mut socket, &namespaces[..2]).unwrap();
            assert_eq!(first, [Some(FIRST), Some(FIRST - 1)]);
            let mut numbers = Numbers::open(&mut socket).unwrap();
            // Those that have one keep it.
            let second = numbers.assign(&mut socket, &namespaces[1..3]).unwrap();
            assert_eq!(second, [Some(FIRST - 1), Some(FIRST - 3)]);
            // One that somebody else took is passed over.
            let mut late = Numbers { next: FIRST - 3 };
            let third = late.assign(&mut socket, &namespaces[3..]).unwrap();
            assert_eq!(third, [Some(0)]);
        });
        host.join().unwrap();
    }
}
