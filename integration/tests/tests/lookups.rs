//! A causewayd that is killed fails no lookup: its sockets are kept, and what is asked meanwhile waits in them.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use integration_testkit::{Asker, Daemon, Host, eventually};

/// Asks for `web` in a network namespace until told to end; answers the number of lookups and the longest one.
fn ask(namespace: &Path, done: &AtomicBool) -> (u32, Duration) {
    let asker = Asker::enter(namespace, "web");
    let (mut count, mut longest) = (0, Duration::ZERO);
    while !done.load(Ordering::Relaxed) {
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
    let (count, longest) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&namespace, &done));
        for _ in 0..5 {
            let pid = host.pid(Daemon::Network);
            // One that lived for a second is started again at once.
            std::thread::sleep(Duration::from_millis(1100));
            host.kill(Daemon::Network);
            eventually("another one runs", || host.pid(Daemon::Network).is_some_and(|new| Some(new) != pid));
        }
        // What is asked of the last one is answered, too.
        std::thread::sleep(Duration::from_millis(500));
        done.store(true, Ordering::Relaxed);
        asking.join().unwrap()
    });
    eprintln!("{count} lookups over five kills, the longest took {longest:?}");
    assert!(count > 1000, "{count}");

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
