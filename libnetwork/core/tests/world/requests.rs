//! What is asked of the core.

use libnetwork_core::{CreateNetwork, EndpointSpec, Join};
use libnetwork_model::{NamespaceKind, PortRange, PortWish, Protocol, SandboxId, Subnet};

pub(crate) fn network(name: &str) -> CreateNetwork {
    CreateNetwork {
        name: name.into(),
        driver: String::new(),
        ipv4: None,
        ipv6: None,
        internal: false,
        attachable: false,
        subnets: Vec::new(),
        labels: Default::default(),
        options: Default::default(),
        ipam_driver: String::new(),
        ipam_options: Default::default(),
        config_only: false,
        config_from: None,
    }
}

pub(crate) fn with_subnet(name: &str, subnet: &str) -> CreateNetwork {
    let subnet = Subnet {
        subnet: subnet.parse().unwrap(),
        gateway: None,
        gateway_chosen: false,
        ip_range: None,
        auxiliary: Default::default(),
        requested: true,
    };
    CreateNetwork { subnets: vec![subnet], ..network(name) }
}

pub(crate) fn sandbox(n: u8, networks: &[&str]) -> Join {
    Join {
        id: SandboxId::from_bytes([n; 32]),
        name: format!("box{n}"),
        namespace: NamespaceKind::Own,
        resolver: Default::default(),
        endpoints: networks.iter().map(|n| on(n)).collect(),
        ports: Vec::new(),
    }
}

pub(crate) fn on(network: &str) -> EndpointSpec {
    EndpointSpec { network: network.into(), ..Default::default() }
}

pub(crate) fn port(host: u16) -> PortWish {
    PortWish {
        protocol: Protocol::Tcp,
        host_ip: None,
        host_ports: PortRange::one(host),
        container_port: 80,
        count: 1,
    }
}
