//! The host's resolvers, when they change: a laptop that joins another network must not have containers ask the old one's
//! for half a minute, until everything is looked at again.
//!
//! Tasks: none. One thread, which sleeps in the kernel until something in a directory of resolv.conf changes, and lives as
//! long as the process; what it does may end at any moment.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    thread,
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

/// Tells of the resolvers now and whenever they may have changed.
pub(crate) fn watch(path: &'static Path, tell: impl Fn(Vec<IpAddr>) + Send + 'static) -> io::Result<()> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
    let work = move || {
        let mut watched = Vec::new();
        loop {
            // Before the look: what changes after it is told of.
            watch_directories(&inotify, path, &mut watched);
            // One that cannot be read is being replaced.
            if let Ok(text) = fs::read_to_string(path) {
                tell(libnetwork_kernel::resolvers(&text).0);
            }
            if let Err(error) = inotify.read_events() {
                tracing::warn!(%error, path = %path.display(), "cannot watch any longer");
                return;
            }
        }
    };
    thread::Builder::new().name("resolvers".into()).stack_size(128 * 1024).spawn(work)?;
    Ok(())
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
