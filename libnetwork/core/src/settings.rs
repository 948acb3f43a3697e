//! Changing a network while it is in use.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use libnetwork_model::{Change, DnsOptions, Mutation, Network};

use crate::{
    Error, Event,
    draft::{Desk, Draft, Subject, publishing_on, resolve},
    settle::choose_gateways,
};

/// What can be changed, by the words of `causeway network set`, with the driver option that each stands for and the key of
/// `daemon.json` that says it of the default bridge.
const OPTIONS: [(&str, &str, Option<&str>); 5] = [
    ("icc", "com.docker.network.bridge.enable_icc", Some("icc")),
    ("mtu", "com.docker.network.driver.mtu", Some("mtu")),
    ("masquerade", "com.docker.network.bridge.enable_ip_masquerade", Some("ip-masq")),
    ("gateway-mode-ipv4", "com.docker.network.bridge.gateway_mode_ipv4", None),
    ("gateway-mode-ipv6", "com.docker.network.bridge.gateway_mode_ipv6", None),
];
const LABEL: &str = "label.";

impl Desk<'_> {
    pub(crate) fn set_network(
        &mut self,
        reference: &str,
        settings: &BTreeMap<String, String>,
    ) -> Result<Draft, Error> {
        let old = resolve(self.intent, reference)?.clone();
        let mut network = (*old).clone();
        for (key, value) in settings {
            set(&mut network, key, value)?;
        }
        if let Some(driver) = self.drivers.of(&network) {
            driver.validate(&network, self.host).map_err(Error::Driver)?;
            choose_gateways(driver, &mut network)?;
            self.refuse_lived_in(&old, &network)?;
        }
        DnsOptions::read(&network).map_err(|error| Error::Invalid { what: error.to_string() })?;
        let subject = Subject::Network(old.id.clone());
        let mut draft = Draft {
            change: Change::default(),
            undo: None,
            subjects: BTreeSet::new(),
            holds: vec![subject.clone()],
            events: Vec::new(),
            about: subject.clone(),
            object: format!("network {}", old.name),
        };
        if network == *old {
            return Ok(draft);
        }
        // Its segments and endpoints change with it, and their refusals are this command's.
        let endpoints = self.intent.endpoints_on(&old.id);
        draft.subjects = endpoints
            .flat_map(|e| [Subject::Endpoint(e.id.clone()), Subject::Sandbox(e.sandbox.clone())])
            .chain(self.intent.segments_of(&old.id).map(|segment| Subject::Segment(old.id.clone(), segment)))
            .chain([subject, Subject::Shared])
            .collect();
        let network = Arc::new(network);
        draft.events = vec![Event::network("update", &network)];
        let mut undo = vec![Mutation::PutNetwork(old.clone())];
        draft.change = Change(vec![Mutation::PutNetwork(network)]);
        let mut after = self.intent.apply(&draft.change);
        // One after the other: ports that one takes are not another's.
        for sandbox in publishing_on(self.intent, &old.id) {
            if let Some(moved) = self.ports_after(&after, sandbox)? {
                let moved = Mutation::PutSandbox(moved);
                after = after.apply(&Change(vec![moved.clone()]));
                draft.change.0.push(moved);
                undo.push(Mutation::PutSandbox(sandbox.clone()));
            }
            // Nor may what is made of its ports meanwhile rest on a change that may be taken back.
            draft.holds.push(Subject::Sandbox(sandbox.id.clone()));
        }
        draft.undo = Some(Change(undo));
        Ok(draft)
    }
}

impl Desk<'_> {
    /// Refuses gateways whose addresses containers got while there were none.
    fn refuse_lived_in(&self, old: &Network, new: &Network) -> Result<(), Error> {
        let had = |gateway| old.subnets.iter().any(|subnet| subnet.gateway == Some(gateway));
        for gateway in new.subnets.iter().filter_map(|subnet| subnet.gateway).filter(|gateway| !had(*gateway))
        {
            let lease = self.intent.lease(&old.id, gateway).map(|_| "has");
            if let Some(verb) = lease.or(self.intent.reservation(&old.id, gateway).map(|_| "keeps")) {
                let what = format!(
                    "network {} would get the gateway {gateway}, which a container {verb}: remove that container first",
                    old.name
                );
                return Err(Error::Invalid { what });
            }
        }
        Ok(())
    }
}

fn set(network: &mut Network, key: &str, value: &str) -> Result<(), Error> {
    let refuse = |what: String| Err(Error::Invalid { what });
    if let Some(label) = key.strip_prefix(LABEL).filter(|label| !label.is_empty()) {
        match value {
            "" => network.labels.remove(label),
            _ => network.labels.insert(label.to_owned(), value.to_owned()),
        };
        return Ok(());
    }
    if matches!(network.driver.as_str(), crate::HOST | crate::NONE) {
        return refuse(format!("network {} has nothing to set but labels", network.name));
    }
    if key == "internal" {
        if network.predefined {
            return refuse(format!("the predefined network {} cannot be internal", network.name));
        }
        network.internal = match value {
            "true" | "1" => true,
            "false" | "0" => false,
            _ => return refuse(format!("internal is {value:?}, must be true or false")),
        };
        return Ok(());
    }
    let fixed = ["subnet", "gateway", "ip-range", "ipv4", "ipv6", "driver", "name"];
    if fixed.contains(&key) {
        return refuse(format!("{key} cannot be changed: containers live by it; make another network"));
    }
    let option = OPTIONS.iter().find(|(word, option, _)| *word == key || *option == key);
    let Some((word, option, configured)) = option else {
        let known: Vec<&str> = OPTIONS.iter().map(|(word, ..)| *word).collect();
        return refuse(format!(
            "unknown setting {key:?}: it is one of {}, internal, label.NAME",
            known.join(", ")
        ));
    };
    if network.predefined {
        // Every start makes it as the configuration says, so this would be gone, unannounced, with the next one.
        let name = &network.name;
        let instead = match configured {
            Some(configured) => {
                format!("set {configured:?} in daemon.json and send SIGHUP, or make a network of your own")
            }
            None => "make a network of your own".to_owned(),
        };
        return refuse(format!(
            "{word} of the predefined network {name} cannot be changed by command: {instead}"
        ));
    }
    match value {
        "" => network.options.remove(*option),
        _ => network.options.insert((*option).to_owned(), value.to_owned()),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use driver_bridge::BridgeDriver;
    use libnetwork_model::{
        Endpoint, EndpointId, Intent, NamespaceKind, NetworkId, PortRange, PortWish, Protocol, PublishedPort,
        Sandbox, SandboxId, Subnet,
    };

    use super::*;
    use crate::{BusyPorts, Drivers};

    /// A network with so many containers, each of which publishes a port.
    fn crowded(count: u16) -> Intent {
        let id = NetworkId::from_bytes([1; 32]);
        let subnet = Subnet {
            subnet: "10.0.0.0/16".parse().unwrap(),
            gateway: "10.0.0.1".parse().ok(),
            gateway_chosen: true,
            ip_range: None,
            auxiliary: BTreeMap::new(),
            requested: true,
        };
        let network = Network {
            id: id.clone(),
            name: "web".into(),
            driver: "bridge".into(),
            created_ns: 1,
            ipv4: true,
            ipv6: false,
            internal: false,
            attachable: false,
            predefined: false,
            config_only: false,
            config_from: None,
            foreign_link: false,
            subnets: vec![subnet],
            idle_subnets: Vec::new(),
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
            ipam_options: BTreeMap::new(),
        };
        let mut change = vec![Mutation::PutNetwork(Arc::new(network))];
        for n in 1..=count {
            let [high, low] = n.to_be_bytes();
            let mut bytes = [0; 32];
            bytes[..2].copy_from_slice(&[high, low]);
            let sandbox = SandboxId::from_bytes(bytes);
            let host_ports = PortRange::new(1000 + n, 1000 + n).unwrap();
            let (protocol, container_port) = (Protocol::Tcp, 80);
            let wish =
                PortWish { protocol, host_ip: None, host_ports: Some(host_ports), container_port, count: 1 };
            let port = PublishedPort { protocol, host_ip: None, host_ports, container_port, routed: false };
            change.push(Mutation::PutSandbox(Arc::new(Sandbox {
                id: sandbox.clone(),
                name: format!("box{n}"),
                owner: String::new(),
                namespace: NamespaceKind::Own,
                resolver: Default::default(),
                wishes: vec![wish],
                ports: vec![port],
            })));
            change.push(Mutation::PutEndpoint(Arc::new(Endpoint {
                id: EndpointId::from_bytes(bytes),
                network: id.clone(),
                sandbox,
                ifname: "eth0".into(),
                mac: None,
                ipv4: format!("10.0.{}.{low}/16", 1 + high).parse().ok(),
                ipv6: None,
                aliases: Vec::new(),
                links: BTreeMap::new(),
                openings: Vec::new(),
                gateway_priority: 0,
                segment: 0,
                link_local: Vec::new(),
                options: BTreeMap::new(),
            })));
        }
        Intent::default().apply(&Change(change))
    }

    fn set(intent: &Intent, mode: &str) -> Draft {
        let settings = [("gateway-mode-ipv4".to_owned(), mode.to_owned())].into();
        let desk = &mut Desk {
            intent,
            host: &Default::default(),
            drivers: &Drivers::default().with("bridge", BridgeDriver::default()),
            pools: &[],
            defaults: &Default::default(),
            hints: &mut Default::default(),
            random: &mut || [0; 32],
            busy: &mut (Box::new(|_, _, _| None) as BusyPorts),
            returning: &Default::default(),
        };
        desk.set_network("web", &settings).unwrap()
    }

    #[test]
    fn a_change_costs_in_proportion_to_the_containers_whose_ports_it_moves() {
        let time = |intent: &Intent, count: usize| {
            let once = || {
                let start = Instant::now();
                // There and back, where each port has to be found free again.
                let routed = intent.apply(&set(intent, "routed").change);
                let back = set(&routed, "nat");
                assert_eq!(back.change.0.len(), 1 + count);
                start.elapsed()
            };
            (0..3).map(|_| once()).min().unwrap_or(Duration::MAX)
        };
        let few = time(&crowded(150), 150);
        let many = time(&crowded(3000), 3000);
        assert!(many < few * 80, "{few:?} for 150, {many:?} for 20 times as many");
    }
}
