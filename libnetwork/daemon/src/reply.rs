//! From the intent to messages.

use std::{net::IpAddr, path::Path};

use libnetwork_core::{Drivers, Event, EventKind};
use libnetwork_model::{Endpoint, HostFacts, Intent, NamespaceKind, Network, Opening, Sandbox};
use libnetwork_rpc::{network_fields, port_to_v1, resolver_to_v1, v1};

const MTU: &str = "com.docker.network.driver.mtu";
const DEFAULT_BRIDGE: &str = "com.docker.network.bridge.default_bridge";

/// Everything that a message is made from.
pub(crate) struct Replies<'a> {
    pub(crate) intent: &'a Intent,
    pub(crate) drivers: &'a Drivers,
    pub(crate) host: &'a HostFacts,
    pub(crate) netns: &'a Path,
}

impl Replies<'_> {
    pub(crate) fn network(&self, network: &Network) -> v1::Network {
        let endpoints = self.intent.endpoints_on(&network.id).map(|e| self.endpoint(e)).collect();
        v1::Network { endpoints, ..self.brief(network) }
    }

    /// A network without its endpoints.
    pub(crate) fn brief(&self, network: &Network) -> v1::Network {
        let mut message = network_fields(network);
        if is_default_bridge(network) {
            // Docker shows it on its default bridge. It is not stored, for it follows the host.
            message.options.entry(MTU.into()).or_insert_with(|| self.host.mtu.to_string());
        }
        message
    }

    /// All networks, ordered by name.
    pub(crate) fn networks(&self) -> Vec<v1::Network> {
        let mut networks: Vec<_> = self.intent.networks().map(|n| self.network(n)).collect();
        networks.sort_by(|a, b| a.name.cmp(&b.name));
        networks
    }

    pub(crate) fn sandbox(&self, sandbox: &Sandbox) -> v1::Sandbox {
        let gateway = self.intent.gateway_endpoint(&sandbox.id, false).map(|e| &e.id);
        let mut endpoints: Vec<_> = self.intent.endpoints_in(&sandbox.id).collect();
        // eth2 before eth10.
        endpoints.sort_by_key(|e| (Some(&e.id) != gateway, e.ifname.len(), e.ifname.clone()));
        v1::Sandbox {
            id: sandbox.id.to_string(),
            name: sandbox.name.clone(),
            owner: sandbox.owner.clone(),
            namespace: match sandbox.namespace {
                NamespaceKind::Own => self.netns.join(sandbox.id.as_str()).display().to_string(),
                NamespaceKind::Host => String::new(),
            },
            endpoints: endpoints.into_iter().map(|e| self.endpoint(e)).collect(),
            ports: sandbox.ports.iter().map(port_to_v1).collect(),
            resolver: Some(resolver_to_v1(&sandbox.resolver)),
        }
    }

    fn endpoint(&self, endpoint: &Endpoint) -> v1::Endpoint {
        let network = self.intent.network(&endpoint.network);
        let sandbox = self.intent.sandbox(&endpoint.sandbox);
        let gateway = |lease: Option<IpAddr>| {
            let network = network.filter(|n| !n.internal)?;
            network.subnets.iter().find(|s| lease.is_some_and(|a| s.subnet.contains(&a)))?.way_out()
        };
        let attachment = network.and_then(|n| self.drivers.of(n)?.attachment(n, endpoint, self.host));
        v1::Endpoint {
            id: endpoint.id.to_string(),
            network_id: endpoint.network.to_string(),
            network_name: network.map(|n| n.name.clone()).unwrap_or_default(),
            sandbox_id: endpoint.sandbox.to_string(),
            sandbox_name: sandbox.map(|s| s.name.clone()).unwrap_or_default(),
            ifname: endpoint.ifname.clone(),
            mac: text(endpoint.mac),
            ipv4: text(endpoint.ipv4),
            ipv6: text(endpoint.ipv6),
            gateway4: text(gateway(endpoint.ipv4.map(|n| n.addr().into()))),
            gateway6: text(gateway(endpoint.ipv6.map(|n| n.addr().into()))),
            aliases: endpoint.aliases.clone(),
            dns_names: match (network, sandbox) {
                (Some(network), Some(sandbox)) => dns_names(network, sandbox, endpoint),
                _ => Vec::new(),
            },
            gateway_priority: endpoint.gateway_priority,
            options: endpoint.options.clone().into_iter().collect(),
            host_link: text(attachment.map(|a| a.link)),
            link_local: endpoint.link_local.iter().map(|net| net.addr().to_string()).collect(),
            openings: endpoint.openings.iter().map(opening).collect(),
        }
    }
}

pub(crate) fn ready(time_ns: u64) -> v1::Event {
    v1::Event { kind: "ready".into(), time_ns, ..Default::default() }
}

pub(crate) fn event(event: Event) -> v1::Event {
    let (network_id, network_name, network_driver) = event.network.unwrap_or_default();
    v1::Event {
        kind: match event.kind {
            EventKind::Network => "network",
            EventKind::Endpoint => "endpoint",
            EventKind::Repair => "repair",
            EventKind::Port => "port",
        }
        .into(),
        action: event.action.into(),
        time_ns: event.time_ns,
        network_id,
        network_name,
        network_driver,
        sandbox_id: text(event.sandbox),
        attributes: event.attributes.into_iter().collect(),
    }
}

/// What the network's other sandboxes can call it, in Docker's order: its name, its aliases, its short id. None on the
/// default bridge, which serves no names, and on networks without interfaces.
fn dns_names(network: &Network, sandbox: &Sandbox, endpoint: &Endpoint) -> Vec<String> {
    if is_default_bridge(network) || endpoint.ifname.is_empty() {
        return Vec::new();
    }
    let short = sandbox.id.short();
    let all = std::iter::once(sandbox.name.as_str())
        .chain(endpoint.aliases.iter().map(String::as_str))
        .chain([short]);
    let mut names: Vec<String> = Vec::new();
    for name in all.filter(|n| !n.is_empty()) {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

fn is_default_bridge(network: &Network) -> bool {
    network.predefined && network.options.get(DEFAULT_BRIDGE).is_some_and(|value| value == "true")
}

fn text<T: ToString>(value: Option<T>) -> String {
    value.map(|v| v.to_string()).unwrap_or_default()
}

fn opening(opening: &Opening) -> v1::Opening {
    v1::Opening {
        sandbox_id: opening.sandbox.to_string(),
        protocol: opening.protocol.to_string(),
        first: opening.ports.first().into(),
        last: opening.ports.last().into(),
    }
}
