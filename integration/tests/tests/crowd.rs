//! Many clients at once.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::HashMap,
    sync::{Mutex, atomic::AtomicUsize, atomic::Ordering},
    thread,
};

use integration_testkit::{Api, Host, eventually};
use serde_json::{Value, json};

const CLIENTS: usize = 32;
/// Two clients have to share a container.
const CONTAINERS: usize = CLIENTS / 2;
const NETWORKS: usize = 1000;
/// Networks that are there all the time: one for each of the clients that share a container.
const HUBS: [&str; 2] = ["hub0", "hub1"];

/// Who has which address of which network at the moment.
#[derive(Default)]
struct Leases(Mutex<HashMap<(String, String), usize>>);

impl Leases {
    fn take(&self, network: &str, address: &str, client: usize) {
        assert!(!address.is_empty(), "client {client} got no address on {network}");
        let before = self.0.lock().unwrap().insert((network.to_owned(), address.to_owned()), client);
        assert_eq!(before, None, "clients {client} and {before:?} both have {address} on {network}");
    }

    fn give_back(&self, network: &str, address: &str) {
        self.0.lock().unwrap().remove(&(network.to_owned(), address.to_owned()));
    }
}

#[test]
fn a_thousand_networks_from_many_clients_at_once_come_and_go() {
    let host = Host::with_image();
    for container in 0..CONTAINERS {
        host.d(&format!("run -d --name c{container} box sleep 10000"));
    }
    for (n, hub) in HUBS.iter().enumerate() {
        host.d(&format!("network create --subnet 10.99.{n}.0/24 {hub}"));
    }
    let links = || host.host.ip("-br link show").lines().count();
    let before = links();

    let (next, leases) = (AtomicUsize::new(0), Leases::default());
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (host, next, leases) = (&host, &next, &leases);
            scope.spawn(move || {
                let api = host.api();
                loop {
                    let round = next.fetch_add(1, Ordering::Relaxed);
                    if round >= NETWORKS {
                        break;
                    }
                    come_and_go(&api, client, round, leases);
                }
            });
        }
    });

    eventually("no link is left over", || links() == before);
    let rules = host.host.sh("nft list table bridge causeway; nft list table inet causeway").ok();
    // Of each container the one on the default bridge; the bridges are that one and the hubs.
    let ports = host.host.sh("nft list set bridge causeway ports").ok();
    assert_eq!(ports.matches("\"cw").count(), CONTAINERS, "{rules}");
    let bridges = host.host.sh("nft list set inet causeway bridges").ok();
    assert_eq!(
        bridges.matches("\"br-").count() + bridges.matches("\"docker0").count(),
        1 + HUBS.len(),
        "{rules}"
    );
    for container in 0..CONTAINERS {
        let inside = format!("exec c{container} ip -o link show");
        eventually("only the first interface is left inside", || {
            let links = host.d(&inside);
            links.lines().count() == 2 && links.contains("eth0")
        });
    }
}

/// One network, from its making to its end.
fn come_and_go(api: &Api, client: usize, round: usize, leases: &Leases) {
    let (name, hub) = (format!("net{round}"), HUBS[client % 2]);
    let container = format!("c{}", client / 2);
    let endpoint = json!({"Container": container});
    // Each client takes its own subnet anew, as soon as it has given it back.
    let ipam = json!({"Config": [{"Subnet": format!("10.98.{client}.0/24")}]});
    let body = json!({"Name": name, "IPAM": ipam});
    let created = api.post("/networks/create", &body);
    assert_eq!(created.status, 201, "{:?}", created.message());
    let id = created.json()["Id"].as_str().unwrap().to_owned();
    assert_eq!(api.post("/networks/create", &body).status, 409, "the name is taken");

    for network in [&name, hub] {
        ok(api, "POST", &format!("/networks/{network}/connect"), &endpoint, 200);
    }
    let again = api.post(&format!("/networks/{id}/connect"), &endpoint);
    assert_eq!(again.status, 403, "it is connected already");
    let networks = api.get(&format!("/containers/{container}/json")).json();
    let address = |network: &str| {
        let found = &networks["NetworkSettings"]["Networks"][network]["IPAddress"];
        found.as_str().unwrap_or_default().to_owned()
    };
    for network in [&name, hub] {
        leases.take(network, &address(network), client);
    }
    assert!(address(&name).starts_with(&format!("10.98.{client}.")), "{}", address(&name));
    assert_eq!(api.delete(&format!("/networks/{name}")).status, 403, "it has an endpoint");

    for network in [&name, hub] {
        leases.give_back(network, &address(network));
        ok(api, "POST", &format!("/networks/{network}/disconnect"), &endpoint, 200);
    }
    ok(api, "DELETE", &format!("/networks/{name}"), &Value::Null, 204);
    assert_eq!(api.get(&format!("/networks/{id}")).status, 404, "it is gone");
}

fn ok(api: &Api, method: &str, path: &str, body: &Value, status: u16) {
    let answer = match method {
        "DELETE" => api.delete(path),
        _ => api.post(path, body),
    };
    let text = String::from_utf8_lossy(&answer.body);
    assert_eq!(answer.status, status, "{method} {path}: {text}");
}
