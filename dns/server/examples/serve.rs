//! A resolver in a sandbox of its own, to measure: prints how to ask it, and answers until it is killed.
//!
//! `cargo run --release -p dns-server --example serve -- [NAMES]`, then the `dnsperf` lines that it prints.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, fs::File, process::Command, sync::Arc, thread};

use dns_server::{DnsServer, Settings};
use ipnet::Ipv4Net;
use libnetwork_core::NameServer;
use libnetwork_model::*;
use libnetwork_plan::DNS_PORT;
use nix::sched::{CloneFlags, unshare};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() {
    let names: u16 = std::env::args().nth(1).map_or(1000, |n| n.parse().unwrap());
    let namespace = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
        File::open("/proc/thread-self/ns/net").unwrap()
    });
    let namespace = namespace.join().unwrap();
    let path = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&namespace));

    let server =
        DnsServer::new(Settings { port: DNS_PORT, shutdown: CancellationToken::new(), keeper: None });
    server.publish(&town(names), None);
    server.upstreams(&HostFacts { resolvers: vec!["127.0.0.1".parse().unwrap()], ..HostFacts::default() });
    server.open(&sandbox(0), path.clone().into()).await.unwrap();
    println!(
        "for n in $(seq 0 {}); do echo \"c$n A\"; done > names.txt\nnsenter --net={path} dnsperf -s 127.0.0.11 -p {DNS_PORT} -d names.txt -l 5",
        names - 1
    );
    std::future::pending::<()>().await;
}

fn id(n: u16) -> [u8; 32] {
    let mut bytes = [7; 32];
    bytes[30..].copy_from_slice(&n.to_be_bytes());
    bytes
}

fn sandbox(n: u16) -> Sandbox {
    Sandbox {
        id: SandboxId::from_bytes(id(n)),
        name: format!("c{n}"),
        owner: String::new(),
        namespace: NamespaceKind::Own,
        resolver: Resolver::default(),
        ports: vec![],
    }
}

fn town(names: u16) -> Intent {
    let network = Network {
        id: NetworkId::from_bytes([1; 32]),
        name: "front".into(),
        driver: "bridge".into(),
        created_ns: 0,
        ipv4: true,
        ipv6: false,
        internal: false,
        attachable: false,
        predefined: false,
        config_only: false,
        config_from: None,
        subnets: vec![],
        labels: BTreeMap::new(),
        options: BTreeMap::new(),
        ipam_options: BTreeMap::new(),
    };
    let mut mutations = vec![Mutation::PutNetwork(Arc::new(network))];
    for n in 0..names {
        let [high, low] = n.to_be_bytes();
        let endpoint = Endpoint {
            id: EndpointId::from_bytes(id(n)),
            network: NetworkId::from_bytes([1; 32]),
            sandbox: SandboxId::from_bytes(id(n)),
            ifname: "eth0".into(),
            mac: None,
            ipv4: Some(Ipv4Net::new([10, 0, high, low].into(), 16).unwrap()),
            ipv6: None,
            aliases: vec![],
            gateway_priority: 0,
            segment: 0,
            link_local: Vec::new(),
            options: BTreeMap::new(),
        };
        mutations.push(Mutation::PutSandbox(Arc::new(sandbox(n))));
        mutations.push(Mutation::PutEndpoint(Arc::new(endpoint)));
    }
    Intent::default().apply(&Change(mutations))
}
