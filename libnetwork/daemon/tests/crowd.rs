//! Many clients at once: every answer right, nothing left, and the last command costs what the first did.
#![allow(clippy::unwrap_used, clippy::panic)]

mod host;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use host::{Host, id, join, network};
use integration_testkit::eventually;
use libnetwork_rpc::v1;

const CLIENTS: u32 = 32;
const ROUNDS: u32 = 8;

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_at_once_get_right_answers_and_leave_nothing() {
    let host = Host::started("crowd");
    let client = host.client();
    client.clone().create_network(network("shared")).await.unwrap();
    let before: BTreeSet<String> = host.links().into_iter().collect();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let mut client = client.clone();
            tokio::spawn(async move {
                let mut slowest = Duration::ZERO;
                for round in 0..ROUNDS {
                    let name = format!("n{n}-{round}");
                    let begin = Instant::now();
                    client.create_network(network(&name)).await.unwrap();
                    let sandbox = client.join(join(n, &["shared"])).await.unwrap().into_inner();
                    assert_eq!(sandbox.endpoints.len(), 1);
                    let endpoint = v1::EndpointSpec { network: name.clone(), ..Default::default() };
                    let connect = v1::ConnectRequest { sandbox_id: id(n), endpoint: Some(endpoint) };
                    let sandbox = client.connect(connect).await.unwrap().into_inner();
                    assert_eq!(sandbox.endpoints.len(), 2);
                    let refused = client.remove_network(v1::RemoveNetworkRequest { id: name.clone() }).await;
                    assert!(refused.unwrap_err().message().contains("has active endpoints"));
                    let disconnect = v1::DisconnectRequest { sandbox_id: id(n), network: name.clone() };
                    client.disconnect(disconnect).await.unwrap();
                    client.remove_network(v1::RemoveNetworkRequest { id: name }).await.unwrap();
                    client.leave(v1::LeaveRequest { id: id(n), keep: false }).await.unwrap();
                    slowest = slowest.max(begin.elapsed());
                }
                slowest
            })
        })
        .collect();
    // Whatever is joined meanwhile, no address is there twice.
    let mut watcher = client.clone();
    let watch = tokio::spawn(async move {
        loop {
            let reply = watcher.list_sandboxes(v1::ListSandboxesRequest {}).await.unwrap().into_inner();
            let mut seen = BTreeSet::new();
            for endpoint in reply.sandboxes.iter().flat_map(|s| &s.endpoints) {
                assert!(seen.insert((endpoint.network_id.clone(), endpoint.ipv4.clone())), "{endpoint:?}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    for client in clients {
        let slowest = client.await.unwrap();
        // None waits for good; a machine may stand still.
        assert!(slowest < Duration::from_secs(120), "{slowest:?}");
    }
    assert!(!watch.is_finished(), "{:?}", watch.await);
    watch.abort();
    // The veths of a sandbox that left are deleted behind its answer, all of a batch together.
    eventually("the links of what left are gone", || {
        host.links().into_iter().collect::<BTreeSet<_>>() == before
    });
    assert_eq!(host.sh(&format!("ls {}", host.run_dir().join("netns").display())), "");
}
