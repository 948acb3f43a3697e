//! Datagrams of one sandbox. Each is looked at, answered, and only then taken from the socket: one that a killed process
//! was about to answer is still there for the next process, since the socket is kept. At worst it is answered twice.

use std::{
    cell::RefCell,
    io::{self, IoSliceMut},
    net::{SocketAddr, SocketAddrV4},
    os::fd::AsRawFd,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::sys::socket::{MsgFlags, SockaddrIn, recv, recvmsg};
use tokio::{io::Interest, net::UdpSocket, task, time};
use tokio_util::sync::CancellationToken;

use crate::{
    listener::Served,
    message::LARGE_UDP,
    respond::{Forward, Outcome, Transport},
};

/// Datagrams that are answered before other tasks get a turn.
const BATCH: usize = 32;

/// One that fills the buffer was cut off.
const TOO_LONG: usize = LARGE_UDP as usize + 1;

struct Buffers {
    query: [u8; TOO_LONG],
    reply: Vec<u8>,
}

thread_local! {
    // A sandbox that is idle holds no buffer; a worker answers one datagram at a time.
    static BUFFERS: RefCell<Buffers> =
        const { RefCell::new(Buffers { query: [0; TOO_LONG], reply: Vec::new() }) };
}

/// Reads datagrams until cancelled. What needs no upstream server is answered on the spot.
pub(crate) async fn serve(served: Arc<Served>, cancel: CancellationToken) {
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
        for _ in 0..BATCH {
            let (length, client) = peek(&served.udp, &mut buffers.query)?;
            let Some(packet) = buffers.query.get(..length).filter(|p| p.len() < TOO_LONG) else {
                take(&served.udp);
                continue;
            };
            let started = Instant::now();
            match served.respond(&zone, packet, Transport::Udp, &mut buffers.reply) {
                Outcome::Reply(source) => {
                    // A client whose receive buffer is full asks again, as with any lost datagram.
                    drop(served.udp.try_send_to(&buffers.reply, client));
                    served.tell(&zone, Transport::Udp, started, &buffers.reply, source);
                }
                Outcome::Ignore => {}
                Outcome::Forward(ask) => forward(served, cancel, ask, client),
            }
            take(&served.udp);
        }
        Ok(())
    })
}

/// The next datagram, left where it is.
fn peek(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    socket.try_io(Interest::READABLE, || {
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        let mut parts = [IoSliceMut::new(buffer)];
        let message = recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut parts, None, flags)?;
        let client = message.address.ok_or(io::ErrorKind::InvalidData)?;
        Ok((message.bytes, SocketAddrV4::from(client).into()))
    })
}

/// Takes away the datagram that was looked at.
fn take(socket: &UdpSocket) {
    // It is there, so this neither waits nor tells anything.
    let _ = recv(socket.as_raw_fd(), &mut [], MsgFlags::MSG_DONTWAIT);
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
