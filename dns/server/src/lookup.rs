//! Lookups as people read them: what was asked, what was told, and why.

use std::{
    fmt,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use dns_zone::{Because, Zone};
use hickory_proto::{op::Message, rr::Record};
use libnetwork_model::{EndpointId, SandboxId};

use crate::respond::{Source, Transport};

/// One question of a sandbox and its answer.
#[derive(Debug, Clone)]
pub struct Lookup {
    /// When it was answered.
    pub time: SystemTime,
    /// From when it was read to when it was answered.
    pub took: Duration,
    pub sandbox: SandboxId,
    /// The sandbox's name; empty when it has just gone.
    pub container: String,
    /// As it was asked, with the final dot; empty when it could not be read.
    pub name: String,
    /// As in `AAAA`.
    pub kind: String,
    pub over_tcp: bool,
    /// As in `NOERROR` (IANA's names).
    pub code: String,
    pub truncated: bool,
    pub answers: Vec<Told>,
    pub reason: Reason,
}

/// One record of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub name: String,
    pub ttl: u32,
    pub kind: String,
    pub data: String,
}

/// Why a sandbox was told what it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// These containers have the name on this network: as their own, or among their aliases.
    Container { network: String, name: String, is_alias: bool, holders: Vec<String> },
    /// The address is a container's on this network.
    Address { network: String },
    /// The name is that of the host that the container runs on.
    Host,
    /// An upstream server said so.
    Upstream { server: IpAddr },
    /// An upstream server said so some time ago.
    Cache { server: IpAddr, age: Duration },
    /// No upstream server answered, or there is none.
    Unanswered,
    /// The container is on internal networks alone: its questions do not leave the host.
    Confined,
    /// As many of its questions as may be are under way.
    Crowded,
    /// It is no query that can be answered.
    Malformed,
}

impl Lookup {
    pub(crate) fn new(
        zone: &Zone,
        sandbox: &SandboxId,
        transport: Transport,
        took: Duration,
        reply: &[u8],
        source: Source<'_>,
    ) -> Self {
        let intent = zone.intent();
        let mut lookup = Self {
            time: SystemTime::now(),
            took,
            sandbox: sandbox.clone(),
            container: intent.sandbox(sandbox).map(|s| s.name.clone()).unwrap_or_default(),
            name: String::new(),
            kind: String::new(),
            over_tcp: transport == Transport::Tcp,
            code: String::new(),
            truncated: false,
            answers: Vec::new(),
            reason: reason(zone, source),
        };
        if let Ok(message) = Message::from_vec(reply) {
            if let Some(question) = message.queries.first() {
                lookup.name = question.name.to_ascii();
                lookup.kind = question.query_type.to_string();
            }
            lookup.code = code(message.metadata.response_code.into());
            lookup.truncated = message.metadata.truncation;
            lookup.answers = message.answers.iter().map(told).collect();
        }
        lookup
    }
}

fn told(record: &Record) -> Told {
    Told {
        name: record.name.to_ascii(),
        ttl: record.ttl,
        kind: record.record_type().to_string(),
        data: record.data.to_string(),
    }
}

fn reason(zone: &Zone, source: Source<'_>) -> Reason {
    match source {
        Source::Zone(Because::Held { network, name, holders }) => {
            let sandbox = |id: &EndpointId| {
                let endpoint = zone.intent().endpoint(id)?;
                zone.intent().sandbox(&endpoint.sandbox)
            };
            let holders: Vec<_> = holders.keys().filter_map(sandbox).collect();
            let is_own =
                holders.iter().any(|s| s.name.eq_ignore_ascii_case(name) || s.owner.get(..12) == Some(name));
            Reason::Container {
                network: network.name.clone(),
                name: name.to_owned(),
                is_alias: !is_own,
                holders: holders.into_iter().map(|s| s.name.clone()).collect(),
            }
        }
        Source::Zone(Because::Leased { network }) => Reason::Address { network: network.name.clone() },
        Source::Zone(Because::Host) => Reason::Host,
        // The zone answers nothing that it does not know.
        Source::Zone(Because::Unknown) | Source::Upstream(None) => Reason::Unanswered,
        Source::Upstream(Some(server)) => Reason::Upstream { server },
        Source::Cache(kept) => Reason::Cache { server: kept.server, age: kept.age },
        Source::Confined => Reason::Confined,
        Source::Crowded => Reason::Crowded,
        Source::Malformed => Reason::Malformed,
    }
}

/// IANA's names of response codes, as dig writes them.
fn code(number: u16) -> String {
    const NAMES: [&str; 11] = [
        "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET",
        "NOTAUTH", "NOTZONE",
    ];
    match NAMES.get(usize::from(number)) {
        Some(name) => (*name).to_owned(),
        None if number == 16 => "BADVERS".to_owned(),
        None => number.to_string(),
    }
}

/// Why a question cannot be put on behalf of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueryError {
    /// It has no resolver of ours: it is not there, or runs in the host's namespace.
    NoResolver,
    /// No name that a message can carry.
    Name(String),
    /// No type of record.
    Kind(String),
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoResolver => f.write_str(
                "the container has no resolver of Causeway's: it uses the host's network, and the host's resolv.conf",
            ),
            Self::Name(name) => write!(f, "{name:?} is no domain name"),
            Self::Kind(kind) => write!(f, "{kind:?} is no type of DNS record, as A, AAAA, PTR or TXT are"),
        }
    }
}

impl std::error::Error for QueryError {}
