//! Datagrams of one sandbox. Each is looked at, answered, and only then taken from the socket: one that a killed process
//! was about to answer is still there for the next process, since the socket is kept. At worst it is answered twice.
//!
//! A batch is looked at by one system call, answered by one and taken by one: what a busy sandbox costs is mostly system
//! calls, and a client that is woken by the first of many replies finds the others beside it.

use std::{
    cell::RefCell,
    io::{self, IoSlice, IoSliceMut},
    net::{SocketAddr, SocketAddrV4},
    os::fd::{AsFd, AsRawFd},
    sync::Arc,
    time::{Duration, Instant},
};

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};
use tokio::{io::Interest, net::UdpSocket, task, time};
use tokio_util::sync::CancellationToken;

use crate::{
    listener::Served,
    message::LARGE_UDP,
    namespace,
    respond::{Forward, Outcome, Source, Transport},
};

/// Datagrams that are answered before other tasks get a turn.
const BATCH: usize = 32;

/// What a worker answers a batch with.
struct Buffers {
    queries: Vec<[u8; LARGE_UDP as usize]>,
    /// One for each query; in the order of sending.
    replies: Vec<Vec<u8>>,
    received: MultiHeaders<SockaddrIn>,
    sent: MultiHeaders<SockaddrIn>,
}

thread_local! {
    // A sandbox that is idle holds no buffer; a worker answers one batch at a time.
    static BUFFERS: RefCell<Buffers> = RefCell::new(Buffers {
        queries: vec![[0; LARGE_UDP as usize]; BATCH],
        replies: vec![Vec::new(); BATCH],
        received: MultiHeaders::preallocate(BATCH, None),
        sent: MultiHeaders::preallocate(BATCH, None),
    });
}

/// Reads datagrams until cancelled. What needs no upstream server is answered on the spot.
pub(crate) async fn serve(served: Arc<Served>, cancel: CancellationToken) {
    if let Err(error) = namespace::look_ahead(served.udp.as_fd()) {
        tracing::error!(%error, sandbox = served.sandbox.short(), "cannot look at DNS queries before they are taken");
        return;
    }
    loop {
        let result = match served.udp.readable().await {
            Ok(()) => answer_batch(&served, &cancel),
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => task::yield_now().await,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                // Such as a lack of memory: nothing to be gained by asking again at once.
                tracing::warn!(%error, sandbox = served.sandbox.short(), "cannot receive DNS queries");
                time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

fn answer_batch(served: &Arc<Served>, cancel: &CancellationToken) -> io::Result<()> {
    let zone = served.shared.zone.borrow().clone();
    BUFFERS.with_borrow_mut(|buffers| {
        let seen = look(&served.udp, buffers)?;
        let Buffers { queries, replies, sent, .. } = buffers;
        let mut answered = Answered::default();
        for ((length, client), query) in seen.iter().zip(queries) {
            // One that is longer than the buffer is no query.
            let (Some(packet), Some(client)) = (query.get(..*length), client) else { continue };
            let (started, reply) = (Instant::now(), &mut replies[answered.clients.len()]);
            match served.respond(&zone, packet, Transport::Udp, reply) {
                Outcome::Reply(source) => {
                    answered.clients.push(Some(*client));
                    answered.why.push((started, source));
                }
                Outcome::Ignore => {}
                Outcome::Forward(ask) => forward(served, cancel, ask, SocketAddrV4::from(*client).into()),
            }
        }
        send(&served.udp, sent, replies, &answered.clients);
        for ((started, source), reply) in answered.why.into_iter().zip(replies) {
            served.tell(&zone, Transport::Udp, started, reply, source);
        }
        take(&served.udp, &mut buffers.received, &seen);
        Ok(())
    })
}

/// The replies of a batch: to whom, and what those who watch are told.
#[derive(Default)]
struct Answered<'z> {
    clients: Vec<Option<SockaddrIn>>,
    why: Vec<(Instant, Source<'z>)>,
}

/// The lengths and senders of the next datagrams, which stay where they are.
fn look(socket: &UdpSocket, buffers: &mut Buffers) -> io::Result<Vec<(usize, Option<SockaddrIn>)>> {
    socket.try_io(Interest::READABLE, || {
        // With MSG_TRUNC the length is the datagram's own, and the next look is behind its end.
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
        let mut parts: Vec<_> = buffers.queries.iter_mut().map(|query| [IoSliceMut::new(query)]).collect();
        let seen = recvmmsg(socket.as_raw_fd(), &mut buffers.received, &mut parts, flags, None)?;
        Ok(seen.map(|message| (message.bytes, message.address)).collect())
    })
}

/// A client whose receive buffer is full asks again, as with any lost datagram.
fn send(
    socket: &UdpSocket,
    headers: &mut MultiHeaders<SockaddrIn>,
    replies: &[Vec<u8>],
    clients: &[Option<SockaddrIn>],
) {
    let parts: Vec<_> = replies.iter().map(|reply| [IoSlice::new(reply)]).collect();
    let mut from = 0;
    while from < clients.len() {
        let rest = (&parts[from..], &clients[from..]);
        let sent = sendmmsg(socket.as_raw_fd(), headers, rest.0, rest.1, [], MsgFlags::MSG_DONTWAIT);
        // It ends before the one that cannot be sent, and says why when that is the first.
        from += sent.map_or(1, |sent| sent.count().max(1));
    }
}

/// Takes away the datagrams that were looked at.
fn take(socket: &UdpSocket, headers: &mut MultiHeaders<SockaddrIn>, seen: &[(usize, Option<SockaddrIn>)]) {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
    let full = |lengths: &mut dyn Iterator<Item = usize>| lengths.filter(|length| *length > 0).count();
    // Empty ones that another process had seen are passed over by a look, and come with these.
    let (mut left, mut left_full) = (seen.len(), full(&mut seen.iter().map(|(length, _)| *length)));
    while left.max(left_full) > 0 {
        let mut nowhere: Vec<[IoSliceMut<'_>; 0]> = (0..left.max(left_full)).map(|_| []).collect();
        let Ok(taken) = recvmmsg(socket.as_raw_fd(), headers, &mut nowhere, flags, None) else { return };
        let lengths: Vec<usize> = taken.map(|message| message.bytes).collect();
        left = left.saturating_sub(lengths.len());
        left_full -= full(&mut lengths.into_iter()).min(left_full);
    }
}

fn forward(served: &Arc<Served>, cancel: &CancellationToken, ask: Forward, client: SocketAddr) {
    let place = served.place();
    let (task_served, cancel) = (served.clone(), cancel.clone());
    served.tasks.spawn(async move {
        let served = task_served;
        if let Some(reply) = cancel.run_until_cancelled(served.forward(ask, place)).await {
            drop(served.udp.try_send_to(&reply, client));
        }
    });
}
