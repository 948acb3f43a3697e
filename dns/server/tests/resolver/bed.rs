//! Private namespaces: one that stands for the host, and sandboxes.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File},
    future::Future,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    os::fd::AsRawFd,
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use dns_server::{DnsServer, Settings};
use hickory_proto::{
    op::{Edns, Message, Query},
    rr::{Name, RecordType},
};
use integration_testkit::{alone, apart, enter_new_namespace};
use libnetwork_plan::DNS_PORT;
use nix::sched::{CloneFlags, setns};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

pub(crate) const RESOLVER: (Ipv4Addr, u16) = (Ipv4Addr::new(127, 0, 0, 11), DNS_PORT);
/// Longer than anything a test waits for that does happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a test on a thread whose network namespace stands for the host's.
pub(crate) fn on_host<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    alone(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(10 * PATIENCE, test()).await.unwrap() });
    });
}

/// Measures time, but for that in which the machine had other things to do than what a thread of this process wanted done:
/// what the resolver does for connections waits for everything else.
pub(crate) struct Watch {
    start: Instant,
    starved: BTreeMap<OsString, Duration>,
}

impl Watch {
    /// What a thread is called whose waiting is nobody's loss.
    const PASSED_OVER: &str = "passed over";

    pub(crate) fn start() -> Self {
        Self { start: Instant::now(), starved: Self::starved() }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        // Of several threads that wait, each may wait for the same.
        let since = Self::starved().into_iter().map(|(thread, waited)| match self.starved.get(&thread) {
            Some(before) => waited.saturating_sub(*before),
            None => waited,
        });
        self.start.elapsed().saturating_sub(since.max().unwrap_or_default())
    }

    /// It takes the CPU from those that are measured.
    pub(crate) fn pass_over_this_thread() {
        fs::write("/proc/thread-self/comm", Self::PASSED_OVER).unwrap();
    }

    /// For how long each thread of this process could have run and did not (proc(5), schedstat).
    fn starved() -> BTreeMap<OsString, Duration> {
        let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
        let waited = threads.filter_map(|thread| {
            let read = |file| fs::read_to_string(thread.path().join(file)).ok();
            if read("comm")?.trim_end() == Self::PASSED_OVER {
                return None;
            }
            let nanoseconds = read("schedstat")?.split(' ').nth(1)?.parse().ok()?;
            Some((thread.file_name(), Duration::from_nanos(nanoseconds)))
        });
        waited.collect()
    }
}

pub(crate) fn server() -> DnsServer {
    DnsServer::new(Settings { port: DNS_PORT, shutdown: CancellationToken::new(), keeper: None })
}

/// A network namespace with loopback up.
#[derive(Clone)]
pub(crate) struct Namespace(Arc<File>);

impl Namespace {
    pub(crate) fn new() -> Self {
        Self(Arc::new(thread::spawn(enter_new_namespace).join().unwrap()))
    }

    /// That of the calling thread.
    pub(crate) fn current() -> Self {
        Self(Arc::new(File::open("/proc/thread-self/ns/net").unwrap()))
    }

    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }

    /// Runs blocking work inside, without holding up the runtime.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, result) = oneshot::channel();
        let namespace = self.0.clone();
        thread::spawn(move || {
            setns(&*namespace, CloneFlags::CLONE_NEWNET).unwrap();
            drop(sender.send(work()));
        });
        result.await.expect("the work inside a namespace panicked")
    }

    /// Runs a program inside.
    pub(crate) async fn program(&self, program: &str, arguments: &[&str], stdin: &str) -> Output {
        let (program, stdin) = (program.to_owned(), stdin.to_owned());
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).into()).collect();
        let run = move || {
            let mut command = Command::new(program);
            command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
            child.wait_with_output().unwrap()
        };
        let ran = apart(Some(self.path()), run);
        self.run(|| ran.join()).await
    }

    /// Asks over UDP.
    pub(crate) async fn ask(&self, name: &str, kind: RecordType) -> Message {
        let query = query(name, kind);
        Message::from_vec(&self.ask_raw(query.to_vec().unwrap()).await.expect("no answer")).unwrap()
    }

    /// Asks over UDP, saying how much fits.
    pub(crate) async fn ask_edns(&self, name: &str, kind: RecordType, size: u16) -> Message {
        let mut query = query(name, kind);
        let mut edns = Edns::new();
        edns.set_max_payload(size).set_dnssec_ok(true);
        query.set_edns(edns);
        Message::from_vec(&self.ask_raw(query.to_vec().unwrap()).await.expect("no answer")).unwrap()
    }

    /// Sends a datagram and waits for one.
    pub(crate) async fn ask_raw(&self, packet: Vec<u8>) -> Option<Vec<u8>> {
        self.run(move || {
            let socket = udp_client();
            socket.send(&packet).unwrap();
            receive(&socket)
        })
        .await
    }

    /// Asks over TCP.
    pub(crate) async fn ask_tcp(&self, name: &str, kind: RecordType) -> Message {
        let query = query(name, kind).to_vec().unwrap();
        let reply = self.run(move || exchange(&mut tcp_client(), &query)).await.expect("no answer");
        Message::from_vec(&reply).unwrap()
    }
}

pub(crate) fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

/// A socket to the resolver, for use inside a namespace.
pub(crate) fn udp_client() -> UdpSocket {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect(SocketAddr::from(RESOLVER)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

pub(crate) fn receive(socket: &UdpSocket) -> Option<Vec<u8>> {
    let mut reply = vec![0; 65535];
    loop {
        match socket.recv(&mut reply) {
            // By a process that was stopped for a while, where there is a timeout (signal(7)).
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            received => {
                reply.truncate(received.ok()?);
                return Some(reply);
            }
        }
    }
}

pub(crate) fn tcp_client() -> TcpStream {
    let stream = TcpStream::connect(SocketAddr::from(RESOLVER)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub(crate) fn send_framed(stream: &mut TcpStream, query: &[u8]) -> std::io::Result<()> {
    stream.write_all(&[&(query.len() as u16).to_be_bytes(), query].concat())
}

pub(crate) fn receive_framed(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut reply).ok()?;
    Some(reply)
}

pub(crate) fn exchange(stream: &mut TcpStream, query: &[u8]) -> Option<Vec<u8>> {
    send_framed(stream, query).ok()?;
    receive_framed(stream)
}
