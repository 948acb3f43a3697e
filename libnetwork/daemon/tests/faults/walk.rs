//! A walk through every kind of command, and what stands after each of its steps.

use std::time::{Duration, Instant};

use libnetwork_rpc::{client::Client, v1};
use tonic::Status;

use crate::{
    host::{Host, id, join, network},
    picture::picture,
};

/// Somebody else's things, with names like ours.
pub(crate) const FOREIGN: &str = "ip link add foreign0 type dummy; ip link set foreign0 up mtu 1400; \
    ip address add 203.0.113.1/24 dev foreign0; ip route add 198.51.100.0/24 via 203.0.113.9; \
    ip neigh add 203.0.113.9 lladdr 02:00:00:00:00:09 dev foreign0; \
    ip link add br-0123456789ab type bridge; ip link set br-0123456789ab up; \
    ip link add cw0123456789ab type veth peer name theirs; ip link set theirs master br-0123456789ab; \
    ip link set br-0123456789ab alias causeway:bridge:0123456789ab; \
    nft 'add table inet docker; add chain inet docker c { type filter hook input priority 0; }; \
         add rule inet docker c tcp dport 1 drop; add table inet causeway2; add set inet causeway2 s { type ipv4_addr; elements = { 192.0.2.9 } }'";

fn subnet(subnet: &str) -> v1::Subnet {
    v1::Subnet { subnet: subnet.into(), ..Default::default() }
}

fn on(network: &str, ipv4: &str) -> v1::EndpointSpec {
    v1::EndpointSpec { network: network.into(), ipv4: ipv4.into(), ..Default::default() }
}

fn port(host: u32) -> v1::PortSpec {
    let (host_first, host_last) = (host, host);
    v1::PortSpec { protocol: "tcp".into(), host_first, host_last, container_port: 80, ..Default::default() }
}

/// Bounds what would never come; longer than a machine is ever seen to stand still.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) const STEPS: usize = 12;

/// One of each kind of command, by its number.
pub(crate) async fn step(client: &mut Client, number: usize) -> Result<(), Status> {
    match number {
        0 => {
            let subnets = vec![subnet("10.61.0.0/24"), subnet("fd61::/64")];
            let request = v1::CreateNetworkRequest { ipv6: Some(true), subnets, ..network("open") };
            client.create_network(request).await.map(drop)
        }
        1 => {
            let options = [("com.docker.network.bridge.enable_icc".to_owned(), "false".to_owned())].into();
            let subnets = vec![subnet("10.62.0.0/24")];
            let request = v1::CreateNetworkRequest { internal: true, options, subnets, ..network("closed") };
            client.create_network(request).await.map(drop)
        }
        2 => {
            let endpoints = vec![on("open", "10.61.0.2"), on("closed", "10.62.0.2")];
            let request = v1::JoinRequest { endpoints, ports: vec![port(8080)], ..join(1, &[]) };
            client.join(request).await.map(drop)
        }
        3 => {
            let request = v1::JoinRequest { endpoints: vec![on("open", "10.61.0.3")], ..join(2, &[]) };
            client.join(request).await.map(drop)
        }
        4 => {
            let settings = [("mtu".to_owned(), "1400".to_owned()), ("icc".to_owned(), "false".to_owned())];
            let request = v1::SetNetworkRequest { reference: "open".into(), settings: settings.into() };
            client.set_network(request).await.map(drop)
        }
        5 => {
            let (sandbox_id, protocol) = (id(1), "tcp".into());
            let openings = vec![v1::Opening { sandbox_id, protocol, first: 80, last: 90 }];
            let endpoint = Some(v1::EndpointSpec { openings, ..on("closed", "10.62.0.3") });
            client.connect(v1::ConnectRequest { sandbox_id: id(2), endpoint }).await.map(drop)
        }
        6 => {
            let ports = vec![port(8080), port(8081)];
            client.set_ports(v1::SetPortsRequest { sandbox_id: id(1), ports }).await.map(drop)
        }
        7 => {
            let request = v1::DisconnectRequest { sandbox_id: id(1), network: "closed".into() };
            client.disconnect(request).await.map(drop)
        }
        8 => client.leave(v1::LeaveRequest { id: id(1), keep: false }).await.map(drop),
        9 => client.leave(v1::LeaveRequest { id: id(2), keep: false }).await.map(drop),
        10 => client.remove_network(v1::RemoveNetworkRequest { id: "open".into() }).await.map(drop),
        _ => client.remove_network(v1::RemoveNetworkRequest { id: "closed".into() }).await.map(drop),
    }
}

/// Everything away, whatever there is.
pub(crate) async fn clear(client: &mut Client) {
    for sandbox in [id(1), id(2)] {
        client.leave(v1::LeaveRequest { id: sandbox, keep: false }).await.unwrap();
    }
    let networks = client.list_networks(v1::ListNetworksRequest {}).await.unwrap().into_inner().networks;
    for network in networks.into_iter().filter(|network| !network.predefined) {
        client.remove_network(v1::RemoveNetworkRequest { id: network.id }).await.unwrap();
    }
}

/// The link group of what is to be removed.
const DOOMED: u32 = 0x4357_0002;

/// What stands after each number of steps, from a process that nobody kills.
pub(crate) async fn references(host: &Host, client: &mut Client) -> Vec<String> {
    let mut references = vec![settled(host, client).await];
    for number in 0..STEPS {
        step(client, number).await.unwrap();
        references.push(settled(host, client).await);
        assert_ne!(references[number], references[number + 1], "step {number} is seen");
    }
    assert_eq!(references[0], references[STEPS], "the steps lead back to where they began");
    references
}

/// The picture once the links are gone whose removal nobody waits for: they are in a group of their own.
async fn settled(host: &Host, client: &mut Client) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = picture(host, client).await;
        if !found.contains(&format!("group={DOOMED}")) || Instant::now() > deadline {
            return found;
        }
    }
}

/// Links whose removal nobody waits for go a moment later.
pub(crate) async fn comes_to(host: &Host, client: &mut Client, wanted: &[String], when: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = picture(host, client).await;
        if wanted.contains(&found) {
            return;
        }
        if Instant::now() > deadline {
            let differs = |wanted: &String| {
                let lines = |a: &str, b: &str, sign: &str| -> String {
                    let other: Vec<&str> = b.lines().collect();
                    a.lines().filter(|l| !other.contains(l)).map(|l| format!("{sign} {l}\n")).collect()
                };
                lines(wanted, &found, "-") + &lines(&found, wanted, "+")
            };
            let differences: Vec<String> = wanted.iter().map(differs).collect();
            panic!(
                "{when}: neither what was answered nor that with the next change\n{}",
                differences.join("\nor\n")
            );
        }
    }
}
