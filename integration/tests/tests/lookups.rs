//! A causewayd that is killed fails no lookup: its sockets are kept, and what is asked meanwhile waits in them.

use std::{
    fs::File,
    net::UdpSocket,
    os::fd::AsRawFd,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use integration_testkit::{Daemon, Host, eventually};

/// A question for the A record of `web`, recursion desired (RFC 1035, section 4.1).
const QUESTION: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03web\x00\x00\x01\x00\x01";
/// What resolvers wait before they ask again (resolv.conf(5)). Who asks here asks once.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks at 127.0.0.11 in a network namespace until told to end; answers the number of lookups and the longest one.
fn ask(namespace: PathBuf, done: &AtomicBool) -> (u32, Duration) {
    let namespace = File::open(namespace).unwrap();
    // SAFETY: a descriptor that is open; the calling thread ends with the lookups.
    assert_eq!(unsafe { nix::libc::setns(namespace.as_raw_fd(), nix::libc::CLONE_NEWNET) }, 0);
    let (mut count, mut longest) = (0, Duration::ZERO);
    while !done.load(Ordering::Relaxed) {
        // A socket each, as resolvers do.
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect("127.0.0.11:53").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let asked = Instant::now();
        socket.send(QUESTION).unwrap();
        let mut reply = [0; 512];
        let length = socket.recv(&mut reply).unwrap_or_else(|e| panic!("lookup {count} failed: {e}"));
        longest = longest.max(asked.elapsed());
        assert_eq!(reply[3] & 0x0f, 0, "lookup {count} is answered without error");
        assert_eq!(&reply[length - 4..length], [10, 98, 0, 2], "lookup {count} is answered with the address");
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
    let mut first = None;
    let (count, longest) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(namespace, &done));
        for _ in 0..5 {
            let pid = host.pid(Daemon::Network);
            first = first.or(pid);
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
