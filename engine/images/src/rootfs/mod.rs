//! Root filesystems of containers: an image's layers, below them nothing, above them what the container changes.
//!
//! ```text
//! containers/<id>/rootfs/rootfs.json   the image and its layers
//! containers/<id>/rootfs/upper         what the container changed
//! containers/<id>/rootfs/work          overlayfs's own
//! containers/<id>/rootfs/merged        the mount
//! ```
//!
//! Nothing is remembered in memory, so an engine that starts anew adopts what is there: whether it is mounted, the
//! kernel knows.

mod changes;
mod commit;
mod export;
mod init;
mod lease;
mod links;
mod mount;
mod view;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Digest;
use crate::core::{Core, is_plain_name, names_in};
use crate::durable;
use crate::error::{Error, Result};
use crate::layer::size;
use crate::options::{Rootfs, RootfsSize};
use crate::wire::Change;

pub(crate) use init::init_id;

/// What a root filesystem is made of; kept beside it, so that its layers outlive their image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    image: Digest,
    /// Diff ids, lowest first.
    layers: Vec<Digest>,
}

/// Directories in `tmp` that wait to be unmounted and deleted.
const SWEPT: &str = "swept-";

impl Core {
    fn rootfs_dir(&self, container_id: &str) -> Result<PathBuf> {
        if !is_plain_name(container_id) {
            return Err(Error::NoSuchRootfs(container_id.to_owned()));
        }
        Ok(self.containers.join(container_id).join("rootfs"))
    }

    /// The layers that root filesystems stand on. One that cannot be read stops the collector: its layers are unknown.
    pub(crate) fn stacks_of_containers(&self) -> Result<Vec<Vec<Digest>>> {
        if !self.containers.exists() {
            return Ok(Vec::new());
        }
        let containers = names_in(&self.containers)?.into_iter().map(|name| self.containers.join(name));
        let mut stacks = Vec::new();
        // Removed ones stand for as long as somebody reads them.
        for dir in containers.chain(self.removed()?) {
            if let Some(record) = read_record(&dir.join("rootfs"))? {
                stacks.push(record.layers);
            }
        }
        Ok(stacks)
    }

    /// Directories with root filesystems that wait to be unmounted and deleted.
    fn removed(&self) -> Result<Vec<PathBuf>> {
        let tmp = self.images.join("tmp");
        let names = names_in(&tmp)?.into_iter();
        Ok(names
            .filter(|name| name.as_encoded_bytes().starts_with(SWEPT.as_bytes()))
            .map(|name| tmp.join(name))
            .collect())
    }

    pub(crate) fn prepare(&self, container_id: &str, image: Digest) -> Result<Rootfs> {
        let dir = self.rootfs_dir(container_id)?;
        self.bring_in(|| {
            let catalog = self.catalog();
            if let Ok(Some(record)) = read_record(&dir)
                && record.image == image
            {
                return self.describe(container_id, &dir, &record);
            }
            let layers = match catalog.images.get(&image) {
                Some(image) => image.layers.clone(),
                None => return Err(Error::NoSuchImage(image.to_string())),
            };
            for name in ["upper", "work", "merged"] {
                let path = dir.join(name);
                fs::create_dir_all(&path).map_err(Error::io("create directory", &path))?;
            }
            // The topmost layer that says how `/` looks; the container's own upper directory shadows them all.
            let root =
                layers.iter().rev().find(|id| catalog.layers.get(id).is_some_and(|layer| layer.has_root));
            let upper = dir.join("upper");
            let (mode, owner) = match root {
                Some(layer) => {
                    let path = self.layer_dir(*layer);
                    let metadata = fs::metadata(&path).map_err(Error::io("stat", &path))?;
                    (metadata.mode() & 0o7777, (metadata.uid(), metadata.gid()))
                }
                None => (0o755, (0, 0)),
            };
            std::os::unix::fs::chown(&upper, Some(owner.0), Some(owner.1))
                .map_err(Error::io("chown", &upper))?;
            fs::set_permissions(&upper, fs::Permissions::from_mode(mode))
                .map_err(Error::io("chmod", &upper))?;
            let record = Record { image, layers };
            self.init_layer(&record.layers)?;
            write_record(&dir, &record)?;
            self.describe(container_id, &dir, &record)
        })
    }

    pub(crate) fn rootfs(&self, container_id: &str) -> Result<Rootfs> {
        let dir = self.rootfs_dir(container_id)?;
        let record = self.record(container_id, &dir)?;
        self.describe(container_id, &dir, &record)
    }

    fn record(&self, container_id: &str, dir: &Path) -> Result<Record> {
        read_record(dir)?.ok_or_else(|| Error::NoSuchRootfs(container_id.to_owned()))
    }

    fn describe(&self, _container_id: &str, dir: &Path, record: &Record) -> Result<Rootfs> {
        let mut lower = vec![self.init_dir(&record.layers)];
        lower.extend(distinct(&record.layers).into_iter().map(|layer| self.layer_dir(layer)));
        Ok(Rootfs {
            image: record.image,
            lower,
            upper: dir.join("upper"),
            work: dir.join("work"),
            merged: dir.join("merged"),
        })
    }

    pub(crate) fn mount(&self, container_id: &str) -> Result<Rootfs> {
        let dir = self.rootfs_dir(container_id)?;
        let record = self.record(container_id, &dir)?;
        let rootfs = self.describe(container_id, &dir, &record)?;
        // The same upper directory in two mounts is what overlayfs calls undefined.
        self.unmounting.wait(container_id);
        if mount::is_mounted(&rootfs.merged)? {
            return Ok(rootfs);
        }
        // A power cut may have taken it: it is made without fsync.
        self.init_layer(&record.layers)?;
        let lower = self.short_names(&rootfs.lower)?;
        mount::overlay(&self.images.join("l"), &lower, Some((&rootfs.upper, &rootfs.work)), &rootfs.merged)?;
        Ok(rootfs)
    }

    /// Whether there is something to unmount; then the caller runs [`Self::finish_unmount`] when nobody waits for it.
    pub(crate) fn begin_unmount(&self, container_id: &str) -> Result<bool> {
        Ok(mount::is_mounted(&self.rootfs_dir(container_id)?.join("merged"))?
            && self.unmounting.begin(container_id))
    }

    pub(crate) fn finish_unmount(&self, container_id: &str) {
        let merged = self.rootfs_dir(container_id).map(|dir| dir.join("merged"));
        if let Err(error) = merged.and_then(|merged| mount::unmount(&merged)) {
            tracing::error!(container_id, error = &error as &dyn std::error::Error, "still mounted");
        }
        self.unmounting.end(container_id);
    }

    /// Takes it away from where it can be found. It is unmounted and deleted by [`Self::sweep`], which the caller runs
    /// when nobody waits for it: unmounting overlayfs syncs the whole filesystem that the upper directory is on.
    pub(crate) fn remove_rootfs(&self, container_id: &str) -> Result<()> {
        let dir = self.rootfs_dir(container_id)?;
        if !dir.exists() {
            return Ok(());
        }
        let workspace = self.workspace()?.keep();
        // A mount moves with the directory above it.
        if fs::rename(&dir, workspace.join("rootfs")).is_err() {
            mount::unmount(&dir.join("merged"))?;
            durable::remove_all(&dir)?;
        }
        let swept = workspace
            .with_file_name(format!("{SWEPT}{}", workspace.file_name().unwrap_or_default().display()));
        fs::rename(&workspace, &swept).map_err(Error::io("rename", &workspace))
    }

    /// Unmounts and deletes removed root filesystems. One sweeper at a time does it for all who ask meanwhile.
    pub(crate) fn sweep(&self) {
        self.sweeping.ask();
        while let Some(_sweeper) = self.sweeping.turn() {
            if let Err(error) = self.sweep_once() {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "left to the next removal, or the next start"
                );
            }
        }
    }

    /// The same, and waits for what is being unmounted or swept; what is being read stays until that ends.
    pub(crate) fn settle(&self) -> Result<()> {
        self.unmounting.wait_for_all();
        let _sweeper = self.sweeping.wait();
        self.sweep_once()
    }

    fn sweep_once(&self) -> Result<()> {
        let mut orphans = false;
        for dir in self.removed()? {
            let rootfs = dir.join("rootfs");
            // Who reads it sweeps again at the end.
            if lease::is_held(&rootfs)? {
                continue;
            }
            let image = read_record(&rootfs).ok().flatten().map(|record| record.image);
            orphans |= image.is_none_or(|image| !self.catalog().images.contains_key(&image));
            mount::unmount(&rootfs.join("merged"))?;
            durable::remove_all(&dir)?;
        }
        // Layers may have waited for nothing else.
        if orphans {
            self.collect_or_log();
        }
        Ok(())
    }

    pub(crate) fn diff(&self, container_id: &str) -> Result<Vec<Change>> {
        let rootfs = self.rootfs(container_id)?;
        changes::changes(&rootfs.upper, &rootfs.lower).map_err(Error::io("compare", &rootfs.upper))
    }

    pub(crate) fn rootfs_size(&self, container_id: &str) -> Result<RootfsSize> {
        let dir = self.rootfs_dir(container_id)?;
        let record = self.record(container_id, &dir)?;
        let upper = dir.join("upper");
        let rw = size(&upper).map_err(Error::io("measure", &upper))?;
        let image = self.catalog().layers_size(record.layers.iter().copied().collect());
        Ok(RootfsSize { rw, root_fs: rw + image })
    }
}

/// The layers top first, without those that come again further down: overlayfs refuses a directory that is stacked
/// twice, and all that a lower copy has is visible from the upper one.
fn distinct(layers: &[Digest]) -> Vec<Digest> {
    let mut stack = Vec::with_capacity(layers.len());
    for layer in layers.iter().rev() {
        if !stack.contains(layer) {
            stack.push(*layer);
        }
    }
    stack
}

fn read_record(dir: &Path) -> Result<Option<Record>> {
    let path = dir.join("rootfs.json");
    match fs::read(&path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::Corrupt { path, source })
        }
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(Error::io("read", path)(error)),
    }
}

/// Whole or absent, but not synced: a power cut ends the container anyway, and preparing it again heals the record.
fn write_record(dir: &Path, record: &Record) -> Result<()> {
    let path = dir.join("rootfs.json");
    let new = dir.join("rootfs.json.new");
    let bytes = serde_json::to_vec(record).map_err(|source| Error::Corrupt { path: path.clone(), source })?;
    fs::write(&new, bytes).map_err(Error::io("write", &new))?;
    fs::rename(&new, &path).map_err(Error::io("rename", &path))
}
