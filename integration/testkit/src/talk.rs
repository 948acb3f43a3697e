use std::{
    fs::File,
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    sched::{CloneFlags, setns},
    sys::socket::{setsockopt, sockopt},
};

/// Nothing that is measured here takes so long, but where the machine stands still.
const PATIENCE: Duration = Duration::from_secs(120);

/// A client of the [`probe`](crate::probe)'s servers that measures what an exchange takes. It panics where one fails.
pub struct Talk(());

impl Talk {
    /// Takes the calling thread into a network namespace for good: `/run/netns/NAME`, `/proc/PID/ns/net`.
    pub fn enter(namespace: &Path) -> Self {
        setns(File::open(namespace).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        Self(())
    }

    /// A connection to `probe serve`, which has said who the client is.
    pub fn connection(&self, server: SocketAddr) -> TcpStream {
        greeted(server)
    }

    /// What each of so many exchanges of one byte takes, by one connection to `probe serve`.
    pub fn tcp_round_trips(&self, server: SocketAddr, count: usize) -> Vec<Duration> {
        let mut stream = greeted(server);
        let mut byte = [b'x'];
        let exchange = || {
            stream.write_all(&byte).unwrap();
            stream.read_exact(&mut byte).unwrap();
        };
        timed(count, exchange)
    }

    /// What each of so many connections to `probe serve` takes, from the handshake to its first line and a reset.
    pub fn connections(&self, server: SocketAddr, count: usize) -> Vec<Duration> {
        timed(count, || {
            let stream = greeted(server);
            // Else the client's ports are used up by connections in TIME_WAIT.
            let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
            setsockopt(&stream, sockopt::Linger, &linger).unwrap();
        })
    }

    /// What each of so many datagrams to `probe serve` and back takes, from one socket.
    pub fn udp_round_trips(&self, server: SocketAddr, count: usize) -> Vec<Duration> {
        let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = [0; 128];
        timed(count, || {
            socket.send(b"?").unwrap();
            socket.recv(&mut answer).unwrap();
        })
    }

    /// Bytes a second that `probe sink` takes in from one connection.
    pub fn stream(&self, server: SocketAddr, time: Duration) -> f64 {
        let mut stream = connected(server);
        let block = [b'x'; 1 << 16];
        let started = Instant::now();
        let mut sent = 0;
        while started.elapsed() < time {
            stream.write_all(&block).unwrap();
            sent += block.len();
        }
        sent as f64 / started.elapsed().as_secs_f64()
    }
}

fn timed(count: usize, mut action: impl FnMut()) -> Vec<Duration> {
    let each = |_| {
        let started = Instant::now();
        action();
        started.elapsed()
    };
    (0..count).map(each).collect()
}

fn connected(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&server, PATIENCE).unwrap_or_else(|e| panic!("{server}: {e}"));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A connection whose first line, the server's word of who the client is, has been read.
fn greeted(server: SocketAddr) -> TcpStream {
    let mut stream = connected(server);
    let mut line = [0; 128];
    let mut length = 0;
    while length == 0 || line[length - 1] != b'\n' {
        let read = stream.read(&mut line[length..]).unwrap();
        assert_ne!(read, 0, "{server} says who the client is");
        length += read;
    }
    stream
}
