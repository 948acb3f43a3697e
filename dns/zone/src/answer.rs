use std::{cmp::Reverse, net::IpAddr, sync::Arc};

use libnetwork_model::{Endpoint, Network, SandboxId};

use crate::{Zone, reverse};

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

/// Where the questions of a sandbox go that are not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarding<'a> {
    /// Nowhere: the sandbox has no way out of the host, so its questions have none either (CVE-2024-29018).
    Refused,
    /// To the host's resolvers.
    Host,
    /// To these, from inside the sandbox.
    Servers(&'a [IpAddr]),
}

impl Zone {
    /// What `sandbox` is told for `name`: dotted, in lower case, without the final dot.
    pub fn answer(&self, sandbox: &SandboxId, name: &str, kind: Kind) -> Answer {
        let attached = self.attached(sandbox);
        if attached.is_empty() || name.is_empty() {
            return Answer::NotOurs;
        }
        if let Some(address) = reverse::address(name) {
            return self.name_of(&attached, address, kind);
        }
        let unqualified = attached.iter().map(|(_, network)| (network, name));
        match self.look_up(unqualified, kind) {
            Answer::NotOurs => {}
            found => return found,
        }
        let qualified = attached.iter().filter_map(|(_, n)| Some((n, without_network(name, &n.name)?)));
        self.look_up(qualified, kind)
    }

    /// Where a question of `sandbox` goes that is not ours.
    pub fn forwarding(&self, sandbox: &SandboxId) -> Forwarding<'_> {
        let mut networks = self.intent.endpoints_in(sandbox).filter_map(|e| self.intent.network(&e.network));
        if !networks.any(|n| !n.internal && n.driver != "none") {
            return Forwarding::Refused;
        }
        match self.intent.sandbox(sandbox) {
            Some(s) if !s.resolver.servers.is_empty() => Forwarding::Servers(&s.resolver.servers),
            _ => Forwarding::Host,
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
            attached.sort_by_key(|(e, n)| (Reverse(e.gateway_priority), n.name.as_str()));
        }
        attached
    }

    fn look_up<'a>(
        &self,
        candidates: impl Iterator<Item = (&'a &'a Arc<Network>, &'a str)>,
        kind: Kind,
    ) -> Answer {
        let mut known = false;
        for (network, name) in candidates {
            let Some(holders) = self.holders(&network.id, name) else { continue };
            known = true;
            let wanted = |address: &IpAddr| match kind {
                Kind::A => address.is_ipv4(),
                Kind::Aaaa => address.is_ipv6(),
                Kind::Any => true,
                Kind::Ptr | Kind::Other => false,
            };
            let addresses: Vec<IpAddr> =
                holders.values().flat_map(|e| e.addresses()).filter(wanted).collect();
            if !addresses.is_empty() {
                return Answer::Addresses(addresses);
            }
        }
        if known { Answer::NoData } else { Answer::NotOurs }
    }

    fn name_of(&self, attached: &[(&Arc<Endpoint>, &Arc<Network>)], address: IpAddr, kind: Kind) -> Answer {
        let holder = |network: &Network| {
            let endpoint = self.intent.endpoint(self.intent.lease(&network.id, address)?)?;
            let sandbox = self.intent.sandbox(&endpoint.sandbox)?;
            Some(format!("{}.{}", sandbox.name, network.name))
        };
        match attached.iter().find_map(|(_, network)| holder(network)) {
            None => Answer::NotOurs,
            Some(name) if matches!(kind, Kind::Ptr | Kind::Any) => Answer::Name(name),
            Some(_) => Answer::NoData,
        }
    }
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
