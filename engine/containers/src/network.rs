//! A container's sandbox: what causewayd is asked for, and what it answered in Docker's words.

use std::collections::{BTreeMap, HashMap};

use engine_runtime::NetworkNamespace;
use libnetwork_model::ErrorKind;
use libnetwork_rpc::{client::again, v1};

use crate::{
    Error, Result,
    config::{EndpointSettings, NetworkSettings},
    container::{Container, Live},
    files::{self, Entry},
    links, ports,
    record::Config,
    resolv_conf::{DnsOptions, Resolution, host_resolv_conf, is_unedited, resolv_conf},
    service::{Inner, blocking},
    sysctls,
    wishes::wishes,
};

impl Inner {
    /// A network by id, name or id prefix, without its endpoints.
    pub(crate) async fn network(&self, reference: &str) -> Result<v1::Network> {
        let client = &self.parts.network;
        let call = || {
            let (mut client, reference) = (client.clone(), reference.to_owned());
            async move { client.get_network(v1::GetNetworkRequest { reference, brief: true }).await }
        };
        Ok(again(call).await?)
    }

    /// Makes the container's sandbox with everything in it; none when it lives in another container's.
    pub(crate) async fn join(&self, config: &Config) -> Result<Option<v1::Sandbox>> {
        if config.host.network_mode.starts_with("container:") {
            return Ok(None);
        }
        let host_namespace = config.host.network_mode == "host" && !config.config.network_disabled;
        let ports = if host_namespace { Vec::new() } else { wishes(&config.config, &config.host)? };
        let mut request = v1::JoinRequest {
            id: config.id.clone(),
            name: config.name.clone(),
            host_namespace,
            resolver: Some(resolver(config, &self.settings().dns)),
            endpoints: self.endpoints(config),
            ports,
        };
        let call = |request: &v1::JoinRequest| {
            let (mut client, request) = (self.parts.network.clone(), request.clone());
            async move { client.join(request).await }
        };
        let mut joined = again(|| call(&request)).await.map_err(Error::from);
        let absent = |error: &Error| matches!(error, Error::Network { kind: ErrorKind::NotFound, .. });
        if joined.as_ref().is_err_and(absent)
            && config.networks.keys().eq(["bridge"])
            && self.network("bridge").await.is_err_and(|error| absent(&error))
        {
            // As by Docker, whose `bridge: none` leaves containers their loopback.
            request.endpoints.clear();
            joined = again(|| call(&request)).await.map_err(Error::from);
        }
        joined.map(Some).map_err(|error| error.during("failed to set up container networking"))
    }

    /// Removes the container's sandbox, if it has one. With `keep` the addresses that it had are kept for its next start.
    pub(crate) async fn leave(&self, id: &str, keep: bool) -> Result<()> {
        let call = || {
            let (mut client, id) = (self.parts.network.clone(), id.to_owned());
            async move { client.leave(v1::LeaveRequest { id, keep }).await }
        };
        again(call).await?;
        Ok(())
    }

    /// The namespace to run in.
    pub(crate) fn namespace_of(
        &self,
        config: &Config,
        sandbox: Option<&v1::Sandbox>,
    ) -> Result<NetworkNamespace> {
        if let Some(other) = config.host.network_mode.strip_prefix("container:") {
            let joining = |error: Error| error.during("joining network namespace of container");
            let other = self.find(other).map_err(joining)?;
            let live = other.live();
            if !live.state.has_process() {
                return Err(Error::Conflict(format!(
                    "cannot join network namespace of a non running container: container {} is {}",
                    live.config.name,
                    live.state.status.as_str()
                )));
            }
            if live.config.host.network_mode.starts_with("container:") {
                return Err(Error::Conflict(format!(
                    "cannot join network namespace of container {}: it has none of its own",
                    other.id
                )));
            }
            return self.namespace_of(&live.config, live.sandbox.as_deref());
        }
        Ok(match sandbox {
            Some(sandbox) if sandbox.namespace.is_empty() => NetworkNamespace::Host,
            Some(sandbox) => NetworkNamespace::Path(sandbox.namespace.clone().into()),
            None => NetworkNamespace::Fresh,
        })
    }

    /// Writes the three files below `/etc` that depend on the network, for a start.
    pub(crate) async fn write_files(
        &self,
        container: &Container,
        config: &Config,
        sandbox: Option<&v1::Sandbox>,
    ) -> Result<()> {
        if config.host.network_mode.starts_with("container:") {
            return Ok(());
        }
        let entries = self.host_entries(config, sandbox).await?;
        let resolution = resolution(config, sandbox);
        let asked = dns_options(config, &self.settings().dns);
        let hostname = format!("{}\n", config.config.hostname);
        let without_ipv6 = sysctls::without_ipv6(&config.host, None);
        let dir = container.dir.clone();
        blocking(move || {
            let hosts = match resolution {
                Resolution::Same => files::hosts_of_the_host(&files::read("/etc/hosts".as_ref())?, &entries),
                // Who has IPv6 off would be sent to ::1.
                Resolution::Embedded | Resolution::Hosts { .. } => files::hosts(!without_ipv6, &entries),
            };
            files::write(&dir, files::HOSTS, &hosts)?;
            files::write(&dir, files::HOSTNAME, &hostname)?;
            let (path, host) = host_resolv_conf();
            files::write(&dir, files::RESOLV, &resolv_conf(path, &host, &asked, resolution))
        })
        .await
    }

    /// What brings the files of a running container up to date with its networks; blocking. What was edited inside stays:
    /// of the hosts file only the lines go and come that the change takes and brings, and an edited resolv.conf is left
    /// alone.
    pub(crate) async fn refreshed_files(
        &self,
        container: &Container,
        before: &Live,
        config: &Config,
        sandbox: Option<&v1::Sandbox>,
    ) -> Result<impl FnOnce() -> Result<()> + Send + use<>> {
        let mut old = self.host_entries(&before.config, before.sandbox.as_deref()).await?;
        let mut new = self.host_entries(config, sandbox).await?;
        let kept: Vec<Entry> = old.extract_if(.., |entry| new.contains(entry)).collect();
        new.retain(|entry| !kept.contains(entry));
        let (resolution, asked) = (resolution(config, sandbox), dns_options(config, &self.settings().dns));
        let dir = container.dir.clone();
        Ok(move || {
            let gone = |line: &str| old.iter().any(|entry| entry.line() == line);
            files::edit(&dir, files::HOSTS, |text| Some(files::change_hosts(text, gone, &new)))?;
            let (path, host) = host_resolv_conf();
            files::edit(&dir, files::RESOLV, |text| {
                is_unedited(text).then(|| resolv_conf(path, &host, &asked, resolution))
            })
        })
    }

    /// Brings those lines of a running container's hosts file up to date that tell of whom it links to.
    pub(crate) async fn refresh_links(&self, container: &Container, live: &Live) -> Result<()> {
        let config = &live.config;
        let entries = self.host_entries(config, live.sandbox.as_deref()).await?;
        let come = self.link_entries(config);
        let aliases = links::aliases(config);
        let dir = container.dir.clone();
        blocking(move || {
            let gone = |line: &str| {
                let first = line.split_once('\t').and_then(|(_, names)| names.split(' ').next());
                let is_link = first.is_some_and(|first| aliases.iter().any(|alias| alias == first));
                is_link && !entries.iter().any(|entry| entry.line() == line)
            };
            files::edit(&dir, files::HOSTS, |text| Some(files::change_hosts(text, gone, &come)))
        })
        .await
    }

    async fn host_entries(&self, config: &Config, sandbox: Option<&v1::Sandbox>) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for text in config.host.extra_hosts.iter().flatten() {
            let Some((name, ip)) = text.split_once(':') else { continue };
            let ips = match ip {
                "host-gateway" => self.host_gateways().await?,
                ip => vec![ip.trim_start_matches('[').trim_end_matches(']').to_owned()],
            };
            entries.extend(ips.into_iter().map(|ip| Entry { ip, names: vec![name.to_owned()] }));
        }
        entries.extend(self.link_entries(config));
        let own = &config.config;
        let names = own_names(&own.hostname, &own.domainname);
        for endpoint in sandbox.iter().flat_map(|sandbox| &sandbox.endpoints) {
            for cidr in [&endpoint.ipv4, &endpoint.ipv6] {
                if let Some((ip, _)) = cidr.split_once('/') {
                    entries.push(Entry { ip: ip.to_owned(), names: names.clone() });
                }
            }
        }
        Ok(entries)
    }

    /// What `host-gateway` stands for: the addresses that were configured, or the host's own on the default bridge.
    async fn host_gateways(&self) -> Result<Vec<String>> {
        let settings = self.settings();
        let configured = &settings.host_gateways;
        if !configured.is_empty() {
            return Ok(configured.iter().map(ToString::to_string).collect());
        }
        let bridge = self.network("bridge").await?;
        let gateways: Vec<String> =
            bridge.subnets.into_iter().map(|s| s.gateway).filter(|gateway| !gateway.is_empty()).collect();
        match gateways.is_empty() {
            true => Err(Error::invalid("unable to derive the IP value for host-gateway")),
            false => Ok(gateways),
        }
    }
}

/// The full name, and the short one when that is another.
fn own_names(hostname: &str, domainname: &str) -> Vec<String> {
    let full = match domainname.is_empty() {
        true => hostname.to_owned(),
        false => format!("{hostname}.{domainname}"),
    };
    let short = full.split_once('.').map(|(short, _)| short.to_owned());
    std::iter::once(full).chain(short).collect()
}

fn resolution(config: &Config, sandbox: Option<&v1::Sandbox>) -> Resolution {
    match config.host.network_mode.as_str() {
        "host" => Resolution::Same,
        _ if config.networks.keys().all(|name| matches!(name.as_str(), "bridge" | "none")) => {
            let mut endpoints = sandbox.iter().flat_map(|sandbox| &sandbox.endpoints);
            Resolution::Hosts { ipv6: endpoints.any(|endpoint| !endpoint.ipv6.is_empty()) }
        }
        _ => Resolution::Embedded,
    }
}

/// Each of the three as the container has it, or as the engine was told.
fn dns_options(config: &Config, defaults: &DnsOptions) -> DnsOptions {
    let words = |list: &Option<Vec<String>>, default: &Vec<String>| match list {
        Some(words) if !words.is_empty() => words.clone(),
        _ => default.clone(),
    };
    DnsOptions {
        servers: words(&config.host.dns, &defaults.servers),
        search: words(&config.host.dns_search, &defaults.search),
        options: words(&config.host.dns_options, &defaults.options),
    }
}

fn resolver(config: &Config, defaults: &DnsOptions) -> v1::Resolver {
    let DnsOptions { servers, search, options } = dns_options(config, defaults);
    v1::Resolver { servers, search, options }
}

/// The network that `NetworkMode` names: by its name, its id or the beginning of that.
pub(crate) fn main(config: &Config) -> Option<&String> {
    let mode = &config.host.network_mode;
    let by_id = |settings: &EndpointSettings| !mode.is_empty() && settings.network_id.starts_with(mode);
    match config.networks.get_key_value(mode) {
        Some((name, _)) => Some(name),
        None => config.networks.iter().find(|(_, settings)| by_id(settings)).map(|(name, _)| name),
    }
}

/// An endpoint as it is asked for, but for what depends on others.
pub(crate) fn endpoint(config: &Config, network: &str) -> v1::EndpointSpec {
    let settings = config.networks.get(network).cloned().unwrap_or_default();
    let ipam = settings.ipam_config.unwrap_or_default();
    let mut aliases = settings.aliases.unwrap_or_default();
    let mut links = HashMap::new();
    // The default bridge has no names at all.
    if has_names(network) {
        // Docker's resolver knows a container by its host name too.
        if config.config.hostname != config.id[..12] {
            aliases.push(config.config.hostname.clone());
        }
        links = links::known_names(settings.links.as_deref().unwrap_or_default());
    }
    v1::EndpointSpec {
        network: network.to_owned(),
        ipv4: ipam.ipv4_address,
        ipv6: ipam.ipv6_address,
        mac: settings.mac_address,
        aliases,
        links,
        openings: Vec::new(),
        gateway_priority: settings.gw_priority,
        without_ipv6: sysctls::without_ipv6(&config.host, settings.driver_opts.as_ref()),
        options: settings.driver_opts.unwrap_or_default().into_iter().collect(),
        link_local: ipam.link_local_ips.unwrap_or_default(),
    }
}

/// A container's endpoints as `inspect` shows them: what was asked for, and what the sandbox has.
pub(crate) fn shown(live: &Live) -> BTreeMap<String, EndpointSettings> {
    let mut networks = live.config.networks.clone();
    for endpoint in live.sandbox.iter().flat_map(|sandbox| &sandbox.endpoints) {
        let settings = networks.entry(endpoint.network_name.clone()).or_default();
        let (ip, prefix) = split(&endpoint.ipv4);
        let (ip6, prefix6) = split(&endpoint.ipv6);
        settings.network_id.clone_from(&endpoint.network_id);
        settings.endpoint_id.clone_from(&endpoint.id);
        settings.mac_address.clone_from(&endpoint.mac);
        settings.gateway.clone_from(&endpoint.gateway4);
        settings.ip_address = ip;
        settings.ip_prefix_len = prefix;
        settings.ipv6_gateway.clone_from(&endpoint.gateway6);
        settings.global_ipv6_address = ip6;
        settings.global_ipv6_prefix_len = prefix6;
    }
    for (_, settings) in networks.iter_mut().filter(|(network, _)| has_names(network)) {
        settings.dns_names = Some(dns_names(&live.config, settings.aliases.as_deref().unwrap_or_default()));
    }
    networks
}

/// [`shown`], as Docker's `ps` has it: without what only names and options say.
pub(crate) fn summed_up(live: &Live) -> BTreeMap<String, EndpointSettings> {
    let mut networks = shown(live);
    for settings in networks.values_mut() {
        (settings.links, settings.aliases, settings.dns_names) = (None, None, None);
        settings.driver_opts = None;
    }
    networks
}

/// Whether the containers of a network find each other by name.
pub(crate) fn has_names(network: &str) -> bool {
    !matches!(network, "bridge" | "host" | "none")
}

/// What others on a network can call a container, in Docker's order.
fn dns_names(config: &Config, aliases: &[String]) -> Vec<String> {
    let short = config.id[..12].to_owned();
    let first = std::iter::once(&config.name).chain(aliases);
    distinct(first.chain([&short, &config.config.hostname]))
}

/// These, each where it comes first.
pub(crate) fn distinct<'a>(names: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for name in names {
        if !name.is_empty() && !all.contains(name) {
            all.push(name.clone());
        }
    }
    all
}

fn split(cidr: &str) -> (String, u8) {
    match cidr.split_once('/') {
        Some((ip, prefix)) => (ip.to_owned(), prefix.parse().unwrap_or(0)),
        None => (String::new(), 0),
    }
}

/// `NetworkSettings` of `inspect`.
pub(crate) fn settings(live: &Live) -> NetworkSettings {
    let networks = shown(live);
    let mut settings = NetworkSettings { ..NetworkSettings::default() };
    if let Some(sandbox) = &live.sandbox {
        settings.sandbox_id.clone_from(&sandbox.id);
        settings.sandbox_key.clone_from(&sandbox.namespace);
        settings.ports = ports::map(&live.config.config, sandbox);
    }
    // The old fields speak of the default bridge only.
    if let Some(bridge) = networks.get("bridge") {
        settings.endpoint_id.clone_from(&bridge.endpoint_id);
        settings.gateway.clone_from(&bridge.gateway);
        settings.global_ipv6_address.clone_from(&bridge.global_ipv6_address);
        settings.global_ipv6_prefix_len = bridge.global_ipv6_prefix_len;
        settings.ip_address.clone_from(&bridge.ip_address);
        settings.ip_prefix_len = bridge.ip_prefix_len;
        settings.ipv6_gateway.clone_from(&bridge.ipv6_gateway);
        settings.mac_address.clone_from(&bridge.mac_address);
    }
    settings.networks = networks;
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_s_own_names_are_the_full_one_and_the_short_one() {
        assert_eq!(own_names("web", ""), ["web"]);
        assert_eq!(own_names("a.b.c", ""), ["a.b.c", "a"]);
        assert_eq!(own_names("a.b", "c.d"), ["a.b.c.d", "a"]);
        assert_eq!(own_names("web", "example"), ["web.example", "web"]);
    }
}
