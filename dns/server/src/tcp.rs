//! Connections of one sandbox. A client may hold connections open and say nothing, or say half of something: there
//! are at most [`CONNECTIONS`] of them, the one that has been silent longest gives way to a newcomer, and each gets
//! [`PATIENCE`] for a whole query.

use std::{
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use crate::{
    listener::Served,
    message::LARGE_UDP,
    respond::{Outcome, Transport},
};

/// Connections of one sandbox at once. Each costs a descriptor and about 2 KiB.
const CONNECTIONS: usize = 256;
/// How long a connection stays open without a whole query, and how long a client may take to read its replies.
const PATIENCE: Duration = Duration::from_secs(10);
/// Queries of one connection that are forwarded at once; then it is read no further until one is answered.
const PIPELINED: usize = 16;
/// The longest query taken. A well-formed one has a name of 255 bytes, and a few options.
const LONGEST_QUERY: usize = LARGE_UDP as usize;

struct Connection {
    /// When its last whole query came, in milliseconds since the listener's start.
    heard: AtomicU64,
    cancel: CancellationToken,
}

/// Accepts connections until cancelled.
pub(crate) async fn serve(served: Arc<Served>, listener: TcpListener, cancel: CancellationToken) {
    let start = Instant::now();
    let mut connections: Vec<Arc<Connection>> = Vec::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, sandbox = served.sandbox.short(), "cannot accept DNS connections");
                time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        make_room(&mut connections);
        let heard = AtomicU64::new(milliseconds(start));
        let connection = Arc::new(Connection { heard, cancel: cancel.child_token() });
        connections.push(connection.clone());
        let tasks = served.tasks.clone();
        let served = served.clone();
        tasks.spawn(async move {
            let work =
                converse(&served, stream, || connection.heard.store(milliseconds(start), Ordering::Relaxed));
            if let Some(Err(error)) = connection.cancel.run_until_cancelled(work).await {
                tracing::debug!(%error, sandbox = served.sandbox.short(), "a DNS connection ended");
            }
        });
    }
}

/// Forgets the connections that have ended, and ends the one that was silent longest when there are too many.
fn make_room(connections: &mut Vec<Arc<Connection>>) {
    if connections.len() < CONNECTIONS {
        return;
    }
    // Its task holds the other reference for as long as it runs.
    connections.retain(|c| Arc::strong_count(c) > 1);
    if connections.len() < CONNECTIONS {
        return;
    }
    let silent = connections.iter().enumerate().min_by_key(|(_, c)| c.heard.load(Ordering::Relaxed));
    if let Some((at, _)) = silent {
        connections.swap_remove(at).cancel.cancel();
    }
}

fn milliseconds(since: Instant) -> u64 {
    since.elapsed().as_millis() as u64
}

/// Answers the queries of one connection, as they become known rather than in the order they came (RFC 7766 6.2.1.1).
async fn converse(served: &Served, mut stream: TcpStream, heard: impl Fn()) -> io::Result<()> {
    let mut input = Vec::new();
    let mut reply = Vec::new();
    let mut forwards = FuturesUnordered::new();
    let mut deadline = pin!(time::sleep(PATIENCE));
    loop {
        while forwards.len() < PIPELINED {
            let Some(query) = next_query(&mut input)? else { break };
            heard();
            deadline.as_mut().reset(Instant::now() + PATIENCE);
            let zone = served.shared.zone.borrow().clone();
            let started = Instant::now();
            match served.respond(&zone, &query, Transport::Tcp, &mut reply) {
                Outcome::Reply(source) => {
                    served.tell(&zone, Transport::Tcp, started.into_std(), &reply, source);
                    send(&mut stream, &reply).await?;
                }
                // What is no query has no place in a conversation.
                Outcome::Ignore => return Ok(()),
                Outcome::Forward(ask) => forwards.push(served.forward(ask, served.place())),
            }
        }
        tokio::select! {
            Some(answer) = forwards.next() => {
                send(&mut stream, &answer).await?;
                deadline.as_mut().reset(Instant::now() + PATIENCE);
            }
            read = stream.read_buf(&mut input), if forwards.len() < PIPELINED => {
                if read? == 0 {
                    // The client may have closed only its own direction.
                    while let Some(answer) = forwards.next().await {
                        send(&mut stream, &answer).await?;
                    }
                    return Ok(());
                }
            }
            () = deadline.as_mut(), if forwards.is_empty() => return Ok(()),
        }
    }
}

/// Takes the first whole query off what was read.
fn next_query(input: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    let Some(prefix) = input.first_chunk::<2>() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes(*prefix));
    if length > LONGEST_QUERY {
        return Err(io::ErrorKind::InvalidData.into());
    }
    if input.len() < 2 + length {
        return Ok(None);
    }
    let rest = input.split_off(2 + length);
    let mut query = std::mem::replace(input, rest);
    query.drain(..2);
    Ok(Some(query))
}

async fn send(stream: &mut TcpStream, reply: &[u8]) -> io::Result<()> {
    let length = u16::try_from(reply.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let framed = [&length.to_be_bytes(), reply].concat();
    time::timeout(PATIENCE, stream.write_all(&framed)).await.map_err(|_| io::ErrorKind::TimedOut)?
}
