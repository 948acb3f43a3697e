//! From an intent to what the kernel and the port mapper should have, by the drivers.

use std::{collections::BTreeSet, net::IpAddr};

use libnetwork_model::{
    Change, Endpoint, EndpointId, HostFacts, Intent, Mutation, NamespaceKind, Network, NetworkId,
    PublishedPort, Sandbox, SandboxId,
};
use libnetwork_plan::{Desired, Key, LinkRank, Name, sandbox_objects};

use crate::{Drivers, PortMapping, PortTarget, Publication, draft::Subject};

/// The objects that changes are about: all that a pass looks at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Touched {
    pub(crate) networks: BTreeSet<NetworkId>,
    pub(crate) segments: BTreeSet<(NetworkId, u16)>,
    pub(crate) sandboxes: BTreeSet<SandboxId>,
    pub(crate) endpoints: BTreeSet<EndpointId>,
    /// Those of `sandboxes` that no change names. An endpoint of theirs came or went, and may have changed a route.
    beside: BTreeSet<SandboxId>,
    /// Who has openings to one of `endpoints`.
    opened: BTreeSet<EndpointId>,
}

/// What a pass makes of changes.
pub(crate) struct Work {
    pub(crate) desired: Desired,
    /// What to look at: all that the changes name, and of what they reach what they change about it.
    pub(crate) keys: BTreeSet<Key>,
    /// Those of them that nobody else has, since their names are new: all of an endpoint that has just been thought up.
    pub(crate) new: BTreeSet<Key>,
}

impl Touched {
    pub(crate) fn by(change: &Change, before: &Intent, after: &Intent) -> Self {
        let mut touched = Self::default();
        for mutation in &change.0 {
            match mutation {
                Mutation::PutNetwork(network) => touched.network(&network.id, before, after),
                Mutation::RemoveNetwork(id) => touched.network(id, before, after),
                Mutation::PutSandbox(sandbox) => drop(touched.sandboxes.insert(sandbox.id.clone())),
                Mutation::RemoveSandbox(id) => drop(touched.sandboxes.insert(id.clone())),
                Mutation::PutEndpoint(endpoint) => touched.endpoint(&endpoint.id, before, after),
                Mutation::RemoveEndpoint(id) => touched.endpoint(id, before, after),
                // Nobody but the next lease asks for them.
                Mutation::Reserve(_) | Mutation::Release { .. } => {}
            }
        }
        // A namespace that comes or goes takes the links that lead into it along. One that an endpoint is put into or
        // taken out of does not: the cost of a connect would grow with the networks that the sandbox is on.
        let whole = change.0.iter().filter_map(|mutation| match mutation {
            Mutation::PutSandbox(sandbox) => Some(&sandbox.id),
            Mutation::RemoveSandbox(id) => Some(id),
            _ => None,
        });
        let inside = whole.flat_map(|id| before.endpoints_in(id).chain(after.endpoints_in(id)));
        touched.endpoints.extend(inside.map(|e| e.id.clone()));
        let named = |id: &SandboxId| {
            change.0.iter().any(|mutation| match mutation {
                Mutation::PutSandbox(sandbox) => sandbox.id == *id,
                Mutation::RemoveSandbox(other) => other == id,
                _ => false,
            })
        };
        touched.beside = touched.sandboxes.iter().filter(|id| !named(id)).cloned().collect();
        touched
    }

    /// A network that changed takes its segments and endpoints along; one that is made or removed has none.
    pub(crate) fn network(&mut self, id: &NetworkId, before: &Intent, after: &Intent) {
        self.networks.insert(id.clone());
        let segments = before.segments_of(id).chain(after.segments_of(id)).filter(|segment| *segment > 0);
        self.segments.extend(segments.map(|segment| (id.clone(), segment)));
        for endpoint in before.endpoints_on(id).chain(after.endpoints_on(id)) {
            self.endpoint(&endpoint.id, before, after);
        }
    }

    /// A sandbox with all that leads into it.
    pub(crate) fn sandbox(&mut self, id: &SandboxId, intent: &Intent) {
        self.sandboxes.insert(id.clone());
        self.endpoints.extend(intent.endpoints_in(id).map(|e| e.id.clone()));
    }

    /// Default routes are the sandbox's, and follow its endpoints. A segment is there for its endpoints.
    pub(crate) fn endpoint(&mut self, id: &EndpointId, before: &Intent, after: &Intent) {
        self.endpoints.insert(id.clone());
        let there = [before.endpoint(id), after.endpoint(id)];
        for endpoint in there.into_iter().flatten() {
            self.sandboxes.insert(endpoint.sandbox.clone());
            let opened = [before, after].into_iter().flat_map(|i| i.endpoints_opened_to(&endpoint.sandbox));
            self.opened.extend(opened.filter(|e| e.network == endpoint.network).map(|e| e.id.clone()));
            let (network, segment) = (&endpoint.network, endpoint.segment);
            let inhabited = |intent: &Intent| intent.population(network, segment) > 0;
            if segment > 0 && inhabited(before) != inhabited(after) {
                self.segments.insert((network.clone(), segment));
            }
        }
    }
}

/// Compiles intents with what all compilations share.
#[derive(Clone, Copy)]
pub(crate) struct Compiler<'a> {
    pub(crate) drivers: &'a Drivers,
    pub(crate) host: &'a HostFacts,
}

impl Compiler<'_> {
    pub(crate) fn everything(&self, intent: &Intent) -> Desired {
        let mut out = Desired::new();
        self.shared(intent, &mut out);
        for network in intent.networks() {
            self.whole_network(intent, network, &mut out);
        }
        for sandbox in intent.sandboxes() {
            self.sandbox(intent, sandbox, &mut out);
        }
        for endpoint in intent.endpoints() {
            self.endpoint(intent, endpoint, &mut out);
        }
        out
    }

    /// What is to be done about what was touched, compiled before and after.
    pub(crate) fn work(&self, before: &Intent, after: &Intent, touched: &Touched) -> Work {
        let (was, mut desired) = (self.named(before, touched), self.named(after, touched));
        let mut keys: BTreeSet<Key> = was.keys().chain(desired.keys()).cloned().collect();
        let fresh = |id: &&EndpointId| before.endpoint(id).is_none();
        let mut new = Desired::new();
        for id in touched.endpoints.iter().filter(fresh) {
            self.subject(after, &Subject::Endpoint(id.clone()), &mut new);
        }
        // A setting is there before anybody sets it.
        let exclusive = |key: &Key| !matches!(key, Key::Sysctl { .. } | Key::LinkSysctl { .. });
        let new = new.into_keys().filter(|key| exclusive(key) && !was.contains_key(key)).collect();

        let (reached_before, reached) = (self.reached(before, touched), self.reached(after, touched));
        let changed = |key: &&Key| reached_before.get(*key) != reached.get(*key);
        keys.extend(reached_before.keys().chain(reached.keys()).filter(changed).cloned());
        desired.extend(reached);
        Work { desired, keys, new }
    }

    /// The objects of what changes name.
    pub(crate) fn named(&self, intent: &Intent, touched: &Touched) -> Desired {
        let mut out = Desired::new();
        let reached =
            |subject: &Subject| matches!(subject, Subject::Sandbox(id) if touched.beside.contains(id));
        for subject in touched.subjects().filter(|subject| !reached(subject)) {
            self.subject(intent, &subject, &mut out);
        }
        out
    }

    /// The objects that changes may have changed without naming them.
    fn reached(&self, intent: &Intent, touched: &Touched) -> Desired {
        let mut out = Desired::new();
        if !touched.networks.is_empty() {
            self.shared(intent, &mut out);
        }
        for id in &touched.beside {
            self.subject(intent, &Subject::Sandbox(id.clone()), &mut out);
        }
        for endpoint in touched.opened.iter().filter_map(|id| intent.endpoint(id)) {
            self.openings(intent, endpoint, &mut out);
        }
        out
    }

    /// What the touched endpoints hang on: their networks and what these share, and their sandboxes.
    pub(crate) fn below(&self, intent: &Intent, touched: &Touched) -> Desired {
        let mut out = self.reached(intent, touched);
        self.shared(intent, &mut out);
        let networks: BTreeSet<&NetworkId> =
            touched.endpoints.iter().filter_map(|id| intent.endpoint(id)).map(|e| &e.network).collect();
        for network in networks.into_iter().filter_map(|id| intent.network(id)) {
            self.whole_network(intent, network, &mut out);
        }
        out
    }

    /// The objects of one subject alone, to tell whose a key is.
    pub(crate) fn subject(&self, intent: &Intent, subject: &Subject, out: &mut Desired) {
        match subject {
            Subject::Shared => self.shared(intent, out),
            Subject::Network(id) => {
                if let Some(network) = intent.network(id) {
                    self.network(network, out);
                }
            }
            Subject::Segment(id, segment) => {
                if let Some(network) = intent.network(id)
                    && intent.population(id, *segment) > 0
                {
                    self.segment(network, *segment, out);
                }
            }
            Subject::Sandbox(id) => {
                if let Some(sandbox) = intent.sandbox(id) {
                    self.sandbox(intent, sandbox, out);
                }
            }
            Subject::Endpoint(id) => {
                if let Some(endpoint) = intent.endpoint(id) {
                    self.endpoint(intent, endpoint, out);
                }
            }
        }
    }

    /// A network's bridge with the host's addresses on it, if published ports can be reached from it.
    pub(crate) fn bridge(&self, network: &Network) -> Option<(String, Vec<IpAddr>)> {
        if network.internal {
            return None;
        }
        let mut out = Desired::new();
        self.network(network, &mut out);
        let bridge = out.keys().find_map(|key| match key {
            Key::Link { rank: LinkRank::Bridge, name, .. } => Some(name.clone()),
            _ => None,
        })?;
        let addresses = out.keys().filter_map(|key| match key {
            Key::Address { link, address, .. } if *link == bridge => Some(address.addr()),
            _ => None,
        });
        Some((bridge.to_string(), addresses.collect()))
    }

    /// Where the published ports of a sandbox lead.
    pub(crate) fn publication(&self, intent: &Intent, sandbox: &Sandbox) -> Publication {
        if sandbox.ports.iter().all(|port| port.routed) || sandbox.namespace == NamespaceKind::Host {
            return Publication::default();
        }
        let [ipv4, ipv6] = [false, true].map(|ipv6| {
            let endpoint = intent.gateway_endpoint(&sandbox.id, ipv6)?;
            self.target(endpoint, intent.network(&endpoint.network)?, ipv6)
        });
        if ipv4.is_none() && ipv6.is_none() {
            return Publication::default();
        }
        let mapping =
            |port: &_| PortMapping { port: Clone::clone(port), ipv4: ipv4.clone(), ipv6: ipv6.clone() };
        let by_itself = |target: &PortTarget| [&ipv4, &ipv6].into_iter().flatten().any(|t| t == target);
        let beside = self.reachable(intent, sandbox).flat_map(|(endpoint, network)| {
            [false, true].into_iter().filter_map(|ipv6| self.target(endpoint, network, ipv6))
        });
        Publication {
            mappings: sandbox.ports.iter().filter(|port| !port.routed).map(mapping).collect(),
            beside: beside.filter(|target| !by_itself(target)).collect(),
        }
    }

    /// The endpoints of a sandbox whose networks reach published ports, with these.
    fn reachable<'a>(
        &self,
        intent: &'a Intent,
        sandbox: &Sandbox,
    ) -> impl Iterator<Item = (&'a Endpoint, &'a Network)> {
        let with_network = |endpoint: &'a Endpoint| Some((endpoint, &**intent.network(&endpoint.network)?));
        intent.endpoints_in(&sandbox.id).map(|e| &**e).filter_map(with_network).filter(|(_, n)| !n.internal)
    }

    fn sandbox(&self, intent: &Intent, sandbox: &Sandbox, out: &mut Desired) {
        sandbox_objects(intent, sandbox, out);
        for ipv6 in [false, true] {
            let published: Vec<PublishedPort> =
                sandbox.ports.iter().filter(|port| port.is_of(ipv6)).cloned().collect();
            if !published.is_empty()
                && let Some(endpoint) = intent.gateway_endpoint(&sandbox.id, ipv6)
                && let Some(network) = intent.network(&endpoint.network)
                && let Some(driver) = self.drivers.of(network)
            {
                let others = self.reachable(intent, sandbox).filter(|(_, other)| other.id != network.id);
                let beside: Vec<Name> = others
                    .filter_map(|(endpoint, other)| {
                        self.drivers.of(other)?.attachment(other, endpoint, self.host)?.bridge
                    })
                    .collect();
                driver.port_objects(network, endpoint, ipv6, &published, &beside, out);
            }
        }
    }

    fn target(&self, endpoint: &Endpoint, network: &Network, ipv6: bool) -> Option<PortTarget> {
        let attachment = self.drivers.of(network)?.attachment(network, endpoint, self.host)?;
        Some(PortTarget {
            address: endpoint.addresses().find(|a| a.is_ipv6() == ipv6)?,
            link: attachment.link.to_string(),
            mac: endpoint.mac?,
            bridge: attachment.bridge?.to_string(),
            gateway: network.subnet(ipv6)?.gateway?,
            apart: attachment.apart,
        })
    }

    fn shared(&self, intent: &Intent, out: &mut Desired) {
        for (name, driver) in self.drivers.iter() {
            if intent.has_driver(name) {
                driver.host_objects(self.host, out);
            }
        }
    }

    fn network(&self, network: &Network, out: &mut Desired) {
        if let Some(driver) = self.drivers.of(network) {
            driver.network_objects(network, self.host, out);
        }
    }

    fn segment(&self, network: &Network, segment: u16, out: &mut Desired) {
        if let Some(driver) = self.drivers.of(network) {
            driver.segment_objects(network, segment, self.host, out);
        }
    }

    fn whole_network(&self, intent: &Intent, network: &Network, out: &mut Desired) {
        self.network(network, out);
        for segment in intent.segments_of(&network.id).filter(|segment| *segment > 0) {
            self.segment(network, segment, out);
        }
    }

    fn endpoint(&self, intent: &Intent, endpoint: &Endpoint, out: &mut Desired) {
        if let Some(network) = intent.network(&endpoint.network)
            && let Some(driver) = self.drivers.of(network)
        {
            driver.endpoint_objects(network, endpoint, self.host, out);
        }
        self.openings(intent, endpoint, out);
    }

    fn openings(&self, intent: &Intent, endpoint: &Endpoint, out: &mut Desired) {
        if let Some(network) = intent.network(&endpoint.network)
            && let Some(driver) = self.drivers.of(network)
        {
            for opening in &endpoint.openings {
                for other in intent.endpoints_in(&opening.sandbox).filter(|e| e.network == network.id) {
                    driver.opening_objects(network, endpoint, other, opening, out);
                }
            }
        }
    }
}

impl Touched {
    pub(crate) fn subjects(&self) -> impl Iterator<Item = Subject> {
        let networks = self.networks.iter().cloned().map(Subject::Network);
        let segments = self.segments.iter().cloned().map(|(network, n)| Subject::Segment(network, n));
        let sandboxes = self.sandboxes.iter().cloned().map(Subject::Sandbox);
        networks.chain(segments).chain(sandboxes).chain(self.endpoints.iter().cloned().map(Subject::Endpoint))
    }
}
