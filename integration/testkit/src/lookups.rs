use std::{
    fs::File,
    net::{Ipv4Addr, UdpSocket},
    path::Path,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, setns};

/// What resolvers wait before they ask again (resolv.conf(5)). Who asks here asks once.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks the resolver of a sandbox for the A records of one name, each time on a socket of its own, as programs do.
pub struct Asker {
    question: Vec<u8>,
}

impl Asker {
    /// Takes the calling thread into a network namespace for good: `RUN_DIR/netns/ID`, `/proc/PID/ns/net`.
    pub fn enter(namespace: &Path, name: &str) -> Self {
        setns(File::open(namespace).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        // RFC 1035, section 4.1: an id, recursion desired, one question; the name; type A, class IN.
        let mut question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
        for label in name.split('.') {
            question.push(u8::try_from(label.len()).unwrap());
            question.extend(label.as_bytes());
        }
        question.extend(b"\x00\x00\x01\x00\x01");
        Self { question }
    }

    /// The last address of the answer, none when there is none, and how long it took; panics when there is no answer
    /// within five seconds, or one that tells of an error.
    pub fn ask(&self) -> (Option<Ipv4Addr>, Duration) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect("127.0.0.11:53").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let asked = Instant::now();
        socket.send(&self.question).unwrap();
        let mut reply = [0; 512];
        let length = socket.recv(&mut reply).unwrap_or_else(|e| panic!("a lookup failed: {e}"));
        let took = asked.elapsed();
        assert_eq!(reply[3] & 0x0f, 0, "a lookup is answered without error");
        let last: Option<[u8; 4]> = reply[..length].last_chunk().copied().filter(|_| reply[7] > 0);
        (last.map(Ipv4Addr::from), took)
    }
}
