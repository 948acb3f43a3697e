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

/// linux/bpf.h: updates and deletions of elements, pins, attachments, links.
const BPF_CHANGES: &[u64] = &[2, 3, 6, 8, 9, 26, 27, 28, 29, 34];
/// linux/netfilter/nfnetlink.h: what every change begins with.
const NFNL_MSG_BATCH_BEGIN: u16 = 16;

/// Whether dying before this call and dying after it leave different worlds.
pub(crate) fn outlives(call: &Call<'_>) -> bool {
    match call.number {
        libc::SYS_sendto | libc::SYS_sendmsg => netlink_change(call),
        libc::SYS_write | libc::SYS_writev | libc::SYS_pwrite64 => {
            let target = call.target(call.arguments[0]);
            call.arguments[0] > 2 && target.starts_with('/') && !target.starts_with("/dev/")
        }
        libc::SYS_bpf => BPF_CHANGES.contains(&(call.arguments[0] & 0xffff_ffff)),
        _ => true,
    }
}

fn netlink_change(call: &Call<'_>) -> bool {
    let [fd, address, ..] = call.arguments;
    let Some(protocol) = call.netlink(fd) else { return false };
    let begin = if call.number == libc::SYS_sendto {
        call.read(address, 16)
    } else {
        // struct msghdr, whose first piece has the first header.
        let pieces = word(&call.read(address + 16, 8));
        call.read(word(&call.read(pieces, 8)), 16)
    };
    let kind = u16::from_ne_bytes([begin[4], begin[5]]);
    match protocol {
        // NEW, DEL, GET, SET, in fours (linux/rtnetlink.h).
        libc::NETLINK_ROUTE => kind & 3 != 2,
        _ => kind == NFNL_MSG_BATCH_BEGIN,
    }
}

fn word(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_ne_bytes)
}
