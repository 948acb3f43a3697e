//! What a container has changed: shown, exported, or made an image of.

use std::collections::BTreeMap;

use engine_images::{Digest, Healthcheck, ImageConfig};

use crate::{
    ByteStream, CommitOptions, Containers, Result,
    config::{ContainerConfig, PortSet, Status},
    service::detached,
};

impl Containers {
    /// `docker diff`.
    pub async fn changes(&self, reference: &str) -> Result<Vec<engine_images::wire::Change>> {
        let container = self.inner.find(reference)?;
        Ok(self.inner.parts.images.diff(&container.id).await?)
    }

    /// `docker export`: the root filesystem as a tar.
    pub async fn export(&self, reference: &str) -> Result<ByteStream> {
        let container = self.inner.find(reference)?;
        let stream = self.inner.parts.images.export(&container.id).await?;
        self.inner.emit(&container, "export", &[]);
        Ok(Box::pin(stream))
    }

    /// `docker commit`; returns the image's id.
    pub async fn commit(&self, reference: &str, options: CommitOptions) -> Result<Digest> {
        let container = self.inner.find(reference)?;
        let inner = self.inner.clone();
        detached(async move {
            // Held so that nobody starts, stops or thaws it while its files are read.
            let _turn = container.turn().await;
            let config = container.config();
            let paused = match inner.live_task(&container) {
                Ok(task) if options.pause && container.status() == Status::Running => {
                    task.pause().await?;
                    Some(task)
                }
                _ => None,
            };
            let words = config.config.entrypoint.iter().chain(&config.config.cmd).flatten();
            let committed = inner
                .parts
                .images
                .commit(
                    &container.id,
                    engine_images::CommitOptions {
                        reference: options.reference.clone(),
                        config: image_config(&config.config, options.config),
                        changes: options.changes,
                        author: options.author,
                        comment: options.comment.clone(),
                        created_by: words.cloned().collect::<Vec<_>>().join(" "),
                    },
                )
                .await;
            if let Some(task) = paused {
                task.resume().await?;
            }
            let image = committed?;
            let reference = options.reference.as_deref().map(familiar);
            let events = &inner.parts.events;
            let named = |name: &str| BTreeMap::from([("name".to_owned(), name.to_owned())]);
            events.emit("image", "create", &image.to_string(), named(&image.to_string()));
            if let Some(reference) = &reference {
                events.emit("image", "tag", &image.to_string(), named(reference));
            }
            let attributes = [
                ("comment", options.comment),
                ("imageID", image.to_string()),
                ("imageRef", reference.unwrap_or_default()),
            ];
            inner.emit(&container, "commit", &attributes);
            Ok(image)
        })
        .await
    }
}

/// A reference as people write it, with its tag: `web:latest` for `docker.io/library/web`.
fn familiar(reference: &str) -> String {
    let short = reference.strip_prefix("docker.io/").unwrap_or(reference);
    let short = short.strip_prefix("library/").filter(|_| short.len() < reference.len()).unwrap_or(short);
    let tagged = short.rsplit('/').next().is_some_and(|name| name.contains([':', '@']));
    if tagged { short.to_owned() } else { format!("{short}:latest") }
}

/// The container's own config, with what the client overrides.
fn image_config(own: &ContainerConfig, asked: Option<ImageConfig>) -> ImageConfig {
    let keys = |keys: &mut dyn Iterator<Item = String>| -> BTreeMap<_, _> {
        keys.map(|key| (key, engine_images::Empty {})).collect()
    };
    let mut image = ImageConfig {
        user: own.user.clone(),
        exposed_ports: keys(&mut own.exposed_ports.iter().flat_map(PortSet::keys)),
        env: own.env.clone().unwrap_or_default(),
        entrypoint: own.entrypoint.clone(),
        cmd: own.cmd.clone(),
        volumes: keys(&mut own.volumes.iter().flat_map(|volumes| volumes.keys().cloned())),
        working_dir: own.working_dir.clone(),
        labels: own.labels.clone(),
        stop_signal: own.stop_signal.clone(),
        healthcheck: own.healthcheck.as_ref().map(|health| Healthcheck {
            test: health.test.clone().unwrap_or_default(),
            interval: health.interval,
            timeout: health.timeout,
            start_period: health.start_period,
            start_interval: health.start_interval,
            retries: health.retries,
        }),
        on_build: own.on_build.clone().unwrap_or_default(),
        shell: own.shell.clone().unwrap_or_default(),
    };
    let Some(asked) = asked else { return image };
    image.exposed_ports.extend(asked.exposed_ports);
    image.volumes.extend(asked.volumes);
    for entry in asked.env {
        let name = entry.split_once('=').map_or(entry.as_str(), |(name, _)| name).to_owned();
        image.env.retain(|known| known.split_once('=').map_or(known.as_str(), |(name, _)| name) != name);
        image.env.push(entry);
    }
    image.labels.get_or_insert_default().extend(asked.labels.unwrap_or_default());
    for (own, asked) in [
        (&mut image.user, asked.user),
        (&mut image.working_dir, asked.working_dir),
        (&mut image.stop_signal, asked.stop_signal),
    ] {
        if !asked.is_empty() {
            *own = asked;
        }
    }
    image.entrypoint = asked.entrypoint.or(image.entrypoint);
    image.cmd = asked.cmd.or(image.cmd);
    image.healthcheck = asked.healthcheck.or(image.healthcheck);
    image
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_shown_as_people_write_them() {
        for (reference, shown) in [
            ("web", "web:latest"),
            ("docker.io/library/web", "web:latest"),
            ("docker.io/me/web:1", "me/web:1"),
            ("host:5000/library/web", "host:5000/library/web:latest"),
        ] {
            assert_eq!(familiar(reference), shown);
        }
    }
}
