//! Which system calls change anything that outlives the process.

use integration_testkit::Call;

/// All that may: what else they do is told apart by [`outlives`]. A sync changes nothing for who is only killed.
pub(crate) const CALLS: &[i64] = &[
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_openat,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_bpf,
];

/// By which the kernel's answers come.
pub(crate) const ANSWERS: &[i64] = &[libc::SYS_recvfrom];

/// linux/bpf.h: updates and deletions of elements, pins, attachments, links.
const BPF_CHANGES: &[u64] = &[2, 3, 6, 8, 9, 26, 27, 28, 29, 34];
/// linux/netfilter/nfnetlink.h: what every change begins with.
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;

/// Whether dying before this call and dying after it leave different worlds; and whether it takes an answer of the
/// kernel's.
pub(crate) fn outlives(call: &Call<'_>) -> bool {
    match call.number {
        libc::SYS_sendto | libc::SYS_sendmsg => netlink_change(call),
        libc::SYS_write | libc::SYS_writev | libc::SYS_pwrite64 => {
            let target = call.target(call.arguments[0]);
            call.arguments[0] > 2 && target.starts_with('/') && !target.starts_with("/dev/")
        }
        libc::SYS_recvfrom => call.netlink(call.arguments[0]).is_some(),
        libc::SYS_bpf => BPF_CHANGES.contains(&(call.arguments[0] & 0xffff_ffff)),
        _ => true,
    }
}

fn netlink_change(call: &Call<'_>) -> bool {
    let Some(protocol) = call.netlink(call.arguments[0]) else { return false };
    let Some(first) = headers(call).into_iter().next() else { return false };
    match protocol {
        // NEW, DEL, GET, SET, in fours (linux/rtnetlink.h).
        libc::NETLINK_ROUTE => first.kind & 3 != 2,
        _ => first.kind == NFNL_MSG_BATCH_BEGIN,
    }
}

/// Where a message begins in the caller's memory, and what it is (struct nlmsghdr).
struct Header {
    at: u64,
    kind: u16,
}

/// Of all that a call sends in one piece.
fn headers(call: &Call<'_>) -> Vec<Header> {
    let (mut at, length) = if call.number == libc::SYS_sendto {
        (call.arguments[1], call.arguments[2])
    } else {
        // struct msghdr and its first piece.
        let pieces = word(&call.read(call.arguments[1] + 16, 8));
        (word(&call.read(pieces, 8)), word(&call.read(pieces + 8, 8)))
    };
    let end = at + length;
    let mut found = Vec::new();
    while at + 16 <= end {
        let header = call.read(at, 16);
        if header.len() < 16 {
            break;
        }
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
        found.push(Header { at, kind: u16::from_ne_bytes([header[4], header[5]]) });
        at += u64::from(length.max(16).next_multiple_of(4));
    }
    found
}

/// The messages of a call that change something; none for a call of another kind.
fn changing(call: &Call<'_>) -> Vec<Header> {
    let marks = [NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END];
    match call.number {
        libc::SYS_sendto | libc::SYS_sendmsg => {
            headers(call).into_iter().filter(|header| !marks.contains(&header.kind)).collect()
        }
        _ => Vec::new(),
    }
}

pub(crate) fn messages(call: &Call<'_>) -> usize {
    changing(call).len()
}

/// Makes a message one of a kind that nobody knows: the kernel refuses it, with all that it does when it refuses.
pub(crate) fn spoil(call: &Call<'_>, number: usize) {
    let header = &changing(call)[number];
    // The subsystem of netfilter's messages, which is the upper byte, has to stay.
    let kind = (header.kind & 0xff00) | 0xff;
    call.write(header.at + 4, &kind.to_ne_bytes());
}

fn word(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_ne_bytes)
}
