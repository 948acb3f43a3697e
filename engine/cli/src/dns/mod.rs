//! `causeway dns`: what containers are told for names, and why.

mod text;

use std::{
    io::{self, Write},
    path::Path,
};

use jiff::Timestamp;
use libnetwork_rpc::{client, is_transport, v1};
use serde::Serialize;

use crate::{
    Outcome,
    args::{Dns, LookupFormat},
    ask::AskError,
    paths,
};

/// One question and its answer, as `--format json` shows it.
#[derive(Debug, Serialize)]
struct Lookup {
    /// RFC 3339, UTC, in milliseconds.
    time: String,
    took_ms: f64,
    container: String,
    container_id: String,
    name: String,
    r#type: String,
    transport: &'static str,
    code: String,
    truncated: bool,
    answers: Vec<Record>,
    /// container, address, host, upstream, cache, unanswered, confined, crowded or malformed.
    source: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    network: String,
    /// The name or alias that matched.
    #[serde(skip_serializing_if = "String::is_empty")]
    matched: String,
    is_alias: bool,
    /// The containers that have it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    holders: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    upstream: String,
    /// How long ago the upstream server said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    age_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Record {
    name: String,
    ttl: u32,
    r#type: String,
    data: String,
}

pub(crate) fn run(command: Dns) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command {
        Dns::Query { run_dir, from, kind, format, name } => {
            let request = v1::QueryNameRequest { sandbox: from, name, r#type: kind };
            let lookup = Lookup::from(runtime.block_on(query(&run_dir, request))?);
            match format {
                LookupFormat::Json => println!("{}", serde_json::to_string_pretty(&lookup)?),
                LookupFormat::Text => print!("{}", text::answer(&lookup)),
            }
            Ok(())
        }
        Dns::Log { run_dir, container, format } => {
            let request = v1::WatchLookupsRequest { sandbox: container.unwrap_or_default() };
            runtime.block_on(follow(&run_dir, request, format))
        }
    }
}

async fn query(run_dir: &Path, request: v1::QueryNameRequest) -> Result<v1::Lookup, AskError> {
    let socket = paths::network_socket(run_dir);
    let one = client::connect(&socket);
    client::again(|| async { one.clone().query_name(request.clone()).await })
        .await
        .map_err(AskError::at(&socket))
}

/// Prints lookups until causewayd ends in order; one that was killed is found again.
async fn follow(run_dir: &Path, request: v1::WatchLookupsRequest, format: LookupFormat) -> Outcome {
    let socket = paths::network_socket(run_dir);
    let one = client::connect(&socket);
    loop {
        let watch = || async { one.clone().watch_lookups(request.clone()).await };
        let mut stream = client::again(watch).await.map_err(AskError::at(&socket))?;
        loop {
            match stream.message().await {
                Ok(Some(lookup)) => match print(lookup, format) {
                    // Whoever read it has seen enough.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                    printed => printed?,
                },
                Ok(None) => return Ok(()),
                Err(status) if is_transport(&status) => break,
                Err(status) => return Err(AskError::at(&socket)(status).into()),
            }
        }
    }
}

fn print(message: v1::Lookup, format: LookupFormat) -> io::Result<()> {
    if message.missed > 0 {
        eprintln!("causeway: too slow: {} lookups were missed", message.missed);
        return Ok(());
    }
    let lookup = Lookup::from(message);
    let line = match format {
        LookupFormat::Json => serde_json::to_string(&lookup)?,
        LookupFormat::Text => text::line(&lookup),
    };
    writeln!(io::stdout(), "{line}")
}

impl From<v1::Lookup> for Lookup {
    fn from(message: v1::Lookup) -> Self {
        let record = |r: v1::DnsRecord| Record { name: r.name, ttl: r.ttl, r#type: r.r#type, data: r.data };
        Self {
            time: format!("{:.3}", Timestamp::from_nanosecond(message.time_ns.into()).unwrap_or_default()),
            took_ms: message.took_ns as f64 / 1e6,
            container: message.container,
            container_id: message.sandbox_id,
            name: message.name,
            r#type: message.r#type,
            transport: if message.over_tcp { "tcp" } else { "udp" },
            code: message.code,
            truncated: message.truncated,
            answers: message.answers.into_iter().map(record).collect(),
            age_ms: (message.source == "cache").then_some(message.age_ms),
            source: message.source,
            network: message.network,
            matched: message.matched,
            is_alias: message.is_alias,
            holders: message.holders,
            upstream: message.upstream,
        }
    }
}
