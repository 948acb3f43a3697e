//! Many sandboxes: what one more costs, what the last one gets, and when all of them hear of a new name.

use std::{
    net::UdpSocket,
    path::{Path, PathBuf},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use integration_testkit::Asker;
use serde_json::json;

use super::{NETWORK, ROUNDS, rate_in};
use crate::{
    engine::{Engine, IMAGE, Samples},
    report::{Figure, Unit},
};

/// The name that one container has, and another is given and loses.
const SHARED: &str = "cw-bench-shared";
const HOLDER: &str = "cw-bench-holder";
const MOVER: &str = "cw-bench-mover";
/// The first and the last sandboxes, whose starts are compared.
const ENDS: usize = 20;

pub(super) fn figures(ours: &Engine, count: usize, known: &str) -> Vec<Figure> {
    ours.docker(&[
        "run",
        "-d",
        "--name",
        HOLDER,
        "--network",
        NETWORK,
        "--network-alias",
        SHARED,
        IMAGE,
        "sleep",
        "10000",
    ]);
    ours.docker(&["run", "-d", "--name", MOVER, IMAGE, "sleep", "10000"]);
    let names: Vec<String> = (0..count).map(|n| format!("cw-bench-crowd-{n}")).collect();
    let mut namespaces = Vec::new();
    let (mut first, mut last) = (Samples::default(), Samples::default());
    let mut rates = Vec::new();
    let mut figures = Vec::new();
    for (n, name) in names.iter().enumerate() {
        let took = ours.time(&["run", "-d", "--name", name, "--network", NETWORK, IMAGE, "sleep", "10000"]);
        if n < ENDS {
            first.add(took);
        } else if n + ENDS >= count {
            last.add(took);
        }
        namespaces.push(ours.namespace(name));
        if n == 0 || n + 1 == count {
            rates.push(median_rate(&namespaces[n], known));
        }
        if [1, 100, 1000, count].contains(&(n + 1)) {
            let late = (0..ROUNDS).map(|_| unheard(ours, &namespaces)).max().unwrap_or_default();
            figures.push(Figure::of(
                &format!("a new alias not yet known in one of {} sandboxes, after the call's end", n + 1),
                Unit::Milliseconds,
                &[late.as_secs_f64() * 1e3],
            ));
        }
    }
    let figure =
        |name: &str, unit, value| Figure::of(&format!("{name} of {count} sandboxes"), unit, &[value]);
    figures.extend([
        figure("names of containers, from the first", Unit::PerSecond, rates[0]),
        figure("names of containers, from the last", Unit::PerSecond, rates[rates.len() - 1]),
        figure("docker run -d, the first 20", Unit::Milliseconds, first.median_ms()),
        figure("docker run -d, the last 20", Unit::Milliseconds, last.median_ms()),
    ]);
    for some in [names, vec![HOLDER.into(), MOVER.into()]].concat().chunks(50) {
        let some: Vec<&str> = some.iter().map(String::as_str).collect();
        ours.docker(&[&["rm", "-f"][..], &some].concat());
    }
    figures
}

fn median_rate(namespace: &Path, known: &str) -> f64 {
    let mut rates: Vec<f64> = (0..ROUNDS).map(|_| rate_in(namespace, known)).collect();
    rates.sort_by(f64::total_cmp);
    rates[ROUNDS / 2]
}

/// How long after the call that gives a container one more name somebody was still told of one holder only. All sandboxes
/// are asked, one after the other, over and over: before the call, during it, and until all of them know.
fn unheard(ours: &Engine, namespaces: &[PathBuf]) -> Duration {
    let ended = OnceLock::new();
    let late = thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut asker = None;
            let sockets: Vec<UdpSocket> = namespaces
                .iter()
                .map(|namespace| {
                    asker = Some(Asker::enter(namespace, SHARED));
                    Asker::socket()
                })
                .collect();
            let asker = asker.expect("there are sandboxes");
            let mut unheard = None;
            loop {
                let end = ended.get().copied();
                let mut all_know = true;
                for socket in &sockets {
                    let asked = Instant::now();
                    if asker.ask_on(socket).count < 2 {
                        unheard = Some(asked);
                        all_know = false;
                    }
                }
                if let Some(end) = end.filter(|_| all_know) {
                    return unheard.map_or(Duration::ZERO, |at| at.saturating_duration_since(end));
                }
            }
        });
        // A round of questions comes first.
        thread::sleep(Duration::from_millis(200));
        let settings = json!({"Container": MOVER, "EndpointConfig": {"Aliases": [SHARED]}});
        ours.post(&format!("/v1.47/networks/{NETWORK}/connect"), &settings);
        let _ = ended.set(Instant::now());
        asking.join().expect("no lookup fails")
    });
    ours.docker(&["network", "disconnect", NETWORK, MOVER]);
    late
}
