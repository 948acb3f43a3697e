//! From a packet to what is done about it, without I/O.

use std::net::IpAddr;

use dns_zone::{Answer, Forwarding, Kind, Zone};
use libnetwork_model::SandboxId;

use crate::wire::{self, Malformed, Query, Reply, kind, rcode};

/// Seconds that a client may keep an answer. Docker says 600, which outlives containers by far; an address that moves
/// is asked for again within this. A network may say otherwise: `io.causeway.dns.ttl`.
const TTL: u32 = 5;

/// The upper part of BADVERS, 16 (RFC 6891 9).
const BAD_VERSION: u8 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// What is to be done about a packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Send what was written.
    Reply,
    Ignore,
    Forward(Forward),
}

/// A query for the upstream servers. Owned: it outlives the buffer that it was received in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Forward {
    pub(crate) packet: Vec<u8>,
    pub(crate) question_end: usize,
    /// The bytes that the reply may have.
    pub(crate) limit: usize,
    pub(crate) transport: Transport,
    pub(crate) to: Destination,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    Host,
    Servers(Vec<IpAddr>),
}

/// Answers a packet into `out`, or says where it goes. `turn` turns the holders of a name round.
pub(crate) fn respond(
    zone: &Zone,
    sandbox: &SandboxId,
    packet: &[u8],
    transport: Transport,
    turn: usize,
    out: &mut Vec<u8>,
) -> Outcome {
    let query = match Query::parse(packet) {
        Ok(query) => query,
        Err(Malformed::Ignore) => return Outcome::Ignore,
        Err(Malformed::Refuse(code)) => {
            wire::refuse(packet, code, out);
            return Outcome::Reply;
        }
    };
    let limit = match transport {
        Transport::Udp => query.udp_limit(),
        Transport::Tcp => usize::from(u16::MAX),
    };
    let local_limit = if transport == Transport::Udp { limit.min(wire::LARGE_UDP) } else { limit };
    if query.edns.is_some_and(|e| e.version != 0) {
        Reply::new(&query, rcode::NO_ERROR, local_limit, out).finish(query.edns, BAD_VERSION);
        return Outcome::Reply;
    }
    let answer = query.name().map_or(Answer::NotOurs, |name| zone.answer(sandbox, name, asked(&query)));
    if answer != Answer::NotOurs {
        write(&query, answer, local_limit, turn, zone.ttl(sandbox).unwrap_or(TTL), out);
        return Outcome::Reply;
    }
    let to = match zone.forwarding(sandbox) {
        Forwarding::Host => Destination::Host,
        Forwarding::Servers(servers) => Destination::Servers(servers),
        Forwarding::Refused => {
            failure(&query, local_limit, out);
            return Outcome::Reply;
        }
    };
    let question_end = query.question_end();
    Outcome::Forward(Forward { packet: packet.to_vec(), question_end, limit, transport, to })
}

impl Forward {
    /// The reply that says that no server answered.
    pub(crate) fn failure(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match Query::parse(&self.packet) {
            Ok(query) => failure(&query, self.limit, &mut out),
            Err(_) => wire::refuse(&self.packet, rcode::SERVER_FAILURE, &mut out),
        }
        out
    }
}

fn failure(query: &Query<'_>, limit: usize, out: &mut Vec<u8>) {
    Reply::new(query, rcode::SERVER_FAILURE, limit, out).finish(query.edns, 0);
}

fn write(query: &Query<'_>, answer: Answer, limit: usize, turn: usize, ttl: u32, out: &mut Vec<u8>) {
    let mut reply = Reply::new(query, rcode::NO_ERROR, limit, out);
    match answer {
        Answer::Addresses(addresses) => {
            let (tail, head) = addresses.split_at(turn % addresses.len().max(1));
            // What does not fit is left out and the reply marked: the client has enough, or asks again over TCP.
            let _ = head.iter().chain(tail).all(|address| reply.address(*address, ttl));
        }
        Answer::Name(name) => {
            reply.pointer(&name, ttl);
        }
        Answer::NoData | Answer::NotOurs => {}
    }
    reply.finish(query.edns, 0);
}

fn asked(query: &Query<'_>) -> Kind {
    match query.kind {
        _ if !query.is_internet() => Kind::Other,
        kind::A => Kind::A,
        kind::AAAA => Kind::Aaaa,
        kind::PTR => Kind::Ptr,
        kind::ANY => Kind::Any,
        _ => Kind::Other,
    }
}
