//! The init layer: files and directories that every container has something mounted on, put between the image and the
//! container, so that they count neither as the image's nor as changes of the container. One per stack of layers.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use super::view::{Seen, look};
use crate::Digest;
use crate::catalog::chain_ids;
use crate::core::Core;
use crate::error::{Error, Result};

enum Thing {
    Directory,
    File,
    Link(&'static str),
}

/// Docker's list (moby, `daemon/initlayer`).
const THINGS: [(&str, Thing); 10] = [
    ("dev/pts", Thing::Directory),
    ("dev/shm", Thing::Directory),
    ("proc", Thing::Directory),
    ("sys", Thing::Directory),
    (".dockerenv", Thing::File),
    ("etc/resolv.conf", Thing::File),
    ("etc/hosts", Thing::File),
    ("etc/hostname", Thing::File),
    ("dev/console", Thing::File),
    ("etc/mtab", Thing::Link("/proc/mounts")),
];

/// The name of the init layer for a stack of layers: its chain id.
pub(crate) fn init_id(layers: &[Digest]) -> Digest {
    chain_ids(layers).last().copied().unwrap_or_else(|| Digest::of(b""))
}

impl Core {
    pub(super) fn init_dir(&self, layers: &[Digest]) -> PathBuf {
        self.images.join("init").join(init_id(layers).hex()).join("diff")
    }

    /// Makes the init layer where it is missing.
    pub(super) fn init_layer(&self, layers: &[Digest]) -> Result<()> {
        let dir = self.init_dir(layers);
        if dir.is_dir() {
            return Ok(());
        }
        let lowers: Vec<PathBuf> =
            super::distinct(layers).into_iter().map(|layer| self.layer_dir(layer)).collect();
        let workspace = self.workspace()?;
        let diff = workspace.path().join("diff");
        fill(&diff, &lowers).map_err(Error::io("fill", &diff))?;
        let to = dir.parent().unwrap_or(&dir);
        match fs::rename(workspace.path(), to) {
            // Another container of the same image was faster.
            Err(_) if dir.is_dir() => Ok(()),
            result => result.map_err(Error::io("rename", to)),
        }
    }
}

fn fill(diff: &Path, lowers: &[PathBuf]) -> io::Result<()> {
    fs::create_dir(diff)?;
    fs::set_permissions(diff, fs::Permissions::from_mode(0o755))?;
    for (path, thing) in THINGS {
        let path = Path::new(path);
        // What the image has stays, whatever it is. A link on the way is the image's own business too.
        if !matches!(look(lowers, path)?, Seen::Nothing) {
            continue;
        }
        make_parents(diff, lowers, path)?;
        let at = diff.join(path);
        match thing {
            Thing::Directory => make_dir(&at, None)?,
            Thing::File => {
                File::create(&at)?;
                fs::set_permissions(&at, fs::Permissions::from_mode(0o755))?;
            }
            Thing::Link(target) => symlink(target, &at)?,
        }
    }
    Ok(())
}

/// Directories that the image has keep its mode, owner and times: the upper one of two that merge is what is seen.
fn make_parents(diff: &Path, lowers: &[PathBuf], path: &Path) -> io::Result<()> {
    let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
        return Ok(());
    };
    make_parents(diff, lowers, parent)?;
    let at = diff.join(parent);
    if at.exists() {
        return Ok(());
    }
    match look(lowers, parent)? {
        Seen::There(metadata) => make_dir(&at, Some(&metadata)),
        _ => make_dir(&at, None),
    }
}

fn make_dir(at: &Path, like: Option<&fs::Metadata>) -> io::Result<()> {
    fs::create_dir(at)?;
    let mode = like.map_or(0o755, |metadata| metadata.mode() & 0o7777);
    if let Some(metadata) = like {
        chown(at, Some(metadata.uid()), Some(metadata.gid()))?;
    }
    fs::set_permissions(at, fs::Permissions::from_mode(mode))
}
