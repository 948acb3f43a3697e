//! The tree that people read. Its columns line up within each network.

use std::fmt::Write;

use super::{Endpoint, Network, Port, Report};

pub(super) fn render(report: &Report, colour: bool) -> String {
    let paint = Paint { colour };
    let mut out = format!("{}  mtu {}\n", paint.bold("host"), report.mtu);
    let lines = report.uplinks.len() + report.networks.len();
    let mut branches = (1..=lines).map(|n| if n == lines { ("└─ ", "   ") } else { ("├─ ", "│  ") });
    for uplink in &report.uplinks {
        let Some((branch, _)) = branches.next() else { break };
        line(
            &mut out,
            &format!("{branch}uplink {}  {}", paint.bold(&uplink.name), uplink.addresses.join(", ")),
        );
    }
    for network in &report.networks {
        let Some((branch, indent)) = branches.next() else { break };
        self::network(&mut out, network, branch, indent, &paint);
    }
    out
}

fn network(out: &mut String, network: &Network, branch: &str, indent: &str, paint: &Paint) {
    let subnets: Vec<String> =
        network
            .subnets
            .iter()
            .map(|s| {
                if s.gateway.is_empty() {
                    s.subnet.clone()
                } else {
                    format!("{} via {}", s.subnet, s.gateway)
                }
            })
            .collect();
    let internal = if network.internal { "  internal" } else { "" };
    let name = paint.bold(&network.name);
    let short = network.id.get(..12).unwrap_or(&network.id);
    line(
        out,
        &format!("{branch}{} network {name}  {short}  {}{internal}", network.driver, subnets.join(", ")),
    );

    let width = |field: fn(&Endpoint) -> usize| network.endpoints.iter().map(field).max().unwrap_or(0);
    let container = width(|e| e.container.len());
    let interface = width(|e| e.interface.len());
    let addresses = width(|e| e.addresses.join(", ").len());
    for (index, endpoint) in network.endpoints.iter().enumerate() {
        let last = index + 1 == network.endpoints.len();
        let (branch, below) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        let pad = container - endpoint.container.len();
        line(
            out,
            &format!(
                "{indent}{branch}{}{:pad$}  {:interface$}  {:addresses$}  {}",
                paint.bold(&endpoint.container),
                "",
                endpoint.interface,
                endpoint.addresses.join(", "),
                endpoint.mac,
            ),
        );
        for (index, port) in endpoint.ports.iter().enumerate() {
            let branch = if index + 1 == endpoint.ports.len() { "└─ " } else { "├─ " };
            line(out, &format!("{indent}{below}{branch}published {}", paint.green(&published(port))));
        }
    }
}

/// `0.0.0.0:8000-8009 → 80-89/tcp`, as `docker ps` writes it.
fn published(port: &Port) -> String {
    let range = |first: u32| match port.count {
        0 | 1 => first.to_string(),
        count => format!("{first}-{}", first + count - 1),
    };
    let host = match port.host_ip.as_str() {
        "" => "*".to_owned(),
        v6 if v6.contains(':') => format!("[{v6}]"),
        v4 => v4.to_owned(),
    };
    format!("{host}:{} → {}/{}", range(port.host_port), range(port.container_port), port.protocol)
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{}", text.trim_end()).expect("writing to a String does not fail");
}

struct Paint {
    colour: bool,
}

impl Paint {
    fn bold(&self, text: &str) -> String {
        self.sgr("1", text)
    }

    fn green(&self, text: &str) -> String {
        self.sgr("32", text)
    }

    fn sgr(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Subnet, Uplink};

    #[test]
    fn a_host_is_drawn_as_a_tree_with_columns_that_line_up() {
        let endpoint = |container: &str, address: &str, ports| Endpoint {
            container: container.into(),
            container_id: "c".repeat(64),
            interface: "eth0".into(),
            host_link: "cw0".into(),
            mac: "02:42:0a:00:00:02".into(),
            addresses: vec![address.into()],
            names: vec![],
            ports,
        };
        let port = Port {
            protocol: "tcp".into(),
            host_ip: "".into(),
            host_port: 8000,
            container_port: 80,
            count: 10,
        };
        let report = Report {
            mtu: 1500,
            uplinks: vec![Uplink { name: "eth0".into(), addresses: vec!["192.0.2.1/24".into()] }],
            networks: vec![Network {
                id: "a".repeat(64),
                name: "app".into(),
                driver: "bridge".into(),
                internal: false,
                subnets: vec![Subnet { subnet: "10.0.0.0/24".into(), gateway: "10.0.0.1".into() }],
                endpoints: vec![
                    endpoint("web", "10.0.0.2/24", vec![port]),
                    endpoint("client", "10.0.0.33/24", vec![]),
                ],
            }],
        };
        let drawn = "\
host  mtu 1500
├─ uplink eth0  192.0.2.1/24
└─ bridge network app  aaaaaaaaaaaa  10.0.0.0/24 via 10.0.0.1
   ├─ web     eth0  10.0.0.2/24   02:42:0a:00:00:02
   │  └─ published *:8000-8009 → 80-89/tcp
   └─ client  eth0  10.0.0.33/24  02:42:0a:00:00:02
";
        assert_eq!(render(&report, false), drawn);
    }
}
