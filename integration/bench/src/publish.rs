//! What it costs to publish ports: of containers that publish few or many, and one more where many are published.

use std::time::{Duration, Instant};

use integration_testkit::{Daemon, Host};

use crate::{
    OUR_PROCESSES,
    engine::{Engine, IMAGE, Samples},
    memory,
    report::{Figure, Unit},
};

const COUNTS: [u16; 3] = [1, 100, 1000];
/// Below the ports that the kernel picks for outgoing connections.
const FIRST: u16 = 20_000;
const PUBLISHER: &str = "cw-bench-publisher";
/// An engine that spends this long on one start is not asked for many of them.
const SLOW: Duration = Duration::from_secs(2);
/// Where the many ports begin, that one more is published beside.
const MANY: u16 = 25_000;
const EACH: u16 = 1000;

/// Of the samples of starts and of removals, the ones or the others.
type Pick = fn(&(Samples, Samples)) -> &Samples;

pub(crate) fn figures(host: &Host, engines: &[&Engine], samples: usize, many: u16) -> Vec<Figure> {
    let mut figures = Vec::new();
    // In turn, round by round: what the machine does meanwhile is every row's.
    let mut taken = vec![[(); 3].map(|()| (Samples::default(), Samples::default())); engines.len()];
    let mut slow = vec![[false; 3]; engines.len()];
    for round in 0..=samples {
        for (engine, (taken, slow)) in engines.iter().zip(taken.iter_mut().zip(&mut slow)) {
            for (count, (taken, slow)) in COUNTS.iter().zip(taken.iter_mut().zip(slow.iter_mut())) {
                // Of a slow one the first round counts, and is the only one.
                if *slow {
                    continue;
                }
                let (start, end) = publish(engine, FIRST, *count);
                *slow = start > SLOW;
                if round > 0 || *slow {
                    taken.0.add(start);
                    taken.1.add(end);
                }
            }
        }
    }
    let medians =
        |pick: Pick, at: usize| -> Vec<f64> { taken.iter().map(|of| pick(&of[at]).median_ms()).collect() };
    let picks: [(&str, Pick); 2] = [("docker run -d", |(start, _)| start), ("docker rm -f", |(_, end)| end)];
    for (command, pick) in picks {
        let one = medians(pick, 0);
        for (at, count) in COUNTS.iter().enumerate() {
            let all = medians(pick, at);
            figures.push(Figure::of(&format!("{command}, {count} ports"), Unit::Milliseconds, &all));
            if at > 0 {
                let over: Vec<f64> = all.iter().zip(&one).map(|(all, one)| all / one).collect();
                figures.push(Figure::of("  (over one port)", Unit::One, &over));
            }
        }
    }
    if many > 0 {
        figures.extend(among(host, engines[0], samples, many));
    }
    figures
}

/// How long the start of a container with so many ports takes, and its removal.
fn publish(engine: &Engine, first: u16, count: u16) -> (Duration, Duration) {
    let start = engine.time(&run(PUBLISHER, &range(first, count)));
    (start, engine.time(&["rm", "-f", PUBLISHER]))
}

fn run<'a>(name: &'a str, range: &'a str) -> [&'a str; 9] {
    ["run", "-d", "--name", name, "-p", range, IMAGE, "sleep", "10000"]
}

fn range(first: u16, count: u16) -> String {
    let last = first + (count - 1);
    format!("{first}-{last}:{first}-{last}")
}

/// Ours: one more port beside many, and what each of these takes of memory. As many containers with a port each are
/// there before, so that what is counted is the ports.
fn among(host: &Host, ours: &Engine, samples: usize, many: u16) -> Vec<Figure> {
    let containers = many / EACH;
    let name = |n: u16| format!("cw-bench-many-{n}");
    let rows = |what: &str, taken: &(Samples, Samples)| {
        [("docker run -d", &taken.0), ("docker rm -f", &taken.1)].map(|(command, taken)| {
            let name = format!("{command}, one more port beside {what}");
            Figure::of(&name, Unit::Milliseconds, &[taken.median_ms()])
        })
    };
    let fill = |each: u16| {
        for n in 0..containers {
            ours.docker(&run(&name(n), &range(MANY + n * EACH, each)));
        }
        let mut taken = (Samples::default(), Samples::default());
        for round in 0..=samples {
            let (start, end) = publish(ours, FIRST, 1);
            if round > 0 {
                taken.0.add(start);
                taken.1.add(end);
            }
        }
        let pss = settled(host);
        let maps = memory::of_maps(host.pid(Daemon::Network).expect("causewayd runs"));
        for n in 0..containers {
            ours.docker(&["rm", "-f", &name(n)]);
        }
        (taken, pss, maps)
    };
    let (few, pss_before, maps_before) = fill(1);
    let (full, pss, maps) = fill(EACH);
    let ports = f64::from(many - containers);
    let each = |more: f64| more * 1024.0 * 1024.0 / ports;
    let mut figures: Vec<Figure> = rows(&format!("{containers}, of {containers} containers"), &few).into();
    figures.extend(rows(&format!("{many}, of as many containers"), &full));
    figures.push(Figure::of("memory of a port, the kernel's maps", Unit::Bytes, &[each(maps - maps_before)]));
    figures.push(Figure::of(
        "memory of a port, PSS of all processes",
        Unit::Bytes,
        &[each(pss - pss_before)],
    ));
    figures
}

/// MiB of our daemons, once it has not changed for a second.
fn settled(host: &Host) -> f64 {
    let started = Instant::now();
    let mut last = memory::of_host(host, OUR_PROCESSES);
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let now = memory::of_host(host, OUR_PROCESSES);
        if (now - last).abs() < 0.1 || started.elapsed() > Duration::from_secs(20) {
            return now;
        }
        last = now;
    }
}
