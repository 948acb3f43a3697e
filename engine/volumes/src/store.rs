//! The store as its users see it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine_filters::Filters;

use crate::copy;
use crate::disk::{Disk, Record};
use crate::error::{Error, Result};
use crate::mount;
use crate::wire::{CreateVolume, PruneReport, UsageData, Volume, VolumeList};

/// The local volumes. Cheap to clone; the disk is the only copy of what it knows.
///
/// Who uses a volume is the callers' knowledge: they pass `used_by`, the ids of the containers that mount a name.
/// File work is done on tokio's blocking threads.
#[derive(Debug, Clone)]
pub struct VolumeStore(Arc<Disk>);

impl VolumeStore {
    /// Opens the store at `dir` (`STATE/engine/volumes`), making it where needed, and removes half-made volumes.
    pub async fn open(dir: PathBuf) -> Result<Self> {
        Ok(Self(Arc::new(blocking(move || Disk::open(dir)).await?)))
    }

    /// Makes a volume, or returns the one of that name when its driver options are the same (labels are kept as they
    /// were). The bool says whether it was made.
    pub async fn create(&self, request: CreateVolume) -> Result<(Volume, bool)> {
        self.run(move |disk| {
            let (record, made) = disk.create(request)?;
            Ok((volume(disk, record, None), made))
        })
        .await
    }

    /// `docker volume inspect`.
    pub async fn inspect(&self, name: &str) -> Result<Volume> {
        let name = name.to_owned();
        self.run(move |disk| Ok(volume(disk, disk.record(&name)?, None))).await
    }

    /// `docker volume ls`. Filters: `dangling`, `driver`, `label`, `label!`, `name`.
    pub async fn list(&self, filters: &Filters, used_by: impl Fn(&str) -> Vec<String>) -> Result<VolumeList> {
        filters.allow(&["dangling", "driver", "label", "label!", "name"])?;
        let dangling = filters.flag("dangling")?;
        let records = self.run(|disk| disk.records()).await?;
        let volumes = (records.into_iter())
            .filter(|record| dangling.is_none_or(|wanted| wanted == used_by(&record.name).is_empty()))
            .filter(|_| filters.exact("driver", "local"))
            .filter(|record| filters.matches("name", &record.name))
            .filter(|record| labelled(filters, record))
            .map(|record| volume(&self.0, record, None))
            .collect();
        Ok(VolumeList { volumes, warnings: None })
    }

    /// `docker volume rm`. Refused while used; with `force` a missing one is fine.
    pub async fn remove(&self, name: &str, force: bool, used_by: impl Fn(&str) -> Vec<String>) -> Result<()> {
        let name = name.to_owned();
        let containers = used_by(&name);
        self.run(move |disk| match disk.record(&name) {
            Err(Error::NoSuchVolume(_)) if force => Ok(()),
            Err(error) => Err(error),
            Ok(_) if !containers.is_empty() => Err(Error::InUse { name, containers }),
            Ok(_) => disk.remove(&name),
        })
        .await
    }

    /// `docker volume prune`: unused anonymous volumes, or all unused with the filter `all=true`.
    /// Other filters: `label`, `label!`.
    pub async fn prune(
        &self,
        filters: &Filters,
        used_by: impl Fn(&str) -> Vec<String>,
    ) -> Result<PruneReport> {
        filters.allow(&["all", "label", "label!"])?;
        let all = filters.flag("all")?.unwrap_or(false);
        let records = self.run(|disk| disk.records()).await?;
        let mut report = PruneReport::default();
        for record in records {
            let candidate = (all || record.anonymous) && labelled(filters, &record);
            // Asked again for each, since a container may come while the ones before it go.
            if !candidate || !used_by(&record.name).is_empty() {
                continue;
            }
            let name = record.name.clone();
            let removed = self.run(move |disk| {
                let size = disk.size(&name)?;
                disk.remove(&name).map(|()| size)
            });
            match removed.await {
                Ok(size) => {
                    report.space_reclaimed += size;
                    report.volumes_deleted.get_or_insert_default().push(record.name);
                }
                Err(Error::NoSuchVolume(_)) => {}
                Err(error) => {
                    tracing::warn!(
                        volume = record.name,
                        error = &error as &dyn std::error::Error,
                        "not pruned"
                    );
                }
            }
        }
        Ok(report)
    }

    /// All volumes with `UsageData`, for `docker system df`.
    pub async fn disk_usage(&self, used_by: impl Fn(&str) -> Vec<String>) -> Result<Vec<Volume>> {
        let sized = self.run(|disk| {
            let records = disk.records()?.into_iter();
            Ok(records.map(|record| (disk.size(&record.name).ok(), record)).collect::<Vec<_>>())
        });
        Ok((sized.await?.into_iter())
            .map(|(size, record)| {
                let usage = UsageData {
                    ref_count: i64::try_from(used_by(&record.name).len()).unwrap_or(i64::MAX),
                    // Docker's word for a size that could not be found out.
                    size: size.map_or(-1, |size| i64::try_from(size).unwrap_or(i64::MAX)),
                };
                volume(&self.0, record, Some(usage))
            })
            .collect())
    }

    /// Readies a volume for a container that starts, and returns the directory to bind: mounts what its driver
    /// options ask for. Mounted already: fine.
    pub async fn mount(&self, name: &str) -> Result<PathBuf> {
        let name = name.to_owned();
        self.run(move |disk| {
            let record = disk.record(&name)?;
            let data = disk.data(&name);
            if let Some(options) = &record.options {
                mount::mount(options, &data)?;
            }
            Ok(data)
        })
        .await
    }

    /// Undoes `mount`; the caller does it when the last container that uses the volume has stopped. Not mounted: fine.
    pub async fn unmount(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.run(move |disk| mount::unmount(&disk.data(&name))).await
    }

    /// Copies the image's content at the volume's path into an empty volume, as Docker does on first use: owners,
    /// modes, links, extended attributes and times kept, the directory's own too. `rootfs` is the mounted root
    /// filesystem, `path` the destination in the container; links on the way resolve inside `rootfs`.
    /// A volume with content, or an image without that directory: nothing to do.
    pub async fn copy_up(&self, name: &str, rootfs: &Path, path: &Path) -> Result<()> {
        let (name, rootfs, path) = (name.to_owned(), rootfs.to_owned(), path.to_owned());
        self.run(move |disk| {
            disk.record(&name)?;
            copy::copy_up(&rootfs, &path, &disk.data(&name))
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Disk) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let disk = self.0.clone();
        blocking(move || work(&disk)).await
    }
}

fn volume(disk: &Disk, record: Record, usage_data: Option<UsageData>) -> Volume {
    Volume {
        mountpoint: disk.data(&record.name).to_string_lossy().into_owned(),
        created_at: record.created_at,
        driver: "local".to_owned(),
        labels: record.labels,
        name: record.name,
        options: record.options,
        scope: "local".to_owned(),
        usage_data,
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Error::Interrupted),
    }
}

fn labelled(filters: &Filters, record: &Record) -> bool {
    let labels = record.labels.as_ref();
    filters.labels(|name| labels.and_then(|labels| labels.get(name)).map(String::as_str))
}
