//! `causeway ports`: what a container publishes, looked at and changed while it runs. `docker update` has no ports.
//!
//! A change is in the kernel when it is answered, and on disk, where the next start and `inspect` find it; or it is
//! refused, and nothing of it is in either place.

use std::{sync::Arc, time::Duration};

use libnetwork_model::{ErrorKind, HasKind};
use libnetwork_rpc::{client::again, v1};

use crate::{
    Containers, Error, Result,
    config::{PortBinding, PortMap, PortsBody, PublishedPorts, PublishedRange, port_set::Ports},
    container::Container,
    ports::{self, ContainerPort, Publication},
    record::Config,
    service::{Inner, detached},
    wishes,
};

/// How long the making of a container waits to hear of the host's firewall.
const PATIENCE: Duration = Duration::from_secs(1);

impl Containers {
    /// The published ports of a container with what went through them; of one that does not run, those that its next
    /// start publishes, host ports that are not settled yet as 0.
    pub async fn ports(&self, reference: &str) -> Result<PublishedPorts> {
        let container = self.inner.find(reference)?;
        self.inner.published(&container).await
    }

    /// Takes some published ports away and adds others, or changes nothing.
    pub async fn change_ports(&self, reference: &str, body: PortsBody) -> Result<PublishedPorts> {
        let container = self.inner.find(reference)?;
        let inner = self.inner.clone();
        detached(async move { inner.change_ports(&container, &body).await }).await
    }
}

impl Inner {
    async fn published(&self, container: &Container) -> Result<PublishedPorts> {
        let live = container.live();
        let ports = match live.sandbox {
            None => asked(&live.config)?.iter().map(unsettled).collect(),
            Some(sandbox) => {
                let call = || {
                    let (mut client, sandbox_id) = (self.parts.network.clone(), sandbox.id.clone());
                    async move { client.get_ports(v1::GetPortsRequest { sandbox_id }).await }
                };
                again(call).await?.ports.into_iter().map(settled).collect()
            }
        };
        Ok(PublishedPorts {
            id: container.id.clone(),
            container: live.config.name.clone(),
            running: live.state.has_process(),
            ports,
        })
    }

    async fn change_ports(&self, container: &Container, body: &PortsBody) -> Result<PublishedPorts> {
        let remove = publications(&body.remove)?;
        let add = publications(&body.add)?;
        {
            let _turn = container.turn().await;
            let live = container.live();
            let name = &live.config.name;
            let mode = live.config.host.network_mode.as_str();
            container.stays("changed")?;
            let none = live.config.networks.contains_key("none");
            if mode == "host" || none || mode.starts_with("container:") {
                return Err(Error::Conflict(format!(
                    "container {name} has no network of its own to publish ports of (its network mode is {mode})"
                )));
            }
            let config = changed(&live.config, &remove, &add, live.sandbox.as_deref())?;
            ports::check(&config.host)?;
            if let Some(sandbox) = &live.sandbox {
                if let Err(error) = self.set_ports(container, &config).await {
                    // It may have been done, and only the answer be lost.
                    if error.kind() == ErrorKind::Unavailable {
                        self.return_to_record(container).await;
                    }
                    return Err(error);
                }
                if let Err(error) = self.save_config(container, config).await {
                    // What cannot be kept is not published either.
                    if let Err(error) = self.set_ports(container, &live.config).await {
                        let error = crate::error::chain(&error);
                        tracing::warn!(container = sandbox.id, error, "cannot take back published ports");
                    }
                    return Err(error);
                }
            } else {
                self.save_config(container, config).await?;
            }
            self.emit(container, "update", &[]);
        }
        if !add.is_empty() {
            self.follow_links_to(&container.id).await;
        }
        self.published(container).await
    }

    /// What the host's firewall has against the ports that a container will publish, for whoever makes it. Where causewayd
    /// does not say it at once, nothing.
    pub(crate) async fn denials(&self, config: &Config) -> Vec<String> {
        let ports =
            if config.host.network_mode == "host" { Vec::new() } else { asked(config).unwrap_or_default() };
        if ports.is_empty() {
            return Vec::new();
        }
        let mut client = self.parts.network.clone();
        let asked = client.ask_firewall(v1::AskFirewallRequest {
            ports,
            networks: config.networks.keys().cloned().collect(),
        });
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(reply)) => {
                reply.into_inner().denials.into_iter().map(|denial| format!("Published {denial}")).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Publishes what a record says of a container that has a sandbox, and takes note of what it got.
    async fn set_ports(&self, container: &Container, config: &Config) -> Result<()> {
        let request = v1::SetPortsRequest { sandbox_id: container.id.clone(), ports: asked(config)? };
        let call = || {
            let (mut client, request) = (self.parts.network.clone(), request.clone());
            async move { client.set_ports(request).await }
        };
        let sandbox = again(call).await?;
        container.change(|live| live.sandbox = Some(Arc::new(sandbox)));
        Ok(())
    }

    /// The last step of a change that an engine's end cut in two: its sandbox has the ports, its record has not.
    pub(crate) async fn follow_ports(&self, container: &Container) {
        let live = container.live();
        let Some(sandbox) = live.sandbox.filter(|sandbox| !sandbox.namespace.is_empty()) else { return };
        let follows = asked(&live.config).is_ok_and(|wishes| ports::meet(&wishes, &sandbox));
        if !follows && let Err(error) = self.set_ports(container, &live.config).await {
            let error = crate::error::chain(&error);
            tracing::warn!(container = container.id, error, "cannot publish the ports of its record");
        }
    }
}

fn asked(config: &Config) -> Result<Vec<v1::PortSpec>> {
    wishes::wishes(&config.config, &config.host)
}

fn publications(texts: &[String]) -> Result<Vec<Publication>> {
    let mut all = Vec::new();
    for text in texts {
        all.extend(ports::publications(text)?);
    }
    Ok(all)
}

/// The record with some publications taken away and others added.
fn changed(
    config: &Config,
    remove: &[Publication],
    add: &[Publication],
    sandbox: Option<&v1::Sandbox>,
) -> Result<Config> {
    let mut config = config.clone();
    if remove.is_empty() && add.is_empty() {
        return Ok(config);
    }
    let mut bindings = config.host.port_bindings.take().unwrap_or_default().to_map();
    if config.host.publish_all_ports && !remove.is_empty() {
        // From "all that are exposed" to all of them by name: one less cannot be said otherwise.
        for port in ports::exposed(&config.config.exposed_ports)? {
            let places = bindings.entry(port.to_string()).or_default().get_or_insert_default();
            if places.is_empty() {
                places.push(PortBinding::default());
            }
        }
        config.host.publish_all_ports = false;
    }
    for publication in remove {
        unpublish(&mut bindings, &config.name, publication, sandbox)?;
    }
    for publication in add {
        publish(&mut bindings, &config.name, publication)?;
    }
    config.host.port_bindings = Some(bindings.into());
    if !add.is_empty() {
        let ports = add.iter().map(|publication| Ports::one(publication.port));
        config.config.exposed_ports.get_or_insert_default().extend(ports);
    }
    Ok(config)
}

fn publish(bindings: &mut PortMap, container: &str, what: &Publication) -> Result<()> {
    let Publication { port, binding } = what;
    match bindings.get_mut(&port.to_string()) {
        None => drop(bindings.insert(port.to_string(), Some(vec![binding.clone()]))),
        Some(there) => {
            let there = there.get_or_insert_default();
            if !binding.host_port.is_empty() && there.contains(binding) {
                return Err(Error::Conflict(format!(
                    "container {container} publishes {port} on host port {} already",
                    binding.host_port
                )));
            }
            there.push(binding.clone());
        }
    }
    Ok(())
}

/// Takes away the bindings of a container's port that fit.
fn unpublish(
    bindings: &mut PortMap,
    container: &str,
    what: &Publication,
    sandbox: Option<&v1::Sandbox>,
) -> Result<()> {
    let key = what.port.to_string();
    let Some(there) = bindings.get_mut(&key).and_then(Option::as_mut) else {
        return Err(not_published(container, what));
    };
    let before = there.len();
    there.retain(|binding| !fits(&what.port, binding, &what.binding, sandbox));
    if there.len() == before {
        return Err(not_published(container, what));
    }
    if there.is_empty() {
        bindings.remove(&key);
    }
    Ok(())
}

/// Whether a binding is the one that is meant: by its text, or by the host port that it got.
fn fits(
    port: &ContainerPort,
    binding: &PortBinding,
    meant: &PortBinding,
    sandbox: Option<&v1::Sandbox>,
) -> bool {
    if !meant.host_ip.is_empty()
        && ports::host_ip(&meant.host_ip).ok() != ports::host_ip(&binding.host_ip).ok()
    {
        return false;
    }
    meant.host_port.is_empty()
        || meant.host_port == binding.host_port
        || sandbox.is_some_and(|sandbox| {
            let open = binding.host_port.parse::<u16>().map_or(true, |host| host == 0);
            open && ports::leads(sandbox, port, &binding.host_ip, &meant.host_port)
        })
}

fn not_published(container: &str, what: &Publication) -> Error {
    let Publication { port, binding } = what;
    let on = match (binding.host_ip.as_str(), binding.host_port.as_str()) {
        ("", "") => String::new(),
        ("", host) => format!(" on host port {host}"),
        (ip, "") => format!(" on {ip}"),
        (ip, host) => format!(" on {ip} port {host}"),
    };
    Error::NotFound(format!("container {container} does not publish {port}{on}"))
}

fn unsettled(wish: &v1::PortSpec) -> PublishedRange {
    let count = wish.count.max(1);
    let exact = wish.host_first != 0 && wish.host_last - wish.host_first + 1 == count;
    PublishedRange {
        protocol: wish.protocol.clone(),
        host_ip: wish.host_ip.clone(),
        host_port: if exact { wish.host_first } else { 0 },
        container_port: wish.container_port,
        count,
        ..PublishedRange::default()
    }
}

fn settled(port: v1::PublishedPort) -> PublishedRange {
    PublishedRange {
        protocol: port.protocol,
        host_ip: port.host_ip,
        host_port: port.host_port,
        container_port: port.container_port,
        count: port.count,
        packets: port.packets,
        bytes: port.bytes,
        open_flows: port.open_flows,
        refusals: port.refusals,
    }
}
