//! Telling followers that their log has grown: one inotify instance for all of them, since the kernel gives a user only
//! 128 (fs.inotify.max_user_instances), and other programs want some too.
//!
//! The task that reads the instance is started by the first follower and lives as long as the runtime; it may be
//! cancelled when nobody follows any more, as the end of the runtime does.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, AsRawFd, RawFd},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::{io::unix::AsyncFd, sync::watch};

use crate::{Error, Result};

/// The directories that are followed.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    shared: Mutex<Option<Arc<Shared>>>,
}

#[derive(Debug)]
struct Shared {
    inotify: AsyncFd<Descriptor>,
    // Held for a look-up or a change only, never across an await.
    directories: Mutex<HashMap<WatchDescriptor, Directory>>,
}

#[derive(Debug)]
struct Directory {
    changes: watch::Sender<()>,
    followers: usize,
}

#[derive(Debug)]
struct Descriptor(Inotify);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Tells when something in a directory was written, made or renamed.
#[derive(Debug)]
pub(super) struct Watcher {
    shared: Arc<Shared>,
    directory: WatchDescriptor,
    changes: watch::Receiver<()>,
}

impl Watchers {
    /// Watches from now on. To be called on the runtime.
    pub(super) fn watch(&self, dir: &Path) -> Result<Watcher> {
        let shared = self.shared(dir)?;
        let failed = |error: nix::Error| Error::io("watch", dir)(error.into());
        let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        let mut directories = shared.directories();
        // The same directory has the same descriptor.
        let directory = shared.inotify.get_ref().0.add_watch(dir, flags).map_err(failed)?;
        let entry = directories
            .entry(directory)
            .or_insert_with(|| Directory { changes: watch::Sender::new(()), followers: 0 });
        entry.followers += 1;
        let changes = entry.changes.subscribe();
        drop(directories);
        Ok(Watcher { shared, directory, changes })
    }

    fn shared(&self, dir: &Path) -> Result<Arc<Shared>> {
        let mut slot = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = &*slot {
            return Ok(shared.clone());
        }
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
            .map_err(|error| Error::io("watch", dir)(error.into()))?;
        // SAFETY: the descriptor is open, is the same at every call, and stays so for as long as this value lives: nobody
        // else can reach what owns it.
        let inotify = unsafe { AsyncFd::register(Descriptor(inotify)) };
        let inotify = inotify.map_err(|error| Error::io("watch", dir)(error.into()))?;
        let shared = Arc::new(Shared { inotify, directories: Mutex::default() });
        let reader = shared.clone();
        tokio::spawn(async move {
            let Err(error) = reader.read().await;
            tracing::error!(%error, "cannot watch logs any longer");
            // Their followers end rather than wait for what will not be told.
            reader.directories().clear();
        });
        *slot = Some(shared.clone());
        Ok(shared)
    }
}

impl Shared {
    fn directories(&self) -> std::sync::MutexGuard<'_, HashMap<WatchDescriptor, Directory>> {
        self.directories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(&self) -> io::Result<std::convert::Infallible> {
        loop {
            let mut guard = self.inotify.readable().await?;
            let Ok(events) = guard.try_io(|fd| fd.get_ref().0.read_events().map_err(io::Error::from)) else {
                continue;
            };
            let directories = self.directories();
            for event in events? {
                if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                    // Some were lost: all of them look.
                    directories.values().for_each(|directory| directory.changes.send_replace(()));
                } else if let Some(directory) = directories.get(&event.wd) {
                    directory.changes.send_replace(());
                }
            }
        }
    }
}

impl Watcher {
    /// Waits for the next change; several at once are one.
    pub(super) async fn changed(&mut self) -> Result<(), watch::error::RecvError> {
        self.changes.changed().await
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut directories = self.shared.directories();
        let Some(directory) = directories.get_mut(&self.directory) else { return };
        directory.followers -= 1;
        if directory.followers == 0 {
            directories.remove(&self.directory);
            // The kernel has done it when the directory is gone.
            let _ = self.shared.inotify.get_ref().0.rm_watch(self.directory);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use super::*;

    #[tokio::test]
    async fn any_number_of_followers_take_one_instance_and_the_last_one_leaves_no_watch() {
        let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        let watchers = Watchers::default();
        // More than the 128 instances that a user has.
        let mut all: Vec<Watcher> =
            (0..300).map(|n| watchers.watch(dirs[n % dirs.len()].path()).unwrap()).collect();
        fs::write(dirs[1].path().join("log"), "x").unwrap();
        for (n, watcher) in all.iter_mut().enumerate() {
            if n % dirs.len() == 1 {
                tokio::time::timeout(Duration::from_secs(120), watcher.changed()).await.unwrap().unwrap();
            } else {
                assert!(!watcher.changes.has_changed().unwrap());
            }
        }
        let shared = watchers.shared(dirs[0].path()).unwrap();
        assert_eq!(shared.directories().len(), dirs.len());
        drop(all);
        assert!(shared.directories().is_empty());
    }
}
