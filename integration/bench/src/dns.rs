//! Names: what lookups from inside containers cost, by dnsperf (Debian's) and by a client that asks once at a time.

use std::{
    fs,
    net::{Ipv4Addr, TcpStream},
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use integration_testkit::{Asker, Daemon, Host, eventually, run};

use crate::{
    engine::{Engine, IMAGE},
    memory,
    report::{Figure, Unit},
};

mod crowd;

const NETWORK: &str = "cw-bench-dns";
const NAMES: [&str; 3] = ["cw-bench-one", "cw-bench-two", "cw-bench-three"];
const ASKER: &str = "cw-bench-asker";
const UPSTREAM: &str = "cw-bench-upstream";
const ROUNDS: usize = 5;
/// Queries a second at which latency is looked at: a load that every engine bears.
const STEADY: &str = "5000";
const ALIASES: usize = 1000;
const KILLS: usize = 10;
const CONNECTIONS: usize = 10_000;
/// About as long as these take.
const BUSY: Duration = Duration::from_secs(1);

/// The first engine is ours.
pub(crate) fn figures(host: &Host, engines: &[&Engine], sandboxes: usize) -> Vec<Figure> {
    for engine in engines {
        set_up(engine);
    }
    let known: String = NAMES.iter().map(|name| format!("{name} A\n")).collect();
    let many = |prefix: &str| (0..1000).map(|n| format!("{prefix}{n}.example A\n")).collect::<String>();
    let mut figures = vec![
        rate("names of containers, dnsperf", engines, &known),
        latency("99th percentile of these at 5,000 /s", engines, &known),
        rate("forwarded, to be asked each time", engines, &many("new")),
        rate("forwarded, may be kept for 5 minutes", engines, &many("kept")),
    ];
    for engine in engines {
        let aliases = (0..ALIASES).flat_map(|n| ["--network-alias".to_owned(), format!("alias{n}")]);
        let words: Vec<String> = aliases.collect();
        let mut arguments = vec!["run", "-d", "--name", "cw-bench-aliases", "--network", NETWORK];
        arguments.extend(words.iter().map(String::as_str));
        engine.docker(&[&arguments[..], &[IMAGE, "sleep", "10000"]].concat());
    }
    let last = format!("alias{} A\n", ALIASES - 1);
    figures.push(rate("the last of 1,000 more names", engines, &last));
    for engine in engines {
        engine.docker(&["rm", "-f", "cw-bench-aliases"]);
    }
    figures.extend(crowd::figures(engines[0], sandboxes, &known));
    figures.push(restarts(host, engines[0]));
    figures.extend(hostile(host, engines[0]));
    for engine in engines {
        let containers = [&NAMES[..], &[ASKER, UPSTREAM]].concat();
        engine.docker(&[&["rm", "-f"][..], &containers].concat());
        engine.docker(&["network", "rm", NETWORK]);
    }
    figures
}

fn set_up(engine: &Engine) {
    engine.docker(&["network", "create", "--subnet", "10.79.0.0/16", NETWORK]);
    let start = |name: &str, options: &[&str], command: &[&str]| {
        let common = ["run", "-d", "--name", name, "--network", NETWORK];
        engine.docker(&[&common, options, &[IMAGE], command].concat());
    };
    for name in NAMES {
        start(name, &[], &["sleep", "10000"]);
    }
    start(UPSTREAM, &[], &["probe", "dns", "53"]);
    let upstream = engine.address(UPSTREAM).to_string();
    start(ASKER, &["--dns", &upstream], &["sleep", "10000"]);
}

/// Queries a second from one container, each engine in turn.
fn rate(name: &str, engines: &[&Engine], questions: &str) -> Figure {
    let measure = |engine: &Engine| rate_in(&engine.namespace(ASKER), questions);
    Figure::of(name, Unit::PerSecond, &in_turn(engines, measure))
}

/// The 99th percentile in microseconds at a steady rate.
fn latency(name: &str, engines: &[&Engine], questions: &str) -> Figure {
    let measure = |engine: &Engine| {
        let output = dnsperf(&engine.namespace(ASKER), questions, &["-v", "-Q", STEADY]);
        let taken = output.lines().filter_map(|line| line.strip_prefix("> NOERROR")?.rsplit(' ').next());
        let mut taken: Vec<f64> = taken.filter_map(|seconds| seconds.parse().ok()).collect();
        taken.sort_by(f64::total_cmp);
        taken[taken.len() * 99 / 100] * 1e6
    };
    Figure::of(name, Unit::Microseconds, &in_turn(engines, measure))
}

/// Medians of an action that is done on each engine in turn.
fn in_turn(engines: &[&Engine], measure: impl Fn(&Engine) -> f64) -> Vec<f64> {
    let mut values = vec![Vec::new(); engines.len()];
    for _ in 0..ROUNDS {
        for (engine, values) in engines.iter().zip(&mut values) {
            values.push(measure(engine));
        }
    }
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    values.into_iter().map(median).collect()
}

fn rate_in(namespace: &Path, questions: &str) -> f64 {
    let output = dnsperf(namespace, questions, &[]);
    let line = output.lines().find_map(|line| line.trim().strip_prefix("Queries per second:"));
    line.and_then(|text| text.trim().parse().ok()).unwrap_or_else(|| unreadable(&output))
}

fn dnsperf(namespace: &Path, questions: &str, options: &[&str]) -> String {
    let file = std::env::temp_dir().join(format!("cw-bench-names-{}", std::process::id()));
    fs::write(&file, questions).expect("the temporary directory can be written");
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", namespace.display())).args(["dnsperf", "-s", "127.0.0.11", "-l", "2"]);
    command.arg("-d").arg(&file).args(options);
    let output = run(command, b"").ok();
    let _ = fs::remove_file(&file);
    let lost = output.lines().find_map(|line| line.trim().strip_prefix("Queries lost:"));
    assert!(lost.is_some_and(|lost| lost.trim().starts_with("0 ")), "queries were lost: {lost:?}");
    // Failures come fast, or slowly: the rate of neither is one of answers.
    let codes = output.lines().find_map(|line| line.trim().strip_prefix("Response codes:"));
    let is_good = codes.is_some_and(|codes| codes.trim().starts_with("NOERROR") && !codes.contains(','));
    assert!(is_good, "queries failed:\n{output}");
    output
}

fn unreadable(output: &str) -> ! {
    eprintln!("dnsperf said what is not understood:\n{output}");
    std::process::exit(1)
}

/// The longest lookup while causewayd is killed over and over.
fn restarts(host: &Host, ours: &Engine) -> Figure {
    let (namespace, expected) = (ours.namespace(ASKER), ours.address(NAMES[0]));
    let done = AtomicBool::new(false);
    let longest = thread::scope(|scope| {
        let asking = scope.spawn(|| longest_until(&done, &namespace, expected));
        for _ in 0..KILLS {
            let pid = host.pid(Daemon::Network);
            // One that lived for a second is started again at once.
            thread::sleep(Duration::from_millis(1200));
            host.kill(Daemon::Network);
            eventually("another one runs", || host.pid(Daemon::Network).is_some_and(|new| Some(new) != pid));
        }
        thread::sleep(Duration::from_millis(500));
        done.store(true, Ordering::Relaxed);
        asking.join().expect("no lookup fails")
    });
    let name = format!("the longest lookup over {KILLS} kills of causewayd");
    Figure::of(&name, Unit::Milliseconds, &[longest.as_secs_f64() * 1e3])
}

fn longest_until(done: &AtomicBool, namespace: &Path, expected: Ipv4Addr) -> Duration {
    let asker = Asker::enter(namespace, NAMES[0]);
    let mut longest = Duration::ZERO;
    while !done.load(Ordering::Relaxed) {
        let (address, took) = asker.ask();
        assert_eq!(address, Some(expected));
        longest = longest.max(took);
    }
    longest
}

/// One container opens connections that say nothing or garbage, another looks up names meanwhile.
fn hostile(host: &Host, ours: &Engine) -> [Figure; 3] {
    let (hostile, neighbour) = (ours.namespace(ASKER), ours.namespace(NAMES[1]));
    let expected = ours.address(NAMES[0]);
    // What the kernel lets a lookup wait for on this machine while one program computes, and nobody floods anything.
    let done = AtomicBool::new(false);
    let busy = thread::scope(|scope| {
        let asking = scope.spawn(|| longest_until(&done, &neighbour, expected));
        let end = Instant::now() + BUSY;
        while Instant::now() < end {
            std::hint::spin_loop();
        }
        done.store(true, Ordering::Relaxed);
        asking.join().expect("no lookup fails")
    });
    let done = AtomicBool::new(false);
    let before = memory::of_host(host, &["causewayd"]);
    let (longest, grown) = thread::scope(|scope| {
        let asking = scope.spawn(|| longest_until(&done, &neighbour, expected));
        let flood = scope.spawn(|| {
            let _asker = Asker::enter(&hostile, NAMES[0]);
            let open: Vec<TcpStream> = (0..CONNECTIONS).map(Asker::hostile_connection).collect();
            let grown = memory::of_host(host, &["causewayd"]) - before;
            drop(open);
            grown
        });
        let grown = flood.join().expect("the flood ends");
        done.store(true, Ordering::Relaxed);
        (asking.join().expect("no lookup fails"), grown)
    });
    let what = format!("beside {CONNECTIONS} connections of garbage");
    [
        Figure::of(
            "the longest lookup beside a program that computes",
            Unit::Milliseconds,
            &[busy.as_secs_f64() * 1e3],
        ),
        Figure::of(&format!("the longest lookup {what}"), Unit::Milliseconds, &[longest.as_secs_f64() * 1e3]),
        Figure::of(&format!("memory that causewayd takes more {what}, PSS"), Unit::MiB, &[grown]),
    ]
}
