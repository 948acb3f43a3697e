//! `docker ps`.

use std::sync::Arc;

use engine_filters::Filters;

use crate::{
    Containers, Error, ListOptions, Result,
    config::{Status, Summary, SummaryHostConfig, SummaryNetworks},
    container::{Container, Live},
    inspect::shown_mounts,
    moment::{Moment, human},
    network, ports,
};

const KEYS: &[&str] = &[
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];
const STATES: &[&str] = &["created", "running", "paused", "restarting", "removing", "exited", "dead"];
const HEALTH: &[&str] = &["none", "starting", "healthy", "unhealthy"];

impl Containers {
    /// `docker ps`, newest first.
    pub async fn list(&self, options: ListOptions) -> Result<Vec<Summary>> {
        let filter = self.filter(&options.filters).await?;
        let mut found: Vec<(Arc<Container>, Live)> =
            self.inner.all().into_iter().map(|container| (container.clone(), container.live())).collect();
        found.sort_by_key(|(_, live)| std::cmp::Reverse(live.config.created));
        // Asking for a state, an exit code or a number of containers asks for those that do not run, too.
        let filters = &options.filters;
        let all =
            options.all || options.limit > 0 || filters.contains("status") || filters.contains("exited");
        let mut summaries = Vec::new();
        for (container, live) in found {
            if options.limit > 0 && summaries.len() == options.limit {
                break;
            }
            if (!all && !live.state.is_running()) || live.removed || !filter.passes(filters, &live) {
                continue;
            }
            let mut summary = summary(&live);
            if options.size {
                let size = self.inner.parts.images.rootfs_size(&container.id).await?;
                (summary.size_rw, summary.size_root_fs) = (Some(size.rw as i64), Some(size.root_fs as i64));
            }
            summaries.push(summary);
        }
        Ok(summaries)
    }

    /// Checks the filters and looks up what they refer to.
    async fn filter(&self, filters: &Filters) -> Result<Filter> {
        filters.allow(KEYS)?;
        let one_of = |key: &str, kind: &str, known: &[&str]| match filters
            .values(key)
            .find(|value| !known.contains(value))
        {
            Some(value) => Err(Error::Invalid(format!(
                "invalid filter '{key}={value}': invalid value for {kind} ({value}): must be one of {}",
                known.join(", ")
            ))),
            None => Ok(()),
        };
        one_of("status", "state", STATES)?;
        one_of("health", "health", HEALTH)?;
        let is_task = filters.flag("is-task")?;
        let mut filter = Filter { is_task: is_task.unwrap_or(false), ..Filter::default() };
        for value in filters.values("exited") {
            filter.exited.push(value.parse().map_err(|_| filters.refuse("exited"))?);
        }
        let created = |key: &str| -> Result<Option<Moment>> {
            let mut found = None;
            for value in filters.values(key) {
                found = Some(self.inner.find(value)?.config().created);
            }
            Ok(found)
        };
        filter.before = created("before")?;
        filter.since = created("since")?;
        for value in filters.values("ancestor") {
            match self.inner.parts.images.resolve(value).await {
                Ok(image) => filter.images.push(image.id),
                // No such image: no such containers, unless one was made from what had this name once.
                Err(engine_images::Error::NoSuchImage(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        for key in ["publish", "expose"] {
            for value in filters.values(key) {
                let ports = port_range(value).ok_or_else(|| filters.refuse(key))?;
                if key == "publish" { &mut filter.publish } else { &mut filter.expose }.push(ports);
            }
        }
        Ok(filter)
    }
}

/// First and last port, and the protocol; `80`, `80/udp`, `80-90/tcp`.
type PortRange = (u16, u16, String);

fn port_range(text: &str) -> Option<PortRange> {
    let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    Some((first.parse().ok()?, last.parse().ok()?, protocol.to_ascii_lowercase()))
}

/// What the filters refer to, looked up.
#[derive(Debug, Default)]
struct Filter {
    is_task: bool,
    exited: Vec<i32>,
    before: Option<Moment>,
    since: Option<Moment>,
    images: Vec<engine_images::Digest>,
    publish: Vec<PortRange>,
    expose: Vec<PortRange>,
}

impl Filter {
    fn passes(&self, filters: &Filters, live: &Live) -> bool {
        let config = &live.config;
        let labels = config.config.labels.as_ref();
        let status = live.state.status;
        filters.matches("id", &config.id)
            // Docker matches with and without the slash.
            && (filters.matches("name", &config.name) || filters.matches("name", &format!("/{}", config.name)))
            && filters.labels(|name| labels.and_then(|labels| labels.get(name)).map(String::as_str))
            && filters.exact("status", status.as_str())
            && (self.exited.is_empty()
                || (!live.state.is_running()
                    && status != Status::Created
                    && self.exited.contains(&live.state.exit_code)))
            && self.before.is_none_or(|before| config.created < before)
            && self.since.is_none_or(|since| config.created > since)
            && filters.exact("health", health(live))
            && !self.is_task
            && filters.any("isolation", |wanted| wanted == "default" || wanted.is_empty())
            && filters.any("ancestor", |wanted| {
                self.images.contains(&config.image) || config.config.image == wanted
            })
            && filters.any("volume", |wanted| {
                config.mounts.iter().any(|mount| {
                    mount.point.name == wanted
                        || mount.point.destination == wanted
                        || mount.point.source == wanted
                })
            })
            && self.network(filters, live)
            && self.ports(live)
    }

    fn network(&self, filters: &Filters, live: &Live) -> bool {
        filters.any("network", |wanted| {
            network::shown(live).iter().any(|(name, settings)| {
                name == wanted || (!wanted.is_empty() && settings.network_id.starts_with(wanted))
            })
        })
    }

    fn ports(&self, live: &Live) -> bool {
        if self.publish.is_empty() && self.expose.is_empty() {
            return true;
        }
        let sandbox = live.sandbox.as_deref().cloned().unwrap_or_default();
        let ports = ports::list(&live.config.config, &sandbox);
        let within = |number: u16, protocol: &str, range: &PortRange| {
            (range.0..=range.1).contains(&number) && protocol == range.2
        };
        let published = |range: &PortRange| {
            ports.iter().any(|p| p.public_port.is_some_and(|public| within(public, &p.r#type, range)))
        };
        let exposed = |range: &PortRange| ports.iter().any(|p| within(p.private_port, &p.r#type, range));
        (self.publish.is_empty() || self.publish.iter().any(published))
            && (self.expose.is_empty() || self.expose.iter().any(exposed))
    }
}

/// `none` for a container without health checks.
fn health(live: &Live) -> &str {
    live.health.as_ref().map_or("none", |health| health.status.as_str())
}

fn summary(live: &Live) -> Summary {
    let config = &live.config;
    let sandbox = live.sandbox.as_deref().cloned().unwrap_or_default();
    let words = config.config.entrypoint.iter().chain(&config.config.cmd).flatten();
    Summary {
        id: config.id.clone(),
        names: vec![format!("/{}", config.name)],
        image: config.config.image.clone(),
        image_id: config.image.to_string(),
        command: command(words),
        created: config.created.seconds(),
        ports: match live.state.is_running() {
            true => ports::list(&config.config, &sandbox),
            false => Vec::new(),
        },
        size_rw: None,
        size_root_fs: None,
        labels: config.config.labels.clone().unwrap_or_default(),
        state: live.state.status.as_str().to_owned(),
        status: status(live, Moment::now()),
        host_config: SummaryHostConfig { network_mode: config.host.network_mode.clone() },
        network_settings: SummaryNetworks { networks: network::summed_up(live) },
        mounts: shown_mounts(config),
    }
}

/// Docker quotes arguments with blanks in this list, and nowhere else.
fn command<'a>(words: impl Iterator<Item = &'a String>) -> String {
    let quoted = words.enumerate().map(|(index, word)| match index > 0 && word.contains(' ') {
        true => format!("'{word}'"),
        false => word.clone(),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// The `Status` column: `Up 3 minutes (healthy)`, `Exited (0) 2 hours ago`.
fn status(live: &Live, now: Moment) -> String {
    let state = &live.state;
    let up = || human(now.since(state.started_at));
    let ago = || human(now.since(state.finished_at));
    match state.status {
        Status::Paused => format!("Up {} (Paused)", up()),
        Status::Restarting => format!("Restarting ({}) {} ago", state.exit_code, ago()),
        Status::Running => match &live.health {
            Some(health) if health.status == "starting" => format!("Up {} (health: starting)", up()),
            Some(health) => format!("Up {} ({})", up(), health.status),
            None => format!("Up {}", up()),
        },
        Status::Removing => "Removal In Progress".to_owned(),
        Status::Dead => "Dead".to_owned(),
        Status::Created => "Created".to_owned(),
        Status::Exited if state.finished_at.is_never() => "Created".to_owned(),
        Status::Exited => format!("Exited ({}) {} ago", state.exit_code, ago()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_filters_are_numbers_or_ranges() {
        assert_eq!(port_range("80"), Some((80, 80, "tcp".into())));
        assert_eq!(port_range("80-90/UDP"), Some((80, 90, "udp".into())));
        assert_eq!(port_range("x"), None);
    }

    #[test]
    fn blanks_are_quoted() {
        let words = ["sh".to_owned(), "-c".to_owned(), "echo a".to_owned()];
        assert_eq!(command(words.iter()), "sh -c 'echo a'");
    }
}
