//! A network with more endpoints than a bridge has ports: all of them reach each other, and the last costs what the first
//! did.
#![allow(clippy::unwrap_used, clippy::panic)]

mod host;

use std::{
    collections::BTreeSet,
    fs::File,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use host::{Host, bare, id, join};
use integration_testkit::eventually;
use libnetwork_rpc::{client::Client, v1};
use nix::{
    fcntl::{Flock, FlockArg},
    sched::{CloneFlags, setns},
    sys::resource::{Resource, getrlimit, setrlimit},
};

/// Clients that join at the same time.
const CLIENTS: u32 = 16;
/// How many joins are timed at each end, one at a time, and how many endpoints of sandboxes that are there.
const TIMED: u32 = 200;
const PORT: u16 = 4000;

#[test]
fn endpoints_beyond_a_bridge_s_ports_reach_all_others() {
    let figures = fill(1_100);
    println!("{figures:#?}");
    assert_eq!(figures.bridges, 2);
}

/// `cargo test --release -p libnetwork-daemon --test large_network -- --ignored --nocapture`
#[test]
#[ignore = "measures, for minutes"]
fn the_cost_of_the_4000th_endpoint() {
    let figures = fill(4_000);
    println!("{figures:#?}");
    assert_eq!(figures.bridges, 5);
}

/// What it took.
#[derive(Debug)]
#[allow(dead_code)]
struct Figures {
    bridges: usize,
    /// Medians of joins that were made one at a time: a sandbox and its endpoint.
    first: Duration,
    last: Duration,
    /// Medians of endpoints alone: sandboxes that are there, connected one at a time.
    first_endpoint: Duration,
    last_endpoint: Duration,
    /// All joins between, made by several clients at once.
    others: Duration,
    talking: Duration,
}

/// The machine's settings, for all namespaces together, of how many neighbours it remembers and how many packets wait for a
/// CPU. causewayd sees to them where it runs in the machine's first namespace; here it does not.
struct MachineSettings {
    before: Vec<(String, String)>,
    /// Held for as long: of two who change them at a time, one would take for the machine's own what the other has set.
    _alone: Flock<File>,
}

impl MachineSettings {
    fn large() -> Self {
        let setting = |family: &str, n: u32| format!("/proc/sys/net/{family}/neigh/default/gc_thresh{n}");
        let mut all =
            ["ipv4", "ipv6"].map(|family| [2, 3].map(|n| setting(family, n))).as_flattened().to_vec();
        all.push("/proc/sys/net/core/netdev_max_backlog".to_owned());
        let alone = File::open(&all[0]).expect("the test runs in the machine's first namespace");
        let alone = Flock::lock(alone, FlockArg::LockExclusive).map_err(|(_, errno)| errno).unwrap();
        let before = all.iter().map(|path| {
            let value =
                std::fs::read_to_string(path).expect("the test runs in the machine's first namespace");
            std::fs::write(path, "65536").unwrap();
            (path.clone(), value)
        });
        Self { before: before.collect(), _alone: alone }
    }
}

impl Drop for MachineSettings {
    fn drop(&mut self) {
        for (path, value) in &self.before {
            let _ = std::fs::write(path, value);
        }
    }
}

/// One endpoint, as its sandbox sees the network.
struct Station {
    addresses: [IpAddr; 2],
    namespace: String,
    sockets: Vec<UdpSocket>,
}

fn fill(count: u32) -> Figures {
    // Two sockets each.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let _restored_at_the_end = MachineSettings::large();
    let host = Host::started("large");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let client = runtime.block_on(async { host.client() });
    let (sandboxes, [first, last, others, first_endpoint, last_endpoint]) =
        runtime.block_on(join_all(&client, count));
    let mut stations: Vec<Station> = sandboxes.iter().map(station).collect();
    let distinct: BTreeSet<IpAddr> = stations.iter().flat_map(|s| s.addresses).collect();
    assert_eq!(distinct.len(), 2 * count as usize, "an address was leased twice");
    host.open_sockets(&mut stations);

    let watched = [0, count / 2, count - 1].map(|n| &stations[n as usize]);
    watched.iter().for_each(|station| count_questions(&host, station));
    let begin = Instant::now();
    everybody_reaches_others(&stations);
    let talking = begin.elapsed();
    println!("{first:?} {last:?} {others:?} {first_endpoint:?} {last_endpoint:?} {talking:?}");
    for station in watched {
        assert_eq!(questions(&host, station), [0, 0], "{} was asked about others", station.addresses[0]);
    }
    all_hear_what_is_said_to_all(&stations);

    let bridges = 1 + host.links().iter().filter(|name| name.starts_with("cb")).count();
    drop(stations);
    runtime.block_on(leave_all(&client, count + 2 * TIMED));
    eventually("the links of what left are gone", || {
        host.links().iter().all(|name| !name.starts_with("cw") && !name.starts_with("cb"))
    });
    Figures { bridges, first, last, first_endpoint, last_endpoint, others, talking }
}

async fn join_all(client: &Client, count: u32) -> (Vec<v1::Sandbox>, [Duration; 5]) {
    let mut client = client.clone();
    for name in ["large", "aside"] {
        let request = v1::CreateNetworkRequest { name: name.into(), ipv6: Some(true), ..Default::default() };
        client.create_network(request).await.unwrap();
    }
    for n in 0..2 * TIMED {
        client.join(join(count + n, &["aside"])).await.unwrap();
    }
    let first_endpoint = connect(&mut client, count..count + TIMED).await;
    let (first, mut sandboxes) = one_at_a_time(&mut client, 0..TIMED).await;
    let begin = Instant::now();
    let next = Arc::new(AtomicU32::new(TIMED));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (mut client, next) = (client.clone(), next.clone());
            tokio::spawn(async move {
                let mut made = Vec::new();
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count - TIMED {
                        return made;
                    }
                    made.push(client.join(join(n, &["large"])).await.unwrap().into_inner());
                }
            })
        })
        .collect();
    for client in clients {
        sandboxes.extend(client.await.unwrap());
    }
    let others = begin.elapsed();
    let (last, made) = one_at_a_time(&mut client, count - TIMED..count).await;
    sandboxes.extend(made);
    let last_endpoint = connect(&mut client, count + TIMED..count + 2 * TIMED).await;
    (sandboxes, [first, last, others, first_endpoint, last_endpoint])
}

/// The median.
async fn connect(client: &mut Client, numbers: Range<u32>) -> Duration {
    let mut times = Vec::new();
    for n in numbers {
        let endpoint = Some(v1::EndpointSpec { network: "large".into(), ..Default::default() });
        let request = v1::ConnectRequest { sandbox_id: id(n), endpoint };
        let begin = Instant::now();
        client.connect(request).await.unwrap();
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    times[times.len() / 2]
}

/// The median, and what was made.
async fn one_at_a_time(client: &mut Client, numbers: Range<u32>) -> (Duration, Vec<v1::Sandbox>) {
    let (mut times, mut made) = (Vec::new(), Vec::new());
    for n in numbers {
        let begin = Instant::now();
        made.push(client.join(join(n, &["large"])).await.unwrap().into_inner());
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    (times[times.len() / 2], made)
}

async fn leave_all(client: &Client, count: u32) {
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client_number| {
            let mut client = client.clone();
            tokio::spawn(async move {
                for n in (client_number..count).step_by(CLIENTS as usize) {
                    client.leave(v1::LeaveRequest { id: id(n), keep: false }).await.unwrap();
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
}

fn station(sandbox: &v1::Sandbox) -> Station {
    let endpoint = &sandbox.endpoints[0];
    let addresses = [&endpoint.ipv4, &endpoint.ipv6].map(|cidr| bare(cidr).parse().unwrap());
    Station { addresses, namespace: sandbox.namespace.clone(), sockets: Vec::new() }
}

impl Host {
    /// A socket in each sandbox for each family, made by a thread that visits all of them.
    fn open_sockets(&self, stations: &mut [Station]) {
        let open = || {
            for station in stations {
                setns(self.open(&station.namespace), CloneFlags::CLONE_NEWNET).unwrap();
                for any in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
                    let socket = UdpSocket::bind((any, if any.is_ipv4() { PORT } else { PORT + 1 })).unwrap();
                    socket.set_nonblocking(true).unwrap();
                    if any.is_ipv4() {
                        socket.set_broadcast(true).unwrap();
                    }
                    station.sockets.push(socket);
                }
            }
        };
        std::thread::scope(|scope| scope.spawn(open).join().unwrap());
    }

    fn open(&self, namespace: &str) -> File {
        File::open(self.seen_from_outside(namespace)).unwrap()
    }
}

/// Each says its number to the next one, to one half the network away, and to the first, in both families, and all that
/// is said arrives. A datagram that is lost where thousands are sent at once is said again.
fn everybody_reaches_others(stations: &[Station]) {
    let count = stations.len();
    let targets = |from: usize| [(from + 1) % count, (from + count / 2) % count, 0];
    let mut missing: BTreeSet<(usize, usize, usize)> = (0..count)
        .flat_map(|from| targets(from).map(move |to| [0, 1].map(move |family| (to, from, family))))
        .flatten()
        .filter(|(to, from, _)| to != from)
        .collect();
    let end = Instant::now() + Duration::from_secs(120);
    while !missing.is_empty() {
        assert!(Instant::now() < end, "{} of {count} × 6 datagrams do not arrive", missing.len());
        let said: Vec<_> = missing.iter().copied().collect();
        for some in said.chunks(64) {
            for (to, from, family) in some {
                let target = SocketAddr::new(stations[*to].addresses[*family], PORT + *family as u16);
                // What the sender's queue does not take is said in the next round.
                let _said_again = stations[*from].sockets[*family].send_to(&from.to_be_bytes(), target);
            }
            std::thread::yield_now();
            for (to, ..) in some {
                hear(&stations[*to], *to, &mut missing);
            }
        }
        std::thread::sleep(Duration::from_millis(20));
        (0..count).for_each(|to| hear(&stations[to], to, &mut missing));
    }
}

fn hear(station: &Station, to: usize, missing: &mut BTreeSet<(usize, usize, usize)>) {
    let mut number = [0; 8];
    for (family, socket) in station.sockets.iter().enumerate() {
        while socket.recv(&mut number).is_ok() {
            missing.remove(&(to, usize::from_be_bytes(number), family));
        }
    }
}

/// Broadcast from one on the last bridge, again where it is lost on its way to some of a thousand.
fn all_hear_what_is_said_to_all(stations: &[Station]) {
    let Some((speaker, others)) = stations.split_last() else { return };
    let IpAddr::V4(address) = speaker.addresses[0] else { panic!("no IPv4 address") };
    // The pools give out networks of 65,536 addresses.
    let [a, b, ..] = address.octets();
    let mut silent: Vec<&Station> = others.iter().collect();
    eventually("everybody hears", || {
        speaker.sockets[0].send_to(b"all", (Ipv4Addr::new(a, b, 255, 255), PORT)).unwrap();
        silent.retain(|station| !hears(station, b"all"));
        silent.is_empty()
    });
}

/// Whether this is among what an endpoint was told by IPv4 and did not listen to yet.
fn hears(station: &Station, wanted: &[u8]) -> bool {
    let mut said = [0; 8];
    while let Ok(length) = station.sockets[0].recv(&mut said) {
        if said[..length] == *wanted {
            return true;
        }
    }
    false
}

/// Counts the ARP requests and the neighbour solicitations that arrive at an endpoint and are about others.
fn count_questions(host: &Host, station: &Station) {
    let [ipv4, IpAddr::V6(ipv6)] = station.addresses else { panic!("no IPv6 address") };
    let ipv6 = u128::from(ipv6);
    let rules = format!(
        "table netdev questions {{ chain in {{ type filter hook ingress device eth0 priority 0; \
         arp operation request arp daddr ip != {ipv4} counter; \
         icmpv6 type nd-neighbor-solicit @th,64,128 != {ipv6:#x} counter; }}; }}"
    );
    let said = host.inside(&station.namespace, &["nft", &rules]).output().unwrap();
    assert!(said.status.success(), "{said:?}");
}

fn questions(host: &Host, station: &Station) -> Vec<u32> {
    let listing = host.inside(&station.namespace, &["nft", "list", "table", "netdev", "questions"]).output();
    let listing = String::from_utf8(listing.unwrap().stdout).unwrap();
    let count = |line: &str| line.split("packets ").nth(1)?.split(' ').next()?.parse().ok();
    listing.lines().filter_map(count).collect()
}
