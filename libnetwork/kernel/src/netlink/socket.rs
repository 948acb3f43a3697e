use std::{
    io::{self, IoSliceMut},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use libnetwork_plan::Cause;
use netlink_packet_core::{
    DoneBuffer, ErrorBuffer, NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP, NLM_F_DUMP_INTR,
    NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, parse_string,
};
use netlink_sys::{
    SocketAddr,
    protocols::{NETLINK_NETFILTER, NETLINK_ROUTE, NETLINK_SOCK_DIAG},
};
use nix::{
    errno::Errno,
    sys::socket::{CmsgIterator, ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt},
};

use super::{
    Request, attributes,
    read::{Message, messages},
};
use crate::{nsid::Nsid, thread::cause};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Route,
    Netfilter,
    Diagnostics,
}

/// A netlink socket of the namespace that the opening thread was in, usable from any.
///
/// Blocking, but never for long: the kernel has answered by the time that a request has been sent.
#[derive(Debug)]
pub(crate) struct Socket {
    inner: netlink_sys::Socket,
    port: u32,
    sequence: u32,
}

/// What [`Socket::poll`] found.
pub(crate) enum Received {
    /// So many bytes of them.
    Messages(usize),
    Nothing,
    /// Notifications were dropped, since nobody read them in time.
    Overrun,
}

/// As many requests as go out in one piece: their acknowledgements must fit the receive buffer.
const PIPELINE: usize = 64;
/// Dumps come in pieces of up to 32 KiB (NETLINK_DUMP, net/netlink/af_netlink.c).
const BUFFER: usize = 64 * 1024;
/// A table that changes under a listing is listed again this often.
const ATTEMPTS: usize = 10;
/// Notifications wait here for their reader; counted against the socket, not set aside.
const WATCH_BUFFER: usize = 4 << 20;
/// What a notification takes of it at least, besides its own bytes (struct sk_buff and skb_shared_info).
const NOTIFICATION: usize = 512;

/// struct nlmsghdr.
const HEADER: usize = 16;
/// linux/netlink.h
const NLMSGERR_ATTR_MSG: u16 = 1;

/// Reads as much as can have waited, whole: what comes while it reads is the next call's. True when something was lost, or is
/// left, so that nobody knows of what is still to come whether it was before or after. A sender who is as fast as this would
/// otherwise keep it here for good.
pub(crate) fn drain(mut poll: impl FnMut() -> Received) -> bool {
    // The kernel doubles what is asked for (SO_RCVBUF, socket(7)).
    let (mut room, mut lost) = (2 * WATCH_BUFFER, false);
    loop {
        let taken = match poll() {
            Received::Nothing => return lost,
            Received::Messages(bytes) => bytes,
            Received::Overrun => {
                lost = true;
                0
            }
        };
        match room.checked_sub(taken + NOTIFICATION) {
            Some(rest) => room = rest,
            None => return true,
        }
    }
}

impl Socket {
    pub(crate) fn open(protocol: Protocol) -> Result<Self, Cause> {
        let socket = Self::bound(protocol)?;
        // Explanations with errors, and no copy of what we sent; both are niceties that old kernels lack.
        let _optional = socket.inner.set_ext_ack(true);
        let _optional = socket.inner.set_cap_ack(true);
        if protocol == Protocol::Route {
            // Dumps obey the filters in their request (since 4.20).
            socket.inner.set_netlink_get_strict_chk(true).map_err(cause)?;
        }
        Ok(socket)
    }

    /// A socket that listens to notifications of groups, by their numbers, and never blocks. It hears what happens in its
    /// own namespace and in all that this one has a number for.
    pub(crate) fn watch(protocol: Protocol, groups: &[u32]) -> Result<Self, Cause> {
        let socket = Self::bound(protocol)?;
        socket.inner.set_non_blocking(true).map_err(cause)?;
        socket.inner.set_listen_all_namespaces(true).map_err(cause)?;
        setsockopt(&socket.inner, sockopt::RcvBufForce, &WATCH_BUFFER).map_err(|e| cause(e.into()))?;
        for group in groups {
            socket.inner.add_membership(*group).map_err(cause)?;
        }
        Ok(socket)
    }

    fn bound(protocol: Protocol) -> Result<Self, Cause> {
        let number = match protocol {
            Protocol::Route => NETLINK_ROUTE,
            Protocol::Netfilter => NETLINK_NETFILTER,
            Protocol::Diagnostics => NETLINK_SOCK_DIAG,
        };
        let mut inner = netlink_sys::Socket::new(number).map_err(cause)?;
        let own = inner.bind_auto().map_err(cause)?;
        Ok(Socket { inner, port: own.port_number(), sequence: 0 })
    }

    /// The port that notifications of what we did carry.
    pub(crate) fn port(&self) -> u32 {
        self.port
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }

    /// Sends requests in one piece and returns the kernel's answer to each.
    pub(crate) fn request(&mut self, requests: &mut [Request]) -> Vec<Result<(), Cause>> {
        let mut results = Vec::with_capacity(requests.len());
        for chunk in requests.chunks_mut(PIPELINE) {
            results.extend(self.request_chunk(chunk));
        }
        results
    }

    fn request_chunk(&mut self, requests: &mut [Request]) -> Vec<Result<(), Cause>> {
        let first = self.sequence.wrapping_add(1);
        for request in requests.iter_mut() {
            request.add_flags(NLM_F_ACK);
        }
        if let Err(cause) = self.send(requests) {
            return vec![Err(cause); requests.len()];
        }
        let mut results: Vec<Option<Result<(), Cause>>> = vec![None; requests.len()];
        let mut buffer = Vec::with_capacity(BUFFER);
        while results.iter().any(Option::is_none) {
            let received = match self.receive(&mut buffer, 0) {
                Ok(received) => received,
                Err(cause) => return results.into_iter().map(|r| r.unwrap_or(Err(cause.clone()))).collect(),
            };
            for message in messages(received) {
                let place = message.sequence.wrapping_sub(first) as usize;
                if let (true, Some(result)) = (message.kind == NLMSG_ERROR, results.get_mut(place)) {
                    *result = Some(answer(&message));
                }
            }
        }
        results.into_iter().flatten().collect()
    }

    /// Sends an nftables transaction; everything in it is done or nothing is. The errors, by place; of many perhaps not all.
    pub(crate) fn transaction(&mut self, requests: &mut [Request]) -> Result<(), Vec<(usize, Cause)>> {
        let size: usize = requests.iter().map(Request::len).sum();
        // Must leave in one piece, however many elements there are.
        let room = (size * 2 + BUFFER).min(libc::c_int::MAX as usize);
        let everywhere = |cause: Cause| vec![(0, cause)];
        setsockopt(&self.inner, sockopt::SndBufForce, &room).map_err(|e| everywhere(cause(e.into())))?;
        let first = self.sequence.wrapping_add(1);
        self.send(requests).map_err(everywhere)?;
        let (mut errors, mut lost) = (Vec::new(), None);
        let mut buffer = Vec::with_capacity(BUFFER);
        // All errors are queued by the time that the transaction has been sent, and without one nothing is.
        loop {
            match self.receive(&mut buffer, libc::MSG_DONTWAIT) {
                Ok(received) => {
                    let failed = messages(received).filter(|m| m.kind == NLMSG_ERROR);
                    errors.extend(
                        failed.filter_map(|m| {
                            Some((m.sequence.wrapping_sub(first) as usize, answer(&m).err()?))
                        }),
                    );
                }
                Err(Cause::Errno(libc::EAGAIN)) => break,
                // More were refused than the receive buffer holds answers for. Who leaves out those that are told, and tries
                // again, hears of the others.
                Err(cause @ Cause::Errno(libc::ENOBUFS)) => lost = Some(cause),
                Err(cause) => errors.push((0, cause)),
            }
        }
        if errors.is_empty() {
            errors.extend(lost.map(|cause| (0, cause)));
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Lists what the request asks for; `read` picks what it wants of each message. Listed again when the kernel says
    /// that its tables changed meanwhile.
    pub(crate) fn dump<T>(
        &mut self,
        mut request: Request,
        mut read: impl FnMut(&Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, Cause> {
        request.add_flags(NLM_F_DUMP);
        for _ in 0..ATTEMPTS {
            let mut found = Vec::new();
            if self.dump_once(&mut request, &mut |message| found.extend(read(message)))? {
                return Ok(found);
            }
        }
        Err(Cause::Interrupted)
    }

    /// False when it was interrupted.
    pub(super) fn dump_once(
        &mut self,
        request: &mut Request,
        each: &mut dyn FnMut(&Message<'_>),
    ) -> Result<bool, Cause> {
        self.send(std::slice::from_mut(request))?;
        let (sequence, mut whole) = (self.sequence, true);
        let mut buffer = Vec::with_capacity(BUFFER);
        loop {
            let received = self.receive(&mut buffer, 0)?;
            for message in messages(received).filter(|m| m.sequence == sequence) {
                whole &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.kind {
                    NLMSG_DONE => {
                        return match DoneBuffer::new_checked(message.payload).map_or(0, |done| done.code()) {
                            error if error < 0 && -error == libc::EINTR => Ok(false),
                            error if error < 0 => Err(Cause::Errno(-error)),
                            _ => Ok(whole),
                        };
                    }
                    NLMSG_ERROR => match answer(&message) {
                        Err(Cause::Errno(libc::EINTR | libc::EAGAIN)) => return Ok(false),
                        Err(cause) => return Err(cause),
                        Ok(()) => {}
                    },
                    _ => each(&message),
                }
            }
        }
    }

    /// Asks for one thing. None when it does not exist.
    pub(crate) fn get<T>(
        &mut self,
        mut request: Request,
        read: impl FnOnce(&Message<'_>) -> Option<T>,
    ) -> Result<Option<T>, Cause> {
        self.send(std::slice::from_mut(&mut request))?;
        let sequence = self.sequence;
        let mut buffer = Vec::with_capacity(BUFFER);
        loop {
            let received = self.receive(&mut buffer, 0)?;
            let Some(message) = messages(received).find(|m| m.sequence == sequence) else { continue };
            if message.kind != NLMSG_ERROR {
                return Ok(read(&message));
            }
            return match answer(&message) {
                Err(cause) if matches!(cause.errno(), Some(libc::ENODEV | libc::ENOENT | libc::ENXIO)) => {
                    Ok(None)
                }
                Err(cause) => Err(cause),
                Ok(()) => Ok(None),
            };
        }
    }

    /// Hands over what waits, without blocking: each message, and in which other namespace it happened.
    pub(crate) fn poll(
        &mut self,
        buffer: &mut Vec<u8>,
        mut each: impl FnMut(Option<Nsid>, &Message<'_>),
    ) -> Received {
        buffer.resize(BUFFER, 0);
        let mut control = nix::cmsg_space!(Nsid);
        let mut pieces = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let (length, nsid) = loop {
            match recvmsg::<()>(self.inner.as_raw_fd(), &mut pieces, Some(&mut control), flags) {
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Received::Nothing,
                // What did not fit is as lost as what was dropped.
                Ok(received) if received.flags.contains(MsgFlags::MSG_TRUNC) => return Received::Overrun,
                Ok(received) => break (received.bytes, received.cmsgs().ok().and_then(origin)),
                Err(_) => return Received::Overrun,
            }
        };
        messages(&buffer[..length]).for_each(|message| each(nsid, &message));
        Received::Messages(length)
    }

    fn send(&mut self, requests: &mut [Request]) -> Result<(), Cause> {
        // One piece of memory: a list of pieces ends at 1,024 (UIO_MAXIOV).
        let mut bytes = Vec::with_capacity(requests.iter().map(Request::len).sum());
        for request in requests {
            self.sequence = self.sequence.wrapping_add(1);
            bytes.extend_from_slice(request.seal(self.sequence));
        }
        let kernel = SocketAddr::new(0, 0);
        loop {
            match self.inner.send_to(&bytes, &kernel, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(cause(error)),
            }
        }
    }

    /// What comes next, in place of what is in the buffer, as far as that has room.
    fn receive<'b>(&self, buffer: &'b mut Vec<u8>, flags: libc::c_int) -> Result<&'b [u8], Cause> {
        loop {
            buffer.clear();
            match self.inner.recv(buffer, flags | libc::MSG_TRUNC) {
                Ok(length) if length > buffer.len() => return Err(Cause::Errno(libc::EMSGSIZE)),
                Ok(_) => return Ok(buffer),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(cause(error)),
            }
        }
    }
}

/// The namespace that a notification comes from, where that is not the socket's own.
fn origin(mut notes: CmsgIterator<'_>) -> Option<Nsid> {
    notes.find_map(|note| match note {
        ControlMessageOwned::Unknown(note)
            if note.cmsg_header.cmsg_level == libc::SOL_NETLINK
                && note.cmsg_header.cmsg_type == libc::NETLINK_LISTEN_ALL_NSID =>
        {
            note.data_bytes.first_chunk().map(|bytes| Nsid::from_ne_bytes(*bytes))
        }
        _ => None,
    })
}

/// struct nlmsgerr: the errno negated, the header of what was asked, then (after its payload, unless that was cut off)
/// attributes that explain.
fn answer(message: &Message<'_>) -> Result<(), Cause> {
    let error = ErrorBuffer::new_checked(message.payload);
    let error = error.map_err(|_| Cause::Answer("an error without a number".into()))?;
    let Some(code) = error.code() else { return Ok(()) };
    let errno = -code.get();
    if message.flags & NLM_F_ACK_TLVS == 0 {
        return Err(Cause::Errno(errno));
    }
    let asked = error.payload();
    let copied = match NetlinkBuffer::new(asked) {
        _ if message.flags & NLM_F_CAPPED != 0 || asked.len() < HEADER => HEADER,
        header => (header.length() as usize).next_multiple_of(4),
    };
    let explanation = attributes(asked.get(copied..).unwrap_or_default())
        .find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)
        .and_then(|attribute| parse_string(attribute.value()).ok());
    Err(match explanation {
        Some(message) => Cause::Explained { errno, message },
        None => Cause::Errno(errno),
    })
}
