//! Signals that come while programs are loaded.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::{
    collections::BTreeMap,
    fs, process,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use world::{World, web};

/// The verifier leaves its work to whoever a signal comes to. Each thread gets so many, which is less than it tries.
const SIGNALS: u32 = 6;

/// Sets it when it goes, also by a panic.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

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
    let is_open = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let (mut sent, old) = (BTreeMap::new(), threads());
            while !is_open.load(Ordering::Relaxed) {
                for id in threads().into_iter().filter(|id| !old.contains(id)) {
                    let count = sent.entry(id).or_insert(0);
                    // SAFETY: plain numbers; a thread that has ended is an error.
                    if *count < SIGNALS
                        && unsafe { libc::syscall(libc::SYS_tgkill, process::id(), id, libc::SIGUSR1) } == 0
                    {
                        *count += 1;
                    }
                }
                // The pace of the signals, not a wait for something: each attempt is to get one.
                thread::sleep(Duration::from_millis(2));
            }
            sent.values().sum::<u32>()
        });
        let done = Done(&is_open);
        world.reopen();
        drop(done);
        sender.join().unwrap()
    });
    assert!(sent > 2 * SIGNALS, "{sent}");
    world.publish(&web());
    world.tcp("outside", "192.0.2.1:8080").unwrap();
}

fn threads() -> Vec<libc::pid_t> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    tasks.map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect()
}
