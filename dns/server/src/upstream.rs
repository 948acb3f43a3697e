//! Asking the servers that know the rest.
//!
//! Tasks: none of its own; an exchange runs in the task of whoever forwards, and dropping it closes its socket.
//!
//! Each query leaves by a socket of its own, so from a source port that the kernel chose at random, under an id of its
//! own: a forged reply has to guess both (RFC 5452). Queries for the host's resolvers leave from the host's namespace,
//! where a resolver like 127.0.0.53 means what the host means by it; queries for servers given with `--dns` leave from
//! inside the sandbox, which reaches with them what it could reach itself and no more.

use std::{
    cell::RefCell,
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    io,
    net::{IpAddr, SocketAddr, TcpStream as StdTcpStream, UdpSocket as StdUdpSocket},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use hickory_proto::op::ResponseCode;
use libnetwork_model::SandboxId;
use nix::sys::socket::{MsgFlags, SockType, recv};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::{TcpSocket, UdpSocket},
    time::{Instant, timeout},
};

use crate::{
    listener::Served,
    message::{self, PLAIN_UDP, Reply},
    namespace,
    respond::{Forward, Route, Transport},
};

const PORT: u16 = 53;
/// How long one server may take over UDP before the next one is asked. A client of glibc or musl gives up after 5 s.
const UDP_PATIENCE: Duration = Duration::from_secs(2);
/// The same over TCP, connecting included.
const TCP_PATIENCE: Duration = Duration::from_secs(4);
/// How long a server that was silent is asked last, so that a dead one delays one query rather than all of them.
const AVOIDED_FOR: Duration = Duration::from_secs(10);

/// Asks the servers in turn and returns the reply for the client, and whose it is; one that says so when none answered.
pub(crate) async fn forward(served: &Served, mut ask: Forward) -> (Vec<u8>, Option<IpAddr>) {
    let shared = &served.shared;
    let mut last = None;
    for (server, is_last_chance) in shared.health.attempts(&ask.route) {
        let id = shared.ids.next();
        message::set_id(&mut ask.packet, id);
        match exchange(served, &ask, id, server).await {
            Ok(reply) => {
                shared.health.answered(&ask.route, server);
                // A server that will not say may not be the only one that knows.
                let code = reply.metadata.response_code;
                let unhelpful =
                    matches!(code, ResponseCode::ServFail | ResponseCode::Refused | ResponseCode::NotImp);
                last = Some((reply, server));
                if !unhelpful || is_last_chance {
                    break;
                }
            }
            Err(error) => {
                tracing::debug!(%server, %error, sandbox = served.sandbox.short(), "an upstream server failed");
                shared.health.failed(&ask.route, server);
            }
        }
    }
    let Some((reply, server)) = last else { return (ask.failure(), None) };
    shared.cache.keep(&ask, &reply, server, Instant::now().into_std());
    (for_client(reply, &ask), Some(server))
}

/// With the client's id, and cut down to the question where the client takes no more.
fn for_client(reply: Reply, ask: &Forward) -> Vec<u8> {
    let Reply { mut bytes, metadata } = reply;
    if bytes.len() <= ask.limit.into() {
        message::set_id(&mut bytes, ask.query.metadata.id);
        return bytes;
    }
    match ask.query.truncated(metadata, ask.limit, &mut bytes) {
        Ok(()) => bytes,
        Err(_) => ask.failure(),
    }
}

async fn exchange(served: &Served, ask: &Forward, id: u16, server: IpAddr) -> io::Result<Reply> {
    if ask.transport == Transport::Tcp {
        // A client asks over TCP because UDP had no room, so there is no use in trying that first.
        return match timed(TCP_PATIENCE, over_tcp(served, ask, id, server)).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                timed(UDP_PATIENCE, over_udp(served, ask, id, server)).await
            }
            result => result,
        };
    }
    let reply = timed(UDP_PATIENCE, over_udp(served, ask, id, server)).await?;
    // The client may take more than the server would send in one datagram.
    if !reply.metadata.truncation || ask.limit <= PLAIN_UDP {
        return Ok(reply);
    }
    match timed(TCP_PATIENCE, over_tcp(served, ask, id, server)).await {
        Ok(whole) if whole.bytes.len() <= ask.limit.into() => Ok(whole),
        _ => Ok(reply),
    }
}

async fn timed<T>(patience: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(patience, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn over_udp(served: &Served, ask: &Forward, id: u16, server: IpAddr) -> io::Result<Reply> {
    thread_local! {
        // Shared by all exchanges of a worker: one that waits holds no buffer.
        static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; usize::from(u16::MAX)]);
    }
    let socket = StdUdpSocket::from(socket(served, ask, server, SockType::Datagram).await?);
    let socket = UdpSocket::from_std(socket)?;
    socket.connect(SocketAddr::new(server, PORT)).await?;
    socket.send(&ask.packet).await?;
    // A server that is not there is reported as an error alone, which does not count as readable.
    let interest = Interest::READABLE | Interest::ERROR;
    let receive = || {
        BUFFER.with_borrow_mut(|buffer| {
            let length = recv(socket.as_raw_fd(), buffer, MsgFlags::empty())?;
            Ok(Reply::to(&ask.query.question, id, &buffer[..length]))
        })
    };
    loop {
        if let Some(reply) = socket.async_io(interest, receive).await? {
            return Ok(reply);
        }
    }
}

async fn over_tcp(served: &Served, ask: &Forward, id: u16, server: IpAddr) -> io::Result<Reply> {
    let socket = StdTcpStream::from(socket(served, ask, server, SockType::Stream).await?);
    let mut stream = TcpSocket::from_std_stream(socket).connect(SocketAddr::new(server, PORT)).await?;
    let length = u16::try_from(ask.packet.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let framed = [&length.to_be_bytes(), ask.packet.as_slice()].concat();
    stream.write_all(&framed).await?;
    let mut reply = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut reply).await?;
    Reply::to(&ask.query.question, id, &reply).ok_or(io::ErrorKind::InvalidData.into())
}

async fn socket(served: &Served, ask: &Forward, server: IpAddr, kind: SockType) -> io::Result<OwnedFd> {
    match ask.route.inside {
        None => namespace::unbound(server, kind),
        Some(_) => served.shared.namespaces.socket(served.udp.as_fd(), server, kind).await,
    }
}

/// Ids that an outsider cannot guess: a keyed hash (SipHash, keyed by the operating system's randomness) of a counter.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    key: RandomState,
    count: AtomicU64,
}

impl Ids {
    fn next(&self) -> u16 {
        self.key.hash_one(self.count.fetch_add(1, Ordering::Relaxed)) as u16
    }
}

/// A server as it is seen from one place: the host, or a sandbox where another one may have that address, or nobody.
type Place = (Option<SandboxId>, IpAddr);

/// Which servers were silent lately.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// Whether there is any: the usual case takes no lock.
    is_any: AtomicBool,
    silent_since: Mutex<HashMap<Place, Instant>>,
}

impl Health {
    /// The servers in the order to ask them, the silent ones last; with the last one marked. A server that is alone is
    /// asked twice: a datagram may get lost.
    fn attempts(&self, route: &Route) -> Vec<(IpAddr, bool)> {
        let mut order = route.servers.to_vec();
        if self.is_any.load(Ordering::Relaxed) {
            let mut silent = self.silent_since.lock().unwrap_or_else(PoisonError::into_inner);
            silent.retain(|_, since| since.elapsed() < AVOIDED_FOR);
            self.is_any.store(!silent.is_empty(), Ordering::Relaxed);
            order.sort_by_key(|server| silent.contains_key(&(route.inside.clone(), *server)));
        }
        if let [only] = order[..] {
            return vec![(only, true), (only, true)];
        }
        let last = order.len();
        order.into_iter().enumerate().map(|(n, server)| (server, n + 1 == last)).collect()
    }

    fn failed(&self, route: &Route, server: IpAddr) {
        let mut silent = self.silent_since.lock().unwrap_or_else(PoisonError::into_inner);
        silent.insert((route.inside.clone(), server), Instant::now());
        self.is_any.store(true, Ordering::Relaxed);
    }

    fn answered(&self, route: &Route, server: IpAddr) {
        if self.is_any.load(Ordering::Relaxed) {
            let mut silent = self.silent_since.lock().unwrap_or_else(PoisonError::into_inner);
            silent.remove(&(route.inside.clone(), server));
        }
    }
}
