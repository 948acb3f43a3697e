//! The neighbour who seems to ask. What the filter answers makes the kernel ask for his address (ARP, neighbour discovery),
//! and again a second and two later, when the uplink is silent no more: it is made to forget him.

use std::{io, net::IpAddr, os::fd::AsRawFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use crate::qdisc::acknowledged;

/// linux/neighbour.h
const NDA_DST: u16 = 1;
const NUD_INCOMPLETE: u16 = 0x01;
/// Where `struct nlmsghdr` has its type.
const KIND: usize = 4;
/// Where `struct ndmsg` has its `ndm_state`, behind a header.
const STATE: usize = size_of::<libc::nlmsghdr>() + 8;

/// Forgets a neighbour of the calling thread's namespace whose address is still asked for. One who is known stays.
pub(super) fn forget_unfound(index: u32, neighbour: IpAddr) -> io::Result<()> {
    if !is_asked_for(index, neighbour)? {
        return Ok(());
    }
    let answer = ask(libc::RTM_DELNEIGH, libc::NLM_F_REQUEST | libc::NLM_F_ACK, index, neighbour)?;
    match acknowledged(&answer) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Whether the kernel waits for the neighbour to say his address.
pub(super) fn is_asked_for(index: u32, neighbour: IpAddr) -> io::Result<bool> {
    let found = ask(libc::RTM_GETNEIGH, libc::NLM_F_REQUEST, index, neighbour)?;
    let word = |at: usize| found.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes);
    // Else it is an error: nobody was asked for.
    Ok(word(KIND) == Some(libc::RTM_NEWNEIGH) && word(STATE) == Some(NUD_INCOMPLETE))
}

fn ask(kind: u16, flags: i32, index: u32, neighbour: IpAddr) -> io::Result<Vec<u8>> {
    let (raw, cloexec) = (SockType::Raw, SockFlag::SOCK_CLOEXEC);
    let socket = socket(AddressFamily::Netlink, raw, cloexec, SockProtocol::NetlinkRoute)?;
    send(socket.as_raw_fd(), &request(kind, flags, index, neighbour), MsgFlags::empty())?;
    let mut answer = vec![0; 1024];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    answer.truncate(length);
    Ok(answer)
}

/// `struct nlmsghdr`, `struct ndmsg` and one attribute (netlink(7), rtnetlink(7)).
fn request(kind: u16, flags: i32, index: u32, neighbour: IpAddr) -> Vec<u8> {
    let (family, address) = match neighbour {
        IpAddr::V4(ip) => (libc::AF_INET, ip.octets().to_vec()),
        IpAddr::V6(ip) => (libc::AF_INET6, ip.octets().to_vec()),
    };
    let mut body = vec![family as u8, 0, 0, 0];
    body.extend(index.to_ne_bytes());
    // State, flags and type are the kernel's to say.
    body.extend([0; 4]);
    let length = (size_of::<libc::nlattr>() + address.len()) as u16;
    body.extend([length.to_ne_bytes(), NDA_DST.to_ne_bytes()].concat());
    body.extend(address);
    let length = (size_of::<libc::nlmsghdr>() + body.len()) as u32;
    let header = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &(flags as u16).to_ne_bytes(), &[0; 8]];
    [&header.concat()[..], &body].concat()
}
