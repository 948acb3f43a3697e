//! Packets by published ports: from outside and from the host itself, beside the same client's way straight to the
//! container's address.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use integration_testkit::{Host, Talk, eventually};

use crate::{
    engine::{Engine, IMAGE},
    report::{Figure, Unit},
};

const NETWORK: &str = "cw-bench-paths";
const SUBNET: &str = "10.81.0.0/24";
const SERVER: &str = "cw-bench-server";
/// What the server listens on, and its published ports: the echo, and what swallows a stream.
const ECHO: (u16, u16) = (80, 5600);
const SINK: (u16, u16) = (81, 5601);
const ROUND_TRIPS: usize = 1000;
const CONNECTIONS: usize = 300;
const STREAM: Duration = Duration::from_millis(200);

/// Short rounds, and many: what disturbs the machine for a while disturbs every way.
const ROUNDS_A_SAMPLE: usize = 3;

/// A client's place and where it goes.
struct Way {
    name: &'static str,
    namespace: PathBuf,
    address: IpAddr,
    published: bool,
}

impl Way {
    fn to(&self, (own, published): (u16, u16)) -> SocketAddr {
        SocketAddr::new(self.address, if self.published { published } else { own })
    }
}

type Measured = fn(&Talk, &Way) -> f64;

const ROWS: [(&str, Unit, Measured); 4] = [
    ("TCP round trip", Unit::Microseconds, |talk, way| {
        median(&talk.tcp_round_trips(way.to(ECHO), ROUND_TRIPS))
    }),
    ("UDP round trip", Unit::Microseconds, |talk, way| {
        median(&talk.udp_round_trips(way.to(ECHO), ROUND_TRIPS))
    }),
    ("connections", Unit::PerSecond, |talk, way| rate(&talk.connections(way.to(ECHO), CONNECTIONS))),
    ("TCP stream", Unit::Gigabits, |talk, way| talk.stream(way.to(SINK), STREAM) * 8.0 / 1e9),
];

/// `peer`: the other engine's host, a client outside of it, and the address by which that knows the host.
pub(crate) fn figures(
    host: &Host,
    engines: &[&Engine],
    peer: Option<(PathBuf, PathBuf, Ipv4Addr)>,
    rounds: usize,
) -> Vec<Figure> {
    for engine in engines {
        set_up(engine);
    }
    let address = Host::ADDRESS.parse().expect("an address of the testkit's");
    let ours = (host.host.path(), host.client.path(), address);
    // From outside straight to a container's address: a way of ours alone, which the network lets in.
    host.client.ip(&format!("route add {SUBNET} via {}", Host::ADDRESS));
    let ways: Vec<Vec<Way>> = [Some(ours), peer]
        .into_iter()
        .flatten()
        .zip(engines)
        .enumerate()
        .map(|(at, (place, engine))| ways(&place, engine.address(SERVER), at == 0))
        .collect();
    let mut figures = Vec::new();
    for (row, unit, measured) in ROWS {
        // Every way in turn, round by round, so that what the machine does meanwhile is each one's.
        let mut values: Vec<Vec<Vec<f64>>> = ways.iter().map(|ways| vec![Vec::new(); ways.len()]).collect();
        for _ in 0..rounds * ROUNDS_A_SAMPLE {
            for (ways, values) in ways.iter().zip(&mut values) {
                for (way, values) in ways.iter().zip(values) {
                    values.push(in_namespace(&way.namespace, |talk| measured(talk, way)));
                }
            }
        }
        figures.extend(compare(row, unit, &ways, &values));
    }
    for engine in engines {
        engine.docker(&["rm", "-f", SERVER]);
        engine.docker(&["network", "rm", NETWORK]);
    }
    figures
}

fn set_up(engine: &Engine) {
    let trusted = "com.docker.network.bridge.trusted_host_interfaces=uplink";
    engine.docker(&["network", "create", "--subnet", SUBNET, "-o", trusted, NETWORK]);
    let publish = |(own, published): (u16, u16), transport: &str| format!("{published}:{own}/{transport}");
    let ports = [publish(ECHO, "tcp"), publish(ECHO, "udp"), publish(SINK, "tcp")];
    let mut run = vec!["run", "-d", "--name", SERVER, "--network", NETWORK];
    run.extend(ports.iter().flat_map(|port| ["-p", port.as_str()]));
    let command = format!("probe serve {} & probe sink {} & wait", ECHO.0, SINK.0);
    run.extend([IMAGE, "sh", "-c", &command]);
    engine.docker(&run);
    eventually("both servers serve", || engine.docker(&["logs", SERVER]).matches("serving").count() == 2);
}

fn ways(
    (host, client, address): &(PathBuf, PathBuf, Ipv4Addr),
    container: Ipv4Addr,
    routed: bool,
) -> Vec<Way> {
    let way = |name, namespace: &PathBuf, address: Ipv4Addr, published| Way {
        name,
        namespace: namespace.clone(),
        address: address.into(),
        published,
    };
    let mut ways = vec![
        way("from outside", client, *address, true),
        way("from localhost", host, Ipv4Addr::LOCALHOST, true),
        way("from the host, straight to the container", host, container, false),
    ];
    if routed {
        ways.push(way("from outside, straight to the container", client, container, false));
    }
    ways
}

/// A row for each way, and those by published ports over those straight to the container: the median of the rounds'
/// own ratios.
fn compare(row: &str, unit: Unit, ways: &[Vec<Way>], values: &[Vec<Vec<f64>>]) -> Vec<Figure> {
    let of_way = |at: usize| -> Vec<f64> {
        values.iter().filter_map(|ways| ways.get(at)).map(|values| middle(values.clone())).collect()
    };
    let over = |published: usize, straight: usize| -> Vec<f64> {
        let ratio = |ways: &Vec<Vec<f64>>| {
            let pairs = ways.get(published)?.iter().zip(ways.get(straight)?);
            Some(middle(pairs.map(|(published, straight)| published / straight).collect()))
        };
        values.iter().filter_map(ratio).collect()
    };
    let mut figures: Vec<Figure> = ways[0]
        .iter()
        .enumerate()
        .map(|(at, way)| Figure::of(&format!("{row} {}", way.name), unit, &of_way(at)))
        .collect();
    for (name, published, straight) in [("outside", 0, 3), ("localhost", 1, 2)] {
        let name = format!("  ({row} from {name}, over straight to the container)");
        figures.push(Figure::of(&name, Unit::One, &over(published, straight)));
    }
    figures
}

/// On a thread of its own, which stays there.
fn in_namespace(namespace: &Path, measure: impl FnOnce(&Talk) -> f64 + Send) -> f64 {
    thread::scope(|scope| {
        let measuring = scope.spawn(|| measure(&Talk::enter(namespace)));
        measuring.join().expect("no exchange fails")
    })
}

/// In microseconds.
fn median(taken: &[Duration]) -> f64 {
    middle(taken.iter().map(|taken| taken.as_secs_f64() * 1e6).collect())
}

/// By the second, all of them together.
fn rate(taken: &[Duration]) -> f64 {
    taken.len() as f64 / taken.iter().sum::<Duration>().as_secs_f64()
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
