//! Removes links that nobody waits for.
//!
//! Taking a port out of a bridge makes the kernel wait until no packet can be on its way through it, for milliseconds and
//! on a busy machine for tens of them. When a sandbox goes whole, its links are marked for removal (which is instant,
//! and survives us), and removed by this thread, together with what else came meanwhile.
//!
//! The thread may end at any time: the next process starts by removing what is marked.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    thread::Builder,
    time::Duration,
};

use libnetwork_plan::Cause;

use crate::{
    apply::gone_is_gone,
    link,
    netlink::{Protocol, Socket},
    ownership::DOOMED,
    thread::cause,
};

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
        let reaper = Reaper { wake };
        reaper.wake();
        Ok(reaper)
    }

    /// There is something to remove.
    pub(crate) fn wake(&self) {
        // It ends only with us.
        let _ended = self.wake.send(());
    }
}

fn reap(mut socket: Socket, queue: &Receiver<()>) {
    while queue.recv().is_ok() {
        while queue.try_recv().is_ok() {}
        while let Err(cause) = remove_doomed(&mut socket) {
            tracing::warn!(%cause, "cannot remove links that are marked for it; trying again");
            std::thread::sleep(PATIENCE);
        }
    }
}

/// Removes all links that are marked.
pub(crate) fn remove_doomed(socket: &mut Socket) -> Result<(), Cause> {
    let answer = socket.request(&mut [link::delete_group(DOOMED)]).pop();
    answer.unwrap_or(Ok(())).or_else(gone_is_gone)
}
