//! One sandbox's resolver: its sockets and what runs on them.
//!
//! Tasks: one that reads UDP, one that accepts TCP, one for each TCP connection and one for each query that is being
//! forwarded. All are the sandbox's [`TaskTracker`]'s and end with its token; any may be cancelled at any await, since
//! none holds more than a client's unanswered question.

use std::{
    io,
    net::{TcpListener as StdTcpListener, UdpSocket as StdUdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use dns_zone::Zone;
use libnetwork_model::SandboxId;
use tokio::{
    net::{TcpListener, UdpSocket},
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Shared,
    lookup::Lookup,
    namespace::{Identity, Sockets},
    respond::{Asker, Forward, Outcome, Source, Transport, respond},
    tcp, udp, upstream,
};

/// The queries of one sandbox that may be under way upstream at once. Each costs a descriptor and about 4 KiB; what
/// comes beyond is told so at once. No sandbox can use up another's.
const FORWARDS: usize = 2048;

/// What the tasks of one sandbox share.
pub(crate) struct Served {
    pub(crate) sandbox: SandboxId,
    pub(crate) shared: Arc<Shared>,
    pub(crate) udp: UdpSocket,
    pub(crate) tasks: TaskTracker,
    forwards: Arc<Semaphore>,
    turn: AtomicUsize,
}

impl Served {
    /// Answers from the zone as it is at this moment, or from what upstream servers said lately.
    pub(crate) fn respond<'z>(
        &self,
        zone: &'z Zone,
        packet: &[u8],
        transport: Transport,
        out: &mut Vec<u8>,
    ) -> Outcome<'z> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let host = self.shared.host.borrow().clone();
        let asker = Asker { sandbox: &self.sandbox, transport, turn, host: &host };
        match respond(zone, &asker, packet, out) {
            Outcome::Forward(ask) => match self.shared.cache.answer(&ask, Instant::now(), out) {
                Some(kept) => Outcome::Reply(Source::Cache(kept)),
                None => Outcome::Forward(ask),
            },
            outcome => outcome,
        }
    }

    /// The upstream servers' reply, or one that says that too many are being waited for.
    pub(crate) async fn forward(&self, ask: Forward, place: Option<OwnedSemaphorePermit>) -> Vec<u8> {
        let (started, transport) = (Instant::now(), ask.transport);
        let (reply, source) = self.ask(ask, place).await;
        let zone = self.shared.zone.borrow().clone();
        self.tell(&zone, transport, started, &reply, source);
        reply
    }

    async fn ask(&self, ask: Forward, place: Option<OwnedSemaphorePermit>) -> (Vec<u8>, Source<'static>) {
        match place {
            None => (ask.failure(), Source::Crowded),
            Some(_place) => {
                let (reply, server) = upstream::forward(self, ask).await;
                (reply, Source::Upstream(server))
            }
        }
    }

    /// Tells those who watch, if there are any.
    pub(crate) fn tell(
        &self,
        zone: &Zone,
        transport: Transport,
        started: Instant,
        reply: &[u8],
        source: Source<'_>,
    ) {
        if self.shared.lookups.receiver_count() > 0 {
            let lookup = Lookup::new(zone, &self.sandbox, transport, started.elapsed(), reply, source);
            // The last one may have left just now.
            let _ = self.shared.lookups.send(Arc::new(lookup));
        }
    }

    /// What the sandbox would be told at this moment, if it sent this datagram.
    async fn query(&self, packet: &[u8]) -> Lookup {
        let (started, transport) = (Instant::now(), Transport::Udp);
        let zone = self.shared.zone.borrow().clone();
        let mut reply = Vec::new();
        let source = match self.respond(&zone, packet, transport, &mut reply) {
            Outcome::Reply(source) => source,
            Outcome::Ignore => Source::Malformed,
            Outcome::Forward(ask) => {
                let source;
                (reply, source) = self.ask(ask, self.place()).await;
                source
            }
        };
        Lookup::new(&zone, &self.sandbox, transport, started.elapsed(), &reply, source)
    }

    /// A place among the queries under way upstream; none when all are taken.
    pub(crate) fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.forwards.clone().try_acquire_owned().ok()
    }
}

/// A sandbox's resolver while it runs. Dropped, it ends; [`Listener::close`] also waits until its sockets are closed.
pub(crate) struct Listener {
    pub(crate) namespace: Identity,
    served: Arc<Served>,
    tasks: TaskTracker,
    cancel: CancellationToken,
}

impl Listener {
    /// Answers on sockets that are bound already, wherever they come from.
    pub(crate) fn start(
        sandbox: SandboxId,
        shared: Arc<Shared>,
        namespace: Identity,
        sockets: Sockets,
    ) -> io::Result<Self> {
        let udp = UdpSocket::from_std(StdUdpSocket::from(sockets.udp))?;
        let beside = shared.connections.clone();
        let tcp = {
            let _beside = beside.enter();
            TcpListener::from_std(StdTcpListener::from(sockets.tcp))?
        };
        let cancel = shared.shutdown.child_token();
        let tasks = TaskTracker::new();
        let served = Arc::new(Served {
            sandbox,
            shared,
            udp,
            tasks: tasks.clone(),
            forwards: Arc::new(Semaphore::new(FORWARDS)),
            turn: AtomicUsize::new(0),
        });
        let listener = Self { namespace, served: served.clone(), tasks, cancel };
        listener.spawn(udp::serve(served.clone(), listener.cancel.clone()), &Handle::current());
        listener.spawn(tcp::serve(served, tcp, listener.cancel.clone()), &beside);
        Ok(listener)
    }

    /// [`Served::query`], to be awaited without the listener; none when it is closed meanwhile.
    pub(crate) fn query(&self, packet: Vec<u8>) -> impl Future<Output = Option<Lookup>> + Send + 'static {
        let (served, cancel) = (self.served.clone(), self.cancel.clone());
        self.tasks.track_future(async move { cancel.run_until_cancelled(served.query(&packet)).await })
    }

    pub(crate) async fn close(self) {
        self.cancel.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static, on: &Handle) {
        let cancel = self.cancel.clone();
        let task = async move {
            cancel.run_until_cancelled(task).await;
        };
        self.tasks.spawn_on(task, on);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}
