//! The neighbour who seems to ask. What the filter answers makes the kernel ask for his address (ARP, neighbour discovery),
//! and again a second and two later, when the uplink is silent no more: it is made to forget him.

use std::{io, net::IpAddr};

use crate::netlink;

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
    match netlink::acknowledged(&answer) {
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
    let (family, address) = match neighbour {
        IpAddr::V4(ip) => (libc::AF_INET, ip.octets().to_vec()),
        IpAddr::V6(ip) => (libc::AF_INET6, ip.octets().to_vec()),
    };
    // `struct ndmsg` (linux/neighbour.h): state, flags and type are the kernel's to say.
    let message = [[family as u8, 0, 0, 0], index.to_ne_bytes(), [0; 4]].concat();
    netlink::ask(kind, flags, &message, (NDA_DST, &address))
}
