//! What we say to who started us (sd_notify(3)), and what they keep for us: systemd, or `causeway up`.

use std::{io, os::fd::BorrowedFd};

use dns_server::Keeper;
use sd_notify::NotifyState;

/// Tells who started us, if they want to know.
pub(crate) fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "cannot notify who started us");
    }
}

/// The descriptor store of who started us.
pub(crate) struct Store;

impl Keeper for Store {
    fn keep(&self, name: &str, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
        // A socket that has an error or a hang-up to tell stays useful: FDPOLL=0 keeps systemd from dropping it.
        let state = [NotifyState::FdStore, NotifyState::FdName(name), NotifyState::Custom("FDPOLL=0")];
        sd_notify::notify_with_fds(&state, sockets)
    }

    fn release(&self, name: &str) -> io::Result<()> {
        sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)])
    }
}
