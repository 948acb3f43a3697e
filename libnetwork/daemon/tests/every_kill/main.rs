//! kill -9 before every single system call that changes anything: netlink messages, nftables transactions, mounts,
//! settings, BPF maps and pins, the store's and the journal's writes and syncs. After each of them the next start
//! makes the kernel what was answered, with the change that was under way done whole or not at all; and what is not
//! ours stands as it stood.
//!
//! The kernel takes a netlink message, and all that is sent in one piece with it, without looking for signals: between
//! two system calls is everywhere that a process can die.
#![allow(clippy::unwrap_used, clippy::panic)]

mod changes;
#[path = "../host/mod.rs"]
mod host;
mod picture;

use std::{
    process::ExitStatus,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use changes::{CALLS, outlives};
use host::{Host, id, join, network};
use integration_testkit::{Verdict, Watched};
use libnetwork_rpc::{client::Client, is_transport, v1};
use picture::picture;
use tonic::Status;

/// Somebody else's things, with names like ours.
const FOREIGN: &str = "ip link add foreign0 type dummy; ip link set foreign0 up mtu 1400; \
    ip address add 203.0.113.1/24 dev foreign0; ip route add 198.51.100.0/24 via 203.0.113.9; \
    ip neigh add 203.0.113.9 lladdr 02:00:00:00:00:09 dev foreign0; \
    ip link add br-0123456789ab type bridge; ip link set br-0123456789ab up; \
    ip link add cw0123456789ab type veth peer name theirs; ip link set theirs master br-0123456789ab; \
    ip link set br-0123456789ab alias causeway:bridge:0123456789ab; \
    nft 'add table inet docker; add chain inet docker c { type filter hook input priority 0; }; \
         add rule inet docker c tcp dport 1 drop; add table inet causeway2; add set inet causeway2 s { type ipv4_addr; elements = { 192.0.2.9 } }'";

/// A causewayd that is watched, on its own thread.
struct Process {
    thread: JoinHandle<ExitStatus>,
    watch: Arc<Watch>,
}

#[derive(Default)]
struct Watch {
    armed: AtomicBool,
    /// Changes made since it was armed.
    made: AtomicUsize,
    /// The change that it does not live to make.
    last: AtomicUsize,
}

impl Process {
    /// With `last`: counts, and dies, from the very start.
    fn start(host: &Host, last: Option<usize>) -> Self {
        let mut command = host.causewayd(&[]);
        let log = std::fs::File::options().create(true).append(true).open(host.log()).unwrap();
        command.args(["--log-level", "info,libnetwork_core=debug"]).stderr(log);
        let watch = Arc::new(Watch::default());
        if let Some(last) = last {
            watch.arm(last);
        }
        let seen = watch.clone();
        let thread = std::thread::spawn(move || {
            Watched::start(command, CALLS).run(|call| {
                let counts = seen.armed.load(Ordering::SeqCst) && outlives(call);
                let dies =
                    counts && seen.made.fetch_add(1, Ordering::SeqCst) == seen.last.load(Ordering::SeqCst);
                if dies { Verdict::Kill } else { Verdict::Proceed }
            })
        });
        Process { thread, watch }
    }

    /// Whether it is killed before it answers. It is, in either case, when this returns.
    async fn dies_starting(self, host: &Host) -> bool {
        let mut client = host.client();
        let answer = tokio::spawn(async move { client.get_info(v1::GetInfoRequest {}).await });
        while !self.thread.is_finished() {
            if answer.is_finished() {
                self.watch.arm(0);
                // The next thing that it does is its last.
                let mut client = host.client();
                let _lost = client.create_network(network("last")).await;
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        answer.abort();
        self.killed()
    }

    fn killed(self) -> bool {
        use std::os::unix::process::ExitStatusExt;
        self.thread.join().unwrap().signal() == Some(libc::SIGKILL)
    }
}

impl Watch {
    fn arm(&self, last: usize) {
        self.last.store(last, Ordering::SeqCst);
        self.made.store(0, Ordering::SeqCst);
        self.armed.store(true, Ordering::SeqCst);
    }

    fn disarm(&self) {
        self.armed.store(false, Ordering::SeqCst);
    }
}

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

const STEPS: usize = 12;

/// One of each kind of command, by its number.
async fn step(client: &mut Client, number: usize) -> Result<(), Status> {
    match number {
        0 => {
            let subnets = vec![subnet("10.61.0.0/24"), subnet("fd61::/64")];
            let request = v1::CreateNetworkRequest { ipv6: true, subnets, ..network("open") };
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
            let endpoint = Some(on("closed", "10.62.0.3"));
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
async fn clear(client: &mut Client) {
    for sandbox in [id(1), id(2)] {
        client.leave(v1::LeaveRequest { id: sandbox, keep: false }).await.unwrap();
    }
    let networks = client.list_networks(v1::ListNetworksRequest {}).await.unwrap().into_inner().networks;
    for network in networks.into_iter().filter(|network| !network.predefined) {
        client.remove_network(v1::RemoveNetworkRequest { id: network.id }).await.unwrap();
    }
}

/// Goes through the steps until the process dies; how many of them were answered.
async fn walk(client: &mut Client) -> usize {
    for number in 0..STEPS {
        match step(client, number).await {
            Ok(()) => {}
            Err(status) if is_transport(&status) => return number,
            Err(status) => panic!("step {number}: {status}"),
        }
    }
    STEPS
}

/// What stands after each number of steps, from a process that nobody kills.
async fn references(host: &Host, client: &mut Client) -> Vec<String> {
    let mut references = vec![picture(host, client).await];
    for number in 0..STEPS {
        step(client, number).await.unwrap();
        references.push(picture(host, client).await);
        assert_ne!(references[number], references[number + 1], "step {number} is seen");
    }
    assert_eq!(references[0], references[STEPS], "the steps lead back to where they began");
    references
}

/// The daemon is up: it answers.
async fn ready(host: &Host) -> Client {
    let mut client = host.client();
    client.get_info(v1::GetInfoRequest {}).await.unwrap();
    client
}

/// Links whose removal nobody waits for go a moment later.
async fn comes_to(host: &Host, client: &mut Client, wanted: &[String], when: &str) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let found = picture(host, client).await;
        if wanted.contains(&found) {
            return;
        }
        if std::time::Instant::now() > deadline {
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

/// Every `stride`-th change from `first` on, up to the last there is. How many there were.
async fn kill_before_each(first: usize, stride: usize) -> usize {
    let host = Host::new("every");
    host.sh(FOREIGN);
    let mut process = Process::start(&host, None);
    let mut client = ready(&host).await;
    let references = references(&host, &mut client).await;
    let mut kills = 0;
    for change in (first..).step_by(stride) {
        process.watch.arm(change);
        let answered = walk(&mut client).await;
        if answered == STEPS {
            break;
        }
        assert!(process.killed());
        kills += 1;
        // Some of the starts that make it good again are killed themselves, each a little later.
        if kills % 4 == 0 && Process::start(&host, Some(kills / 4)).dies_starting(&host).await {
            kills += 1;
        }
        process = Process::start(&host, None);
        client = ready(&host).await;
        let wanted = &references[answered..=(answered + 1).min(STEPS)];
        let when = format!("killed before change {change}, in step {answered}");
        comes_to(&host, &mut client, wanted, &when).await;
        clear(&mut client).await;
    }
    process.watch.disarm();
    comes_to(&host, &mut client, &references[..1], "in the end").await;
    kills
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_before_every_change_the_next_start_makes_it_whole_or_not_at_all() {
    let begun = std::time::Instant::now();
    // On two hosts at a time.
    let halves = [0, 1].map(|half| tokio::spawn(kill_before_each(half, 2)));
    let mut kills = 0;
    for half in halves {
        kills += half.await.unwrap();
    }
    eprintln!("{kills} kills in {:?}", begun.elapsed());
    assert!(kills > 100, "{kills}");
}
