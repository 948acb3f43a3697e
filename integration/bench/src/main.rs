//! `make bench`: the figures that the README quotes, measured through the real docker CLI.
//!
//! Causeway runs in a private host of the testkit. Another engine's socket, given by `--peer`, is measured in the same
//! run, in turn with ours, so that a machine whose speed drifts disturbs both alike; what counts are the ratios of the
//! medians. Nothing here judges: it prints.

mod calls;
mod dns;
mod engine;
mod memory;
mod paths;
mod publish;
mod repair;
mod report;

use std::{net::Ipv4Addr, path::Path};

use clap::{Parser, ValueEnum};
use integration_testkit::Host;

use crate::{
    engine::{Engine, Samples},
    report::{Figure, Format, Unit},
};

/// Measure Causeway, and another engine beside it
#[derive(Parser)]
struct Args {
    /// The other engine's socket, as in unix:///run/docker.sock
    #[arg(long, value_name = "unix://PATH")]
    peer: Option<String>,
    /// The network namespace that is the other engine's host, as `ip netns` names it; none: what needs it is ours alone
    #[arg(long, value_name = "NETNS", requires_all = ["peer_client", "peer_address"])]
    peer_host: Option<String>,
    /// The network namespace of a client outside of that host
    #[arg(long, value_name = "NETNS")]
    peer_client: Option<String>,
    /// The address by which that client knows the host
    #[arg(long, value_name = "IPV4")]
    peer_address: Option<Ipv4Addr>,
    /// Samples per figure
    #[arg(short = 'n', long, default_value_t = 15)]
    samples: usize,
    /// Networks, and as many endpoints, among which the calls are measured once more; 0: they are not
    #[arg(long, default_value_t = 1000)]
    networks: usize,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Measure one part alone
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Ports, a thousand to a container, beside which one more is published; 0: none are
    #[arg(long, default_value_t = 40_000)]
    ports: u16,
    /// Sandboxes that ask for names
    #[arg(long, default_value_t = 100)]
    sandboxes: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Containers and their memory
    Containers,
    /// Networks
    Networks,
    /// Names
    Dns,
    /// Containers that publish ports: their start, their end, their memory
    Publish,
    /// Packets by published ports
    Paths,
}

/// The processes of a Docker Engine, for its memory.
const PEER_PROCESSES: &[&str] = &["dockerd", "containerd", "docker-proxy"];
const OUR_PROCESSES: &[&str] = &["causeway", "causewayd", "causeway-engine"];

fn main() {
    let args = Args::parse();
    let mut host = Host::new().with_everyday_logs();
    host.start();
    let ours = Engine::new("causeway", host.docker_command());
    let peer = args.peer.as_ref().map(|socket| Engine::at("peer", socket));
    let idle = memory::of_host(&host, OUR_PROCESSES);
    let peer_idle = peer.as_ref().map(|_| memory::by_name(PEER_PROCESSES));

    let engines: Vec<&Engine> = [Some(&ours), peer.as_ref()].into_iter().flatten().collect();
    for engine in &engines {
        engine.prepare();
    }
    let mut figures = vec![Figure::new("idle memory, PSS of all processes", Unit::MiB, idle, peer_idle)];
    let wants = |part| args.only.is_none_or(|only| only == part);
    if wants(Part::Containers) {
        figures.extend(run_true(&engines, args.samples));
        figures.push(per_container(&host, &ours));
    }
    if wants(Part::Networks) {
        figures.extend(networks(&engines, args.samples));
        figures.extend(repair::figures(&host, &ours));
        figures.extend(calls::network_calls(&host, &engines, args.samples, args.networks));
    }
    if wants(Part::Dns) {
        figures.extend(dns::figures(&host, &engines, args.sandboxes));
    }
    if wants(Part::Publish) {
        figures.extend(publish::figures(&host, &engines, args.samples, args.ports));
    }
    if wants(Part::Paths) {
        let netns = |name: &String| Path::new("/run/netns").join(name);
        let peer = match (&args.peer_host, &args.peer_client, args.peer_address) {
            (Some(host), Some(client), Some(address)) => Some((netns(host), netns(client), address)),
            _ => None,
        };
        figures.extend(paths::figures(&host, &engines, peer, args.samples));
    }
    for engine in &engines {
        engine.clean_up();
    }
    report::print(&figures, args.format);
}

/// Runs one action on each engine in turn, `count` times after a warm-up, and pairs the medians.
pub(crate) fn measure(
    name: &str,
    engines: &[&Engine],
    count: usize,
    mut action: impl FnMut(&Engine, usize) -> std::time::Duration,
) -> Figure {
    let mut samples: Vec<Samples> = engines.iter().map(|_| Samples::default()).collect();
    for round in 0..=count {
        for (engine, samples) in engines.iter().zip(&mut samples) {
            let took = action(engine, round);
            if round > 0 {
                samples.add(took);
            }
        }
    }
    Figure::new(name, Unit::Milliseconds, samples[0].median_ms(), samples.get(1).map(Samples::median_ms))
}

fn run_true(engines: &[&Engine], count: usize) -> Vec<Figure> {
    ["none", "bridge"]
        .map(|network| {
            measure(&format!("docker run --rm --network {network} … true"), engines, count, |engine, _| {
                engine.time(&["run", "--rm", "--network", network, engine::IMAGE, "true"])
            })
        })
        .into()
}

fn networks(engines: &[&Engine], count: usize) -> Vec<Figure> {
    for engine in engines {
        engine.docker(&["run", "-d", "--name", "cw-bench", engine::IMAGE, "sleep", "10000"]);
    }
    let name = |round| format!("cw-bench-{round}");
    let create = measure("docker network create", engines, count, |engine, round| {
        engine.time(&["network", "create", "--subnet", &format!("10.77.{round}.0/24"), &name(round)])
    });
    let connect = measure("docker network connect", engines, count, |engine, round| {
        engine.time(&["network", "connect", &name(round), "cw-bench"])
    });
    let disconnect = measure("docker network disconnect", engines, count, |engine, round| {
        engine.time(&["network", "disconnect", &name(round), "cw-bench"])
    });
    let remove = measure("docker network rm", engines, count, |engine, round| {
        engine.time(&["network", "rm", &name(round)])
    });
    for engine in engines {
        engine.docker(&["rm", "-f", "cw-bench"]);
    }
    // What a command costs that asks the engine for next to nothing: the CLI's own share of every row above.
    let floor = measure("  (docker network inspect: the CLI's own cost)", engines, count, |engine, _| {
        engine.time(&["network", "inspect", "none"])
    });
    vec![create, connect, disconnect, remove, floor]
}

/// What one more container adds to the memory of all our processes, its own programs not counted.
fn per_container(host: &Host, ours: &Engine) -> Figure {
    const CONTAINERS: usize = 20;
    let all = [OUR_PROCESSES, &["causeway-shim"]].concat();
    let before = memory::of_host(host, &all);
    let names: Vec<String> = (0..CONTAINERS).map(|n| format!("cw-bench-{n}")).collect();
    for name in &names {
        ours.docker(&["run", "-d", "--name", name, engine::IMAGE, "sleep", "10000"]);
    }
    let after = memory::of_host(host, &all);
    for name in &names {
        ours.docker(&["rm", "-f", name]);
    }
    let each = (after - before) / CONTAINERS as f64;
    Figure::new("memory that a container adds, PSS", Unit::MiB, each, None)
}
