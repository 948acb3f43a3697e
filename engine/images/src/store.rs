//! The store as its users see it.

use std::path::PathBuf;
use std::sync::Arc;

use engine_filters::Filters;
use tokio::io::AsyncRead;
use tokio_util::io::SyncIoBridge;

use crate::Digest;
use crate::archive::ArchiveStream;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::options::{
    CommitOptions, ImageUse, ImportOptions, ListOptions, Loaded, RemoveOptions, ResolvedImage, Rootfs,
    RootfsSize,
};
use crate::progress::Progress;
use crate::wire::{Change, DiskUsage, HistoryItem, ImageInspect, ImageSummary, PruneReport, RemovedItem};

/// Images, their layers, and the root filesystems that containers get from them. Cheap to clone.
///
/// Every operation does its file work on tokio's blocking threads; dropping the future does not stop what was begun,
/// but nothing half done is ever visible.
#[derive(Debug, Clone)]
pub struct ImageStore(Arc<Core>);

impl ImageStore {
    /// Opens the store at `images` (`STATE/engine/images`), making it where needed, and removes what a crash left
    /// half done. Root filesystems are made below `containers` (`STATE/engine/containers`), in `<id>/rootfs/`.
    pub async fn open(images: PathBuf, containers: PathBuf) -> Result<Self> {
        let core = blocking(move || Core::open(images, containers)).await?;
        Ok(Self(Arc::new(core)))
    }

    /// Makes an image of one layer from a tar (plain, gzip or zstd). Reports the id as its last status.
    pub async fn import<R>(&self, source: R, options: ImportOptions, progress: Progress) -> Result<Digest>
    where
        R: AsyncRead + Send + Unpin + 'static,
    {
        let source = SyncIoBridge::new(source);
        self.run(move |core| core.import(source, &options, &progress)).await
    }

    /// Takes in what `docker save` wrote: a docker-archive or an OCI layout, plain, gzip or zstd.
    /// All or nothing: a broken archive leaves nothing behind. `quiet` leaves out the bars, not the names.
    pub async fn load<R>(&self, source: R, quiet: bool, progress: Progress) -> Result<Vec<Loaded>>
    where
        R: AsyncRead + Send + Unpin + 'static,
    {
        let source = SyncIoBridge::new(source);
        self.run(move |core| core.load(source, quiet, &progress)).await
    }

    /// An archive of these images that both kinds of `docker load` understand. Names are checked before it returns.
    /// A name without a tag means all tags of that repository; an id means the image without names.
    pub async fn save(&self, names: &[String]) -> Result<ArchiveStream> {
        let names = names.to_vec();
        let plan = self.run(move |core| core.plan_save(&names)).await?;
        Ok(ArchiveStream::produce(move |out| plan.write(out)))
    }

    /// `docker images`.
    pub async fn list(&self, options: ListOptions) -> Result<Vec<ImageSummary>> {
        self.run(move |core| core.list(&options)).await
    }

    /// `docker image inspect`.
    pub async fn inspect(&self, name: &str) -> Result<ImageInspect> {
        let name = name.to_owned();
        self.run(move |core| core.inspect(&name)).await
    }

    /// `docker history`.
    pub async fn history(&self, name: &str) -> Result<Vec<HistoryItem>> {
        let name = name.to_owned();
        self.run(move |core| core.history(&name)).await
    }

    /// The image that a name, digest, id or unambiguous id prefix stands for.
    pub async fn resolve(&self, name: &str) -> Result<ResolvedImage> {
        let name = name.to_owned();
        self.run(move |core| core.resolve(&name)).await
    }

    /// `docker tag`: `repo` may carry the tag itself when `tag` is empty. Moves the name if another image had it.
    /// Returns the image's id and the familiar name.
    pub async fn tag(&self, source: &str, repo: &str, tag: &str) -> Result<(Digest, String)> {
        let (source, repo, tag) = (source.to_owned(), repo.to_owned(), tag.to_owned());
        self.run(move |core| core.tag(&source, &repo, &tag)).await
    }

    /// `docker rmi`: takes a name away, and the image with it when that was its last.
    pub async fn remove(
        &self,
        name: &str,
        options: RemoveOptions,
        in_use: &[ImageUse],
    ) -> Result<Vec<RemovedItem>> {
        let (name, in_use) = (name.to_owned(), in_use.to_vec());
        self.run(move |core| core.remove(&name, options, &in_use)).await
    }

    /// `docker image prune`. Filters: `dangling` (default true), `until`, `label`, `label!`.
    pub async fn prune(&self, filters: Filters, in_use: &[ImageUse]) -> Result<PruneReport> {
        let in_use = in_use.to_vec();
        self.run(move |core| core.prune(&filters, &in_use)).await
    }

    /// The images' part of `docker system df`.
    pub async fn disk_usage(&self) -> Result<DiskUsage> {
        self.run(|core| core.disk_usage()).await
    }

    /// Makes the directories of a container's root filesystem. Prepared already from the same image: fine.
    pub async fn prepare(&self, container_id: &str, image: Digest) -> Result<Rootfs> {
        let id = container_id.to_owned();
        self.run(move |core| core.prepare(&id, image)).await
    }

    /// The directories of a root filesystem that was prepared.
    pub async fn rootfs(&self, container_id: &str) -> Result<Rootfs> {
        let id = container_id.to_owned();
        self.run(move |core| core.rootfs(&id)).await
    }

    /// Mounts it at `merged`. Mounted already: fine.
    pub async fn mount(&self, container_id: &str) -> Result<Rootfs> {
        let id = container_id.to_owned();
        self.run(move |core| core.mount(&id)).await
    }

    /// Unmounts it, lazily where something still uses it. Not mounted, or not prepared: fine.
    ///
    /// It is on its way when this returns: the kernel syncs the whole filesystem below an overlay that is unmounted,
    /// and only [`Self::mount`] of the same container and [`Self::settle`] have to wait for that.
    pub async fn unmount(&self, container_id: &str) -> Result<()> {
        let id = container_id.to_owned();
        let core = self.0.clone();
        if self.run(move |core| core.begin_unmount(&id)).await? {
            let id = container_id.to_owned();
            drop(tokio::task::spawn_blocking(move || core.finish_unmount(&id)));
        }
        Ok(())
    }

    /// Removes a root filesystem, mounted or not. Gone already: fine.
    ///
    /// When this returns, nothing is left of it below `<id>`; what has to be unmounted and deleted is on its way out,
    /// on a thread of its own.
    pub async fn remove_rootfs(&self, container_id: &str) -> Result<()> {
        let id = container_id.to_owned();
        self.run(move |core| core.remove_rootfs(&id)).await?;
        let core = self.0.clone();
        drop(tokio::task::spawn_blocking(move || core.sweep()));
        Ok(())
    }

    /// Waits until what was unmounted and removed is so on disk: for an orderly end of the engine.
    pub async fn settle(&self) -> Result<()> {
        self.run(|core| core.settle()).await
    }

    /// `docker diff`.
    pub async fn diff(&self, container_id: &str) -> Result<Vec<Change>> {
        let id = container_id.to_owned();
        self.run(move |core| core.diff(&id)).await
    }

    /// `docker ps --size`.
    pub async fn rootfs_size(&self, container_id: &str) -> Result<RootfsSize> {
        let id = container_id.to_owned();
        self.run(move |core| core.rootfs_size(&id)).await
    }

    /// `docker export`: the root filesystem as one tar; it is mounted for that time if it is not already.
    pub async fn export(&self, container_id: &str) -> Result<ArchiveStream> {
        let id = container_id.to_owned();
        self.run(move |core| core.export(&id)).await
    }

    /// `docker commit`: what the container changed becomes a layer, on top of its image's. The caller pauses it.
    pub async fn commit(&self, container_id: &str, options: CommitOptions) -> Result<Digest> {
        let id = container_id.to_owned();
        self.run(move |core| core.commit_container(&id, &options)).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Core>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let core = self.0.clone();
        blocking(move || work(&core)).await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Error::Interrupted),
    }
}
