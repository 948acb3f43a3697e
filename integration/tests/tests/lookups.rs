//! Lookups at bad moments: while causewayd is killed, at a container's first instruction and after its end, and beside a
//! neighbour who means harm.

use std::{
    fs,
    net::TcpStream,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    thread::ScopedJoinHandle,
    time::Duration,
};

use integration_testkit::{Asker, Daemon, Host, SetWhenDropped, eventually};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Asks for `web` in a network namespace until told to end; answers the number of lookups and the longest one.
fn ask(namespace: &Path, done: &AtomicBool, answered: &AtomicU32) -> (u32, Duration) {
    let asker = Asker::enter(namespace, "web");
    let (mut count, mut longest) = (0, Duration::ZERO);
    while !done.load(Ordering::Relaxed) {
        answered.store(count, Ordering::Relaxed);
        let (address, took) = asker.ask();
        assert_eq!(address, Some([10, 98, 0, 2].into()), "lookup {count} is answered with the address");
        longest = longest.max(took);
        count += 1;
    }
    (count, longest)
}

#[test]
fn a_killed_causewayd_fails_no_lookup() {
    let host = Host::with_image();
    host.d("network create --subnet 10.98.0.0/24 net");
    host.d("run -d --name web --network net box sleep 1000");
    let asker = host.d("run -d --name asker --network net box sleep 1000");
    let (done, namespace) = (AtomicBool::new(false), host.run_dir().join("netns").join(asker));
    let answered = AtomicU32::new(0);
    // Many, so that one is under way when the next kill comes.
    let answers = |answered: &AtomicU32, asking: &ScopedJoinHandle<'_, _>| {
        let before = answered.load(Ordering::Relaxed);
        eventually("lookups are answered", || {
            asking.is_finished() || answered.load(Ordering::Relaxed) > before + 100
        });
    };
    let (count, longest) = std::thread::scope(|scope| {
        let ends = SetWhenDropped(&done);
        let asking = scope.spawn(|| ask(&namespace, &done, &answered));
        for _ in 0..5 {
            let pid = host.pid(Daemon::Network);
            // One that lived for a second is started again at once.
            std::thread::sleep(Duration::from_millis(1100));
            answers(&answered, &asking);
            host.kill(Daemon::Network);
            eventually("another one runs", || host.pid(Daemon::Network).is_some_and(|new| Some(new) != pid));
        }
        // What is asked of the last one is answered, too.
        answers(&answered, &asking);
        drop(ends);
        asking.join().unwrap()
    });
    eprintln!("{count} lookups over five kills, the longest took {longest:?}");

    // What is kept goes with the sandbox: nothing holds its namespace.
    let kept = |host: &Host| {
        let up = host.processes().into_iter().find(|(_, line)| line.iter().any(|w| w == "up")).unwrap().0;
        let sockets = std::fs::read_dir(format!("/proc/{up}/fd")).unwrap().flatten();
        sockets
            .filter(|fd| {
                std::fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy().contains("socket:"))
            })
            .count()
    };
    let before = kept(&host);
    host.d("rm -f asker");
    eventually("the supervisor let go of the sockets", || kept(&host) == before - 2);
    // And names that come later are answered on sockets that were opened later.
    host.kill(Daemon::Network);
    host.d("run --rm --network net box nslookup -type=a web 127.0.0.11");
}

#[test]
fn a_name_is_there_at_the_first_instruction_and_gone_before_another_has_its_address() {
    const ROUNDS: usize = 12;
    let host = Host::with_image();
    // Its questions do not leave the host: what nobody has fails at once.
    host.d("network create --internal --subnet 10.97.0.0/24 net");
    let asker = host.d("run -d --name asker --network net box sleep 1000");
    let namespace = host.run_dir().join("netns").join(asker);
    let (done, next_seen) = (AtomicBool::new(false), AtomicUsize::new(0));
    let seen = std::thread::scope(|scope| {
        let ends = SetWhenDropped(&done);
        let asking = scope.spawn(|| {
            let holders = (0..ROUNDS).map(|n| Asker::enter(&namespace, &format!("holder{n}")));
            let holders: Vec<Asker> = holders.collect();
            let knows = |n: usize| holders[n].ask_on(&Asker::socket()).count > 0;
            let mut next = 0;
            while next < ROUNDS && !done.load(Ordering::Relaxed) {
                if knows(next) {
                    assert!(next == 0 || !knows(next - 1), "two names for one address, of {next} and before");
                    next += 1;
                    next_seen.store(next, Ordering::Relaxed);
                }
            }
            next
        });
        let first = |n: usize| format!("nslookup -type=a holder{n} 127.0.0.11; exec sleep 1000");
        for n in 0..ROUNDS {
            let (name, first) = (format!("holder{n}"), first(n));
            let run =
                ["run", "-d", "--name", &name, "--network", "net", "--ip", "10.97.0.9", "box", "sh", "-c"];
            host.docker(&[&run[..], &[&first]].concat()).ok();
            eventually("it has asked", || host.d(&format!("logs {name}")).contains("Name:"));
            let told = host.d(&format!("logs {name}"));
            assert!(told.contains("10.97.0.9") && !told.contains("SERVFAIL"), "{told}");
            // However slowly the neighbour asks.
            eventually("the neighbour has seen it", || {
                asking.is_finished() || next_seen.load(Ordering::Relaxed) > n
            });
            host.d(&format!("rm -f {name}"));
        }
        drop(ends);
        asking.join().unwrap()
    });
    assert_eq!(seen, ROUNDS, "each was seen by the neighbour");
}

#[test]
fn a_neighbour_s_ten_thousand_connections_cost_causewayd_little_memory() {
    const CONNECTIONS: usize = 10_000;
    const MOST: usize = 16 << 10;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let host = Host::with_image();
    host.d("network create --internal --subnet 10.96.0.0/24 net");
    host.d("run -d --name web --network net box sleep 1000");
    let [hostile, neighbour] = ["hostile", "neighbour"].map(|name| {
        let id = host.d(&format!("run -d --name {name} --network net box sleep 1000"));
        host.run_dir().join("netns").join(id)
    });
    let pid = host.pid(Daemon::Network).unwrap();
    let resident = || -> usize {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    let flood = || {
        let _inside = Asker::enter(&hostile, "web");
        let open: Vec<TcpStream> = (0..CONNECTIONS).map(Asker::hostile_connection).collect();
        // More datagrams than a socket holds, and more questions than are forwarded at once.
        let socket = Asker::socket();
        for n in 0..20_000_u32 {
            let _ = socket.send(&n.to_be_bytes().repeat(10));
        }
        open
    };
    let before = resident();
    std::thread::scope(|scope| {
        let open = scope.spawn(flood).join().unwrap();
        let asking = scope.spawn(|| Asker::enter(&neighbour, "web").ask());
        assert_eq!(asking.join().unwrap().0, Some([10, 96, 0, 2].into()));
        assert!(resident() < before + MOST, "{} KiB, and {before} before", resident());
        drop(open);
    });
    assert_eq!(host.pid(Daemon::Network), Some(pid), "it is still the same process");
}
