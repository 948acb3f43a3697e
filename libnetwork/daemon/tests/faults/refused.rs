//! Each change refused once: the call that makes it fails, or the kernel refuses one message of those that went together.
//! The command fails with a reason and leaves nothing, or gets over it; the daemon lives; the same command succeeds the
//! next time; and in the end nothing is left.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use integration_testkit::{Call, Verdict};
use libnetwork_rpc::is_transport;
use nix::errno::Errno;

use crate::{
    changes::{ANSWERS, CALLS, messages, spoil},
    host::Host,
    picture::picture,
    process::{Process, proceed, ready},
    walk::{FOREIGN, STEPS, comes_to, references, step},
};

/// What a call may fail with, told by the manual pages; for the netlink sockets what the kernel says when it has no
/// memory, no place, no time or no wish.
fn errno(call: &Call<'_>, number: usize) -> Errno {
    let of: &[Errno] = match call.number {
        libc::SYS_sendto | libc::SYS_sendmsg => &[Errno::ENOBUFS, Errno::ENOMEM, Errno::EPERM, Errno::EBUSY],
        libc::SYS_bpf => &[Errno::ENOMEM, Errno::E2BIG, Errno::EPERM, Errno::EBUSY],
        libc::SYS_mount | libc::SYS_umount2 => &[Errno::ENOMEM, Errno::EPERM, Errno::EBUSY],
        libc::SYS_unshare => &[Errno::ENOSPC, Errno::ENOMEM],
        libc::SYS_openat => &[Errno::ENOSPC, Errno::EMFILE, Errno::EACCES],
        _ => &[Errno::ENOSPC, Errno::EIO],
    };
    of[number % of.len()]
}

/// What is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// A call that changes something.
    Call,
    /// One message of those that a call sends.
    Message,
    /// The kernel's answer: it did what it was asked for, and had no place to say so.
    Answer,
}

/// Refuses the change of a number, and no other. Tells whether it came to that.
fn refuse(process: &Process, number: usize, fault: Fault) -> Arc<AtomicBool> {
    let refused = Arc::new(AtomicBool::new(false));
    let (told, mut left) = (refused.clone(), Some(number));
    process.judge(move |call| {
        let Some(before) = left else { return Verdict::Proceed };
        // Of messages that go in one piece each is a change.
        let changes = if fault == Fault::Message { messages(call) } else { 1 };
        left = before.checked_sub(changes);
        if left.is_some() {
            return Verdict::Proceed;
        }
        told.store(true, Ordering::SeqCst);
        match fault {
            Fault::Call => Verdict::Refuse(errno(call, number)),
            Fault::Answer => Verdict::Refuse(Errno::ENOBUFS),
            Fault::Message => {
                spoil(call, before);
                Verdict::Proceed
            }
        }
    });
    refused
}

/// Walks until every change of every step was refused once. How many those were.
async fn refuse_each(fault: Fault) -> usize {
    let host = Host::new("refused");
    host.sh(FOREIGN);
    let calls = if fault == Fault::Answer { ANSWERS } else { CALLS };
    let process = Process::asking(&host, calls, proceed);
    let mut client = ready(&host).await;
    let references = references(&host, &mut client).await;
    // The change to be refused next, by step; none when there is none left.
    let mut next = [Some(0); STEPS];
    let mut refusals = 0;
    // Most answers are to questions, and alike.
    let stride = if fault == Fault::Answer { 3 } else { 1 };
    while next.iter().any(Option::is_some) {
        for (number, next) in next.iter_mut().enumerate() {
            loop {
                let refused = next.map(|change| refuse(&process, change, fault));
                let answer = step(&mut client, number).await;
                let refused = refused.is_some_and(|refused| refused.load(Ordering::SeqCst));
                process.judge(proceed);
                let change = *next;
                *next = next.filter(|_| refused).map(|change| change + stride);
                refusals += usize::from(refused);
                // Where nothing was refused, or it got over it, the next failure shows what is wrong.
                let Err(status) = answer else { break };
                let when = format!("step {number}, refused change {change:?}: {status}");
                assert!(refused && !is_transport(&status) && !status.message().is_empty(), "{when}");
                comes_to(&host, &mut client, &references[number..=number + 1], &when).await;
                if picture(&host, &mut client).await == references[number + 1] {
                    break;
                }
            }
        }
        comes_to(&host, &mut client, &references[..1], "at the end of a walk").await;
    }
    assert!(!process.has_ended());
    refusals
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_fails_fails_its_command_whole() {
    let refusals = refuse_each(Fault::Call).await;
    eprintln!("{refusals} calls refused");
    assert!(refusals > 100, "{refusals}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_the_kernel_refuses_fails_its_command_whole() {
    let refusals = refuse_each(Fault::Message).await;
    eprintln!("{refusals} messages refused");
    assert!(refusals > 50, "{refusals}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_fails_its_command_whole() {
    let refusals = refuse_each(Fault::Answer).await;
    eprintln!("{refusals} answers lost");
    assert!(refusals > 50, "{refusals}");
}
