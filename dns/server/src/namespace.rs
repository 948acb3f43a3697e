//! Sockets inside a sandbox's network namespace.
//!
//! Tasks: none. One thread, started at the first use, enters namespaces: `setns` changes the thread that calls it, and
//! a tokio worker would carry that into whatever task it runs next. It makes sockets and nothing else, returns to where
//! it came from after each job (a thread that stayed would keep a removed namespace alive), and ends when the
//! [`Namespaces`] that it serves is dropped.

use std::{
    fs::File,
    io,
    net::{IpAddr, SocketAddrV4},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    path::Path,
    sync::{OnceLock, mpsc},
    thread,
};

use libnetwork_plan::DNS_ADDRESS;
use nix::{
    sched::{CloneFlags, setns},
    sys::{
        socket::{self, AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, sockopt},
        stat::fstat,
    },
};
use tokio::sync::oneshot;

/// Told whether its namespace was entered.
type Job = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Bytes of queries that may wait (twice that with the kernel's own share): some 1,300, so that a burst is answered
/// rather than asked again seconds later. Charged only while they wait.
const UDP_QUEUE: usize = 512 * 1024;

/// Runs jobs inside namespaces.
#[derive(Default)]
pub(crate) struct Namespaces {
    worker: OnceLock<mpsc::Sender<(OwnedFd, Job)>>,
}

/// The bound sockets of one sandbox. They hold its namespace: whoever has them needs no path to it, so they may as
/// well come from a keeper that outlived the process that opened them.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) udp: OwnedFd,
    pub(crate) tcp: OwnedFd,
}

/// What tells two namespaces apart: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity(u64, u64);

impl Namespaces {
    /// Runs `job` on the thread that enters namespaces.
    async fn inside<T: Send + 'static>(
        &self,
        namespace: OwnedFd,
        job: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let worker = match self.worker.get() {
            Some(worker) => worker,
            None => {
                let worker = start()?;
                self.worker.get_or_init(|| worker)
            }
        };
        let (reply, result) = oneshot::channel();
        // The receiver may have been cancelled meanwhile: its sockets close again.
        let job: Job = Box::new(move |entered| drop(reply.send(entered.and_then(|()| job()))));
        let gone = || io::Error::other("the thread that enters namespaces has ended");
        worker.send((namespace, job)).map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }

    /// Binds the sockets of a sandbox at 127.0.0.11.
    pub(crate) async fn bind(&self, namespace: OwnedFd, port: u16) -> io::Result<Sockets> {
        self.inside(namespace, move || Ok(Sockets { udp: bind_udp(port)?, tcp: bind_tcp(port)? })).await
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
    let stat = fstat(&fd)?;
    Ok((fd, Identity(stat.st_dev, stat.st_ino)))
}

fn start() -> io::Result<mpsc::Sender<(OwnedFd, Job)>> {
    let (sender, jobs) = mpsc::channel::<(OwnedFd, Job)>();
    let home = File::open("/proc/thread-self/ns/net")?;
    let work = move || {
        for (namespace, job) in jobs {
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

/// The namespace that a socket is in.
fn namespace_of(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SIOCGSKNS, include/uapi/linux/sockios.h: takes nothing, returns a descriptor of the namespace.
    nix::ioctl_none_bad!(socket_namespace, 0x894c);
    // SAFETY: the descriptor is open for as long as it is borrowed, and the request has no argument.
    let fd = unsafe { socket_namespace(socket.as_fd().as_raw_fd()) }?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
