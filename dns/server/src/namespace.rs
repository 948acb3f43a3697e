//! Sockets inside a sandbox's network namespace.
//!
//! Tasks: none. One thread, started at the first use, enters namespaces: `setns` changes the thread that calls it, and
//! a tokio worker would carry that into whatever task it runs next. It makes sockets and nothing else, returns to where
//! it came from after each job (a thread that stayed would keep a removed namespace alive), and ends when the
//! [`Namespaces`] that it serves is dropped.

use std::{
    collections::HashMap,
    fs::File,
    io,
    net::{IpAddr, SocketAddrV4},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    path::Path,
    sync::{Arc, OnceLock, mpsc},
    thread,
};

use libnetwork_plan::DNS_ADDRESS;
use nix::{
    libc,
    sched::{CloneFlags, setns},
    sys::{
        socket::{self, AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, sockopt},
        stat::fstat,
    },
};
use tokio::sync::oneshot;

use crate::Keeper;

/// Told whether its namespace was entered.
type Job = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Bytes of queries that may wait (twice that with the kernel's own share): some 1,300, so that a burst is answered
/// rather than asked again seconds later. Charged only while they wait.
const UDP_QUEUE: usize = 512 * 1024;

/// Runs jobs inside namespaces.
#[derive(Default)]
pub(crate) struct Namespaces {
    worker: OnceLock<mpsc::Sender<(Option<OwnedFd>, Job)>>,
}

/// The bound sockets of one sandbox. They hold its namespace: whoever has them needs no path to it, so they may as
/// well come from a keeper that outlived the process that opened them.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) udp: OwnedFd,
    pub(crate) tcp: OwnedFd,
}

/// What tells two namespaces apart: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Identity(u64, u64);

impl Identity {
    /// What the keeper calls the sockets in this namespace: the inode is its own for as long as they hold it. Short,
    /// for all of the names go into one environment variable.
    pub(crate) fn name(self) -> String {
        format!("n{:x}", self.1)
    }
}

impl Namespaces {
    fn worker(&self) -> io::Result<&mpsc::Sender<(Option<OwnedFd>, Job)>> {
        match self.worker.get() {
            Some(worker) => Ok(worker),
            None => {
                let worker = start()?;
                Ok(self.worker.get_or_init(|| worker))
            }
        }
    }

    /// Runs `job` on the thread that enters namespaces, in this one; after what it was given before.
    async fn inside<T: Send + 'static>(
        &self,
        namespace: OwnedFd,
        job: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let worker = self.worker()?;
        let (reply, result) = oneshot::channel();
        // The receiver may have been cancelled meanwhile: its sockets close again.
        let job: Job = Box::new(move |entered| drop(reply.send(entered.and_then(|()| job()))));
        let gone = || io::Error::other("the thread that enters namespaces has ended");
        worker.send((Some(namespace), job)).map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }

    /// Binds the sockets of a sandbox at 127.0.0.11, and has them kept.
    pub(crate) async fn bind(
        &self,
        namespace: OwnedFd,
        identity: Identity,
        port: u16,
        keeper: Option<Arc<dyn Keeper>>,
    ) -> io::Result<Sockets> {
        let bind = move || {
            let sockets = Sockets { udp: bind_udp(port)?, tcp: bind_tcp(port)? };
            if let Some(keeper) = keeper
                && let Err(error) = keeper.keep(&identity.name(), &[sockets.udp.as_fd(), sockets.tcp.as_fd()])
            {
                // They work all the same, until this process ends.
                tracing::warn!(%error, "cannot have a resolver's sockets kept");
            }
            Ok(sockets)
        };
        self.inside(namespace, bind).await
    }

    /// Has the sockets of a namespace kept no longer. Returns before that is done, but it is done before anything that
    /// is asked for later.
    pub(crate) fn release(&self, name: String, keeper: Arc<dyn Keeper>) {
        let job: Job = Box::new(move |_| {
            if let Err(error) = keeper.release(&name) {
                tracing::warn!(%error, "cannot take back a resolver's kept sockets");
            }
        });
        if let Ok(worker) = self.worker() {
            let _ = worker.send((None, job));
        }
    }

    /// A socket to ask an upstream server from the namespace that `of` is in.
    pub(crate) async fn socket(
        &self,
        of: BorrowedFd<'_>,
        server: IpAddr,
        kind: SockType,
    ) -> io::Result<OwnedFd> {
        let namespace = namespace_of(of)?;
        self.inside(namespace, move || unbound(server, kind)).await
    }
}

/// A socket to ask an upstream server from the namespace of this process.
pub(crate) fn unbound(server: IpAddr, kind: SockType) -> io::Result<OwnedFd> {
    let family = if server.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    Ok(socket::socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?)
}

/// Opens a namespace by its path.
pub(crate) fn open(path: &Path) -> io::Result<(OwnedFd, Identity)> {
    let fd = OwnedFd::from(File::open(path)?);
    let identity = identity(&fd)?;
    Ok((fd, identity))
}

fn identity(namespace: &OwnedFd) -> io::Result<Identity> {
    let stat = fstat(namespace)?;
    Ok(Identity(stat.st_dev, stat.st_ino))
}

/// Sorts the sockets that a keeper handed back by their namespaces. What is not a pair of ours at this port is left out,
/// and so closed.
pub(crate) fn sort(kept: Vec<(String, OwnedFd)>, port: u16) -> HashMap<Identity, Sockets> {
    let mut found: HashMap<Identity, (Option<OwnedFd>, Option<OwnedFd>)> = HashMap::new();
    for (_, socket) in kept {
        let address = socket::getsockname::<SockaddrIn>(socket.as_raw_fd()).ok();
        let is_ours = address.is_some_and(|a| a.ip() == DNS_ADDRESS && a.port() == port);
        let kind = socket::getsockopt(&socket, sockopt::SockType).ok();
        let Ok(identity) = namespace_of(socket.as_fd()).and_then(|n| identity(&n)) else { continue };
        let pair = found.entry(identity).or_default();
        match kind.filter(|_| is_ours) {
            Some(SockType::Datagram) => pair.0 = Some(socket),
            Some(SockType::Stream) => pair.1 = Some(socket),
            _ => {}
        }
    }
    let pairs = found.into_iter().filter_map(|(id, (udp, tcp))| Some((id, Sockets { udp: udp?, tcp: tcp? })));
    pairs.collect()
}

fn start() -> io::Result<mpsc::Sender<(Option<OwnedFd>, Job)>> {
    let (sender, jobs) = mpsc::channel::<(Option<OwnedFd>, Job)>();
    let home = File::open("/proc/thread-self/ns/net")?;
    let work = move || {
        for (namespace, job) in jobs {
            let Some(namespace) = namespace else {
                job(Ok(()));
                continue;
            };
            job(setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(io::Error::from));
            if let Err(errno) = setns(&home, CloneFlags::CLONE_NEWNET) {
                tracing::error!(%errno, "cannot return from a sandbox's namespace");
                return;
            }
        }
    };
    thread::Builder::new().name("dns-namespaces".into()).stack_size(128 * 1024).spawn(work)?;
    Ok(sender)
}

fn bind_udp(port: u16) -> io::Result<OwnedFd> {
    let socket = unbound(DNS_ADDRESS.into(), SockType::Datagram)?;
    // Best effort: without the privilege the system's default stands.
    let _ = socket::setsockopt(&socket, sockopt::RcvBufForce, &UDP_QUEUE);
    bind(&socket, port)?;
    Ok(socket)
}

fn bind_tcp(port: u16) -> io::Result<OwnedFd> {
    let socket = unbound(DNS_ADDRESS.into(), SockType::Stream)?;
    // Connections of an earlier process that linger in TIME_WAIT must not keep a restart from listening.
    socket::setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    bind(&socket, port)?;
    socket::listen(&socket, Backlog::MAXCONN)?;
    Ok(socket)
}

fn bind(socket: &OwnedFd, port: u16) -> io::Result<()> {
    // Whether the sandbox's loopback is up already is not our business: it answers once it is.
    socket::setsockopt(socket, sockopt::IpFreebind, &true)?;
    let address = SocketAddrV4::new(DNS_ADDRESS, port);
    Ok(socket::bind(socket.as_raw_fd(), &SockaddrIn::from(address))?)
}

/// Has a look (MSG_PEEK) begin behind what earlier looks have seen, rather than at the first datagram; the next process
/// that has the socket begins anew.
pub(crate) fn look_ahead(socket: BorrowedFd<'_>) -> io::Result<()> {
    let from: libc::c_int = 0;
    // SAFETY: the descriptor is open for as long as it is borrowed, and the value is an int, as socket(7) has it.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEEK_OFF,
            (&raw const from).cast(),
            size_of_val(&from) as libc::socklen_t,
        )
    };
    nix::errno::Errno::result(set)?;
    Ok(())
}

/// The namespace that a socket is in.
fn namespace_of(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SIOCGSKNS, include/uapi/linux/sockios.h: takes nothing, returns a descriptor of the namespace.
    nix::ioctl_none_bad!(socket_namespace, 0x894c);
    // SAFETY: the descriptor is open for as long as it is borrowed, and the request has no argument.
    let fd = unsafe { socket_namespace(socket.as_fd().as_raw_fd()) }?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
