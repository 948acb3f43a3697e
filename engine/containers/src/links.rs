//! `--link`, as Docker has it. On the default bridge a container is told of others that run: a line of its hosts file
//! each, and variables. On a network with names, a link is a name that the resolver knows for this container alone.

use std::{collections::HashMap, sync::Arc};

use libnetwork_model::Protocol;
use libnetwork_rpc::v1;

use crate::{
    Error, Result,
    container::{Container, Live},
    files::Entry,
    names,
    ports::{self, ContainerPort},
    record::Config,
    service::Inner,
};

/// The network whose links are lines of hosts files.
pub(crate) const BRIDGE: &str = "bridge";

/// `TARGET:ALIAS`; without an alias the target's own name is one. Records have the target's full id, those of engines that
/// knew no better its name.
#[derive(Debug, Clone, Copy)]
struct Link<'a> {
    target: &'a str,
    alias: &'a str,
}

impl<'a> Link<'a> {
    fn read(text: &'a str) -> Self {
        let (target, alias) = text.rsplit_once(':').unwrap_or((text, text));
        // As `inspect` shows it: /CONTAINER/ALIAS.
        let alias = alias.rsplit_once('/').map_or(alias, |(_, alias)| alias);
        Self { target, alias }
    }
}

/// Those of the default bridge.
fn links(config: &Config) -> impl Iterator<Item = Link<'_>> {
    let bridge = config.networks.get(BRIDGE);
    let given = bridge.and(given(config)).into_iter().flatten();
    let connected = bridge.and_then(|settings| settings.links.as_ref()).into_iter().flatten();
    given.chain(connected).map(|link| Link::read(link))
}

/// Those that a container was made with, whether it is on the default bridge or not. As for Docker, who was made for a
/// network with names has links of that network instead.
fn given(config: &Config) -> Option<&Vec<String>> {
    config.host.links.as_ref().filter(|_| are_of_the_bridge(&config.host.network_mode))
}

/// Whether the links of a container that is made for this network are ones of the default bridge, as soon as it is on it.
pub(crate) fn are_of_the_bridge(mode: &str) -> bool {
    matches!(mode, BRIDGE | "none")
}

/// What a container calls the others that it links to on the default bridge.
pub(crate) fn aliases(config: &Config) -> Vec<String> {
    links(config).map(|link| link.alias.to_owned()).collect()
}

/// The name that a link gives to another container.
pub(crate) fn alias(link: &str) -> &str {
    Link::read(link).alias
}

/// What the resolver is to know of links on a network with names: the target's name by the alias.
pub(crate) fn known_names(links: &[String]) -> HashMap<String, String> {
    let links = links.iter().map(|link| Link::read(link));
    links.map(|link| (link.alias.to_owned(), link.target.trim_start_matches('/').to_owned())).collect()
}

/// How often a link's target may share the namespace of another that does so itself. One that is made to share the
/// namespace of what is not there yet may come round to itself.
const MOST_SHARED: usize = 8;

impl Inner {
    /// A link as a container that is made keeps it: whatever its target is called later, it leads to this one and no other.
    pub(crate) fn new_link(&self, link: &str) -> Result<String> {
        let Link { target: reference, alias } = Link::read(link);
        let target = self
            .target(reference)
            .map_err(|error| Error::Invalid(format!("could not get container for {reference}: {error}")))?;
        if target.config().host.network_mode == "host" {
            return Err(Error::invalid(
                "conflicting options: host type networking can't be used with links. This would result in undefined \
                 behavior",
            ));
        }
        Ok(format!("{}:{alias}", target.id))
    }

    /// Who a container made for the default bridge knows by a link's name, CONTAINER/ALIAS.
    pub(crate) fn by_link(&self, name: &str) -> Option<Arc<Container>> {
        let (holder, alias) = name.trim_start_matches('/').split_once('/')?;
        let config = self.find(holder).ok()?.config();
        let mut links = given(&config)?.iter().map(|link| Link::read(link));
        links.find(|link| link.alias == alias).and_then(|link| self.find(link.target).ok())
    }

    /// Who a link leads to: who shares the network namespace of another is to be found where that one is.
    fn target(&self, reference: &str) -> Result<Arc<Container>> {
        let mut found = self.find(reference)?;
        for _ in 0..MOST_SHARED {
            let config = found.config();
            let Some(owner) = config.host.network_mode.strip_prefix("container:") else { return Ok(found) };
            found = self.find(owner)?;
        }
        Err(Error::Conflict(format!(
            "container {reference} shares the network namespace of no other in the end"
        )))
    }

    /// Those that a container links to on the default bridge.
    pub(crate) fn linked_to(&self, config: &Config) -> Vec<Arc<Container>> {
        links(config).filter_map(|link| self.target(link.target).ok()).collect()
    }

    /// Refuses a start on the default bridge whose links lead to what does not run, or is not there.
    pub(crate) fn check_links(&self, config: &Config) -> Result<()> {
        for Link { target, alias } in links(config) {
            let found = match self.target(target) {
                Err(Error::NoSuchContainer(gone)) if gone == target && names::is_id(target) => {
                    return Err(Error::Conflict(format!(
                        "Cannot link to a removed container: {} AS /{}/{alias}; `docker rm --link {}/{alias}` removes \
                         the link",
                        &target[..12],
                        config.name,
                        config.name
                    )));
                }
                found => {
                    found.map_err(|error| error.during(format!("could not get container for {target}")))?
                }
            };
            let live = found.live();
            if !live.state.has_process() {
                return Err(Error::Conflict(format!(
                    "Cannot link to a non running container: /{} AS /{}/{alias}",
                    live.config.name, config.name
                )));
            }
            if !live.config.networks.contains_key(BRIDGE) {
                return Err(Error::Conflict(format!(
                    "Cannot link to /{} AS /{}/{alias}: container {} not attached to default bridge network",
                    live.config.name, config.name, found.id
                )));
            }
        }
        Ok(())
    }

    /// Refuses a connection to the default bridge of what links to somebody who is not on it.
    pub(crate) fn check_reach(&self, config: &Config) -> Result<()> {
        for Link { target, .. } in links(config) {
            let Ok(found) = self.target(target) else { continue };
            let other = found.config();
            if !other.networks.contains_key(BRIDGE) {
                return Err(Error::Conflict(format!(
                    "Cannot link to /{}, as it does not belong to the default network",
                    other.name
                )));
            }
        }
        Ok(())
    }

    /// Lines of the hosts file. What does not run has none.
    pub(crate) fn link_entries(&self, config: &Config) -> Vec<Entry> {
        let mut entries = Vec::new();
        for link in links(config) {
            let Some((live, ips)) = self.linked(link) else { continue };
            let mut names = vec![link.alias.to_owned(), live.config.config.hostname.clone()];
            if live.config.name != link.alias {
                names.push(live.config.name.clone());
            }
            entries.extend(ips.into_iter().map(|ip| Entry { ip, names: names.clone() }));
        }
        entries
    }

    /// `ALIAS_PORT_80_TCP=…` and the like, for links on the default bridge.
    pub(crate) fn link_environment(&self, config: &Config) -> Vec<String> {
        links(config)
            .filter_map(|link| Some((link, self.linked(link)?)))
            .flat_map(|(link, (live, ips))| {
                let exposed = ports::exposed(&live.config.config.exposed_ports).unwrap_or_default();
                let name = format!("/{}/{}", config.name, link.alias);
                variables(link.alias, &name, &ips[0], exposed, live.config.config.env.iter().flatten())
            })
            .collect()
    }

    /// Tells the containers that link to this one where it is now.
    pub(crate) async fn tell_linked(&self, id: &str) {
        for other in self.all().into_iter().filter(|other| other.id != id) {
            let leads_here = |link: Link<'_>| self.target(link.target).is_ok_and(|found| found.id == id);
            if !links(&other.config()).any(leads_here) {
                continue;
            }
            let live = other.live();
            if !live.state.has_process() {
                continue;
            }
            if let Err(error) = self.refresh_links(&other, &live).await {
                let error = crate::error::chain(&error);
                tracing::warn!(container = other.id, error, "cannot refresh the hosts file");
            }
        }
    }

    /// The container that a link leads to and its addresses on the default bridge, IPv4 first, while it runs and has any.
    fn linked(&self, link: Link<'_>) -> Option<(Live, Vec<String>)> {
        let live = self.target(link.target).ok()?.live();
        if !live.state.has_process() {
            return None;
        }
        let on = |endpoint: &&v1::Endpoint| endpoint.network_name == BRIDGE;
        let endpoint = live.sandbox.as_ref()?.endpoints.iter().find(on)?;
        let ips = [&endpoint.ipv4, &endpoint.ipv6].into_iter().filter_map(|cidr| cidr.split_once('/'));
        let ips: Vec<String> = ips.map(|(ip, _)| ip.to_owned()).collect();
        (!ips.is_empty()).then_some((live, ips))
    }

    /// `HostConfig.Links` as `inspect` shows it.
    pub(crate) fn shown_links(&self, config: &Config) -> Option<Vec<String>> {
        let show = |link: Link<'_>| {
            let target = self.target(link.target).map(|found| found.config().name.clone());
            let target = target.unwrap_or_else(|_| match names::is_id(link.target) {
                true => link.target[..12].to_owned(),
                false => link.target.trim_start_matches('/').to_owned(),
            });
            format!("/{target}:/{}/{}", config.name, link.alias)
        };
        Some(given(config)?.iter().map(|link| show(Link::read(link))).collect())
    }
}

fn variables<'a>(
    alias: &str,
    name: &str,
    ip: &str,
    mut exposed: Vec<ContainerPort>,
    env: impl Iterator<Item = &'a String>,
) -> Vec<String> {
    let alias = alias.to_uppercase().replace('-', "_");
    exposed.sort_by_key(|port| (port.protocol != Protocol::Tcp, *port));
    let url = |port: &ContainerPort| format!("{}://{ip}:{}", port.protocol, port.number);
    let start = |port: &ContainerPort| {
        format!("{alias}_PORT_{}_{}", port.number, port.protocol.to_string().to_uppercase())
    };
    let mut all = Vec::new();
    all.extend(exposed.first().map(|port| format!("{alias}_PORT={}", url(port))));
    for port in &exposed {
        let start = start(port);
        all.push(format!("{start}={}", url(port)));
        all.push(format!("{start}_ADDR={ip}"));
        all.push(format!("{start}_PORT={}", port.number));
        all.push(format!("{start}_PROTO={}", port.protocol));
    }
    let in_line = |a: &ContainerPort, b: &ContainerPort| {
        a.protocol == b.protocol && a.number.checked_add(1) == Some(b.number)
    };
    for run in exposed.chunk_by(in_line) {
        if let [first, _, .., last] = run {
            let start = start(first);
            all.push(format!("{start}_START={}", url(first)));
            all.push(format!("{start}_PORT_START={}", first.number));
            all.push(format!("{start}_END={}", url(last)));
            all.push(format!("{start}_PORT_END={}", last.number));
        }
    }
    all.push(format!("{alias}_NAME={name}"));
    // What every image says is nothing about this container.
    let told =
        env.filter_map(|entry| entry.split_once('=')).filter(|(key, _)| !matches!(*key, "HOME" | "PATH"));
    all.extend(told.map(|(key, value)| format!("{alias}_ENV_{key}={value}")));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_docker_s() {
        let exposed: Vec<ContainerPort> =
            ["5432/tcp", "70/udp", "71/udp", "72/udp", "80/tcp"].iter().map(|p| p.parse().unwrap()).collect();
        let env = ["FOO=bar=x".to_owned(), "PATH=/bin".to_owned(), "BARE".to_owned()];
        let all = variables("my-db", "/app/my-db", "172.17.0.2", exposed, env.iter());
        assert_eq!(all[0], "MY_DB_PORT=tcp://172.17.0.2:80");
        assert_eq!(
            all[1..5],
            [
                "MY_DB_PORT_80_TCP=tcp://172.17.0.2:80",
                "MY_DB_PORT_80_TCP_ADDR=172.17.0.2",
                "MY_DB_PORT_80_TCP_PORT=80",
                "MY_DB_PORT_80_TCP_PROTO=tcp"
            ]
        );
        assert_eq!(
            all[21..],
            [
                "MY_DB_PORT_70_UDP_START=udp://172.17.0.2:70",
                "MY_DB_PORT_70_UDP_PORT_START=70",
                "MY_DB_PORT_70_UDP_END=udp://172.17.0.2:72",
                "MY_DB_PORT_70_UDP_PORT_END=72",
                "MY_DB_NAME=/app/my-db",
                "MY_DB_ENV_FOO=bar=x"
            ]
        );
        let none = variables("a", "/b/a", "10.0.0.1", Vec::new(), [].iter());
        assert_eq!(none, ["A_NAME=/b/a"]);
    }
}
