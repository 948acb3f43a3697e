//! Mounting overlayfs.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

use crate::error::{Error, Result};

/// Whether something is mounted at `path`, which then is of another device than the directory it lies in.
pub(super) fn is_mounted(path: &Path) -> Result<bool> {
    let device = |path: &Path| std::fs::symlink_metadata(path).map(|metadata| metadata.dev());
    match device(path) {
        Ok(own) => {
            let parent = path.parent().unwrap_or(Path::new("/"));
            Ok(own != device(parent).map_err(Error::io("stat", parent))?)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        // What a stale mount answers.
        Err(error) if error.raw_os_error() == Some(libc::ESTALE) => Ok(true),
        Err(error) => Err(Error::io("stat", path)(error)),
    }
}

/// Mounts the layers `lower` (top first, relative to `base`) with `upper` and its work directory over them, or
/// read-only without.
///
/// The options of mount(2) have one page for all, so the layers' names are short and relative to `base`. A working
/// directory belongs to the whole process; a thread that has unshared it, and ends after, may change its own.
pub(super) fn overlay(base: &Path, lower: &[String], upper: Option<(&Path, &Path)>, at: &Path) -> Result<()> {
    // Changes of a directory's name, or of metadata alone, must be in `upper` as plain files, so that `diff` and
    // `commit` can read it; kernels differ in their defaults. An index would tie `upper` to this very mount.
    let mut options = OsString::from("index=off,redirect_dir=off,metacopy=off,lowerdir=");
    options.push(lower.join(":"));
    if let Some((upper, work)) = upper {
        options.push(",upperdir=");
        options.push(escaped(upper));
        options.push(",workdir=");
        options.push(escaped(work));
    }
    let flags = if upper.is_some() { MsFlags::empty() } else { MsFlags::MS_RDONLY };
    let result = std::thread::scope(|scope| {
        let mounter = std::thread::Builder::new().name("mount".to_owned()).spawn_scoped(scope, || {
            unshare(CloneFlags::CLONE_FS)?;
            nix::unistd::chdir(base)?;
            mount(Some("overlay"), at, Some("overlay"), flags, Some(options.as_os_str()))
        });
        mounter.map(|thread| thread.join().unwrap_or(Err(Errno::ECANCELED)))
    });
    match result {
        Ok(result) => result.map_err(Error::errno("mount", at)),
        Err(error) => Err(Error::io("start thread to mount", at)(error)),
    }
}

/// Shows the mount at `from` at `to` as well.
pub(super) fn bind(from: &Path, to: &Path) -> Result<()> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(Error::errno("bind", to))
}

/// Commas separate options; overlayfs takes a backslash before one.
fn escaped(path: &Path) -> OsString {
    let mut out = Vec::new();
    for &byte in path.as_os_str().as_bytes() {
        if matches!(byte, b',' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    OsString::from_vec(out)
}

/// Unmounts everything at `path`, lazily where it is busy. Nothing there: fine.
pub(super) fn unmount(path: &Path) -> Result<()> {
    while is_mounted(path)? {
        match umount2(path, MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::EBUSY) => {
                let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
                umount2(path, flags).map_err(Error::errno("unmount", path))?;
            }
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(Error::errno("unmount", path)(errno)),
        }
    }
    Ok(())
}

/// A mount of our own in a workspace; both go when it is dropped.
pub(super) struct Mounted {
    path: PathBuf,
    _workspace: TempDir,
}

impl Mounted {
    pub(super) fn new(path: PathBuf, workspace: TempDir) -> Self {
        Self { path, _workspace: workspace }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.path) {
            tracing::warn!(error = &error as &dyn std::error::Error, "left mounted until the next start");
        }
    }
}
