//! Judging commands about sandboxes and their endpoints.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use libnetwork_ipam::{Wish, lease};
use libnetwork_model::{
    Change, Endpoint, EndpointId, Intent, MacAddress, Mutation, NamespaceKind, Network, Opening, Reservation,
    Sandbox, SandboxId,
};

use libnetwork_plan::{Driver, Segments};

use crate::{
    Error, Event,
    draft::{Desk, Draft, Subject, resolve},
    drivers::{HOST, NONE},
    request::{EndpointSpec, Join},
    reservations::{asked_for, kept_of, put_back, release},
};

/// The interface's name in the sandbox, when the client insists on one.
const IFNAME: &str = "com.docker.network.endpoint.ifname";
/// Interface names are shorter than this (`IFNAMSIZ`, with the final zero).
const IFNAME_SIZE: usize = 16;

impl Desk<'_> {
    pub(crate) fn join(&mut self, request: &Join) -> Result<Draft, Error> {
        let (drop, old) = remove(self.intent, &request.id);
        // What is there is as good as gone: its addresses and ports may be taken over.
        let mut intent = self.intent.apply(&drop);
        let mut sandbox = Sandbox {
            id: request.id.clone(),
            name: request.name.clone(),
            owner: request.id.to_string(),
            namespace: request.namespace,
            resolver: request.resolver.clone(),
            wishes: Vec::new(),
            ports: Vec::new(),
        };
        if sandbox.namespace == NamespaceKind::Own {
            sandbox.wishes.clone_from(&request.ports);
        }
        intent = intent.apply(&Change(vec![Mutation::PutSandbox(Arc::new(sandbox.clone()))]));
        let mut endpoints = Vec::with_capacity(request.endpoints.len());
        let mut reservations = Vec::new();
        for spec in &request.endpoints {
            let endpoint = Arc::new(self.endpoint(&intent, &sandbox, spec, &old)?);
            reservations.extend(asked_for(spec, &endpoint));
            intent = intent.apply(&Change(vec![Mutation::PutEndpoint(endpoint.clone())]));
            endpoints.push(endpoint);
        }
        let before = self.intent.sandbox(&request.id).map_or(&[][..], |s| &s.ports);
        sandbox.ports = self.ports(&intent, &sandbox, before)?;

        // Endpoints that stay keep their id, so that a join that is repeated disturbs nothing.
        let kept: BTreeSet<&EndpointId> = endpoints.iter().map(|e| &e.id).collect();
        let gone = old.iter().filter(|e| !kept.contains(&e.id));
        let mut change: Vec<Mutation> =
            gone.clone().map(|e| Mutation::RemoveEndpoint(e.id.clone())).collect();
        let mut events: Vec<Event> = gone.map(|e| Event::endpoint("disconnect", self.intent, e)).collect();
        events.extend(
            endpoints
                .iter()
                .filter(|e| !old.iter().any(|o| o.id == e.id))
                .map(|e| Event::endpoint("connect", &intent, e)),
        );
        let (mut undo, _) = remove(&intent, &request.id);
        undo.0.extend(put_back(self.intent, &reservations));
        let subject = Subject::Sandbox(sandbox.id.clone());
        let object = format!("container {}", sandbox.name);
        let subjects =
            endpoints.iter().chain(&old).flat_map(|e| subjects(e)).chain([subject.clone()]).collect();
        change.push(Mutation::PutSandbox(Arc::new(sandbox)));
        change.extend(endpoints.into_iter().map(Mutation::PutEndpoint));
        change.extend(reservations.into_iter().map(Mutation::Reserve));
        Ok(Draft {
            change: Change(change),
            undo: Some(undo),
            subjects,
            holds: vec![subject.clone()],
            events,
            about: subject,
            object,
        })
    }

    pub(crate) fn leave(&mut self, id: &SandboxId, keep: bool) -> Draft {
        let (mut change, old) = remove(self.intent, id);
        if keep {
            change.0.extend(old.iter().flat_map(|e| kept_of(self.intent, e)).map(Mutation::Reserve));
        } else {
            change.0.extend(self.intent.reservations_of(id).map(release));
        }
        let subject = Subject::Sandbox(id.clone());
        let name = self.intent.sandbox(id).map_or_else(|| id.short().to_owned(), |s| s.name.clone());
        Draft {
            change,
            undo: None,
            subjects: old.iter().map(|e| Subject::Endpoint(e.id.clone())).chain([subject.clone()]).collect(),
            holds: vec![subject.clone()],
            events: old.iter().map(|e| Event::endpoint("disconnect", self.intent, e)).collect(),
            about: subject,
            object: format!("container {name}"),
        }
    }

    pub(crate) fn connect(&mut self, id: &SandboxId, spec: &EndpointSpec) -> Result<Draft, Error> {
        let sandbox = self.sandbox(id)?;
        let endpoint = Arc::new(self.endpoint(self.intent, &sandbox, spec, &[])?);
        let reservations: Vec<Reservation> = asked_for(spec, &endpoint).collect();
        let mut undo = vec![Mutation::RemoveEndpoint(endpoint.id.clone())];
        undo.extend(put_back(self.intent, &reservations));
        let mut change = Change(vec![Mutation::PutEndpoint(endpoint.clone())]);
        change.0.extend(reservations.into_iter().map(Mutation::Reserve));
        let after = self.intent.apply(&change);
        if let Some(moved) = self.ports_after(&after, &sandbox)? {
            change.0.push(Mutation::PutSandbox(moved));
            undo.push(Mutation::PutSandbox(sandbox.clone()));
        }
        Ok(Draft {
            undo: Some(Change(undo)),
            subjects: subjects(&endpoint).chain([Subject::Sandbox(id.clone())]).collect(),
            holds: vec![Subject::Sandbox(id.clone())],
            events: vec![Event::endpoint("connect", &after, &endpoint)],
            about: Subject::Sandbox(id.clone()),
            object: format!("the endpoint of container {} on network {}", sandbox.name, spec.network),
            change,
        })
    }

    pub(crate) fn disconnect(&mut self, id: &SandboxId, reference: &str) -> Result<Draft, Error> {
        let sandbox = self.sandbox(id)?;
        let network = resolve(self.intent, reference)?;
        if network.driver == HOST {
            return invalid("container cannot be disconnected from host network - container must be created in host network mode".into());
        }
        let endpoint = self.endpoint_on(&sandbox, network)?;
        let mut change = vec![Mutation::RemoveEndpoint(endpoint.id.clone())];
        let kept = self.intent.reservations_of(id).filter(|r| r.network == network.id);
        change.extend(kept.map(release));
        let mut change = Change(change);
        let after = self.intent.apply(&change);
        change.0.extend(self.ports_after(&after, &sandbox)?.map(Mutation::PutSandbox));
        Ok(Draft {
            change,
            undo: None,
            subjects: [Subject::Endpoint(endpoint.id.clone()), Subject::Sandbox(id.clone())].into(),
            holds: vec![Subject::Sandbox(id.clone())],
            events: vec![Event::endpoint("disconnect", self.intent, &endpoint)],
            about: Subject::Sandbox(id.clone()),
            object: format!("the endpoint of container {} on network {}", sandbox.name, network.name),
        })
    }

    pub(crate) fn rename(&mut self, id: &SandboxId, name: &str) -> Result<Draft, Error> {
        let sandbox = self.sandbox(id)?;
        let renamed = Sandbox { name: name.to_owned(), ..(*sandbox).clone() };
        let subject = Subject::Sandbox(id.clone());
        Ok(Draft {
            change: Change(vec![Mutation::PutSandbox(Arc::new(renamed))]),
            undo: Some(Change(vec![Mutation::PutSandbox(sandbox)])),
            subjects: [subject.clone()].into(),
            holds: vec![subject.clone()],
            events: Vec::new(),
            about: subject,
            object: format!("container {name}"),
        })
    }

    pub(crate) fn sandbox(&self, id: &SandboxId) -> Result<Arc<Sandbox>, Error> {
        self.intent.sandbox(id).cloned().ok_or_else(|| Error::SandboxNotFound { id: id.to_string() })
    }

    pub(crate) fn endpoint_on(&self, sandbox: &Sandbox, network: &Network) -> Result<Arc<Endpoint>, Error> {
        let endpoint = self.intent.endpoints_in(&sandbox.id).find(|e| e.network == network.id);
        endpoint.cloned().ok_or_else(|| Error::NotConnected {
            sandbox: sandbox.name.clone(),
            network: network.name.clone(),
        })
    }

    /// `intent` has the sandbox and none of `old`, the endpoints that it had before; one of them on the same network
    /// lives on, unless another address is asked for.
    fn endpoint(
        &mut self,
        intent: &Intent,
        sandbox: &Sandbox,
        spec: &EndpointSpec,
        old: &[Arc<Endpoint>],
    ) -> Result<Endpoint, Error> {
        let network = resolve(intent, &spec.network)?;
        fits(intent, sandbox, network)?;
        let driver =
            self.drivers.of(network).ok_or_else(|| Error::UnknownPlugin { name: network.driver.clone() })?;
        let asked = [spec.ipv4.map(IpAddr::V4), spec.ipv6.map(IpAddr::V6)];
        if asked.iter().any(Option::is_some) {
            if network.predefined {
                return invalid(
                    "user specified IP address is supported on user defined networks only".into(),
                );
            }
            if !network.subnets.iter().any(|s| s.requested) {
                let rule = "user specified IP address is supported only when connecting to networks with user configured subnets";
                return invalid(format!(
                    "invalid config for network {}: invalid endpoint settings:\n{rule}",
                    network.name
                ));
            }
            if let Some(address) = asked.into_iter().flatten().find(|a| !asks_allowed(network, *a)) {
                return invalid(format!("no configured subnet or ip-range contain the IP address {address}"));
            }
        }
        let old = old.iter().find(|e| e.network == network.id);
        if old.is_none() {
            self.refuse_absent_bridge(driver, network)?;
        }
        let mut lease_of = |ipv6: bool| {
            let enabled = if ipv6 { network.ipv6 && !spec.without_ipv6 } else { network.ipv4 };
            if !enabled || !driver.leases_addresses() || network.subnet(ipv6).is_none() {
                return Ok(None);
            }
            let had = old.and_then(|e| e.addresses().find(|a| a.is_ipv6() == ipv6));
            let asked = asked[usize::from(ipv6)];
            // The old address is free for whoever had it, and for nobody else.
            if asked.is_none()
                && let Some(had) = had
                && let Ok(net) = lease(intent, network, ipv6, &sandbox.id, Wish::Exactly(had))
            {
                return Ok(Some(net));
            }
            let wish = match asked {
                Some(address) => Wish::Exactly(address),
                None => Wish::Lowest { from: self.hints.get(&network.id, ipv6) },
            };
            let net = lease(intent, network, ipv6, &sandbox.id, wish).map_err(Error::Lease)?;
            let kept = || intent.reservation(&network.id, net.addr()).is_some();
            if asked.is_none() && !kept() {
                self.hints.leased(&network.id, net.addr());
            }
            Ok(Some(net))
        };
        let (ipv4, ipv6) = (v4(lease_of(false)?), v6(lease_of(true)?));
        let same = old.filter(|e| e.ipv4 == ipv4 && e.ipv6 == ipv6);
        let id = same.map_or_else(|| EndpointId::from_bytes((self.random)()), |e| e.id.clone());
        let ifname = if driver.leases_addresses() {
            ifname(intent, sandbox, spec, driver.interface_prefix(network), same)?
        } else {
            String::new()
        };
        let segment = match same {
            Some(same) => same.segment,
            None => segment(intent, network, driver)?,
        };
        let endpoint = Endpoint {
            network: network.id.clone(),
            sandbox: sandbox.id.clone(),
            segment,
            ifname,
            mac: driver.leases_addresses().then(|| {
                let derived = || MacAddress::derived(ipv4.map(|net| net.addr()), &id);
                spec.mac.unwrap_or_else(derived)
            }),
            id,
            ipv4,
            ipv6,
            aliases: spec.aliases.clone(),
            links: spec.links.clone(),
            openings: Opening::merged(&spec.openings),
            gateway_priority: spec.gateway_priority,
            link_local: spec.link_local.iter().map(|a| with_link_local_length(*a)).collect(),
            options: spec.options.clone(),
        };
        driver.validate_endpoint(network, &endpoint).map_err(Error::Driver)?;
        Ok(endpoint)
    }
}

/// Whose failures are an endpoint's: its own, and those of the segment that it may be the first of.
fn subjects(endpoint: &Endpoint) -> impl Iterator<Item = Subject> {
    let segment = Subject::Segment(endpoint.network.clone(), endpoint.segment);
    std::iter::once(Subject::Endpoint(endpoint.id.clone())).chain((endpoint.segment > 0).then_some(segment))
}

/// The first segment with room for one more.
fn segment(intent: &Intent, network: &Network, driver: &dyn Driver) -> Result<u16, Error> {
    let Some(Segments { endpoints, most }) = driver.segments() else { return Ok(0) };
    let room = |segment: &u16| intent.population(&network.id, *segment) < endpoints;
    (0..most).find(room).ok_or_else(|| Error::NetworkFull {
        name: network.name.clone(),
        endpoints: endpoints * u32::from(most),
    })
}

/// A change that removes a sandbox with its endpoints, and those endpoints.
fn remove(intent: &Intent, id: &SandboxId) -> (Change, Vec<Arc<Endpoint>>) {
    let endpoints: Vec<Arc<Endpoint>> = intent.endpoints_in(id).cloned().collect();
    let mut change: Vec<Mutation> =
        endpoints.iter().map(|e| Mutation::RemoveEndpoint(e.id.clone())).collect();
    if intent.sandbox(id).is_some() {
        change.push(Mutation::RemoveSandbox(id.clone()));
    }
    (Change(change), endpoints)
}

/// Docker's rules about which networks go together (`daemon/container_operations.go`).
fn fits(intent: &Intent, sandbox: &Sandbox, network: &Network) -> Result<(), Error> {
    if network.config_only {
        let what = format!("cannot create endpoint on configuration-only network {}", network.name);
        return Err(Error::Forbidden { what });
    }
    let host_network = network.driver == HOST;
    match sandbox.namespace {
        NamespaceKind::Own if host_network => {
            return invalid(
                "cannot connect container to host network - container must be created in host network mode"
                    .into(),
            );
        }
        NamespaceKind::Host if !host_network => {
            return invalid("container sharing network namespace with another container or host cannot be connected to any other network".into());
        }
        _ => {}
    }
    let others: Vec<_> =
        intent.endpoints_in(&sandbox.id).filter_map(|e| intent.network(&e.network)).collect();
    if others.iter().any(|n| network.driver == NONE || n.driver == NONE) {
        return invalid("container cannot be connected to multiple networks with one of the networks in private (none) mode".into());
    }
    if others.iter().any(|n| n.id == network.id) {
        return Err(Error::EndpointExists { sandbox: sandbox.name.clone(), network: network.name.clone() });
    }
    Ok(())
}

/// Addresses may be asked for in subnets that a person chose: one from the pools may be another after a re-creation.
fn asks_allowed(network: &Network, address: IpAddr) -> bool {
    network.subnets.iter().any(|s| s.requested && s.subnet.contains(&address))
}

fn ifname(
    intent: &Intent,
    sandbox: &Sandbox,
    spec: &EndpointSpec,
    prefix: &str,
    same: Option<&Arc<Endpoint>>,
) -> Result<String, Error> {
    let used: BTreeSet<&str> = intent.endpoints_in(&sandbox.id).map(|e| e.ifname.as_str()).collect();
    if let Some(name) = spec.options.get(IFNAME).filter(|name| !name.is_empty()) {
        let fits = name.len() < IFNAME_SIZE
            && !matches!(name.as_str(), "." | ".." | "lo")
            && name.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b':'));
        if !fits {
            return invalid(format!(
                "option {IFNAME} is {name:?}: not an interface name of 1 to 15 characters"
            ));
        }
        if used.contains(name.as_str()) {
            return invalid(format!(
                "option {IFNAME} is {name:?}: the container has an interface of that name"
            ));
        }
        return Ok(name.clone());
    }
    if let Some(endpoint) = same.filter(|e| !used.contains(e.ifname.as_str())) {
        return Ok(endpoint.ifname.clone());
    }
    let free = (0..=used.len()).map(|n| format!("{prefix}{n}")).find(|name| !used.contains(name.as_str()));
    Ok(free.unwrap_or_else(|| prefix.to_owned()))
}

/// As Docker gives them to the interface: a link-local address (RFC 3927, RFC 4291) with its prefix, others alone.
fn with_link_local_length(address: IpAddr) -> IpNet {
    let length = match address {
        IpAddr::V4(a) if a.is_link_local() => 16,
        IpAddr::V4(_) => 32,
        IpAddr::V6(a) if a.is_unicast_link_local() => 64,
        IpAddr::V6(_) => 128,
    };
    IpNet::new(address, length).unwrap_or_else(|_| address.into())
}

fn v4(net: Option<IpNet>) -> Option<ipnet::Ipv4Net> {
    net.and_then(|net| if let IpNet::V4(net) = net { Some(net) } else { None })
}

fn v6(net: Option<IpNet>) -> Option<ipnet::Ipv6Net> {
    net.and_then(|net| if let IpNet::V6(net) = net { Some(net) } else { None })
}

fn invalid<T>(what: String) -> Result<T, Error> {
    Err(Error::Invalid { what })
}
