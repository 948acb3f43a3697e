//! The ingress qdisc, which aya has no call for. Its clsact is one as well, with an egress besides; the kernel keeps every
//! such side of every interface of the machine in one list, and searches all of it each time (net/core/flow_offload.c): a
//! side that stays empty makes the next bridge dearer.

use std::{io, mem, os::fd::AsRawFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

/// linux/pkt_sched.h
const TC_H_INGRESS: u32 = 0xffff_fff1;
const HANDLE: u32 = 0xffff_0000;
/// linux/rtnetlink.h
const TCA_KIND: u16 = 1;
const KIND: &[u8; 8] = b"ingress\0";

/// linux/rtnetlink.h
#[repr(C)]
struct TcMsg {
    family: u8,
    pad: [u8; 3],
    index: i32,
    handle: u32,
    parent: u32,
    info: u32,
}

#[repr(C)]
struct Request {
    header: libc::nlmsghdr,
    message: TcMsg,
    kind: libc::nlattr,
    value: [u8; 8],
}

/// Gives the interface of the calling thread's namespace the qdisc. EEXIST: it has it, or a clsact.
pub(crate) fn add_ingress(index: u32) -> io::Result<()> {
    let request = Request {
        header: libc::nlmsghdr {
            nlmsg_len: size_of::<Request>() as u32,
            nlmsg_type: libc::RTM_NEWQDISC,
            nlmsg_flags: (libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL)
                as u16,
            nlmsg_seq: 1,
            nlmsg_pid: 0,
        },
        message: TcMsg {
            family: 0,
            pad: [0; 3],
            index: index as i32,
            handle: HANDLE,
            parent: TC_H_INGRESS,
            info: 0,
        },
        kind: libc::nlattr { nla_len: (size_of::<libc::nlattr>() + KIND.len()) as u16, nla_type: TCA_KIND },
        value: *KIND,
    };
    let (kind, flags) = (SockType::Raw, SockFlag::SOCK_CLOEXEC);
    let socket = socket(AddressFamily::Netlink, kind, flags, SockProtocol::NetlinkRoute)?;
    // SAFETY: four structures of integers without a gap between them, all bytes of which are set.
    let bytes =
        unsafe { std::slice::from_raw_parts((&raw const request).cast::<u8>(), size_of::<Request>()) };
    send(socket.as_raw_fd(), bytes, MsgFlags::empty())?;
    let mut answer = [0; 512];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    acknowledged(&answer[..length])
}

/// An answer of the kernel's to one request: a header, and the negative of an errno or 0 (netlink(7)).
pub(crate) fn acknowledged(answer: &[u8]) -> io::Result<()> {
    let code = answer.get(size_of::<libc::nlmsghdr>()..).and_then(|rest| rest.first_chunk());
    match code.map(|bytes| i32::from_ne_bytes(*bytes)) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer is cut off")),
    }
}

const _: () = assert!(size_of::<Request>() == 16 + 20 + 4 + 8 && mem::align_of::<Request>() == 4);
