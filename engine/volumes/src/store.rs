//! The store as its users see it.

use std::path::{Path, PathBuf};

use crate::Filters;
use crate::error::Result;
use crate::wire::{CreateVolume, PruneReport, Volume, VolumeList};

/// The local volumes. Cheap to clone; the disk is the only copy of what it knows.
///
/// Who uses a volume is the callers' knowledge: they pass `used_by`, the ids of the containers that mount a name.
#[derive(Debug, Clone)]
pub struct VolumeStore {}

impl VolumeStore {
    /// Opens the store at `dir` (`STATE/engine/volumes`), making it where needed, and removes half-made volumes.
    pub async fn open(dir: PathBuf) -> Result<Self> {
        let _ = dir;
        todo!()
    }

    /// Makes a volume, or returns the one of that name when its driver options are the same (labels are kept as they
    /// were). The bool says whether it was made.
    pub async fn create(&self, request: CreateVolume) -> Result<(Volume, bool)> {
        let _ = request;
        todo!()
    }

    /// `docker volume inspect`.
    pub async fn inspect(&self, name: &str) -> Result<Volume> {
        let _ = name;
        todo!()
    }

    /// `docker volume ls`. Filters: `dangling`, `driver`, `label`, `label!`, `name`.
    pub async fn list(&self, filters: &Filters, used_by: impl Fn(&str) -> Vec<String>) -> Result<VolumeList> {
        let _ = (filters, used_by("x"));
        todo!()
    }

    /// `docker volume rm`. Refused while used; with `force` a missing one is fine.
    pub async fn remove(&self, name: &str, force: bool, used_by: impl Fn(&str) -> Vec<String>) -> Result<()> {
        let _ = (name, force, used_by("x"));
        todo!()
    }

    /// `docker volume prune`: unused anonymous volumes, or all unused with the filter `all=true`.
    /// Other filters: `label`, `label!`.
    pub async fn prune(
        &self,
        filters: &Filters,
        used_by: impl Fn(&str) -> Vec<String>,
    ) -> Result<PruneReport> {
        let _ = (filters, used_by("x"));
        todo!()
    }

    /// All volumes with `UsageData`, for `docker system df`.
    pub async fn disk_usage(&self, used_by: impl Fn(&str) -> Vec<String>) -> Result<Vec<Volume>> {
        let _ = used_by("x");
        todo!()
    }

    /// Readies a volume for a container that starts, and returns the directory to bind: mounts what its driver
    /// options ask for. Mounted already: fine.
    pub async fn mount(&self, name: &str) -> Result<PathBuf> {
        let _ = name;
        todo!()
    }

    /// Undoes `mount`; the caller does it when the last container that uses the volume has stopped. Not mounted: fine.
    pub async fn unmount(&self, name: &str) -> Result<()> {
        let _ = name;
        todo!()
    }

    /// Copies the image's content at the volume's path into an empty volume, as Docker does on first use: owners,
    /// modes, links, extended attributes and times kept, the directory's own too. `rootfs` is the mounted root
    /// filesystem, `path` the destination in the container; links on the way resolve inside `rootfs`.
    /// A volume with content, or an image without that directory: nothing to do.
    pub async fn copy_up(&self, name: &str, rootfs: &Path, path: &Path) -> Result<()> {
        let _ = (name, rootfs, path);
        todo!()
    }
}
