//! Removing containers.

use std::{path::Path, sync::Arc};

use engine_filters::Filters;
use jiff::Timestamp;

use crate::{
    Containers, Error, RemoveOptions, Result,
    config::{Pruned, Status},
    container::Container,
    links,
    record::{self, MountRecord},
    service::{Inner, blocking, detached},
};

impl Containers {
    pub async fn remove(&self, reference: &str, options: RemoveOptions) -> Result<()> {
        if options.link {
            let (inner, reference) = (self.inner.clone(), reference.to_owned());
            return detached(async move { inner.remove_link(&reference).await }).await;
        }
        let container = self.inner.find(reference)?;
        let (inner, reference) = (self.inner.clone(), reference.to_owned());
        detached(async move { inner.remove(&container, &reference, options).await }).await
    }

    /// `docker container prune`. Filters: `until`, `label`, `label!`.
    pub async fn prune(&self, filters: &Filters) -> Result<Pruned> {
        filters.allow(&["until", "label", "label!"])?;
        let until = filters.until(Timestamp::now())?;
        let mut deleted = Vec::new();
        let mut space = 0;
        for container in self.inner.all() {
            let wanted = container.read(|live| {
                let labels = live.config.config.labels.as_ref();
                let label = |name: &str| labels.and_then(|labels| labels.get(name)).map(String::as_str);
                !live.state.is_running()
                    && until.is_none_or(|until| live.config.created < until.into())
                    && filters.labels(label)
            });
            if !wanted {
                continue;
            }
            let size = self.inner.parts.images.rootfs_size(&container.id).await.map_or(0, |size| size.rw);
            match self.remove(&container.id, RemoveOptions::default()).await {
                Ok(()) => {
                    deleted.push(container.id.clone());
                    space += size;
                }
                // Started or removed by somebody else meanwhile.
                Err(error) => tracing::debug!(
                    container = container.id,
                    error = crate::error::chain(&error),
                    "not pruned"
                ),
            }
        }
        let attributes = [("reclaimed".to_owned(), space.to_string())].into();
        self.inner.parts.events.emit("container", "prune", "", attributes);
        Ok(Pruned { containers_deleted: (!deleted.is_empty()).then_some(deleted), space_reclaimed: space })
    }
}

impl Inner {
    /// `docker rm --link CONTAINER/ALIAS`: the container stays, and knows the other by this name no more.
    async fn remove_link(&self, reference: &str) -> Result<()> {
        let Some((name, alias)) = reference.trim_start_matches('/').split_once('/') else {
            self.find(reference)?;
            return Err(Error::Conflict(
                "Conflict, cannot remove the default link name of the container".into(),
            ));
        };
        let absent = || Error::NoSuchContainer(reference.to_owned());
        let container = self.find(name).map_err(|_| absent())?;
        let _turn = container.turn().await;
        container.stays("changed")?;
        let before = container.live();
        let mut config = (*before.config).clone();
        let given = config.host.links.get_or_insert_default();
        let position = given.iter().position(|link| links::alias(link) == alias);
        given.remove(position.ok_or_else(absent)?);
        if given.is_empty() {
            config.host.links = None;
        }
        self.save_config(&container, config.clone()).await?;
        if before.state.has_process() {
            let sandbox = before.sandbox.as_deref();
            blocking(self.refreshed_files(&container, &before, &config, sandbox).await?).await?;
            self.follow_links(&container).await?;
        }
        Ok(())
    }

    async fn remove(
        self: &Arc<Self>,
        container: &Arc<Container>,
        reference: &str,
        options: RemoveOptions,
    ) -> Result<()> {
        let refuse =
            |why: &str| Err(Error::Conflict(format!("cannot remove container {reference:?}: {why}")));
        if options.force {
            container.cancel_restart();
            if container.read(|live| live.state.has_process()) {
                match self.kill(container, nix::libc::SIGKILL).await {
                    // It ended by itself.
                    Ok(()) | Err(Error::NotRunning(_) | Error::Restarting(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let _turn = container.turn().await;
        if container.read(|live| live.removed) {
            // With --rm, or by somebody else: gone is what was asked for, if it was asked for by force.
            return if options.force { Ok(()) } else { Err(Error::NoSuchContainer(reference.to_owned())) };
        }
        match container.status() {
            Status::Running => {
                return refuse("container is running: stop the container before removing or force remove");
            }
            Status::Paused => {
                return refuse("container is paused and must be unpaused first");
            }
            Status::Restarting if !options.force => {
                return refuse("container is restarting: stop the container before removing or force remove");
            }
            Status::Restarting => container.cancel_restart(),
            Status::Created | Status::Exited | Status::Removing | Status::Dead => {}
        }
        let before = container.status();
        container.change(|live| live.state.status = Status::Removing);
        // An interrupted removal is finished at the next start.
        self.save_state(container).await?;
        let removed = self.dismantle(container, options.volumes).await;
        if removed.is_err() {
            let status = if before == Status::Removing { Status::Dead } else { before };
            container.change(|live| live.state.status = status);
        }
        removed.map_err(|error| error.during(format!("cannot remove container {reference:?}")))
    }

    /// Takes a stopped container off the disk and out of every list. The caller has the turn.
    pub(crate) async fn dismantle(self: &Arc<Self>, container: &Arc<Container>, volumes: bool) -> Result<()> {
        drop(container.take_pending());
        let config = container.config();
        // Its last exit may not have been able to.
        self.leave(&container.id, false).await?;
        let anonymous: &[MountRecord] = if volumes { &config.mounts } else { &[] };
        self.remove_files(&container.id, &container.dir, anonymous).await?;
        self.forget(container);
        self.emit(container, "destroy", &[]);
        container.change(|live| live.removed = true);
        Ok(())
    }

    /// Removes a container's files, and those of its volumes that are anonymous and nobody else's. `config.json` goes
    /// before the directory: what has none is a leftover, whenever this is interrupted.
    pub(crate) async fn remove_files(&self, id: &str, dir: &Path, mounts: &[MountRecord]) -> Result<()> {
        self.parts.images.remove_rootfs(id).await?;
        for mount in
            mounts.iter().filter(|m| m.anonymous && m.point.r#type == "volume" && !m.point.name.is_empty())
        {
            let name = &mount.point.name;
            let users = || self.volume_users(name, |other| other.id != id);
            match self.parts.volumes.remove(name, true, |_| users()).await {
                Ok(()) => {
                    let attributes = [("driver".to_owned(), mount.point.driver.clone())].into();
                    self.parts.events.emit("volume", "destroy", name, attributes);
                }
                // Somebody else mounts it by now.
                Err(engine_volumes::Error::InUse { .. }) => {}
                Err(error) => tracing::warn!(
                    volume = name,
                    error = crate::error::chain(&error),
                    "cannot remove an anonymous volume"
                ),
            }
        }
        let dir = dir.to_owned();
        blocking(move || {
            let gone = |result: std::io::Result<()>| match result {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                other => other,
            };
            gone(std::fs::remove_file(dir.join(record::CONFIG)))
                .and_then(|()| gone(std::fs::remove_dir_all(&dir)))
                .map_err(Error::io("remove", &dir))
        })
        .await
    }
}
