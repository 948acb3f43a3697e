use std::{cmp::Reverse, net::IpAddr, sync::Arc};

use imbl::{OrdMap, OrdSet};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    Endpoint, EndpointId, Network, NetworkId, PortIndex, PublishedPort, Sandbox, SandboxId,
    network_index::NetworkIndex,
};

/// Counts commits. The reconciler's report names the revision it has reached.
pub type Revision = u64;

/// Everything that should be, as one value. Cheap to clone (persistent maps that share their nodes), never changed in
/// place: [`Intent::apply`] makes the next one.
///
/// The indexes are derived by `apply` alone, so they cannot disagree with what they index.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Intent {
    networks: OrdMap<NetworkId, Arc<Network>>,
    endpoints: OrdMap<EndpointId, Arc<Endpoint>>,
    sandboxes: OrdMap<SandboxId, Arc<Sandbox>>,
    network_index: NetworkIndex,
    leases: OrdMap<(NetworkId, IpAddr), EndpointId>,
    by_network: OrdSet<(NetworkId, EndpointId)>,
    by_sandbox: OrdSet<(SandboxId, EndpointId)>,
    /// Who has openings to a sandbox.
    by_opened: OrdSet<(SandboxId, EndpointId)>,
    /// How many endpoints are on a segment of a network; none for one that is empty.
    populations: OrdMap<(NetworkId, u16), u32>,
    reservations: OrdMap<(NetworkId, IpAddr), Reservation>,
    reserved_by: OrdSet<(SandboxId, (NetworkId, IpAddr))>,
    published: PortIndex,
}

/// An address that is kept for a sandbox, whether or not there is one at the moment. It is no lease: the sandbox's own
/// endpoint takes the lease of it, and nobody else does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    pub network: NetworkId,
    pub address: IpAddr,
    pub sandbox: SandboxId,
    /// Somebody asked for this very address. Otherwise it is what the sandbox had last: it gets it again, unless the
    /// network ran out of others in the meantime.
    pub fixed: bool,
}

/// One step of a [`Change`]: a whole object, or the removal of one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Mutation {
    PutNetwork(Arc<Network>),
    RemoveNetwork(NetworkId),
    PutSandbox(Arc<Sandbox>),
    RemoveSandbox(SandboxId),
    PutEndpoint(Arc<Endpoint>),
    RemoveEndpoint(EndpointId),
    Reserve(Reservation),
    Release { network: NetworkId, address: IpAddr },
}

/// What one commit does, all or nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Change(pub Vec<Mutation>);

impl Change {
    /// Whether it must survive a power cut: networks do, what dies with the kernel anyway does not.
    pub fn is_durable(&self) -> bool {
        self.0.iter().any(|m| matches!(m, Mutation::PutNetwork(_) | Mutation::RemoveNetwork(_)))
    }
}

impl Intent {
    pub fn network(&self, id: &NetworkId) -> Option<&Arc<Network>> {
        self.networks.get(id)
    }

    pub fn network_by_name(&self, name: &str) -> Option<&Arc<Network>> {
        self.networks.get(self.network_index.by_name(name)?)
    }

    /// The networks whose ids begin like this.
    pub fn networks_by_prefix<'a>(&'a self, prefix: &str) -> impl Iterator<Item = &'a Arc<Network>> {
        // None for what is no beginning of an id.
        let lowest: Option<NetworkId> = format!("{prefix:0<64}").parse().ok();
        let from = lowest.into_iter().flat_map(|lowest| self.networks.range(lowest..));
        let prefix = prefix.to_owned();
        from.take_while(move |(id, _)| id.as_str().starts_with(&prefix)).map(|(_, network)| network)
    }

    /// The networks that have an option at this value, but for those that only hold options.
    pub fn networks_with_option<'a>(
        &'a self,
        option: &str,
        value: &str,
    ) -> impl Iterator<Item = &'a Arc<Network>> {
        self.network_index.with_option(option, value).filter_map(|id| self.networks.get(id))
    }

    /// Whether a network is this driver's that does not only hold options.
    pub fn has_driver(&self, driver: &str) -> bool {
        self.network_index.has_driver(driver)
    }

    /// The subnets of all networks that do not only hold options, in the order of their first addresses.
    pub fn subnets(&self) -> impl Iterator<Item = IpNet> {
        self.network_index.subnets()
    }

    /// A subnet that overlaps this one, and whose it is.
    pub fn overlapping(&self, subnet: IpNet) -> Option<(IpNet, &Arc<Network>)> {
        let (other, id) = self.network_index.overlapping(subnet)?;
        Some((other, self.networks.get(id)?))
    }

    pub fn networks(&self) -> impl Iterator<Item = &Arc<Network>> {
        self.networks.values()
    }

    pub fn endpoint(&self, id: &EndpointId) -> Option<&Arc<Endpoint>> {
        self.endpoints.get(id)
    }

    pub fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.endpoints.values()
    }

    pub fn sandbox(&self, id: &SandboxId) -> Option<&Arc<Sandbox>> {
        self.sandboxes.get(id)
    }

    pub fn sandboxes(&self) -> impl Iterator<Item = &Arc<Sandbox>> {
        self.sandboxes.values()
    }

    /// The endpoints of a network, by id.
    pub fn endpoints_on<'a>(&'a self, network: &NetworkId) -> impl Iterator<Item = &'a Arc<Endpoint>> {
        members(&self.by_network, network, lowest_endpoint()).filter_map(|id| self.endpoints.get(id))
    }

    /// The segments of a network that endpoints are on, in order.
    pub fn segments_of<'a>(&'a self, network: &NetworkId) -> impl Iterator<Item = u16> + use<'a> {
        let all = (network.clone(), 0)..=(network.clone(), u16::MAX);
        self.populations.range(all).map(|((_, segment), _)| *segment)
    }

    /// How many endpoints are on a segment of a network.
    pub fn population(&self, network: &NetworkId, segment: u16) -> u32 {
        self.populations.get(&(network.clone(), segment)).copied().unwrap_or(0)
    }

    /// The endpoints of a sandbox, by id.
    pub fn endpoints_in<'a>(&'a self, sandbox: &SandboxId) -> impl Iterator<Item = &'a Arc<Endpoint>> {
        members(&self.by_sandbox, sandbox, lowest_endpoint()).filter_map(|id| self.endpoints.get(id))
    }

    /// The endpoints that have openings to a sandbox, by id.
    pub fn endpoints_opened_to<'a>(&'a self, sandbox: &SandboxId) -> impl Iterator<Item = &'a Arc<Endpoint>> {
        members(&self.by_opened, sandbox, lowest_endpoint()).filter_map(|id| self.endpoints.get(id))
    }

    /// Who holds an address on a network.
    pub fn lease(&self, network: &NetworkId, address: IpAddr) -> Option<&EndpointId> {
        self.leases.get(&(network.clone(), address))
    }

    /// The addresses leased on a network at or above `from`, in order, with their holders.
    pub fn leases_from<'a>(
        &'a self,
        network: &NetworkId,
        from: IpAddr,
    ) -> impl Iterator<Item = (IpAddr, &'a EndpointId)> {
        let owner = network.clone();
        self.leases
            .range((network.clone(), from)..)
            .take_while(move |((n, _), _)| *n == owner)
            .map(|((_, address), holder)| (*address, holder))
    }

    /// Whom an address of a network is kept for.
    pub fn reservation(&self, network: &NetworkId, address: IpAddr) -> Option<&Reservation> {
        self.reservations.get(&(network.clone(), address))
    }

    /// The addresses reserved on a network at or above `from`, in order.
    pub fn reservations_from<'a>(
        &'a self,
        network: &NetworkId,
        from: IpAddr,
    ) -> impl Iterator<Item = &'a Reservation> {
        let owner = network.clone();
        self.reservations
            .range((network.clone(), from)..)
            .take_while(move |((n, _), _)| *n == owner)
            .map(|(_, reservation)| reservation)
    }

    /// What is kept for a sandbox, on all networks.
    pub fn reservations_of<'a>(&'a self, sandbox: &SandboxId) -> impl Iterator<Item = &'a Reservation> {
        let lowest = (NetworkId::from_bytes([0; 32]), LOWEST_ADDRESS);
        members(&self.reserved_by, sandbox, lowest).filter_map(|key| self.reservations.get(key))
    }

    pub fn reservations(&self) -> impl Iterator<Item = &Reservation> {
        self.reservations.values()
    }

    /// Every published port with the sandbox that it leads to.
    pub fn ports(&self) -> impl Iterator<Item = (&Arc<Sandbox>, &PublishedPort)> {
        self.sandboxes.values().flat_map(|s| s.ports.iter().map(move |p| (s, p)))
    }

    /// The same by where they are published.
    pub fn published(&self) -> &PortIndex {
        &self.published
    }

    /// The endpoint that gives a sandbox its default route for a family, which is also where its published ports lead:
    /// of those with such an address on a network that is not internal and has a gateway, the one with the highest
    /// priority, then one that is a way out for both families, then the first by network name. (Docker's, but for the two
    /// first, which it takes the other way round though its API says that the highest priority is used.)
    pub fn gateway_endpoint(&self, sandbox: &SandboxId, ipv6: bool) -> Option<&Arc<Endpoint>> {
        self.endpoints_in(sandbox)
            .filter_map(|e| Some((e, self.networks.get(&e.network)?)))
            .filter(|(e, network)| leads_out(e, network, ipv6))
            .min_by_key(|(e, network)| precedence(e, network))
            .map(|(e, _)| e)
    }

    /// The intent after a change. The change is trusted: whoever makes it has checked names, leases and references.
    pub fn apply(&self, change: &Change) -> Intent {
        let mut next = self.clone();
        for mutation in &change.0 {
            match mutation {
                Mutation::PutNetwork(network) => next.put_network(network),
                Mutation::RemoveNetwork(id) => {
                    next.remove_network(id);
                    next.release_all(id);
                }
                Mutation::PutSandbox(sandbox) => next.put_sandbox(sandbox),
                Mutation::RemoveSandbox(id) => next.remove_sandbox(id),
                Mutation::PutEndpoint(endpoint) => next.put_endpoint(endpoint),
                Mutation::RemoveEndpoint(id) => next.remove_endpoint(id),
                Mutation::Reserve(reservation) => next.reserve(reservation),
                Mutation::Release { network, address } => next.release(network, *address),
            }
        }
        next
    }

    fn put_network(&mut self, network: &Arc<Network>) {
        self.remove_network(&network.id);
        self.network_index.insert(network);
        self.networks.insert(network.id.clone(), network.clone());
    }

    fn remove_network(&mut self, id: &NetworkId) {
        if let Some(old) = self.networks.remove(id) {
            self.network_index.remove(&old);
        }
    }

    fn put_sandbox(&mut self, sandbox: &Arc<Sandbox>) {
        self.remove_sandbox(&sandbox.id);
        for port in &sandbox.ports {
            self.published.insert(port, &sandbox.id);
        }
        self.sandboxes.insert(sandbox.id.clone(), sandbox.clone());
    }

    fn remove_sandbox(&mut self, id: &SandboxId) {
        for port in self.sandboxes.remove(id).iter().flat_map(|old| &old.ports) {
            self.published.remove(port);
        }
    }

    fn put_endpoint(&mut self, endpoint: &Arc<Endpoint>) {
        self.remove_endpoint(&endpoint.id);
        let id = &endpoint.id;
        for address in endpoint.addresses() {
            self.leases.insert((endpoint.network.clone(), address), id.clone());
        }
        self.by_network.insert((endpoint.network.clone(), id.clone()));
        *self.populations.entry((endpoint.network.clone(), endpoint.segment)).or_insert(0) += 1;
        self.by_sandbox.insert((endpoint.sandbox.clone(), id.clone()));
        self.by_opened.extend(endpoint.openings.iter().map(|o| (o.sandbox.clone(), id.clone())));
        self.endpoints.insert(id.clone(), endpoint.clone());
    }

    fn remove_endpoint(&mut self, id: &EndpointId) {
        let Some(old) = self.endpoints.remove(id) else { return };
        for address in old.addresses() {
            self.leases.remove(&(old.network.clone(), address));
        }
        self.by_network.remove(&(old.network.clone(), id.clone()));
        let part = (old.network.clone(), old.segment);
        match self.population(&part.0, part.1) {
            0 | 1 => self.populations.remove(&part),
            others => self.populations.insert(part, others - 1),
        };
        self.by_sandbox.remove(&(old.sandbox.clone(), id.clone()));
        for opening in &old.openings {
            self.by_opened.remove(&(opening.sandbox.clone(), id.clone()));
        }
    }
}

impl Intent {
    fn reserve(&mut self, reservation: &Reservation) {
        self.release(&reservation.network, reservation.address);
        let key = (reservation.network.clone(), reservation.address);
        self.reserved_by.insert((reservation.sandbox.clone(), key.clone()));
        self.reservations.insert(key, reservation.clone());
    }

    fn release(&mut self, network: &NetworkId, address: IpAddr) {
        let key = (network.clone(), address);
        if let Some(old) = self.reservations.remove(&key) {
            self.reserved_by.remove(&(old.sandbox, key));
        }
    }

    fn release_all(&mut self, network: &NetworkId) {
        let all: Vec<IpAddr> = self.reservations_from(network, LOWEST_ADDRESS).map(|r| r.address).collect();
        for address in all {
            self.release(network, address);
        }
    }
}

/// What orders the endpoints of a sandbox: the highest priority is first, then one that is a way out for both families, then
/// the first by network name.
pub fn precedence<'a>(endpoint: &Endpoint, network: &'a Network) -> (Reverse<i32>, Reverse<bool>, &'a str) {
    let both = leads_out(endpoint, network, false) && leads_out(endpoint, network, true);
    (Reverse(endpoint.gateway_priority), Reverse(both), network.name.as_str())
}

fn leads_out(endpoint: &Endpoint, network: &Network, ipv6: bool) -> bool {
    let leased = if ipv6 { endpoint.ipv6.is_some() } else { endpoint.ipv4.is_some() };
    leased && network.subnet(ipv6).is_some_and(|s| s.gateway.is_some()) && !network.internal
}

/// The first in the order of addresses, which has IPv4 before IPv6.
const LOWEST_ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

fn lowest_endpoint() -> EndpointId {
    EndpointId::from_bytes([0; 32])
}

/// The second halves of the pairs that start with `first`.
fn members<'a, A: Ord + Clone + 'a, B: Ord + Clone + 'a>(
    set: &'a OrdSet<(A, B)>,
    first: &A,
    lowest: B,
) -> impl Iterator<Item = &'a B> {
    let owner = first.clone();
    set.range((first.clone(), lowest)..).take_while(move |(a, _)| *a == owner).map(|(_, b)| b)
}
