//! An intent to ask about.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use hickory_proto::{op::Message, rr::RData};
use ipnet::{Ipv4Net, Ipv6Net};
use libnetwork_model::*;

pub(crate) fn network(n: u8, name: &str) -> Network {
    Network {
        id: NetworkId::from_bytes([n; 32]),
        name: name.into(),
        driver: "bridge".into(),
        created_ns: 0,
        ipv4: true,
        ipv6: true,
        internal: false,
        attachable: false,
        predefined: false,
        config_only: false,
        config_from: None,
        foreign_link: false,
        subnets: vec![],
        idle_subnets: vec![],
        labels: BTreeMap::new(),
        options: BTreeMap::new(),
        ipam_options: BTreeMap::new(),
    }
}

pub(crate) fn sandbox(n: u16, name: &str) -> Sandbox {
    Sandbox {
        id: SandboxId::from_bytes(bytes(0, n)),
        name: name.into(),
        owner: format!("container {n}"),
        namespace: NamespaceKind::Own,
        resolver: Resolver::default(),
        wishes: vec![],
        ports: vec![],
    }
}

pub(crate) fn endpoint(network: u8, sandbox: u16, aliases: &[&str]) -> Endpoint {
    Endpoint {
        id: EndpointId::from_bytes(bytes(network, sandbox)),
        network: NetworkId::from_bytes([network; 32]),
        sandbox: SandboxId::from_bytes(bytes(0, sandbox)),
        ifname: "eth0".into(),
        mac: None,
        ipv4: Some(Ipv4Net::new(address(network, sandbox), 16).unwrap()),
        ipv6: None,
        aliases: aliases.iter().map(|a| (*a).into()).collect(),
        links: BTreeMap::new(),
        openings: Vec::new(),
        gateway_priority: 0,
        segment: 0,
        link_local: Vec::new(),
        options: BTreeMap::new(),
    }
}

pub(crate) fn address(network: u8, sandbox: u16) -> Ipv4Addr {
    let [high, low] = sandbox.to_be_bytes();
    Ipv4Addr::new(10, network, high, low)
}

fn bytes(first: u8, n: u16) -> [u8; 32] {
    let mut bytes = [first; 32];
    bytes[30..].copy_from_slice(&n.to_be_bytes());
    bytes
}

pub(crate) fn put_network(n: Network) -> Mutation {
    Mutation::PutNetwork(Arc::new(n))
}

pub(crate) fn put_sandbox(s: Sandbox) -> Mutation {
    Mutation::PutSandbox(Arc::new(s))
}

pub(crate) fn put_endpoint(e: Endpoint) -> Mutation {
    Mutation::PutEndpoint(Arc::new(e))
}

/// One network, `front`: `asker` (1), `web` (2) with IPv6 too, `db` (3); the last two share the alias `pool`.
pub(crate) fn town() -> Vec<Mutation> {
    let web =
        Endpoint { ipv6: Some("fd00::2/64".parse::<Ipv6Net>().unwrap()), ..endpoint(1, 2, &["www", "pool"]) };
    vec![
        put_network(network(1, "front")),
        put_sandbox(sandbox(1, "asker")),
        put_sandbox(sandbox(2, "web")),
        put_sandbox(sandbox(3, "db")),
        put_endpoint(endpoint(1, 1, &[])),
        put_endpoint(web),
        put_endpoint(endpoint(1, 3, &["pool"])),
    ]
}

pub(crate) fn intent(mutations: Vec<Mutation>) -> Intent {
    Intent::default().apply(&Change(mutations))
}

/// The addresses and names of an answer, as text.
pub(crate) fn data(message: &Message) -> Vec<String> {
    let text = |data: &RData| match data {
        RData::A(a) => a.0.to_string(),
        RData::AAAA(a) => a.0.to_string(),
        RData::PTR(name) => name.0.to_string(),
        other => format!("{other:?}"),
    };
    message.answers.iter().map(|r| text(&r.data)).collect()
}
