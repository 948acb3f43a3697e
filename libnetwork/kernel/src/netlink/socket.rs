use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use libnetwork_plan::Cause;
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockname, recv,
        sendto, socket,
    },
};

use super::{attributes, i32_at, message::HEADER, text, u16_at, u32_at};
use crate::netlink::Request;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Route,
    Netfilter,
}

/// A netlink socket of the namespace that the opening thread was in, usable from any.
///
/// Blocking, but never for long: the kernel has answered by the time that a request has been sent.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    port: u32,
    sequence: u32,
}

/// A message received: its type, its flags, and what follows its header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    /// Who asked for what it notifies of; 0 for the kernel itself.
    pub(crate) port: u32,
    pub(crate) payload: &'a [u8],
}

/// What [`Socket::poll`] found.
pub(crate) enum Received {
    Messages,
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
const WATCH_BUFFER: libc::c_int = 4 << 20;

// linux/netlink.h
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;

impl Socket {
    pub(crate) fn open(protocol: Protocol) -> Result<Self, Cause> {
        let socket = Self::bound(protocol, 0, SockFlag::SOCK_CLOEXEC)?;
        // Explanations with errors, and no copy of what we sent; both are niceties that old kernels lack.
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
            let _optional = set_option(&socket.fd, libc::SOL_NETLINK, option, 1);
        }
        if protocol == Protocol::Route {
            // Dumps obey the filters in their request (since 4.20).
            set_option(&socket.fd, libc::SOL_NETLINK, libc::NETLINK_GET_STRICT_CHK, 1)?;
        }
        Ok(socket)
    }

    /// A socket that listens to notifications of groups, by their numbers, and never blocks.
    pub(crate) fn watch(protocol: Protocol, groups: &[u32]) -> Result<Self, Cause> {
        let socket = Self::bound(protocol, 0, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
        set_option(&socket.fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, WATCH_BUFFER)?;
        for group in groups {
            set_option(&socket.fd, libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, *group as libc::c_int)?;
        }
        Ok(socket)
    }

    fn bound(protocol: Protocol, groups: u32, flags: SockFlag) -> Result<Self, Cause> {
        let number = match protocol {
            Protocol::Route => SockProtocol::NetlinkRoute,
            Protocol::Netfilter => SockProtocol::NetlinkNetFilter,
        };
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, number).map_err(errno)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups)).map_err(errno)?;
        let own: NetlinkAddr = getsockname(fd.as_raw_fd()).map_err(errno)?;
        Ok(Socket { fd, port: own.pid(), sequence: 0 })
    }

    /// The port that notifications of what we did carry.
    pub(crate) fn port(&self) -> u32 {
        self.port
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
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
            request.add_flags(libc::NLM_F_ACK);
        }
        if let Err(cause) = self.send(requests) {
            return vec![Err(cause); requests.len()];
        }
        let mut results: Vec<Option<Result<(), Cause>>> = vec![None; requests.len()];
        let mut buffer = vec![0; BUFFER];
        while results.iter().any(Option::is_none) {
            let received = match self.receive(&mut buffer, MsgFlags::empty()) {
                Ok(received) => received,
                Err(cause) => return results.into_iter().map(|r| r.unwrap_or(Err(cause.clone()))).collect(),
            };
            for message in messages(received) {
                let place = message.sequence.wrapping_sub(first) as usize;
                if let (true, Some(result)) =
                    (message.kind == libc::NLMSG_ERROR as u16, results.get_mut(place))
                {
                    *result = Some(answer(&message));
                }
            }
        }
        results.into_iter().flatten().collect()
    }

    /// Sends an nftables transaction; everything in it is done or nothing is. The errors, by place.
    pub(crate) fn transaction(&mut self, requests: &mut [Request]) -> Result<(), Vec<(usize, Cause)>> {
        let size: usize = requests.iter().map(Request::len).sum();
        // Must leave in one piece, however many elements there are.
        let room = libc::c_int::try_from(size * 2 + BUFFER).unwrap_or(libc::c_int::MAX);
        let everywhere = |cause: Cause| vec![(0, cause)];
        set_option(&self.fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, room).map_err(everywhere)?;
        let first = self.sequence.wrapping_add(1);
        self.send(requests).map_err(everywhere)?;
        let mut errors = Vec::new();
        let mut buffer = vec![0; BUFFER];
        // All errors are queued by the time that the transaction has been sent, and without one nothing is.
        loop {
            match self.receive(&mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(received) => {
                    let failed = messages(received).filter(|m| m.kind == libc::NLMSG_ERROR as u16);
                    errors.extend(
                        failed.filter_map(|m| {
                            Some((m.sequence.wrapping_sub(first) as usize, answer(&m).err()?))
                        }),
                    );
                }
                Err(Cause::Errno(libc::EAGAIN)) => break,
                Err(cause) => errors.push((0, cause)),
            }
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
        request.add_flags(libc::NLM_F_DUMP);
        for _ in 0..ATTEMPTS {
            let mut found = Vec::new();
            if self.dump_once(&mut request, &mut |message| found.extend(read(message)))? {
                return Ok(found);
            }
        }
        Err(Cause::Interrupted)
    }

    /// False when it was interrupted.
    fn dump_once(
        &mut self,
        request: &mut Request,
        each: &mut dyn FnMut(&Message<'_>),
    ) -> Result<bool, Cause> {
        self.send(std::slice::from_mut(request))?;
        let (sequence, mut whole) = (self.sequence, true);
        let mut buffer = vec![0; BUFFER];
        loop {
            let received = self.receive(&mut buffer, MsgFlags::empty())?;
            for message in messages(received).filter(|m| m.sequence == sequence) {
                whole &= message.flags & NLM_F_DUMP_INTR == 0;
                match i32::from(message.kind) {
                    libc::NLMSG_DONE => {
                        return match i32_at(message.payload, 0) {
                            Some(error) if error < 0 && -error == libc::EINTR => Ok(false),
                            Some(error) if error < 0 => Err(Cause::Errno(-error)),
                            _ => Ok(whole),
                        };
                    }
                    libc::NLMSG_ERROR => match answer(&message) {
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
        let mut buffer = vec![0; BUFFER];
        loop {
            let received = self.receive(&mut buffer, MsgFlags::empty())?;
            let Some(message) = messages(received).find(|m| m.sequence == sequence) else { continue };
            if message.kind != libc::NLMSG_ERROR as u16 {
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

    /// Hands over what waits, without blocking.
    pub(crate) fn poll(&mut self, buffer: &mut Vec<u8>, mut each: impl FnMut(&Message<'_>)) -> Received {
        buffer.resize(BUFFER, 0);
        match self.receive(buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(received) => {
                messages(received).for_each(|message| each(&message));
                Received::Messages
            }
            Err(Cause::Errno(libc::EAGAIN)) => Received::Nothing,
            Err(_) => Received::Overrun,
        }
    }

    fn send(&mut self, requests: &mut [Request]) -> Result<(), Cause> {
        // One piece of memory: a list of pieces ends at 1,024 (UIO_MAXIOV).
        let mut bytes = Vec::with_capacity(requests.iter().map(Request::len).sum());
        for request in requests {
            self.sequence = self.sequence.wrapping_add(1);
            bytes.extend_from_slice(request.seal(self.sequence));
        }
        let kernel = NetlinkAddr::new(0, 0);
        loop {
            match sendto(self.fd.as_raw_fd(), &bytes, &kernel, MsgFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(errno(e)),
            }
        }
    }

    fn receive<'b>(&self, buffer: &'b mut [u8], flags: MsgFlags) -> Result<&'b [u8], Cause> {
        loop {
            match recv(self.fd.as_raw_fd(), buffer, flags | MsgFlags::MSG_TRUNC) {
                Ok(length) if length > buffer.len() => return Err(Cause::Errno(libc::EMSGSIZE)),
                Ok(length) => return Ok(&buffer[..length]),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(errno(e)),
            }
        }
    }
}

fn errno(errno: Errno) -> Cause {
    Cause::Errno(errno as i32)
}

fn set_option(
    fd: &OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> Result<(), Cause> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open, and `value` is as long as we say for the time of the call.
    let done = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, (&raw const value).cast(), length) };
    if done == 0 { Ok(()) } else { Err(Cause::Errno(io::Error::last_os_error().raw_os_error().unwrap_or(0))) }
}

fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = u32_at(bytes, 0)? as usize;
        let message = Message {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            port: u32_at(bytes, 12)?,
            payload: bytes.get(HEADER..length)?,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// struct nlmsgerr: the errno negated, the header of what was asked, then (after its payload, unless that was cut off)
/// attributes that explain.
fn answer(message: &Message<'_>) -> Result<(), Cause> {
    let errno = match i32_at(message.payload, 0) {
        Some(0) => return Ok(()),
        Some(errno) => -errno,
        None => return Err(Cause::Answer("an error without a number".into())),
    };
    if message.flags & NLM_F_ACK_TLVS == 0 {
        return Err(Cause::Errno(errno));
    }
    let asked = u32_at(message.payload, 4).unwrap_or(0) as usize;
    let copied = if message.flags & NLM_F_CAPPED != 0 { HEADER } else { asked.next_multiple_of(4) };
    let explanation = attributes(message.payload.get(4 + copied..).unwrap_or_default())
        .find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)
        .map(|(_, value)| text(value).to_owned());
    Err(match explanation {
        Some(message) => Cause::Explained { errno, message },
        None => Cause::Errno(errno),
    })
}
