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
};

use dns_zone::Zone;
use libnetwork_model::SandboxId;
use tokio::{
    net::{TcpListener, UdpSocket},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Shared,
    namespace::{Identity, Sockets},
    respond::{Outcome, Transport, respond},
    tcp, udp,
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
    /// Answers from the zone as it is at this moment.
    pub(crate) fn respond(
        &self,
        zone: &Zone,
        packet: &[u8],
        transport: Transport,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        respond(zone, &self.sandbox, packet, transport, turn, out)
    }

    /// A place among the queries under way upstream; none when all are taken.
    pub(crate) fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.forwards.clone().try_acquire_owned().ok()
    }
}

/// A sandbox's resolver while it runs. Dropped, it ends; [`Listener::close`] also waits until its sockets are closed.
pub(crate) struct Listener {
    pub(crate) namespace: Identity,
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
        let tcp = TcpListener::from_std(StdTcpListener::from(sockets.tcp))?;
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
        let listener = Self { namespace, tasks, cancel };
        listener.spawn(udp::serve(served.clone(), listener.cancel.clone()));
        listener.spawn(tcp::serve(served, tcp, listener.cancel.clone()));
        Ok(listener)
    }

    pub(crate) async fn close(self) {
        self.cancel.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let cancel = self.cancel.clone();
        self.tasks.spawn(async move {
            cancel.run_until_cancelled(task).await;
        });
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}
