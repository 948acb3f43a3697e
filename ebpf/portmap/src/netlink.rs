//! One request to the kernel's routing netlink, and its answer, for what has no library here (netlink(7), rtnetlink(7)).

use std::{io, os::fd::AsRawFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

const HEADER: usize = size_of::<libc::nlmsghdr>();

/// What the kernel of the calling thread's namespace answers to a message with one attribute of this type.
pub(crate) fn ask(kind: u16, flags: i32, message: &[u8], attribute: (u16, &[u8])) -> io::Result<Vec<u8>> {
    let (raw, cloexec) = (SockType::Raw, SockFlag::SOCK_CLOEXEC);
    let socket = socket(AddressFamily::Netlink, raw, cloexec, SockProtocol::NetlinkRoute)?;
    send(socket.as_raw_fd(), &request(kind, flags, message, attribute), MsgFlags::empty())?;
    let mut answer = vec![0; 1024];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    answer.truncate(length);
    Ok(answer)
}

/// `struct nlmsghdr`, the message, and `struct nlattr` with a value that needs no padding.
fn request(kind: u16, flags: i32, message: &[u8], (of, value): (u16, &[u8])) -> Vec<u8> {
    let attribute = size_of::<libc::nlattr>() + value.len();
    let length = (HEADER + message.len() + attribute) as u32;
    let header = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &(flags as u16).to_ne_bytes(), &[0; 8]];
    let attribute = [(attribute as u16).to_ne_bytes(), of.to_ne_bytes()];
    [&header.concat()[..], message, &attribute.concat(), value].concat()
}

/// An answer of the kernel's to one request: a header, and the negative of an errno or 0.
pub(crate) fn acknowledged(answer: &[u8]) -> io::Result<()> {
    let code = answer.get(HEADER..).and_then(|rest| rest.first_chunk());
    match code.map(|bytes| i32::from_ne_bytes(*bytes)) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer is cut off")),
    }
}
