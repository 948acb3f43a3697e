//! What a container costs beside its own processes. `CAUSEWAY_SHIM=.../release/causeway-shim cargo test -p
//! engine-shim --test overhead -- --ignored --nocapture`
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::{fs, time::Instant};

use support::{Place, run};

#[test]
#[ignore = "measures; meaningful with a release build only"]
fn overhead() {
    run(|| async {
        let place = Place::new();
        let mut phases: [Vec<f64>; 4] = Default::default();
        for number in 0..40 {
            let (id, io) = (format!("c{number}"), place.io("bench"));
            let mut spec = place.spec(&["true"]);
            spec.network = engine_runtime::NetworkNamespace::Host;
            let mut last = Instant::now();
            let mut lap = |phase: usize| {
                phases[phase].push(last.elapsed().as_secs_f64() * 1e3);
                last = Instant::now();
            };
            let task = place.runtime.create(&id, &spec, &io).await.unwrap();
            lap(0);
            task.start().await.unwrap();
            lap(1);
            task.wait().await.unwrap();
            lap(2);
            task.delete().await.unwrap();
            lap(3);
        }
        for (name, mut times) in ["create", "start", "wait", "delete"].into_iter().zip(phases) {
            times.sort_by(f64::total_cmp);
            println!(
                "{name}: median {:.1} ms, most {:.1} ms",
                times[times.len() / 2],
                times[times.len() - 1]
            );
        }
        let task = place.start("idle", &place.spec(&["sleep", "1000"])).await;
        let shim = task.state().await.unwrap().shim_pid;
        let rollup = fs::read_to_string(format!("/proc/{shim}/smaps_rollup")).unwrap();
        for line in rollup.lines().filter(|line| line.starts_with("Rss") || line.starts_with("P")) {
            println!("idle shim {line}");
        }
        if let Ok(path) = std::env::var("SMAPS") {
            fs::copy(format!("/proc/{shim}/smaps"), path).unwrap();
        }
        task.delete().await.unwrap();
    });
}
