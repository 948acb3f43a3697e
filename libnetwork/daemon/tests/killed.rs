//! kill -9 at random moments under load: whatever was going on, the next start makes the kernel what the intent says.
#![allow(clippy::unwrap_used, clippy::panic)]

mod host;

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use host::{Host, bare, id, join, network};
use integration_testkit::{eventually, run};
use libnetwork_rpc::{
    client::{Client, again},
    is_transport, v1,
};

const CLIENTS: u32 = 4;
const KILLS: u32 = 16;

static END: AtomicBool = AtomicBool::new(false);

/// Makes, uses and removes things of its own until told to end, and ends with one network that has one sandbox.
async fn load(client: Client, n: u32) {
    let name = format!("net{n}");
    for round in 0.. {
        let ends = END.load(Ordering::Relaxed);
        create(&client, &name).await;
        let first = 100 * n + round % 7;
        for sandbox in [first, 100 * n + 50] {
            let joined = answered(|| client.clone().join_once(join(sandbox, &[&name, "bridge"])))
                .await
                .expect("a join");
            assert_eq!(joined.endpoints.len(), 2);
        }
        answered(|| client.clone().leave_once(id(first))).await.expect("a leave");
        if ends {
            return;
        }
        answered(|| client.clone().leave_once(id(100 * n + 50))).await.expect("a leave");
        remove(&client, &name).await;
    }
}

/// [`again`], for as long as it takes: on a slow machine it is killed more often than it answers.
async fn answered<T, F>(mut call: impl FnMut() -> F) -> Result<T, tonic::Status>
where
    F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
{
    loop {
        match again(&mut call).await {
            Err(status) if is_transport(&status) => {}
            answer => return answer,
        }
    }
}

/// Calls that can be handed to [`again`].
trait Once {
    async fn join_once(self, request: v1::JoinRequest)
    -> Result<tonic::Response<v1::Sandbox>, tonic::Status>;
    async fn leave_once(self, id: String) -> Result<tonic::Response<v1::LeaveReply>, tonic::Status>;
}

impl Once for Client {
    async fn join_once(
        mut self,
        request: v1::JoinRequest,
    ) -> Result<tonic::Response<v1::Sandbox>, tonic::Status> {
        self.join(request).await
    }

    async fn leave_once(mut self, id: String) -> Result<tonic::Response<v1::LeaveReply>, tonic::Status> {
        self.leave(v1::LeaveRequest { id, keep: false }).await
    }
}

/// A create or remove whose answer was lost may have happened.
async fn create(client: &Client, name: &str) {
    let mut lost = false;
    loop {
        match client.clone().create_network(network(name)).await {
            Ok(_) => return,
            Err(status) if is_transport(&status) => lost = true,
            Err(status) if lost && status.message().contains("already exists") => return,
            Err(status) => panic!("create {name}: {status}"),
        }
    }
}

async fn remove(client: &Client, name: &str) {
    let mut lost = false;
    loop {
        match client.clone().remove_network(v1::RemoveNetworkRequest { id: name.into() }).await {
            Ok(_) => return,
            Err(status) if is_transport(&status) => lost = true,
            Err(status) if lost && status.message().contains("not found") => return,
            Err(status) => panic!("remove {name}: {status}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_moments_under_load_nothing_is_lost_and_nothing_leaks() {
    let mut host = Host::started("killed");
    let client = host.client();
    client.clone().get_info(v1::GetInfoRequest {}).await.unwrap();
    let load: Vec<_> = (1..=CLIENTS).map(|n| tokio::spawn(load(client.clone(), n))).collect();
    // Moments spread over the whole of a round, the same in every run.
    for kill in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(u64::from(kill * 67 % 400))).await;
        host.kill();
        host.start();
    }
    host.listens();
    END.store(true, Ordering::Relaxed);
    for client in load {
        tokio::time::timeout(Duration::from_secs(120), client).await.expect("the load to end").unwrap();
    }

    let reply = client.clone().list_sandboxes(v1::ListSandboxesRequest {}).await.unwrap().into_inner();
    let sandboxes: BTreeSet<String> = reply.sandboxes.iter().map(|s| s.id.clone()).collect();
    let expected: BTreeSet<String> = (1..=CLIENTS).map(|n| id(100 * n + 50)).collect();
    assert_eq!(sandboxes, expected);
    let networks =
        client.clone().list_networks(v1::ListNetworksRequest {}).await.unwrap().into_inner().networks;
    assert_eq!(networks.len(), 3 + CLIENTS as usize);

    // The kernel holds that and nothing else.
    let bridges = networks
        .iter()
        .filter(|n| n.driver == "bridge")
        .map(|n| if n.name == "bridge" { "docker0".to_owned() } else { format!("br-{}", &n.id[..12]) });
    let veths = networks.iter().flat_map(|n| &n.endpoints).map(|e| e.host_link.clone());
    let expected_links: BTreeSet<String> = bridges.chain(veths).collect();
    // The veths of a sandbox that left are deleted behind its answer, all of a batch together.
    eventually("the links of what left are gone", || {
        host.links().into_iter().collect::<BTreeSet<String>>() == expected_links
    });
    // One that a killed process was to remove is gone with the next start's first pass, which commands do not wait for.
    let netns = format!("ls {}", host.run_dir().join("netns").display());
    eventually("the namespaces of what left are gone", || {
        host.sh(&netns).lines().map(str::to_owned).collect::<BTreeSet<String>>() == expected
    });
    let [a, b] = [&reply.sandboxes[0], &reply.sandboxes[1]];
    let shared = b.endpoints.iter().find(|e| e.network_name == "bridge").unwrap();
    assert!(host.reaches(&a.namespace, bare(&shared.ipv4)), "{} is not reached", shared.ipv4);

    // A start after all that finds nothing to do.
    let begin = host.log_text().len();
    assert_eq!(host.stop().code(), Some(0));
    host.start();
    host.listens();
    client.clone().get_info(v1::GetInfoRequest {}).await.unwrap();
    let log = host.log_text().split_off(begin);
    assert!(!log.contains("adopted what an earlier process left"), "{log}");
    assert_eq!(host.stop().code(), Some(0));
    run(host.causewayd(&["purge"]), b"").ok();
    assert_eq!(host.links(), Vec::<String>::new());
    assert_eq!(host.mounts(), Vec::<String>::new());
}
