//! From a packet to what is done about it, without I/O.

use std::net::IpAddr;

use dns_zone::{Answer, Forwarding, Kind, Zone};
use hickory_proto::{
    ProtoError,
    op::ResponseCode,
    rr::{Name, RData, RecordType, rdata::PTR},
};
use libnetwork_model::SandboxId;

use crate::message::{self, LARGE_UDP, Malformed, Query};

/// Seconds that a client may keep an answer. Docker says 600, which outlives containers by far; an address that moves
/// is asked for again within this. A network may say otherwise: `io.causeway.dns.ttl`.
const TTL: u32 = 5;

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
    pub(crate) query: Query,
    /// As it came, with all that is passed on unread.
    pub(crate) packet: Vec<u8>,
    /// The bytes that the reply may have.
    pub(crate) limit: u16,
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
        Err(Malformed::Refuse(metadata)) => return written(message::header_alone(metadata, out)),
    };
    let limit = match transport {
        Transport::Udp => query.udp_limit(),
        Transport::Tcp => u16::MAX,
    };
    let local_limit = if transport == Transport::Udp { limit.min(LARGE_UDP) } else { limit };
    if query.edns.is_some_and(|e| e.version != 0) {
        return written(query.reply(ResponseCode::BADVERS, Vec::new(), 0, local_limit, out));
    }
    let answer = match query.name() {
        Some(name) => zone.answer(sandbox, &name, asked(&query)).answer,
        None => Answer::NotOurs,
    };
    if answer != Answer::NotOurs {
        let ttl = zone.ttl(sandbox).unwrap_or(TTL);
        return written(query.reply(ResponseCode::NoError, records(answer, turn), ttl, local_limit, out));
    }
    let to = match zone.forwarding(sandbox) {
        Forwarding::Host => Destination::Host,
        Forwarding::Servers(servers) => Destination::Servers(servers),
        Forwarding::Refused => {
            return written(query.reply(ResponseCode::ServFail, Vec::new(), 0, local_limit, out));
        }
    };
    Outcome::Forward(Forward { query, packet: packet.to_vec(), limit, transport, to })
}

impl Forward {
    /// The reply that says that no server answered.
    pub(crate) fn failure(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self.query.reply(ResponseCode::ServFail, Vec::new(), 0, self.limit, &mut out) {
            Ok(()) => out,
            // Sent, it would be ignored like any datagram without a header.
            Err(_) => Vec::new(),
        }
    }
}

/// A reply that cannot be written is none: there is nobody to tell.
fn written(result: Result<(), ProtoError>) -> Outcome {
    match result {
        Ok(()) => Outcome::Reply,
        Err(error) => {
            tracing::debug!(%error, "cannot write a reply");
            Outcome::Ignore
        }
    }
}

fn records(answer: Answer, turn: usize) -> Vec<RData> {
    match answer {
        Answer::Addresses(mut addresses) => {
            let first = turn % addresses.len().max(1);
            addresses.rotate_left(first);
            addresses.into_iter().map(RData::from).collect()
        }
        // A container's name may be longer than a label: then there is no name to tell.
        Answer::Name(name) => Name::from_labels(name.split('.').map(str::as_bytes))
            .map(|name| RData::PTR(PTR(name)))
            .into_iter()
            .collect(),
        Answer::NoData | Answer::NotOurs => Vec::new(),
    }
}

fn asked(query: &Query) -> Kind {
    match query.question.query_type {
        _ if !query.is_internet() => Kind::Other,
        RecordType::A => Kind::A,
        RecordType::AAAA => Kind::Aaaa,
        RecordType::PTR => Kind::Ptr,
        RecordType::ANY => Kind::Any,
        _ => Kind::Other,
    }
}
