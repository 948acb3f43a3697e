//! Lookups of the containers, from the resolver to messages.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use dns_server::{Lookup, QueryError, Reason};
use libnetwork_model::{ErrorKind, Intent, SandboxId};
use libnetwork_rpc::{status, v1};
use tokio::sync::broadcast;
use tokio_stream::{
    Stream, StreamExt,
    wrappers::{BroadcastStream, errors::BroadcastStreamRecvError},
};
use tonic::Status;

/// The running container of this name, id, or beginning of one id.
pub(crate) fn sandbox(intent: &Intent, reference: &str) -> Result<SandboxId, Status> {
    let named = intent.sandboxes().find(|s| s.name == reference || s.id.as_str() == reference);
    if let Some(sandbox) = named {
        return Ok(sandbox.id.clone());
    }
    let mut found = intent.sandboxes().filter(|s| begins_with(&s.id, reference));
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only.id.clone()),
        (None, _) => Err(status(ErrorKind::NotFound, format!("no running container {reference:?}"))),
        (Some(_), Some(_)) => Err(status(
            ErrorKind::Invalid,
            format!("the ids of several running containers begin with {reference:?}"),
        )),
    }
}

fn begins_with(id: &SandboxId, reference: &str) -> bool {
    !reference.is_empty() && id.as_str().starts_with(reference)
}

pub(crate) fn refused(error: QueryError) -> Status {
    let kind = match error {
        QueryError::NoResolver => ErrorKind::NotFound,
        QueryError::Name(_) | QueryError::Kind(_) => ErrorKind::Invalid,
    };
    status(kind, error.to_string())
}

/// The lookups of one container, or of all when the reference is empty.
pub(crate) fn watch(
    lookups: broadcast::Receiver<Arc<Lookup>>,
    reference: String,
) -> impl Stream<Item = v1::Lookup> + Send {
    let is_wanted = move |lookup: &Lookup| {
        reference.is_empty() || lookup.container == reference || begins_with(&lookup.sandbox, &reference)
    };
    BroadcastStream::new(lookups).filter_map(move |lookup| match lookup {
        Ok(lookup) => is_wanted(&lookup).then(|| message(&lookup)),
        Err(BroadcastStreamRecvError::Lagged(missed)) => Some(v1::Lookup { missed, ..Default::default() }),
    })
}

pub(crate) fn message(lookup: &Lookup) -> v1::Lookup {
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let mut message = v1::Lookup {
        time_ns: nanoseconds(lookup.time.duration_since(UNIX_EPOCH).unwrap_or_default()),
        took_ns: nanoseconds(lookup.took),
        sandbox_id: lookup.sandbox.to_string(),
        container: lookup.container.clone(),
        name: lookup.name.clone(),
        r#type: lookup.kind.clone(),
        over_tcp: lookup.over_tcp,
        code: lookup.code.clone(),
        truncated: lookup.truncated,
        answers: lookup
            .answers
            .iter()
            .map(|told| v1::DnsRecord {
                name: told.name.clone(),
                ttl: told.ttl,
                r#type: told.kind.clone(),
                data: told.data.clone(),
            })
            .collect(),
        ..Default::default()
    };
    message.source = match &lookup.reason {
        Reason::Container { network, name, is_alias, holders } => {
            message.network = network.clone();
            message.matched = name.clone();
            message.is_alias = *is_alias;
            message.holders = holders.clone();
            "container"
        }
        Reason::Address { network } => {
            message.network = network.clone();
            "address"
        }
        Reason::Host => "host",
        Reason::Upstream { server } => {
            message.upstream = server.to_string();
            "upstream"
        }
        Reason::Cache { server, age } => {
            message.upstream = server.to_string();
            message.age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            "cache"
        }
        Reason::Unanswered => "unanswered",
        Reason::Confined => "confined",
        Reason::Crowded => "crowded",
        Reason::Malformed => "malformed",
    }
    .into();
    message
}
