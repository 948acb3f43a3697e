//! Signals that come while programs are loaded.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::{
    collections::BTreeMap,
    fs, process,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use integration_testkit::SetWhenDropped;
use nix::unistd::gettid;
use world::{World, talk::PATIENCE, web};

/// The verifier leaves its work to whoever a signal comes to. Each thread gets so many, which is less than it tries.
const SIGNALS: u32 = 6;

extern "C" fn ignore(_: libc::c_int) {}

#[test]
fn a_mapper_that_gets_signals_while_it_opens_is_open_all_the_same() {
    // SAFETY: the handler does nothing; of the rest of the structure zeros are a value.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ignore as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = libc::SA_RESTART;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
    }
    let mut world = World::new();
    world.serve("a", 80);
    let (is_open, sent) = (AtomicBool::new(false), AtomicU32::new(0));
    let old = threads();
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut counts, own) = (BTreeMap::new(), gettid().as_raw());
            while !is_open.load(Ordering::Relaxed) {
                for id in threads().into_iter().filter(|id| *id != own && !old.contains(id)) {
                    let count = counts.entry(id).or_insert(0);
                    // SAFETY: plain numbers; a thread that has ended is an error.
                    if *count < SIGNALS
                        && unsafe { libc::syscall(libc::SYS_tgkill, process::id(), id, libc::SIGUSR1) } == 0
                    {
                        *count += 1;
                        sent.fetch_add(1, Ordering::Relaxed);
                    }
                }
                // The pace of the signals, not a wait for something: each attempt is to get one.
                thread::sleep(Duration::from_millis(2));
            }
        });
        let _done = SetWhenDropped(&is_open);
        let begin = Instant::now();
        // On a busy machine all may be loaded before the first signal is sent.
        while sent.load(Ordering::Relaxed) <= 2 * SIGNALS {
            assert!(begin.elapsed() < PATIENCE, "{sent:?} signals were sent while programs were loaded");
            world.reopen();
        }
    });
    world.publish(&web());
    world.tcp("outside", "192.0.2.1:8080").unwrap();
}

fn threads() -> Vec<libc::pid_t> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    tasks.map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect()
}
