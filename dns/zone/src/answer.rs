use std::{net::IpAddr, sync::Arc};

use libnetwork_model::{DnsOptions, Endpoint, Network, SandboxId, precedence};

use crate::{Holders, Zone, index::short_id, reverse};

/// What a question asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    A,
    Aaaa,
    Ptr,
    /// Whatever there is (ANY).
    Any,
    /// A type, or a class, of which nothing here has data.
    Other,
}

/// What a sandbox is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Addresses of the name, never none. Whoever sends them turns them round, so that holders share the load.
    Addresses(Vec<IpAddr>),
    /// The name of the address, without a final dot.
    Name(String),
    /// The name is known here and has no such data: the question goes no further.
    NoData,
    /// Nothing here has the name; [`Zone::forwarding`] says who may be asked.
    NotOurs,
}

/// What a sandbox is told, and why.
#[derive(Debug)]
pub struct Told<'a> {
    pub answer: Answer,
    pub because: Because<'a>,
}

/// Where an answer comes from.
#[derive(Debug, Clone, Copy)]
pub enum Because<'a> {
    /// Endpoints on this network answer to this name: what was asked for, without the network's name, the wildcard that
    /// covers it, or the asker's own link to them.
    Held { network: &'a Network, name: &'a str, holders: &'a Holders },
    /// The address is leased on this network.
    Leased { network: &'a Network },
    /// The name is the host's.
    Host,
    /// Nothing here has the name.
    Unknown,
}

impl Told<'_> {
    const UNKNOWN: Self = Told { answer: Answer::NotOurs, because: Because::Unknown };
}

/// Where the questions of a sandbox go that are not ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forwarding {
    /// Nowhere: the sandbox has no way out of the host, so its questions have none either (CVE-2024-29018).
    Refused,
    /// To the host's resolvers.
    Host,
    /// To these, from inside the sandbox.
    Servers(Vec<IpAddr>),
}

/// What containers call the machine that they run on, by Docker Desktop's custom.
const HOST: &str = "host.docker.internal";

impl Zone {
    /// What `sandbox` is told for `name`: dotted, in lower case, without the final dot.
    pub fn answer(&self, sandbox: &SandboxId, name: &str, kind: Kind) -> Told<'_> {
        let attached = self.attached(sandbox);
        if attached.is_empty() && name == HOST {
            return self.host(sandbox, kind);
        }
        if attached.is_empty() || name.is_empty() {
            return Told::UNKNOWN;
        }
        if let Some(address) = reverse::address(name) {
            return self.name_of(&attached, address, kind);
        }
        let unqualified = attached.iter().map(|(endpoint, network)| (*endpoint, *network, name));
        if let Some(told) = self.look_up(unqualified, kind) {
            return told;
        }
        let qualified = attached.iter().filter_map(|(e, n)| Some((*e, *n, without_network(name, &n.name)?)));
        match self.look_up(qualified, kind) {
            Some(told) => told,
            None if name == HOST => self.host(sandbox, kind),
            None => Told::UNKNOWN,
        }
    }

    /// The seconds that `sandbox` may keep what it was told: the least that a network which it is on asks for.
    pub fn ttl(&self, sandbox: &SandboxId) -> Option<u32> {
        let networks = self.intent.endpoints_in(sandbox).filter_map(|e| self.intent.network(&e.network));
        networks.filter(|n| !n.options.is_empty()).filter_map(|n| DnsOptions::read(n).ok()?.ttl).min()
    }

    /// Where a question of `sandbox` goes that is not ours.
    pub fn forwarding(&self, sandbox: &SandboxId) -> Forwarding {
        let mut networks = self.intent.endpoints_in(sandbox).filter_map(|e| self.intent.network(&e.network));
        if !networks.any(|n| !n.internal && n.driver != "none") {
            return Forwarding::Refused;
        }
        match self.intent.sandbox(sandbox) {
            Some(s) if !s.resolver.servers.is_empty() => {
                return Forwarding::Servers(s.resolver.servers.clone());
            }
            _ => {}
        }
        let mut networks: Vec<_> = self
            .intent
            .endpoints_in(sandbox)
            .filter_map(|e| Some((e, self.intent.network(&e.network)?)))
            .collect();
        networks.sort_by_key(|(e, n)| precedence(e, n));
        let upstreams = networks.into_iter().filter_map(|(_, n)| Some(DnsOptions::read(n).ok()?.upstreams));
        match upstreams.into_iter().find(|servers| !servers.is_empty()) {
            Some(servers) => Forwarding::Servers(servers),
            None => Forwarding::Host,
        }
    }

    /// The host as the sandbox reaches it: its address on the bridge that the default route leads to.
    fn host(&self, sandbox: &SandboxId, kind: Kind) -> Told<'_> {
        let gateway = |ipv6: bool| {
            let network = self.intent.network(&self.intent.gateway_endpoint(sandbox, ipv6)?.network)?;
            // On other networks the gateway may be someone else.
            network.subnet(ipv6).filter(|_| network.driver == "bridge")?.gateway
        };
        let (v4, v6) = (gateway(false), gateway(true));
        let wanted: Vec<IpAddr> = match kind {
            Kind::A => v4.into_iter().collect(),
            Kind::Aaaa => v6.into_iter().collect(),
            Kind::Any => v4.into_iter().chain(v6).collect(),
            Kind::Ptr | Kind::Other => Vec::new(),
        };
        match v4.or(v6) {
            None => Told::UNKNOWN,
            Some(_) => Told { answer: Answer::of(wanted), because: Because::Host },
        }
    }

    /// The sandbox's endpoints on networks that serve names, in the order in which they are asked.
    fn attached(&self, sandbox: &SandboxId) -> Vec<(&Arc<Endpoint>, &Arc<Network>)> {
        let network = |e| -> Option<(_, &Arc<Network>)> {
            let endpoint: &Arc<Endpoint> = e;
            Some((endpoint, self.intent.network(&endpoint.network)?))
        };
        let all = self.intent.endpoints_in(sandbox).filter_map(network);
        let mut attached: Vec<_> = all.filter(|(_, n)| serves_names(n)).collect();
        if attached.len() > 1 {
            attached.sort_by_key(|(e, n)| precedence(e, n));
        }
        attached
    }

    /// The first network that has addresses of the wanted family under the name, or else the first that has the name. The
    /// asker's own links come before what anybody is called, and nobody else is asked for under a link's name.
    fn look_up<'a, 'n>(
        &'a self,
        candidates: impl Iterator<Item = (&'a Arc<Endpoint>, &'a Arc<Network>, &'n str)> + Clone,
        kind: Kind,
    ) -> Option<Told<'a>> {
        let linked = candidates.clone().filter_map(|(asker, network, name)| {
            let (alias, target) = link(asker, name)?;
            Some((network, alias, self.holders(&network.id, &target)?.1))
        });
        let named = candidates.filter(|(asker, _, name)| link(asker, name).is_none());
        let named = named.filter_map(|(_, network, name)| {
            let (name, holders) = self.holders(&network.id, name)?;
            Some((network, name, holders))
        });
        let mut known = None;
        for (network, name, holders) in linked.chain(named) {
            let wanted = |address: &IpAddr| match kind {
                Kind::A => address.is_ipv4(),
                Kind::Aaaa => address.is_ipv6(),
                Kind::Any => true,
                Kind::Ptr | Kind::Other => false,
            };
            let addresses: Vec<IpAddr> =
                holders.values().flat_map(|e| e.addresses()).filter(wanted).collect();
            let told =
                Told { answer: Answer::of(addresses), because: Because::Held { network, name, holders } };
            if told.answer != Answer::NoData {
                return Some(told);
            }
            known = known.or(Some(told));
        }
        known
    }

    fn name_of<'a>(
        &self,
        attached: &[(&'a Arc<Endpoint>, &'a Arc<Network>)],
        address: IpAddr,
        kind: Kind,
    ) -> Told<'a> {
        let holder = |network: &'a Network| {
            let endpoint = self.intent.endpoint(self.intent.lease(&network.id, address)?)?;
            let sandbox = self.intent.sandbox(&endpoint.sandbox)?;
            Some((network, format!("{}.{}", sandbox.name, network.name)))
        };
        let Some((network, name)) = attached.iter().find_map(|(_, network)| holder(network)) else {
            return Told::UNKNOWN;
        };
        let asked = matches!(kind, Kind::Ptr | Kind::Any);
        let answer = if asked { Answer::Name(name) } else { Answer::NoData };
        Told { answer, because: Because::Leased { network } }
    }
}

impl Answer {
    fn of(addresses: Vec<IpAddr>) -> Self {
        if addresses.is_empty() { Answer::NoData } else { Answer::Addresses(addresses) }
    }
}

/// The link of this name that an endpoint's sandbox asked for on its network, and the name that it stands for, as the
/// index has it.
fn link<'a>(endpoint: &'a Endpoint, name: &str) -> Option<(&'a str, String)> {
    let (alias, target) = endpoint.links.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(name))?;
    Some((alias, short_id(target).unwrap_or(target).to_ascii_lowercase()))
}

/// Docker's default bridge has no names: what runs there was never told of its neighbours, and relies on it.
fn serves_names(network: &Network) -> bool {
    network.options.get("com.docker.network.bridge.default_bridge").is_none_or(|v| v != "true")
}

/// `web` of `web.backend`, for the network `Backend`.
fn without_network<'a>(name: &'a str, network: &str) -> Option<&'a str> {
    let start = name.len().checked_sub(network.len())?;
    let (head, tail) = name.split_at_checked(start)?;
    if network.is_empty() || !tail.eq_ignore_ascii_case(network) {
        return None;
    }
    head.strip_suffix('.').filter(|h| !h.is_empty())
}
