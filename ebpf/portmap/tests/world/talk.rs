//! Servers that say who asked, and clients.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd, FromRawFd},
    sync::mpsc,
    thread,
    time::Duration,
};

use super::World;

/// Longer than anything takes that does happen, on a machine with other things to do.
pub const PATIENCE: Duration = Duration::from_secs(60);

impl World {
    /// Answers TCP and UDP of both families on the port: first with the client's address, then with what it sends.
    pub fn serve(&self, place: &str, port: u16) {
        for any in ["0.0.0.0", "::"] {
            let address = SocketAddr::new(any.parse().unwrap(), port);
            let (ready, is_ready) = mpsc::channel();
            self.spawn(place, move || {
                let listener = listen(address);
                ready.send(()).unwrap();
                while let Ok((stream, client)) = listener.accept() {
                    thread::spawn(move || answer(stream, client));
                }
            });
            is_ready.recv().unwrap();
            let (ready, is_ready) = mpsc::channel();
            self.spawn(place, move || {
                let socket = bind(address, libc::SOCK_DGRAM);
                let socket = UdpSocket::from(socket);
                ready.send(()).unwrap();
                let mut buffer = [0; 65536];
                while let Ok((_, client)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(client.to_string().as_bytes(), client);
                }
            });
            is_ready.recv().unwrap();
        }
    }

    /// Asks over TCP and UDP from each place by each address, and checks whom the server sees there.
    #[track_caller]
    pub fn seen_from(&self, ways: &[(&str, &str, &str)], port: u16) {
        for (place, address, client) in ways {
            let to = format!("{address}:{port}");
            let seen = self.tcp(place, &to).unwrap_or_else(|e| panic!("tcp from {place} to {to}: {e}"));
            assert_eq!(seen.ip().to_string(), *client, "tcp from {place} to {to}");
            let seen = self.udp(place, &to).unwrap_or_else(|e| panic!("udp from {place} to {to}: {e}"));
            assert_eq!(seen.ip().to_string(), *client, "udp from {place} to {to}");
        }
    }

    /// Who the server sees, over TCP.
    pub fn tcp(&self, place: &str, to: &str) -> io::Result<SocketAddr> {
        self.inside(place, || Connection::open(to).map(|connection| connection.seen))
    }

    /// The same, with a handshake of which nothing had to be sent a second time.
    #[track_caller]
    pub fn tcp_at_once(&self, place: &str, to: &str) -> SocketAddr {
        let opened = self.inside(place, || {
            Connection::open(to).map(|connection| (connection.seen, retransmitted(&connection.stream)))
        });
        let (seen, again) = opened.unwrap_or_else(|e| panic!("tcp from {place} to {to}: {e}"));
        assert_eq!(again, 0, "segments of {place} to {to} that were sent again");
        seen
    }

    /// Who the server sees, over UDP, by a socket that connects and by one that does not.
    pub fn udp(&self, place: &str, to: &str) -> io::Result<SocketAddr> {
        let to: SocketAddr = to.parse().unwrap();
        self.inside(place, || {
            let mut buffer = [0; 64];
            let connected = datagram_socket(to, 0)?;
            connected.connect(to)?;
            assert_eq!(connected.peer_addr()?, to, "getpeername");
            connected.send(b"who?")?;
            let (length, from) = receive(&connected, &mut buffer)?;
            assert_eq!(from, to, "a connected socket's recvfrom");
            let first = parse(&buffer[..length]);

            let (second, from) = ask(&datagram_socket(to, 0)?, to)?;
            assert_eq!(from, to, "an unconnected socket's recvfrom");
            assert_eq!(first.ip(), second.ip());
            Ok(second)
        })
    }
}

/// Segments that this end sent again, since there was no answer (tcp(7), `TCP_INFO`).
pub fn retransmitted(stream: &TcpStream) -> u32 {
    // SAFETY: a structure of integers, for which zeros are a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: there is room for as much as is said.
    let got = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    assert_eq!(got, 0, "{}", io::Error::last_os_error());
    info.tcpi_total_retrans
}

pub struct Connection {
    pub stream: TcpStream,
    /// Who the server sees.
    pub seen: SocketAddr,
}

impl Connection {
    pub fn open(to: &str) -> io::Result<Self> {
        let to: SocketAddr = to.parse().unwrap();
        Self::greet(TcpStream::connect_timeout(&to, PATIENCE)?, to)
    }

    /// From a port of the client's own.
    pub fn open_from(port: u16, to: &str) -> io::Result<Self> {
        let to: SocketAddr = to.parse().unwrap();
        let any = if to.is_ipv4() { "0.0.0.0" } else { "::" };
        let socket = bind(SocketAddr::new(any.parse().unwrap(), port), libc::SOCK_STREAM);
        let socket = TcpStream::from(socket);
        let address = nix::sys::socket::SockaddrStorage::from(to);
        nix::sys::socket::connect(socket.as_raw_fd(), &address)?;
        Self::greet(socket, to)
    }

    pub fn greet(mut stream: TcpStream, to: SocketAddr) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        assert_eq!(stream.peer_addr()?, to, "getpeername");
        let mut length = [0];
        stream.read_exact(&mut length)?;
        let mut seen = vec![0; length[0].into()];
        stream.read_exact(&mut seen)?;
        Ok(Self { stream, seen: parse(&seen) })
    }

    /// Sends the bytes and reads as many back.
    pub fn echo(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut writer = self.stream.try_clone()?;
        let mut back = vec![0; bytes.len()];
        thread::scope(|scope| {
            let sent = scope.spawn(move || writer.write_all(bytes));
            self.stream.read_exact(&mut back)?;
            sent.join().unwrap()
        })?;
        Ok(back)
    }
}

impl Connection {
    /// Closes it without a trace, so that its port can be used again at once.
    pub fn reset(self) {
        use nix::sys::socket::{setsockopt, sockopt};
        setsockopt(&self.stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
    }
}

/// A datagram. A socket with a timeout says that it was interrupted where the process was stopped for a while (signal(7)).
pub fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    loop {
        match socket.recv_from(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            received => return received,
        }
    }
}

/// Asks the server who it sees; also says who answers.
pub fn ask(socket: &UdpSocket, to: SocketAddr) -> io::Result<(SocketAddr, SocketAddr)> {
    let mut buffer = [0; 64];
    socket.send_to(b"who?", to)?;
    let (length, from) = receive(socket, &mut buffer)?;
    Ok((parse(&buffer[..length]), from))
}

/// A socket for datagrams to that address, at a port of its own, or any (0).
pub fn datagram_socket(to: SocketAddr, port: u16) -> io::Result<UdpSocket> {
    let any: IpAddr = if to.is_ipv4() { "0.0.0.0" } else { "::" }.parse().unwrap();
    let socket = UdpSocket::bind((any, port))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn answer(mut stream: TcpStream, client: SocketAddr) -> io::Result<()> {
    let seen = client.to_string();
    stream.write_all(&[seen.len() as u8])?;
    stream.write_all(seen.as_bytes())?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            length => stream.write_all(&buffer[..length])?,
        }
    }
}

fn parse(text: &[u8]) -> SocketAddr {
    std::str::from_utf8(text).unwrap().parse().unwrap()
}

pub fn listen(address: SocketAddr) -> TcpListener {
    let socket = bind(address, libc::SOCK_STREAM);
    nix::sys::socket::listen(&socket, nix::sys::socket::Backlog::new(64).unwrap()).unwrap();
    TcpListener::from(socket)
}

/// A socket of one family alone, bound with SO_REUSEADDR.
pub fn bind(address: SocketAddr, kind: libc::c_int) -> std::os::fd::OwnedFd {
    use nix::sys::socket::{setsockopt, sockopt};
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: a plain call; the descriptor is checked and has no other owner.
    let socket = unsafe {
        let fd = libc::socket(family, kind | libc::SOCK_CLOEXEC, 0);
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        std::os::fd::OwnedFd::from_raw_fd(fd)
    };
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true).unwrap();
    }
    setsockopt(&socket, sockopt::ReuseAddr, &true).unwrap();
    nix::sys::socket::bind(socket.as_raw_fd(), &nix::sys::socket::SockaddrStorage::from(address)).unwrap();
    socket
}
