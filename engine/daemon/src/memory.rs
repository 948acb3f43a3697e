//! Keeping an idle engine small.
//!
//! Owns no task: the daemon runs [`give_back_when_idle`] as one, which may be cancelled at any moment.

use std::time::Duration;

use engine_containers::events::Events;

/// How quiet it must have been.
const QUIET: Duration = Duration::from_secs(3);

/// The allocator keeps a heap for every thread that ever contended for one, and by default learns from each large buffer
/// that is freed to keep the next one. To be called before any thread is started.
pub(crate) fn tune_allocator() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes plain numbers, and no other thread exists yet.
    unsafe {
        use nix::libc::{M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, mallopt};
        mallopt(M_ARENA_MAX, 2);
        mallopt(M_MMAP_THRESHOLD, 64 << 10);
        mallopt(M_TRIM_THRESHOLD, 128 << 10);
    }
}

/// Gives the kernel back what work has left free in the heaps, once a burst of it is over.
pub(crate) async fn give_back_when_idle(events: Events) {
    let mut subscription = events.subscribe(None);
    while subscription.next().await.is_some() {
        while let Ok(Some(_)) = tokio::time::timeout(QUIET, subscription.next()).await {}
        // A panic in there is not possible, and without an answer there is nothing to do.
        let _ = tokio::task::spawn_blocking(trim).await;
    }
}

fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim may be called at any time, by any thread.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
