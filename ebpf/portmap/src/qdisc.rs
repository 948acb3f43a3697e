//! The ingress qdisc, which aya has no call for. Its clsact is one as well, with an egress besides; the kernel keeps every
//! such side of every interface of the machine in one list, and searches all of it each time (net/core/flow_offload.c): a
//! side that stays empty makes the next bridge dearer.

use std::io;

use crate::netlink;

/// linux/pkt_sched.h
const TC_H_INGRESS: u32 = 0xffff_fff1;
const HANDLE: u32 = 0xffff_0000;
/// linux/rtnetlink.h
const TCA_KIND: u16 = 1;
const KIND: &[u8; 8] = b"ingress\0";

/// Gives the interface of the calling thread's namespace the qdisc. EEXIST: it has it, or a clsact.
pub(crate) fn add_ingress(index: u32) -> io::Result<()> {
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    // `struct tcmsg` (linux/rtnetlink.h): of no family, with nothing more to say.
    let message = [0, index, HANDLE, TC_H_INGRESS, 0].map(u32::to_ne_bytes).concat();
    netlink::acknowledged(&netlink::ask(libc::RTM_NEWQDISC, flags, &message, (TCA_KIND, KIND))?)
}
