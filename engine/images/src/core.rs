//! The store on disk, synchronous. Readers take the current catalog, a value; one writer at a time makes the next.
//!
//! ```text
//! catalog.json             what there is; replaced whole, synced
//! blobs/sha256/<hex>       configs, and layers' tars as they came
//! layers/<diff id>/diff    unpacked
//! init/<chain id>/diff     files that every container needs in place
//! l/<short>                links to the diffs, which keep mount options short
//! tmp/                     on its way in; emptied at start
//! ```
//!
//! Order makes it crash-safe: content first, then the catalog that mentions it; removal the other way round. Content
//! that the catalog does not mention is garbage, collected when no operation is bringing content in.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use nix::mount::{MntFlags, umount2};
use tempfile::TempDir;

use crate::Digest;
use crate::catalog::{Catalog, LayerRecord};
use crate::compression::decompress;
use crate::config::ConfigFile;
use crate::digest::Hashing;
use crate::durable;
use crate::error::{Error, Result};
use crate::layer::{Staged, unpack};
use crate::progress::Progress;
use crate::turns::{Leaving, Turns};

/// As many as Docker stacks.
pub(crate) const MAX_LAYERS: usize = 125;

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) images: PathBuf,
    pub(crate) containers: PathBuf,
    current: RwLock<Arc<Catalog>>,
    /// Held while the next catalog is made and written.
    writer: Mutex<()>,
    /// Shared by operations whose content no catalog mentions yet; exclusive for the collector.
    incoming: RwLock<()>,
    /// A collection that found operations under way and left it to the last of them.
    collect_later: AtomicBool,
    pub(crate) sweeping: Turns,
    pub(crate) unmounting: Leaving,
}

impl Core {
    pub(crate) fn open(images: PathBuf, containers: PathBuf) -> Result<Self> {
        for dir in ["", "blobs", "blobs/sha256", "layers", "init", "l", "tmp"] {
            let path = images.join(dir);
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .map_err(Error::io("create directory", &path))?;
        }
        let path = images.join("catalog.json");
        let catalog = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| Error::Corrupt { path, source })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Catalog::default(),
            Err(error) => return Err(Error::io("read", path)(error)),
        };
        let core = Self {
            images,
            containers,
            current: RwLock::new(Arc::new(catalog)),
            writer: Mutex::new(()),
            incoming: RwLock::new(()),
            collect_later: AtomicBool::new(false),
            sweeping: Turns::default(),
            unmounting: Leaving::default(),
        };
        for name in names_in(&core.images.join("tmp"))? {
            let leftover = core.images.join("tmp").join(name);
            // An export or a removal that was cut off may have left its mount.
            for merged in ["merged", "rootfs/merged"] {
                let _ = umount2(&leftover.join(merged), MntFlags::MNT_DETACH);
            }
            durable::remove_all(&leftover)?;
        }
        core.collect()?;
        Ok(core)
    }

    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes the next catalog, writes it, and only then shows it. An error, from `change` or the disk, changes nothing.
    pub(crate) fn commit<T>(&self, change: impl FnOnce(&mut Catalog) -> Result<T>) -> Result<T> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.catalog();
        let mut next = Catalog::clone(&before);
        let result = change(&mut next)?;
        if next != *before {
            let path = self.images.join("catalog.json");
            let bytes =
                serde_json::to_vec(&next).map_err(|source| Error::Corrupt { path: path.clone(), source })?;
            durable::replace(&path, &bytes)?;
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        }
        Ok(result)
    }

    /// Runs an operation that brings content in, then any collection that waited for it.
    pub(crate) fn bring_in<T>(&self, operation: impl FnOnce() -> Result<T>) -> Result<T> {
        let guard: RwLockReadGuard<'_, ()> = self.incoming.read().unwrap_or_else(PoisonError::into_inner);
        let result = operation();
        drop(guard);
        // What a failed operation published before it failed is garbage as well.
        if result.is_err() || self.collect_later.load(Ordering::Acquire) {
            self.collect_or_log();
        }
        result
    }

    /// A directory for content on its way in; removed when dropped.
    pub(crate) fn workspace(&self) -> Result<TempDir> {
        let tmp = self.images.join("tmp");
        TempDir::new_in(&tmp).map_err(Error::io("create directory in", tmp))
    }

    pub(crate) fn blob(&self, digest: Digest) -> PathBuf {
        self.images.join("blobs/sha256").join(digest.hex())
    }

    pub(crate) fn layer_dir(&self, diff_id: Digest) -> PathBuf {
        self.images.join("layers").join(diff_id.hex()).join("diff")
    }

    /// An image's config, verified. An image removed since the caller looked is an image that does not exist.
    pub(crate) fn config(&self, id: Digest) -> Result<ConfigFile> {
        let path = self.blob(id);
        let bytes = match fs::read(&path) {
            Err(_) if !self.catalog().images.contains_key(&id) => {
                return Err(Error::NoSuchImage(id.to_string()));
            }
            bytes => bytes.map_err(Error::io("read", &path))?,
        };
        let actual = Digest::of(&bytes);
        if actual != id {
            return Err(Error::DigestMismatch {
                what: "image config".to_owned(),
                expected: id.to_string(),
                actual: actual.to_string(),
            });
        }
        serde_json::from_slice(&bytes).map_err(|source| Error::Corrupt { path, source })
    }

    /// Stores a small document and returns its digest.
    pub(crate) fn put_blob(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        let path = self.blob(digest);
        if !path.exists() {
            let workspace = self.workspace()?;
            Staged::from_reader(bytes, workspace.path().join("blob"))?.publish(&path)?;
        }
        Ok(digest)
    }

    /// Unpacks a layer unless it is here, verifies it, and publishes it. To be called inside [`Self::bring_in`], with
    /// the record to be put into the catalog in the same commit as the image.
    pub(crate) fn add_layer(
        &self,
        staged: &Staged,
        expected: Option<Digest>,
        what: &str,
        progress: &Progress,
    ) -> Result<(Digest, LayerRecord)> {
        if let Some(diff_id) = expected
            && let Some(record) = self.catalog().layers.get(&diff_id)
        {
            return Ok((diff_id, record.clone()));
        }
        let workspace = self.workspace()?;
        let diff = workspace.path().join("diff");
        fs::create_dir(&diff).map_err(Error::io("create directory", &diff))?;
        fs::set_permissions(&diff, fs::Permissions::from_mode(0o755)).map_err(Error::io("chmod", &diff))?;
        let id = expected.map(|id| id.short()).unwrap_or_else(|| staged.digest.short());
        let bar = progress.bar(staged.open()?, "Loading layer", id, staged.size);
        let broken = |error: std::io::Error| Error::Archive(format!("{what}: {error}"));
        let (compression, plain) = decompress(bar).map_err(broken)?;
        let mut plain = Hashing::new(plain);
        let unpacked = unpack(&mut plain, &diff).map_err(|error| match error {
            Error::Archive(reason) => Error::Archive(format!("{what}: {reason}")),
            error => error,
        })?;
        std::io::copy(&mut plain.by_ref(), &mut std::io::sink()).map_err(broken)?;
        let (_, diff_id, _) = plain.finish();
        if let Some(expected) = expected.filter(|expected| *expected != diff_id) {
            return Err(Error::DigestMismatch {
                what: what.to_owned(),
                expected: expected.to_string(),
                actual: diff_id.to_string(),
            });
        }
        let record = LayerRecord {
            size: unpacked.size,
            has_root: unpacked.has_root,
            blob: staged.digest,
            blob_size: staged.size,
            compression,
        };
        staged.publish(&self.blob(staged.digest))?;
        let final_dir = self.images.join("layers").join(diff_id.hex());
        let dir = fs::File::open(&diff).map_err(Error::io("open", &diff))?;
        nix::unistd::syncfs(&dir).map_err(Error::errno("sync", &diff))?;
        match fs::rename(workspace.path(), &final_dir) {
            // Verified by the same digest, by whoever was faster.
            Err(_) if final_dir.join("diff").is_dir() => {}
            result => result.map_err(Error::io("rename", &final_dir))?,
        }
        durable::sync_parent(&final_dir)?;
        Ok((diff_id, record))
    }

    /// Removes what neither an image nor a container's root filesystem needs, or leaves it to whoever is bringing
    /// content in.
    pub(crate) fn collect(&self) -> Result<()> {
        self.collect_later.store(true, Ordering::Release);
        let Ok(_exclusive) = self.incoming.try_write() else {
            return Ok(());
        };
        self.collect_later.store(false, Ordering::Release);
        let containers = self.stacks_of_containers()?;
        let catalog = self.commit(|catalog| {
            let live: BTreeSet<Digest> = (catalog.images.values().map(|image| &image.layers))
                .chain(&containers)
                .flatten()
                .copied()
                .collect();
            catalog.layers.retain(|id, _| live.contains(id));
            Ok(catalog.clone())
        })?;
        let layers: BTreeSet<String> = catalog.layers.keys().map(Digest::hex).collect();
        let configs = catalog.images.keys();
        let blobs: BTreeSet<String> =
            configs.chain(catalog.layers.values().map(|layer| &layer.blob)).map(Digest::hex).collect();
        let inits: BTreeSet<String> = (catalog.images.values().map(|image| &image.layers))
            .chain(&containers)
            .map(|layers| crate::rootfs::init_id(layers).hex())
            .collect();
        for (dir, live) in [("layers", layers), ("blobs/sha256", blobs), ("init", inits)] {
            let dir = self.images.join(dir);
            for name in names_in(&dir)? {
                if !name.to_str().is_some_and(|name| live.contains(name)) {
                    self.discard(&dir.join(name))?;
                }
            }
        }
        let links = self.images.join("l");
        for name in names_in(&links)? {
            if !links.join(&name).exists() {
                durable::remove_all(&links.join(name))?;
            }
        }
        Ok(())
    }

    /// Garbage that could not be removed is no reason for an operation to fail; the next collection tries again.
    pub(crate) fn collect_or_log(&self) {
        if let Err(error) = self.collect() {
            tracing::warn!(error = &error as &dyn std::error::Error, "could not remove unused layers");
        }
    }

    /// Renamed first: what is half removed must not be found under its name.
    fn discard(&self, path: &Path) -> Result<()> {
        let workspace = self.workspace()?;
        let away = workspace.path().join("gone");
        fs::rename(path, &away).map_err(Error::io("rename", path))?;
        durable::remove_all(&away)
    }
}

pub(crate) fn names_in(dir: &Path) -> Result<Vec<std::ffi::OsString>> {
    let entries = fs::read_dir(dir).map_err(Error::io("list", dir))?;
    entries.map(|entry| entry.map(|entry| entry.file_name()).map_err(Error::io("list", dir))).collect()
}

/// Whether a container id is fit to be a directory's name.
pub(crate) fn is_plain_name(name: &str) -> bool {
    Path::new(name).file_name() == Some(OsStr::new(name))
}
