use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// How long anything may take on a busy machine, or on one that stands still for a minute, before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Asks again until the answer is there; panics with `what` after two minutes.
#[track_caller]
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Before it asks, so that the last question comes after the deadline.
        let late = Instant::now() >= deadline;
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(!late, "gave up after {} s waiting until {what}", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// [`until`] for a condition.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    until(what, || holds().then_some(()));
}

/// Tells threads of a scope to end, also when the test fails: the scope waits for them before the failure is told.
pub struct SetWhenDropped<'a>(pub &'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
