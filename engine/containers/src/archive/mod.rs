//! `docker cp`: files in and out of containers, running or not.
//!
//! Every path is resolved by the kernel inside the container's root (`openat2` with `RESOLVE_IN_ROOT`), so that no link
//! in a container, however it changes meanwhile, leads out of it. A running container is entered through
//! `/proc/<pid>/root`, where its volumes are mounted; of a stopped one the root filesystem is mounted, and a path below
//! one of its mounts is looked up in that mount's source.

mod pack;
mod root;
mod unpack;

use std::{io, io::Write, sync::Arc};

use bytes::Bytes;
use tokio::{io::AsyncRead, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::SyncIoBridge;

use crate::{
    ByteStream, Containers, Error, PutOptions, Result,
    config::PathStat,
    container::Container,
    service::{Inner, blocking},
};

pub(crate) use root::Root;

impl Containers {
    /// What is at a path in the container.
    pub async fn archive_stat(&self, reference: &str, path: &str) -> Result<PathStat> {
        let container = self.inner.find(reference)?;
        let (root, path) = self.inner.open_root(&container, path).await?;
        let name = reference.to_owned();
        let stat = blocking(move || Ok(root.stat(&path))).await?;
        self.inner.close_root(&container).await;
        stat.map_err(|error| missing(error, &name, "stat", reference))
    }

    /// What is at a path in the container, as a tar.
    pub async fn archive_get(&self, reference: &str, path: &str) -> Result<(PathStat, ByteStream)> {
        let container = self.inner.find(reference)?;
        let (root, inner_path) = self.inner.open_root(&container, path).await?;
        let found = blocking(move || {
            let found = root.stat(&inner_path).and_then(|stat| Ok((stat, root.source(&inner_path)?)));
            Ok(found)
        })
        .await?;
        let (stat, source) = match found {
            Ok(found) => found,
            Err(error) => {
                self.inner.close_root(&container).await;
                return Err(missing(error, reference, "open", path));
            }
        };
        let (sender, receiver) = mpsc::channel(4);
        let inner = self.inner.clone();
        let name = stat.name.clone();
        self.inner.emit(&container, "archive-path", &[]);
        tokio::spawn(async move {
            let copy = sender.clone();
            let packed = tokio::task::spawn_blocking(move || {
                let mut writer = io::BufWriter::with_capacity(64 << 10, Channel(copy));
                pack::pack(source, &name, &mut writer)?;
                writer.flush()
            });
            if let Ok(Err(error)) = packed.await {
                // Nobody listens any more: nobody to tell.
                let _ = sender.send(Err(error)).await;
            }
            inner.close_root(&container).await;
        });
        Ok((stat, Box::pin(ReceiverStream::new(receiver))))
    }

    /// Unpacks a tar (plain, gzip or zstd) into a directory in the container.
    pub async fn archive_put<R>(&self, reference: &str, path: &str, tar: R, options: PutOptions) -> Result<()>
    where
        R: AsyncRead + Send + Unpin + 'static,
    {
        let container = self.inner.find(reference)?;
        let config = container.config();
        let inside = crate::mounts::clean(path);
        let mount = config
            .mounts
            .iter()
            .filter(|mount| root::below(&inside, &mount.point.destination).is_some())
            .max_by_key(|mount| mount.point.destination.len());
        match mount {
            Some(mount) if !mount.point.rw => {
                return Err(Error::Invalid("mounted volume is marked read-only".into()));
            }
            None if config.host.readonly_rootfs => {
                return Err(Error::Invalid("container rootfs is marked read-only".into()));
            }
            _ => {}
        }
        let owner = match options.copy_uid_gid {
            true => numeric_user(&config.config.user),
            false => None,
        };
        let (root, inner_path) = self.inner.open_root(&container, path).await?;
        let reader = SyncIoBridge::new(tar);
        let unpacked = blocking(move || {
            Ok(unpack::unpack(&root, &inner_path, reader, owner, options.no_overwrite_dir_non_dir))
        })
        .await?;
        self.inner.close_root(&container).await;
        match unpacked {
            Ok(()) => {
                self.inner.emit(&container, "extract-to-dir", &[]);
                Ok(())
            }
            Err(unpack::Failure::Destination(error)) => Err(missing(error, reference, "open", path)),
            Err(unpack::Failure::NotDirectory) => Err(Error::invalid("extraction point is not a directory")),
            Err(unpack::Failure::Conflict(message) | unpack::Failure::Archive(message)) => {
                Err(Error::Invalid(message))
            }
            Err(unpack::Failure::Io(error)) => Err(Error::io("unpack into", path)(error)),
        }
    }
}

impl Inner {
    /// The root in which a path is to be resolved, and the path in it.
    async fn open_root(self: &Arc<Self>, container: &Arc<Container>, path: &str) -> Result<(Root, String)> {
        let (running, pid) = container.read(|live| (live.state.has_process(), live.state.pid));
        if running {
            let root = blocking(move || {
                let path = format!("/proc/{pid}/root");
                Root::open(path.as_ref()).map_err(Error::io("open", path))
            });
            return Ok((root.await?, path.to_owned()));
        }
        let config = container.config();
        let inside = crate::mounts::clean(path);
        let mount = config
            .mounts
            .iter()
            .filter_map(|mount| Some((mount, root::below(&inside, &mount.point.destination)?)))
            .max_by_key(|(mount, _)| mount.point.destination.len());
        let (dir, path) = match mount {
            Some((mount, rest)) if !mount.point.source.is_empty() => {
                let source = match mount.point.r#type.as_str() {
                    "volume" => self.parts.volumes.mount(&mount.point.name).await?,
                    _ => mount.point.source.clone().into(),
                };
                // The mount point itself is the source's root, whatever the client calls it.
                let dot = if path.ends_with("/.") { "/." } else { "" };
                (source, format!("{rest}{dot}"))
            }
            _ => (self.parts.images.mount(&container.id).await?.merged, path.to_owned()),
        };
        let root = blocking(move || Root::open(&dir).map_err(Error::io("open", dir))).await?;
        Ok((root, path))
    }

    /// Unmounts what was mounted for a stopped container.
    async fn close_root(self: &Arc<Self>, container: &Arc<Container>) {
        let _turn = container.turn().await;
        if !container.read(|live| live.task.is_some() || live.removed)
            && let Err(error) = self.parts.images.unmount(&container.id).await
        {
            tracing::warn!(
                container = container.id,
                error = crate::error::chain(&error),
                "cannot unmount after a copy"
            );
        }
    }
}

fn missing(error: io::Error, container: &str, operation: &'static str, path: &str) -> Error {
    match error.raw_os_error() {
        Some(nix::libc::ENOENT) => Error::NoSuchPath { container: container.into(), path: path.into() },
        Some(nix::libc::ENOTDIR) => Error::Invalid(format!("lstat {path}: not a directory")),
        _ => Error::io(operation, path)(error),
    }
}

/// `uid[:gid]` where both are numbers: who files belong to with `docker cp -a`.
fn numeric_user(user: &str) -> Option<(u32, u32)> {
    let (uid, gid) = user.split_once(':').unwrap_or((user, user));
    Some((uid.parse().ok()?, gid.parse().ok()?))
}

/// Hands what is written to a stream of bytes.
struct Channel(mpsc::Sender<io::Result<Bytes>>);

impl Write for Channel {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(data)));
        sent.map(|()| data.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
