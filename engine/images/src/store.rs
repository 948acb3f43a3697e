//! The store as its users see it.

use std::path::PathBuf;

use tokio::io::AsyncRead;

use crate::Digest;
use crate::archive::ArchiveStream;
use crate::error::Result;
use crate::options::*;
use crate::progress::Progress;
use crate::wire::{Change, DiskUsage, HistoryItem, ImageInspect, ImageSummary, PruneReport, RemovedItem};

/// Images, their layers, and the root filesystems that containers get from them. Cheap to clone.
///
/// Every operation does its file work on tokio's blocking threads; dropping the future does not stop what was begun,
/// but nothing half done is ever visible.
#[derive(Debug, Clone)]
pub struct ImageStore {}

impl ImageStore {
    /// Opens the store at `images` (`STATE/engine/images`), making it where needed, and removes what a crash left
    /// half done. Root filesystems are made below `containers` (`STATE/engine/containers`), in `<id>/rootfs/`.
    pub async fn open(images: PathBuf, containers: PathBuf) -> Result<Self> {
        let _ = (images, containers);
        todo!()
    }

    /// Makes an image of one layer from a tar (plain, gzip or zstd). Reports the id as its last status.
    pub async fn import<R>(&self, source: R, options: ImportOptions, progress: Progress) -> Result<Digest>
    where
        R: AsyncRead + Send + Unpin + 'static,
    {
        let _ = (source, options, progress);
        todo!()
    }

    /// Takes in what `docker save` wrote: a docker-archive or an OCI layout, plain, gzip or zstd.
    /// All or nothing: a broken archive leaves nothing behind. `quiet` leaves out the bars, not the names.
    pub async fn load<R>(&self, source: R, quiet: bool, progress: Progress) -> Result<Vec<Loaded>>
    where
        R: AsyncRead + Send + Unpin + 'static,
    {
        let _ = (source, quiet, progress);
        todo!()
    }

    /// An archive of these images that both kinds of `docker load` understand. Names are checked before it returns.
    /// A name without a tag means all tags of that repository; an id means the image without names.
    pub async fn save(&self, names: &[String]) -> Result<ArchiveStream> {
        let _ = names;
        todo!()
    }

    /// `docker images`.
    pub async fn list(&self, options: ListOptions) -> Result<Vec<ImageSummary>> {
        let _ = options;
        todo!()
    }

    /// `docker image inspect`.
    pub async fn inspect(&self, name: &str) -> Result<ImageInspect> {
        let _ = name;
        todo!()
    }

    /// `docker history`.
    pub async fn history(&self, name: &str) -> Result<Vec<HistoryItem>> {
        let _ = name;
        todo!()
    }

    /// The image that a name, digest, id or unambiguous id prefix stands for.
    pub async fn resolve(&self, name: &str) -> Result<ResolvedImage> {
        let _ = name;
        todo!()
    }

    /// `docker tag`: `repo` may carry the tag itself when `tag` is empty. Moves the name if another image had it.
    /// Returns the image's id and the familiar name.
    pub async fn tag(&self, source: &str, repo: &str, tag: &str) -> Result<(Digest, String)> {
        let _ = (source, repo, tag);
        todo!()
    }

    /// `docker rmi`: takes a name away, and the image with it when that was its last.
    pub async fn remove(
        &self,
        name: &str,
        options: RemoveOptions,
        in_use: &[ImageUse],
    ) -> Result<Vec<RemovedItem>> {
        let _ = (name, options, in_use);
        todo!()
    }

    /// `docker image prune`. Filters: `dangling` (default true), `until`, `label`, `label!`.
    pub async fn prune(&self, filters: Filters, in_use: &[ImageUse]) -> Result<PruneReport> {
        let _ = (filters, in_use);
        todo!()
    }

    /// The images' part of `docker system df`.
    pub async fn disk_usage(&self) -> Result<DiskUsage> {
        todo!()
    }

    /// Makes the directories of a container's root filesystem. Prepared already from the same image: fine.
    pub async fn prepare(&self, container_id: &str, image: Digest) -> Result<Rootfs> {
        let _ = (container_id, image);
        todo!()
    }

    /// The directories of a root filesystem that was prepared.
    pub async fn rootfs(&self, container_id: &str) -> Result<Rootfs> {
        let _ = container_id;
        todo!()
    }

    /// Mounts it at `merged`. Mounted already: fine.
    pub async fn mount(&self, container_id: &str) -> Result<Rootfs> {
        let _ = container_id;
        todo!()
    }

    /// Unmounts it, lazily where something still uses it. Not mounted, or not prepared: fine.
    pub async fn unmount(&self, container_id: &str) -> Result<()> {
        let _ = container_id;
        todo!()
    }

    /// Unmounts it and removes its directories (`<id>/rootfs` and all below). Gone already: fine.
    pub async fn remove_rootfs(&self, container_id: &str) -> Result<()> {
        let _ = container_id;
        todo!()
    }

    /// `docker diff`.
    pub async fn diff(&self, container_id: &str) -> Result<Vec<Change>> {
        let _ = container_id;
        todo!()
    }

    /// `docker ps --size`.
    pub async fn rootfs_size(&self, container_id: &str) -> Result<RootfsSize> {
        let _ = container_id;
        todo!()
    }

    /// `docker export`: the root filesystem as one tar; it is mounted for that time if it is not already.
    pub async fn export(&self, container_id: &str) -> Result<ArchiveStream> {
        let _ = container_id;
        todo!()
    }

    /// `docker commit`: what the container changed becomes a layer, on top of its image's. The caller pauses it.
    pub async fn commit(&self, container_id: &str, options: CommitOptions) -> Result<Digest> {
        let _ = (container_id, options);
        todo!()
    }
}
