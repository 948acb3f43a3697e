//! What a container publishes, as causewayd is asked for it.

use std::{collections::BTreeMap, net::IpAddr};

use libnetwork_model::Protocol;
use libnetwork_rpc::v1;

use crate::{
    Result,
    config::{
        ContainerConfig, HostConfig, PortSet,
        port_run::{HostPort, Run},
        port_set::Ports,
    },
    ports::{ContainerPort, exposed, host_ip, host_range},
};

/// The container's published ports, as few entries as say the same: neighbouring ports that lead to neighbouring
/// ports become one range, because the CLI sends `-p 8000-9000:8000-9000` as a thousand and one bindings.
///
/// As for Docker, a binding counts where its port is exposed under the very same key (clients that publish expose as well),
/// and one without a place (`null`, `[]`) stands for nothing.
pub(crate) fn wishes(config: &ContainerConfig, host: &HostConfig) -> Result<Vec<v1::PortSpec>> {
    let mut wishes = Wishes::default();
    let mut bound = PortSet::default();
    let exposes = config.exposed_ports.as_ref();
    for run in host.port_bindings.iter().flat_map(|bindings| bindings.runs()) {
        for part in exposes.iter().flat_map(|set| set.ranges()).filter_map(|range| run.part(*range)) {
            wishes.run(&part)?;
            bound.extend(part.is_published().then_some(part.ports));
        }
    }
    for (text, bindings) in host.port_bindings.iter().flat_map(|bindings| bindings.other()) {
        if exposes.is_some_and(|set| set.other().any(|key| key == text)) {
            let port: ContainerPort = text.parse()?;
            let run = Run::of(port, bindings.as_deref());
            wishes.run(&run)?;
            bound.extend(run.is_published().then_some(run.ports));
        }
    }
    if host.publish_all_ports {
        for port in exposed(&config.exposed_ports)? {
            if !bound.contains(port) {
                wishes.any(Ports::one(port), None, (0, 0));
            }
        }
    }
    Ok(wishes.into_specs())
}

/// By protocol and host address.
type Where = (Protocol, Option<IpAddr>);

/// What is to be published, gathered.
#[derive(Default)]
struct Wishes {
    specs: Vec<v1::PortSpec>,
    /// Host ports that are asked for by number: how far the container's are below them, the first of these, how many.
    fixed: BTreeMap<Where, Vec<(i32, u16, u32)>>,
}

impl Wishes {
    fn run(&mut self, run: &Run) -> Result<()> {
        let ports = run.ports;
        for place in run.places.iter().flatten() {
            let ip = host_ip(&place.host_ip)?;
            let (host, count) = match &place.host_port {
                HostPort::From(first) => (*first, ports.count()),
                HostPort::Each(text) => match host_range(text)? {
                    // Each of them on the same.
                    (first, last) if first == last && first != 0 => {
                        for port in ports.each() {
                            self.fixed(Ports::one(port), ip, first, 1);
                        }
                        continue;
                    }
                    choice => {
                        self.any(ports, ip, choice);
                        continue;
                    }
                },
            };
            self.fixed(ports, ip, host, count);
        }
        Ok(())
    }

    fn fixed(&mut self, ports: Ports, ip: Option<IpAddr>, host: u16, count: u32) {
        let distance = i32::from(host) - i32::from(ports.first);
        self.fixed.entry((ports.protocol, ip)).or_default().push((distance, ports.first, count));
    }

    /// Each of these on any host port of a choice; 0 and 0: of all.
    fn any(&mut self, ports: Ports, ip: Option<IpAddr>, choice: (u16, u16)) {
        let each = ports.each().map(|port| spec((port.protocol, ip), choice, port.number, 1));
        self.specs.extend(each);
    }

    fn into_specs(self) -> Vec<v1::PortSpec> {
        let Self { mut specs, fixed } = self;
        for (place, mut runs) in fixed {
            runs.sort_unstable();
            runs.dedup_by(|next, run| {
                let offset = u32::from(next.1.saturating_sub(run.1));
                let touches = next.0 == run.0 && offset <= run.2;
                if touches {
                    run.2 = run.2.max(offset + next.2);
                }
                touches
            });
            runs.sort_unstable_by_key(|(distance, first, _)| (*first, *distance));
            specs.extend(runs.into_iter().map(|(distance, first, count)| {
                let host = (i32::from(first) + distance) as u32;
                spec(place, (host as u16, (host + count - 1) as u16), first, count)
            }));
        }
        specs
    }
}

fn spec((protocol, ip): Where, (first, last): (u16, u16), container: u16, count: u32) -> v1::PortSpec {
    v1::PortSpec {
        protocol: protocol.to_string(),
        host_ip: ip.map(|ip| ip.to_string()).unwrap_or_default(),
        host_first: first.into(),
        host_last: last.into(),
        container_port: container.into(),
        count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::tests::host;

    /// What these bindings publish of a container that exposes all of them, as every client has it that publishes.
    fn published(bindings: &[(&str, &str, &str)]) -> Vec<v1::PortSpec> {
        let exposed_ports = Some(bindings.iter().map(|(key, ..)| *key).collect());
        let config = ContainerConfig { exposed_ports, ..ContainerConfig::default() };
        wishes(&config, &host(bindings)).unwrap()
    }

    #[test]
    fn a_range_of_ten_thousand_ports_is_one_entry() {
        let bindings: Vec<(String, String)> =
            (0..10_000).map(|n| (format!("{}/tcp", 20_000 + n), (30_000 + n).to_string())).collect();
        let bindings: Vec<(&str, &str, &str)> =
            bindings.iter().map(|(port, host)| (port.as_str(), "", host.as_str())).collect();
        let specs = published(&bindings);
        assert_eq!(specs.len(), 1);
        assert_eq!((specs[0].host_first, specs[0].host_last), (30_000, 39_999));
        assert_eq!((specs[0].container_port, specs[0].count), (20_000, 10_000));
    }

    #[test]
    fn what_is_not_in_line_stays_apart() {
        let specs = published(&[
            ("80/tcp", "", "8080"),
            ("81/tcp", "", "8081"),
            ("82/tcp", "", "9000"),
            ("83/tcp", "127.0.0.1", "9001"),
            ("84/udp", "", "9002"),
            ("85/tcp", "", ""),
            ("86/tcp", "", "7000-7010"),
            ("65535/tcp", "", "65535"),
        ]);
        let mut seen: Vec<_> = specs
            .iter()
            .map(|s| {
                (
                    s.protocol.as_str(),
                    s.host_ip.as_str(),
                    s.host_first,
                    s.host_last,
                    s.container_port,
                    s.count,
                )
            })
            .collect();
        seen.sort();
        assert_eq!(
            seen,
            [
                ("tcp", "", 0, 0, 85, 1),
                ("tcp", "", 7000, 7010, 86, 1),
                ("tcp", "", 8080, 8081, 80, 2),
                ("tcp", "", 9000, 9000, 82, 1),
                ("tcp", "", 65535, 65535, 65535, 1),
                ("tcp", "127.0.0.1", 9001, 9001, 83, 1),
                ("udp", "", 9002, 9002, 84, 1),
            ]
        );
    }

    #[test]
    fn ports_published_twice_are_a_range_each_time_and_what_is_said_twice_counts_once() {
        let mut bindings = Vec::new();
        for n in 80..90_u16 {
            let (key, other) = (format!("{n}/tcp"), n.to_string());
            bindings.extend([(key.clone(), n + 8000), (other, n + 8000), (key, n + 9000)]);
        }
        let bindings: Vec<(&str, String)> =
            bindings.iter().map(|(key, host)| (key.as_str(), host.to_string())).collect();
        let bindings: Vec<(&str, &str, &str)> =
            bindings.iter().map(|(key, host)| (*key, "", host.as_str())).collect();
        let specs = published(&bindings);
        let seen: Vec<_> =
            specs.iter().map(|s| (s.host_first, s.host_last, s.container_port, s.count)).collect();
        assert_eq!(seen, [(8080, 8089, 80, 10), (9080, 9089, 80, 10)]);
    }

    #[test]
    fn what_is_not_exposed_or_has_no_place_is_not_published() {
        let bindings =
            [("80/tcp", "", "8080"), ("82/tcp", "", "8082"), ("83", "", "8083"), ("84/TCP", "", "8084")];
        let mut host = host(&bindings);
        let mut map = host.port_bindings.take().unwrap().to_map();
        map.insert("85/tcp".into(), None);
        map.insert("86/tcp".into(), Some(Vec::new()));
        host.port_bindings = Some(map.into());
        let mut config = ContainerConfig::default();
        assert_eq!(wishes(&config, &host).unwrap(), []);
        let exposed = ["81/tcp", "82/tcp", "83/tcp", "84/tcp", "85/tcp", "86/tcp"];
        config.exposed_ports = Some(PortSet::from_iter(exposed));
        let specs = wishes(&config, &host).unwrap();
        assert_eq!(specs.iter().map(|s| s.host_first).collect::<Vec<_>>(), [8082]);
        // With -P, what has no place is published anywhere.
        host.publish_all_ports = true;
        let ports: Vec<_> = wishes(&config, &host).unwrap().iter().map(|s| s.container_port).collect();
        assert_eq!(ports, [81, 83, 84, 85, 86, 82]);
    }

    #[test]
    fn of_a_range_that_is_published_what_is_exposed_counts() {
        let bindings: Vec<(String, String)> =
            (0..10).map(|n| (format!("{}/tcp", 80 + n), (8080 + n).to_string())).collect();
        let bindings: Vec<_> =
            bindings.iter().map(|(port, host)| (port.as_str(), "", host.as_str())).collect();
        let exposed_ports = Some(PortSet::from_iter(["81/tcp", "82/tcp", "85/tcp"]));
        let config = ContainerConfig { exposed_ports, ..ContainerConfig::default() };
        let specs = wishes(&config, &host(&bindings)).unwrap();
        let seen: Vec<_> = specs.iter().map(|s| (s.host_first, s.container_port, s.count)).collect();
        assert_eq!(seen, [(8081, 81, 2), (8085, 85, 1)]);
    }

    #[test]
    fn publishing_all_takes_exposed_ports_that_have_no_binding() {
        let set = PortSet::from_iter(["80/tcp", "90/udp"]);
        let config = ContainerConfig { exposed_ports: Some(set), ..ContainerConfig::default() };
        let host = HostConfig { publish_all_ports: true, ..host(&[("80/tcp", "", "1")]) };
        let specs = wishes(&config, &host).unwrap();
        assert_eq!(specs.len(), 2);
        assert!(specs.iter().any(|s| s.protocol == "udp" && s.host_first == 0 && s.container_port == 90));
    }
}
