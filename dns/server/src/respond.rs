//! From a packet to what is done about it, without I/O.

use std::{net::IpAddr, sync::Arc};

use dns_zone::{Answer, Because, Forwarding, Kind, Told, Zone};
use hickory_proto::{
    ProtoError,
    op::ResponseCode,
    rr::{Name, RData, RecordType, rdata::PTR},
};
use libnetwork_model::SandboxId;

use crate::{
    cache::Kept,
    message::{self, LARGE_UDP, Malformed, Query},
};

/// Seconds that a client may keep an answer. Docker says 600, which outlives containers by far; an address that moves
/// is asked for again within this. A network may say otherwise: `io.causeway.dns.ttl`.
const TTL: u32 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// What is to be done about a packet.
#[derive(Debug)]
pub(crate) enum Outcome<'z> {
    /// Send what was written.
    Reply(Source<'z>),
    Ignore,
    Forward(Forward),
}

/// Where a reply comes from.
#[derive(Debug)]
pub(crate) enum Source<'z> {
    Zone(Because<'z>),
    Cache(Kept),
    /// The server that had the last word, and none when all were silent.
    Upstream(Option<IpAddr>),
    /// The sandbox has no way out of the host.
    Confined,
    /// As many of its questions as may be are under way.
    Crowded,
    /// It is no query that can be answered.
    Malformed,
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
    pub(crate) route: Route,
}

/// Who is asked, and from where.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Route {
    pub(crate) servers: Arc<[IpAddr]>,
    /// The sandbox from whose namespace they are asked; none: from the host's.
    pub(crate) inside: Option<SandboxId>,
}

/// Who asks, and how.
pub(crate) struct Asker<'a> {
    pub(crate) sandbox: &'a SandboxId,
    pub(crate) transport: Transport,
    /// Turns the holders of a name round.
    pub(crate) turn: usize,
    /// The host's resolvers.
    pub(crate) host: &'a Arc<[IpAddr]>,
}

/// Answers a packet into `out`, or says where it goes.
pub(crate) fn respond<'z>(
    zone: &'z Zone,
    asker: &Asker<'_>,
    packet: &[u8],
    out: &mut Vec<u8>,
) -> Outcome<'z> {
    let query = match Query::parse(packet) {
        Ok(query) => query,
        Err(Malformed::Ignore) => return Outcome::Ignore,
        Err(Malformed::Refuse(metadata)) => {
            return written(message::header_alone(metadata, out), Source::Malformed);
        }
    };
    let limit = match asker.transport {
        Transport::Udp => query.udp_limit(),
        Transport::Tcp => u16::MAX,
    };
    let local_limit = if asker.transport == Transport::Udp { limit.min(LARGE_UDP) } else { limit };
    if query.edns.is_some_and(|e| e.version != 0) {
        let bad = query.reply(ResponseCode::BADVERS, Vec::new(), 0, local_limit, out);
        return written(bad, Source::Malformed);
    }
    if let Some(name) = query.name() {
        let Told { answer, because } = zone.answer(asker.sandbox, &name, asked(&query));
        if answer != Answer::NotOurs {
            let ttl = zone.ttl(asker.sandbox).unwrap_or(TTL);
            let records = records(answer, asker.turn);
            let reply = query.reply(ResponseCode::NoError, records, ttl, local_limit, out);
            return written(reply, Source::Zone(because));
        }
    }
    let route = match zone.forwarding(asker.sandbox) {
        Forwarding::Host => Route { servers: asker.host.clone(), inside: None },
        Forwarding::Servers(servers) => {
            Route { servers: servers.into(), inside: Some(asker.sandbox.clone()) }
        }
        Forwarding::Refused => {
            let refused = query.reply(ResponseCode::ServFail, Vec::new(), 0, local_limit, out);
            return written(refused, Source::Confined);
        }
    };
    Outcome::Forward(Forward { query, packet: packet.to_vec(), limit, transport: asker.transport, route })
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
fn written<'z>(result: Result<(), ProtoError>, source: Source<'z>) -> Outcome<'z> {
    match result {
        Ok(()) => Outcome::Reply(source),
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
