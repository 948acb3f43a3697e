//! The private bpffs that the maps and links are pinned to.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use libnetwork_core::PortError;
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::statfs::statfs,
};

use crate::{error::OnError, links, tables};

/// Below the directory of a layout.
pub(crate) const MAPS: &str = "maps";
pub(crate) const LINKS: &str = "links";

/// linux/magic.h
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// Mounts a bpffs at `dir`, which is made if need be, unless there is one.
pub(crate) fn ensure(dir: &Path) -> Result<(), PortError> {
    fs::create_dir_all(dir).on("create", dir.display())?;
    if !is_mounted(dir).on("look at", dir.display())? {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("bpf"), dir, Some("bpf"), flags, Some("mode=0700"))
            .on("mount a bpffs at", dir.display())?;
    }
    Ok(())
}

fn is_mounted(dir: &Path) -> io::Result<bool> {
    Ok(statfs(dir)?.filesystem_type().0 as i64 == BPF_FS_MAGIC)
}

/// Detaches and removes what is pinned for a layout. Programs that are left somewhere find no port published.
pub(crate) fn remove_version(dir: &Path, version: u32) -> Result<(), PortError> {
    let path = version_dir(dir, version);
    links::detach_all(&path.join(LINKS))?;
    tables::withdraw_all(&path.join(MAPS));
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).on("unpin", path.display()),
        _ => Ok(()),
    }
}

/// The directory of the pins of a layout: `v1`.
pub(crate) fn version_dir(dir: &Path, version: u32) -> PathBuf {
    dir.join(format!("v{version}"))
}

/// Removes the pins of every layout but those to keep. The kernel has files of its own on a bpffs, which stay.
pub(crate) fn remove_versions(dir: &Path, kept: impl Fn(u32) -> bool) -> Result<(), PortError> {
    for entry in fs::read_dir(dir).on("list", dir.display())? {
        let name = entry.on("list", dir.display())?.file_name();
        let version = name.to_str().and_then(|name| name.strip_prefix('v')).and_then(|v| v.parse().ok());
        if let Some(version) = version
            && !kept(version)
        {
            remove_version(dir, version)?;
        }
    }
    Ok(())
}

/// Removes all that is pinned, the mount and the directory. The pins go first, each by itself: another mount namespace
/// may have a copy of the mount, which would keep them.
pub(crate) fn purge(dir: &Path) -> Result<(), PortError> {
    let removed = match is_mounted(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).on("look at", dir.display()),
        Ok(false) => Ok(()),
        Ok(true) => {
            // Unmounted even if a pin resists: the file system goes with its last mount, and the pins with it.
            let removed = remove_versions(dir, |_| false);
            umount2(dir, MntFlags::MNT_DETACH).on("unmount", dir.display())?;
            removed
        }
    };
    fs::remove_dir(dir).on("remove", dir.display())?;
    removed
}
