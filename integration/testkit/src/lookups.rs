use std::{
    fs::File,
    io::Write,
    net::{Ipv4Addr, TcpStream, UdpSocket},
    path::Path,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, setns};

/// Who asks here asks once: what is lost is never answered. Longer than a busy machine, or one that stands still for a
/// minute, takes over an answer.
const PATIENCE: Duration = Duration::from_secs(120);

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

    /// A connection to the resolver of the namespace that the calling thread is in, of one who means no good: by its number
    /// it says nothing, begins a message and leaves it at that, or sends garbage.
    pub fn hostile_connection(number: usize) -> TcpStream {
        let mut stream = TcpStream::connect("127.0.0.11:53").unwrap();
        // One that has given way to others breaks.
        let _ = match number % 4 {
            0 => Ok(()),
            1 => stream.write_all(&[0]),
            2 => stream.write_all(&[0, 40, 1, 2, 3]),
            _ => stream.write_all(&[0xff; 200]),
        };
        stream
    }

    /// What one lookup asks on, in the network namespace that the calling thread is in now.
    pub fn socket() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect("127.0.0.11:53").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// The last address of the answer, none when there is none, and how long it took; panics when there is no answer
    /// within two minutes, or one that tells of an error.
    pub fn ask(&self) -> (Option<Ipv4Addr>, Duration) {
        let told = self.ask_on(&Self::socket());
        assert_eq!(told.code, 0, "a lookup is answered without error");
        (told.last, told.took)
    }

    /// Asks on a socket of [`Asker::socket`]; panics when there is no answer within two minutes.
    pub fn ask_on(&self, socket: &UdpSocket) -> Told {
        let asked = Instant::now();
        socket.send(&self.question).unwrap();
        let mut reply = [0; 512];
        let length = socket.recv(&mut reply).unwrap_or_else(|e| panic!("a lookup failed: {e}"));
        let (took, count) = (asked.elapsed(), reply[7]);
        let last: Option<[u8; 4]> = reply[..length].last_chunk().copied().filter(|_| count > 0);
        Told { code: reply[3] & 0x0f, count, last: last.map(Ipv4Addr::from), took }
    }
}

/// What came back.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    /// 0 is NOERROR.
    pub code: u8,
    /// Answers.
    pub count: u8,
    /// The last of them.
    pub last: Option<Ipv4Addr>,
    pub took: Duration,
}
