//! Against the kernel, in a namespace of the test's own.

#![allow(clippy::unwrap_used)]

use std::{
    io::Write,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, unshare};

use super::{Protocol, Socket, drain};
use crate::{inet, link};

/// More than one piece of a listing holds.
const LASTING: usize = 100;

fn batch(lines: impl Iterator<Item = String>) {
    let mut ip = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let text = lines.collect::<Vec<_>>().join("\n");
    ip.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(ip.wait().unwrap().success());
}

/// Runs `test` while links come and go beside [`LASTING`] that stay.
fn beside_changes(test: impl FnOnce(&mut Socket) + Send) {
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let here = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            batch((0..LASTING).map(|n| format!("link add lasting{n} type bridge")));
            std::thread::scope(|scope| {
                // A thread begins in the namespace of the one that starts it.
                let changes = scope.spawn(|| {
                    while !ended.load(Ordering::Relaxed) {
                        let come = (0..50).map(|n| format!("link add passing{n} type bridge"));
                        batch(come.chain((0..50).map(|n| format!("link del passing{n}"))));
                    }
                });
                let mut socket = Socket::open(Protocol::Route).unwrap();
                let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&mut socket)));
                ended.store(true, Ordering::Relaxed);
                changes.join().unwrap();
                if let Err(panic) = done {
                    std::panic::resume_unwind(panic);
                }
            });
        });
        if let Err(panic) = here.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn a_listing_that_the_kernel_calls_interrupted_is_not_taken_for_whole() {
    beside_changes(|socket| {
        let (mut interrupted, deadline) = (false, Instant::now() + Duration::from_secs(180));
        while !interrupted {
            assert!(Instant::now() < deadline, "no listing was interrupted");
            interrupted = !socket.dump_once(&mut dump_of_links(), &mut |_| {}).unwrap();
        }
    });
}

fn dump_of_links() -> super::Request {
    let mut request = link::question(Default::default());
    request.add_flags(netlink_packet_core::NLM_F_DUMP);
    request
}

#[test]
fn who_makes_changes_as_fast_as_they_are_read_keeps_no_reader() {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let mut sender = Socket::open(Protocol::Route).unwrap();
            let loopback = link::list(&mut sender).unwrap()[0].index;
            let mut watcher = Socket::watch(Protocol::Route, &[5]).unwrap();
            let address = "198.18.0.1/32".parse().unwrap();
            let (mut buffer, mut reads) = (Vec::new(), 0);
            let is_lost = drain(|| {
                let change =
                    [inet::create_address(loopback, address), inet::delete_address(loopback, address)];
                for result in sender.request(&mut Vec::from(change)) {
                    result.unwrap();
                }
                reads += 1;
                assert!(reads < 50_000, "it reads on and on");
                watcher.poll(&mut buffer, |_, _| {})
            });
            assert!(is_lost, "nobody knows when what is left was done");
            // What fits is read whole, and nothing of it is lost.
            while drain(|| watcher.poll(&mut buffer, |_, _| {})) {}
            for _ in 0..1000 {
                let change =
                    [inet::create_address(loopback, address), inet::delete_address(loopback, address)];
                sender.request(&mut Vec::from(change)).into_iter().for_each(|result| result.unwrap());
            }
            let mut heard = 0;
            assert!(!drain(|| watcher.poll(&mut buffer, |_, _| heard += 1)));
            assert_eq!(heard, 2000);
        });
    });
}
