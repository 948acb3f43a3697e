//! `causeway topology`: what is on this host's networks.

mod tree;

use std::{io::IsTerminal, path::Path};

use libnetwork_rpc::{client, v1};
use serde::Serialize;

use crate::{
    Outcome,
    args::{Format, Topology},
    ask::AskError,
    paths,
};

/// The answer to `--format json`.
#[derive(Debug, Serialize)]
struct Report {
    mtu: u32,
    uplinks: Vec<Uplink>,
    networks: Vec<Network>,
}

#[derive(Debug, Serialize)]
struct Uplink {
    name: String,
    addresses: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Network {
    id: String,
    name: String,
    driver: String,
    internal: bool,
    subnets: Vec<Subnet>,
    endpoints: Vec<Endpoint>,
}

#[derive(Debug, Serialize)]
struct Subnet {
    subnet: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    gateway: String,
}

#[derive(Debug, Serialize)]
struct Endpoint {
    container: String,
    container_id: String,
    interface: String,
    host_link: String,
    mac: String,
    addresses: Vec<String>,
    names: Vec<String>,
    /// Where the container's published ports lead: on its endpoint that has the default route.
    ports: Vec<Port>,
}

#[derive(Debug, Serialize)]
struct Port {
    protocol: String,
    /// Empty: every address of the host.
    host_ip: String,
    host_port: u32,
    container_port: u32,
    count: u32,
}

pub(crate) fn run(args: &Topology) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(ask(&args.run_dir))?;
    match args.format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&report)?),
        Format::Tree => {
            let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            print!("{}", tree::render(&report, colour));
        }
    }
    Ok(())
}

async fn ask(run_dir: &Path) -> Result<Report, AskError> {
    let socket = paths::network_socket(run_dir);
    let fault = AskError::at(&socket);
    let one = client::connect(&socket);
    let info = client::again(|| async { one.clone().get_info(v1::GetInfoRequest {}).await })
        .await
        .map_err(&fault)?;
    let networks = client::again(|| async { one.clone().list_networks(v1::ListNetworksRequest {}).await })
        .await
        .map_err(&fault)?;
    let sandboxes = client::again(|| async { one.clone().list_sandboxes(v1::ListSandboxesRequest {}).await })
        .await
        .map_err(&fault)?;
    Ok(report(info, networks.networks, &sandboxes.sandboxes))
}

fn report(info: v1::Info, networks: Vec<v1::Network>, sandboxes: &[v1::Sandbox]) -> Report {
    let ports = |endpoint: &v1::Endpoint| -> Vec<Port> {
        let sandbox = sandboxes.iter().find(|s| s.id == endpoint.sandbox_id);
        let leads_here =
            sandbox.and_then(|s| s.endpoints.first()).is_some_and(|first| first.id == endpoint.id);
        sandbox.filter(|_| leads_here).into_iter().flat_map(|s| &s.ports).map(port).collect()
    };
    let networks = networks
        .into_iter()
        .map(|network| Network {
            endpoints: network.endpoints.iter().map(|e| self::endpoint(e, ports(e))).collect(),
            subnets: network
                .subnets
                .into_iter()
                .filter(|s| !s.idle)
                .map(|s| Subnet { subnet: s.subnet, gateway: s.gateway })
                .collect(),
            id: network.id,
            name: network.name,
            driver: network.driver,
            internal: network.internal,
        })
        .collect();
    let uplinks = info.uplinks.into_iter().map(|u| Uplink { name: u.name, addresses: u.addresses }).collect();
    Report { mtu: info.mtu, uplinks, networks }
}

fn endpoint(endpoint: &v1::Endpoint, ports: Vec<Port>) -> Endpoint {
    Endpoint {
        container: endpoint.sandbox_name.clone(),
        container_id: endpoint.sandbox_id.clone(),
        interface: endpoint.ifname.clone(),
        host_link: endpoint.host_link.clone(),
        mac: endpoint.mac.clone(),
        addresses: [&endpoint.ipv4, &endpoint.ipv6].into_iter().filter(|a| !a.is_empty()).cloned().collect(),
        names: endpoint.dns_names.clone(),
        ports,
    }
}

fn port(port: &v1::PublishedPort) -> Port {
    Port {
        protocol: port.protocol.clone(),
        host_ip: port.host_ip.clone(),
        host_port: port.host_port,
        container_port: port.container_port,
        count: port.count.max(1),
    }
}
