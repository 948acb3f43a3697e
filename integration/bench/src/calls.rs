//! The calls of the API that make and remove networks and endpoints, without the docker CLI: on an engine with few networks
//! and among many, and what a restart among these costs.

use std::{fs, time::Instant};

use integration_testkit::{Daemon, Host, until};
use serde_json::json;

use crate::{
    engine::{Engine, IMAGE, Samples},
    measure,
    report::{Figure, Unit},
};

/// Containers that share the endpoints of the many networks among them.
const CONTAINERS: usize = 10;
/// What a restart among many networks is measured with: few, for each costs seconds.
const RESTARTS: usize = 5;

/// With `many` networks and endpoints beside those that are measured, once more; 0: not.
pub(crate) fn network_calls(host: &Host, engines: &[&Engine], count: usize, many: usize) -> Vec<Figure> {
    let first = calls(engines, count, "");
    if many == 0 {
        return first;
    }
    for engine in engines {
        populate(engine, many);
    }
    let last = calls(engines, count, &format!(", among {many} networks and endpoints"));
    let growth = first.iter().zip(&last).map(|(first, last)| {
        let peer = last.peer.zip(first.peer).map(|(last, first)| last / first);
        Figure::new(&format!("  (over the first {})", first.name()), Unit::One, last.ours / first.ours, peer)
    });
    let growth: Vec<Figure> = growth.collect();
    let restart = restart(host, engines[0], many);
    for engine in engines {
        clear(engine, many);
    }
    first.into_iter().chain(last).chain(growth).chain(restart).collect()
}

fn calls(engines: &[&Engine], count: usize, among: &str) -> Vec<Figure> {
    let name = |round| format!("cw-bench-{round}");
    for engine in engines {
        engine.docker(&["run", "-d", "--name", "cw-bench", IMAGE, "sleep", "10000"]);
    }
    let create = measure(&format!("POST /networks/create{among}"), engines, count, |engine, round| {
        let ipam = json!({"Config": [{"Subnet": format!("10.78.{round}.0/24")}]});
        engine.post("/v1.47/networks/create", &json!({"Name": name(round), "IPAM": ipam}))
    });
    let [connect, disconnect] = ["connect", "disconnect"].map(|verb| {
        measure(&format!("POST /networks/…/{verb}{among}"), engines, count, |engine, round| {
            let path = format!("/v1.47/networks/{}/{verb}", name(round));
            engine.post(&path, &json!({"Container": "cw-bench"}))
        })
    });
    let remove = measure(&format!("DELETE /networks/…{among}"), engines, count, |engine, round| {
        engine.delete(&format!("/v1.47/networks/{}", name(round)))
    });
    for engine in engines {
        engine.docker(&["rm", "-f", "cw-bench"]);
    }
    vec![create, connect, disconnect, remove]
}

/// Networks with one endpoint each. With subnets of their own: Docker's default pools end after some thirty.
fn populate(engine: &Engine, many: usize) {
    for n in 0..CONTAINERS {
        engine.docker(&["run", "-d", "--name", &member(n), IMAGE, "sleep", "10000"]);
    }
    for n in 0..many {
        let ipam = json!({"Config": [{"Subnet": format!("10.{}.{}.0/24", 100 + n / 250, n % 250)}]});
        engine.post("/v1.47/networks/create", &json!({"Name": background(n), "IPAM": ipam}));
        let path = format!("/v1.47/networks/{}/connect", background(n));
        engine.post(&path, &json!({"Container": member(n % CONTAINERS)}));
    }
}

fn clear(engine: &Engine, many: usize) {
    for n in 0..CONTAINERS {
        engine.docker(&["rm", "-f", &member(n)]);
    }
    for n in 0..many {
        engine.delete(&format!("/v1.47/networks/{}", background(n)));
    }
}

fn member(n: usize) -> String {
    format!("cw-bench-member-{n}")
}

fn background(n: usize) -> String {
    format!("cw-bench-background-{n}")
}

/// From the death of causewayd to its next answer, and how much it found to do to the kernel.
fn restart(host: &Host, ours: &Engine, many: usize) -> [Figure; 2] {
    const ADOPTED: &str = "adopted what an earlier process left";
    let mut samples = Samples::default();
    let corrections = || fs::read_to_string(host.log()).unwrap_or_default().matches(ADOPTED).count();
    let before = corrections();
    for _ in 0..RESTARTS {
        let old = host.pid(Daemon::Network);
        let started = Instant::now();
        host.kill(Daemon::Network);
        until("causewayd runs again", || host.pid(Daemon::Network).filter(|pid| Some(*pid) != old));
        ours.get("/v1.47/networks/none");
        samples.add(started.elapsed());
    }
    let planned = (corrections() - before) as f64;
    [
        Figure::new(
            &format!("causewayd killed, until it answers again, {many} networks and endpoints"),
            Unit::Milliseconds,
            samples.median_ms(),
            None,
        ),
        Figure::new(
            &format!("  (of {RESTARTS} such starts, those that changed anything)"),
            Unit::One,
            planned,
            None,
        ),
    ]
}
