//! Killed daemons cost no container, no connection, and no new one.

use std::{
    collections::BTreeSet,
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use integration_testkit::{Daemon, Host, Running, SetWhenDropped, eventually, has_ended, probe, until};

fn serving(host: &Host) {
    host.d("network create --subnet 10.96.0.0/24 net");
    host.d("run -d --name web --network net -p 8080:80 box probe serve 80");
    eventually("the server serves", || host.d("logs web").contains("serving"));
}

/// A connection that is kept busy from outside until it is told to end.
struct Held(Running);

impl Held {
    fn open(host: &Host) -> Self {
        let mut command = host.client.command(probe().to_str().unwrap());
        command.args(["hold", Host::ADDRESS, "8080"]).stdin(Stdio::piped());
        let running = Running::start(command);
        // Else it might begin only after what it is to live through.
        eventually("the connection is busy", || running.said().contains("holding"));
        Self(running)
    }

    /// The number of round trips; panics when the connection broke.
    fn close(mut self) -> u64 {
        drop(self.0.child.stdin.take());
        self.0.finish().ok().lines().last().unwrap().parse().unwrap()
    }
}

fn connects(host: &Host) -> bool {
    host.client.sh(&format!("{} tcp {} 8080", probe().display(), Host::ADDRESS)).status.success()
}

#[test]
fn an_orderly_stop_and_start_keeps_containers_and_connections() {
    let mut host = Host::with_image();
    serving(&host);
    let pid = host.inspect("web")["State"]["Pid"].clone();
    let held = Held::open(&host);
    host.stop();
    assert!(connects(&host), "a published port works without daemons");
    host.start();
    assert_eq!(host.inspect("web")["State"]["Pid"], pid);
    assert_eq!(host.d("exec web echo adopted"), "adopted");
    assert!(held.close() > 0);
    // An exit that nobody watched is told afterwards.
    host.docker(&[
        "run",
        "-d",
        "--name",
        "brief",
        "box",
        "sh",
        "-c",
        "while ! test -e /tmp/go; do sleep 0.05; done; exit 11",
    ])
    .ok();
    let brief = host.inspect("brief")["State"]["Pid"].as_i64().unwrap();
    host.stop();
    std::fs::write(format!("/proc/{brief}/root/tmp/go"), "").unwrap();
    eventually("it exits", || !std::path::Path::new(&format!("/proc/{brief}/root/tmp/go")).exists());
    host.start();
    assert_eq!(host.d("wait brief"), "11");
}

#[test]
fn either_daemon_killed_at_random_under_load_costs_nothing() {
    let host = Host::with_image();
    serving(&host);
    let pid = host.inspect("web")["State"]["Pid"].clone();
    let held = Held::open(&host);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ends = SetWhenDropped(&done);
        for worker in 0..2 {
            let (host, done) = (&host, &done);
            scope.spawn(move || {
                let mut round = 0;
                while !done.load(Ordering::Relaxed) {
                    let name = format!("load-{worker}-{round}");
                    let network = format!("net-{worker}-{round}");
                    let port = format!("{}:80", 9000 + worker * 100 + round % 100);
                    // Any of these may be cut short by a kill; what counts is what is left afterwards.
                    host.docker(&["network", "create", &network]);
                    host.docker(&[
                        "run",
                        "-d",
                        "--name",
                        &name,
                        "--network",
                        &network,
                        "-p",
                        &port,
                        "box",
                        "sleep",
                        "1000",
                    ]);
                    host.docker(&["exec", &name, "true"]);
                    host.docker(&["rm", "-f", &name]);
                    host.docker(&["network", "rm", &network]);
                    round += 1;
                }
            });
        }
        // A fixed sequence of pauses that looks random: the kills land in every phase of the load, the same each run.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for kills in 1..=40 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            std::thread::sleep(Duration::from_millis(state % 900));
            match state % 3 {
                0 => host.kill(Daemon::Network),
                1 => host.kill(Daemon::Engine),
                _ => {
                    host.kill(Daemon::Network);
                    host.kill(Daemon::Engine);
                }
            }
            assert!(connects(&host), "a new connection is taken after kill {kills}");
        }
        drop(ends);
    });
    assert!(held.close() > 100, "the connection was kept busy all the time");
    eventually("the engine answers again", || host.docker(&["ps"]).status.success());
    assert_eq!(host.inspect("web")["State"]["Pid"], pid, "the container was never restarted");

    // Whatever the kills interrupted can be removed, and then nothing is left but what was there before.
    until("what was interrupted is removed", || {
        for name in host.d("ps -a --format {{.Names}}").lines().filter(|n| n.starts_with("load-")) {
            host.docker(&["rm", "-f", name]);
        }
        for name in host.d("network ls --format {{.Name}}").lines().filter(|n| n.starts_with("net-")) {
            host.docker(&["network", "rm", name]);
        }
        let left = host.d("ps -a --format {{.Names}}").lines().filter(|n| n.starts_with("load-")).count()
            + host.d("network ls --format {{.Name}}").lines().filter(|n| n.starts_with("net-")).count();
        (left == 0).then_some(())
    });
    eventually("only the server's namespace is left", || {
        std::fs::read_dir(host.run_dir().join("netns")).unwrap().count() == 1
    });
    eventually("only two bridges and one veth are left", || {
        let links = host.host.ip("-o link show");
        let count = |word: &str| links.lines().filter(|line| line.contains(word)).count();
        links.lines().filter(|l| l.contains(": br-") || l.contains(": docker0")).count() == 2
            && count(": cw") == 1
    });
    eventually("only the server's shim is left", || {
        host.processes().iter().filter(|(_, line)| line[0].ends_with("causeway-shim")).count() == 1
    });
}

#[test]
fn a_killed_supervisor_is_replaced_by_the_next_one() {
    let mut host = Host::with_image();
    serving(&host);
    let held = Held::open(&host);
    let mut killed = BTreeSet::new();
    // A signal is not yet an end, and who serves a socket keeps the next one from it until then.
    eventually("the killed have ended", || {
        let mut all = host.processes();
        all.retain(|(_, line)| !line[0].ends_with("causeway-shim"));
        for (pid, _) in &all {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::Signal::SIGKILL);
            killed.insert(*pid);
        }
        all.is_empty() && killed.iter().all(|pid| has_ended(*pid))
    });
    assert!(connects(&host));
    host.start();
    assert_eq!(host.d("exec web echo adopted"), "adopted");
    assert!(held.close() > 0);
}
