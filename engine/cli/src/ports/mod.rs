//! `causeway ports`: a container's published ports, looked at and changed while it runs. The engine does it, since the
//! container's settings are the engine's; this asks, and prints.

mod http;
mod table;

use serde::{Deserialize, Serialize};

use crate::{
    Outcome,
    args::{Ports, PortsOf, TableFormat},
    paths,
};

/// What the engine answers.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Published {
    container: String,
    running: bool,
    ports: Vec<Range>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Range {
    protocol: String,
    /// Empty: every address.
    host_ip: String,
    /// 0: chosen when the container starts.
    host_port: u32,
    container_port: u32,
    count: u32,
    packets: Option<u64>,
    bytes: Option<u64>,
    open_flows: Option<u64>,
    refusals: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Change<'a> {
    add: &'a [String],
    remove: &'a [String],
}

pub(crate) fn run(command: &Ports) -> Outcome {
    let (of, change) = match command {
        Ports::Ls { of } => (of, None),
        Ports::Add { of, ports } => (of, Some(Change { add: ports, remove: &[] })),
        Ports::Rm { of, ports } => (of, Some(Change { add: &[], remove: ports })),
    };
    let path = format!("/causeway/containers/{}/ports", http::segment(&of.container));
    let body = change.map(|change| serde_json::to_string(&change)).transpose()?;
    let answer = http::ask(&engine(of), &path, body.as_deref())?;
    match of.format {
        TableFormat::Json => println!("{}", answer.trim_end()),
        TableFormat::Table => print!("{}", table::render(&serde_json::from_str(&answer)?)),
    }
    Ok(())
}

fn engine(of: &PortsOf) -> String {
    let environment = || std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
    let default = || format!("unix://{}", paths::docker_socket(&of.run_dir).display());
    of.host.clone().or_else(environment).unwrap_or_else(default)
}
