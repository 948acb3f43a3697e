//! Removes links that nobody waits for.
//!
//! Removing a link makes the kernel wait until no packet can be on its way through it, for milliseconds and on a busy
//! machine for tens of them, and nobody can change any other link meanwhile. So links are taken down and marked for removal
//! (which is instant, and survives us), and removed by this thread, together with what else came.
//!
//! The thread may end at any time: the next process starts by removing what is marked.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    thread::Builder,
    time::{Duration, Instant},
};

use libnetwork_plan::Cause;

use crate::{
    apply::gone_is_gone,
    link,
    netlink::{Protocol, Socket},
    ownership::DOOMED,
    thread::cause,
};

/// How long others are waited for: many are removed in the time that one takes. Not much longer, for whoever is given the name
/// of one inside a sandbox has to wait until it is gone.
const GATHER: Duration = Duration::from_millis(5);
/// Where many go one after the other, others can change links for so many times as long as they cannot, and for this long
/// at most.
const REST: (u32, Duration) = (4, Duration::from_millis(100));
/// Between attempts, when the kernel refuses.
const PATIENCE: Duration = Duration::from_millis(500);

pub(crate) struct Reaper {
    wake: Sender<()>,
}

impl Reaper {
    /// For links of the calling thread's namespace. Begins with what an earlier process left.
    pub(crate) fn start() -> Result<Self, Cause> {
        let socket = Socket::open(Protocol::Route)?;
        let (wake, queue) = channel();
        Builder::new().name("reaper".into()).spawn(move || reap(socket, &queue)).map_err(cause)?;
        Ok(Reaper { wake })
    }

    /// There is something to remove.
    pub(crate) fn wake(&self) {
        // It ends only with us.
        let _ended = self.wake.send(());
    }
}

fn reap(mut socket: Socket, queue: &Receiver<()>) {
    loop {
        let rested = loop {
            let begin = Instant::now();
            match remove_doomed(&mut socket) {
                Ok(()) => break Instant::now() + REST.1.min(REST.0 * begin.elapsed()),
                Err(cause) => {
                    tracing::warn!(%cause, "cannot remove links that are marked for it; trying again");
                    std::thread::sleep(PATIENCE);
                }
            }
        };
        if queue.recv().is_err() {
            return;
        }
        std::thread::sleep(GATHER.max(rested.saturating_duration_since(Instant::now())));
        while queue.try_recv().is_ok() {}
    }
}

/// Removes all links that are marked.
pub(crate) fn remove_doomed(socket: &mut Socket) -> Result<(), Cause> {
    let answer = socket.request(&mut [link::delete_group(DOOMED)]).pop();
    answer.unwrap_or(Ok(())).or_else(gone_is_gone)
}
