//! The host's resolvers, when they change: a laptop that joins another network must not have containers ask the old one's
//! for half a minute, until everything is looked at again.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

/// Hears of what happens in the directories of a resolv.conf.
pub(crate) struct ResolvConf {
    inotify: Inotify,
    path: PathBuf,
    watched: Vec<(PathBuf, WatchDescriptor)>,
    /// What it said last.
    text: String,
}

impl ResolvConf {
    pub(crate) fn watch(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let mut watched = Vec::new();
        // Before the look: what changes after it is told of.
        watch_directories(&inotify, path, &mut watched);
        let text = fs::read_to_string(path).unwrap_or_default();
        Ok(Self { inotify, path: path.to_owned(), watched, text })
    }

    /// Readable when something happened.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Whether it says something else than before. One that cannot be read is being replaced.
    pub(crate) fn has_changed(&mut self) -> bool {
        let mut heard = false;
        while self.inotify.read_events().is_ok() {
            heard = true;
        }
        if !heard {
            return false;
        }
        watch_directories(&self.inotify, &self.path, &mut self.watched);
        match fs::read_to_string(&self.path) {
            Ok(text) if text != self.text => {
                self.text = text;
                true
            }
            _ => false,
        }
    }
}

/// Where the file is, and where it is a link (systemd-resolved, resolvconf) also where that leads now: it is replaced by
/// renaming as often as it is written.
fn watch_directories(inotify: &Inotify, path: &Path, watched: &mut Vec<(PathBuf, WatchDescriptor)>) {
    let flags = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_DELETE;
    let link = || Some(path.parent()?.join(fs::read_link(path).ok()?));
    let target = fs::canonicalize(path).ok().or_else(link);
    let directories: Vec<PathBuf> = [Some(path), target.as_deref()]
        .into_iter()
        .flatten()
        .filter_map(|p| Some(p.parent()?.into()))
        .collect();
    watched.retain(|(directory, descriptor)| {
        let stays = directories.contains(directory) && directory.exists();
        if !stays {
            // The kernel has let go of a directory that was removed.
            let _ = inotify.rm_watch(*descriptor);
        }
        stays
    });
    for directory in directories {
        // The same directory has the same descriptor; one that was made anew gets its own.
        match inotify.add_watch(&directory, flags) {
            Ok(descriptor) if watched.iter().all(|(_, known)| *known != descriptor) => {
                watched.push((directory, descriptor));
            }
            Ok(_) => {}
            // It may come yet; until then the file is looked at like everything else, on a tick.
            Err(error) => tracing::debug!(%error, directory = %directory.display(), "cannot watch"),
        }
    }
}
