//! What the daemon's configuration says about networks that nobody made, and about options that nobody gave.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use libnetwork_model::{Change, Intent, Mutation, Network, NetworkId, Subnet};
use libnetwork_plan::{KernelError, Key, LinkRank, Ns, Owner, Scope};
use tracing::{info, warn};

use crate::{
    Drivers, Error, Kernel,
    draft::{Desk, publishing_on},
    drivers::{HOST, NONE},
    error::chain,
    event::now_ns,
    settle::Settler,
};

/// The daemon's configuration, as far as the core is concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Defaults {
    /// There is no default bridge.
    pub no_bridge: bool,
    /// Options of the default bridge, over those that it has by itself.
    pub bridge_options: BTreeMap<String, String>,
    /// Its subnets; of a family without any, one is chosen, or that of a bridge which is there already.
    pub bridge_subnets: Vec<Subnet>,
    /// Who leads its containers out instead of the bridge, by IPv4 and by IPv6, where the subnet is not said with it.
    pub bridge_routers: [Option<IpAddr>; 2],
    pub bridge_ipv6: bool,
    /// Options of networks that are made without them, by driver.
    pub network_options: BTreeMap<String, BTreeMap<String, String>>,
}

const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
/// The default bridge's name, where none is configured: the only one of its links that is ours to make.
const DOCKER0: &str = "docker0";

impl Desk<'_> {
    /// What is missing of `bridge`, `host` and `none`, what of the default bridge is not as the configuration has it, with the
    /// ports that follow it, and whose links are somebody else's and were not known to be.
    /// `made`: what [`is_made_for_user`] found.
    pub(crate) fn predefined(&mut self, made: bool) -> Result<Change, Error> {
        let defaults = self.defaults;
        for (driver, options) in &defaults.network_options {
            self.judge_options(driver, options)?;
        }
        let mut change = Change(self.adoptions());
        for (name, driver) in [("bridge", "bridge"), ("host", HOST), ("none", NONE)] {
            let old = self.intent.network_by_name(name).cloned();
            if self.drivers.get(driver).is_none() || (old.is_some() && driver != "bridge") {
                continue;
            }
            if driver == "bridge" && defaults.no_bridge {
                let unused = |n: &Arc<Network>| !self.is_lived_in(n);
                change.0.extend(old.filter(unused).map(|n| Mutation::RemoveNetwork(n.id.clone())));
                continue;
            }
            let id = match &old {
                Some(old) => old.id.clone(),
                None => NetworkId::from_bytes((self.random)()),
            };
            let mut network = plain(id, name, driver);
            if let Some(old) = &old {
                network.created_ns = old.created_ns;
                network.labels.clone_from(&old.labels);
            }
            if driver == "bridge" {
                network.ipv6 = defaults.bridge_ipv6;
                network.options = default_bridge_options();
                network.options.extend(defaults.bridge_options.clone());
                network.subnets.clone_from(&defaults.bridge_subnets);
                let name = &network.options[BRIDGE_NAME];
                let made = made && old.as_ref().and_then(|old| bridge_name(old)) == Some(name);
                if made {
                    info!(
                        bridge = name,
                        "was made by an earlier version in the place of the user's, and stays so until it is deleted \
                         while causewayd does not run"
                    );
                }
                network.foreign_link = name != DOCKER0 && !made;
                if self.is_waited_for(&network)? {
                    // What was stored may be of a version that did not yet say whose the link is, and would be made.
                    let unknown =
                        old.filter(|old| !old.foreign_link && bridge_name(old) == bridge_name(&network));
                    let known = unknown.map(|old| Network { foreign_link: true, ..(*old).clone() });
                    change.0.extend(known.map(|known| Mutation::PutNetwork(Arc::new(known))));
                    continue;
                }
            }
            match old {
                None => {
                    let settled = self.settler().settle_uninhabited(network)?;
                    change.0.push(Mutation::PutNetwork(Arc::new(settled)));
                }
                Some(old) => {
                    if let Some(adapted) = self.adapt(&old, network)? {
                        change.0.push(Mutation::PutNetwork(Arc::new(adapted)));
                        self.move_ports(&old, &mut change);
                    }
                }
            }
        }
        Ok(change)
    }

    /// Networks in the place of whose links somebody else's are, which was not known when they were stored.
    fn adoptions(&self) -> Vec<Mutation> {
        let settler = self.settler();
        let unknown = |network: &&Arc<Network>| {
            let driver = self.drivers.of(network).filter(|_| !network.predefined && !network.foreign_link);
            driver.is_some_and(|driver| settler.foreign_bridge(driver, network).is_some())
        };
        let adopted = |network: &Arc<Network>| Network { foreign_link: true, ..(**network).clone() };
        let networks = self.intent.networks().filter(unknown);
        networks.map(|network| Mutation::PutNetwork(Arc::new(adopted(network)))).collect()
    }

    /// Whether the default bridge's network stays as it is stored, because the bridge that it is configured with is not there,
    /// or not with its addresses. A default bridge under another name than its usual one is the user's to make, and a start
    /// without it ends (Docker's rule and words); but containers that run, wherever, need a daemon all the same.
    fn is_waited_for(&self, network: &Network) -> Result<bool, Error> {
        let Some(driver) = self.drivers.of(network).filter(|_| network.foreign_link) else {
            return Ok(false);
        };
        driver.validate(network, self.host).map_err(Error::Driver)?;
        let settler = self.settler();
        let bridge = settler.foreign_bridge(driver, network);
        let has_gateway = |ipv6: bool| {
            let gateway = network.subnet(ipv6).and_then(|subnet| subnet.gateway);
            let serves = |own: IpAddr| gateway.map_or(own.is_ipv6() == ipv6, |gateway| own == gateway);
            bridge.iter().flat_map(|(_, addresses)| *addresses).any(|address| serves(address.addr()))
        };
        if [(false, network.ipv4), (true, network.ipv6)]
            .into_iter()
            .all(|(ipv6, on)| !on || has_gateway(ipv6))
        {
            return Ok(false);
        }
        let name = &network.options[BRIDGE_NAME];
        if self.intent.sandboxes().next().is_some() {
            warn!(
                network = network.name,
                bridge = name,
                "the configured bridge is not there, or not with its addresses: its network stays as it was, and containers \
                 on it wait for it"
            );
            return Ok(true);
        }
        if bridge.is_some() {
            // Which address it is that is missing, settling says.
            return Ok(false);
        }
        let what = format!("bridge device with non default name {name} must be created manually");
        Err(Error::Invalid { what })
    }

    fn is_lived_in(&self, network: &Network) -> bool {
        self.intent.endpoints_on(&network.id).next().is_some()
    }

    /// The ports of running containers follow what the changed network says of them, as by `causeway network set`. Here nobody
    /// can be refused: where they cannot follow they stay, and that is said by name.
    fn move_ports(&mut self, network: &Network, change: &mut Change) {
        let mut after = self.intent.apply(change);
        for sandbox in publishing_on(self.intent, &network.id) {
            match self.ports_after(&after, sandbox) {
                Ok(None) => {}
                Ok(Some(moved)) => {
                    let moved = Mutation::PutSandbox(moved);
                    after = after.apply(&Change(vec![moved.clone()]));
                    change.0.push(moved);
                }
                Err(error) => warn!(
                    container = sandbox.name,
                    network = network.name,
                    error = chain(&error),
                    "its published ports stay where they are, not where the configuration has them: start it again"
                ),
            }
        }
    }

    /// Refuses options that no network could be made with. Those of a driver that is not there are nobody's.
    fn judge_options(&self, driver: &str, options: &BTreeMap<String, String>) -> Result<(), Error> {
        let Some(judge) = self.drivers.get(driver) else { return Ok(()) };
        let mut network = plain(NetworkId::from_bytes([0; 32]), "default-network-opts", driver);
        network.options.clone_from(options);
        judge.validate(&network, self.host).map_err(Error::Driver)
    }

    /// The network that `old` becomes; none when it is as it should be. Containers live by the bridge, the subnets and the
    /// families: all of these stay while there are any.
    fn adapt(&self, old: &Network, mut network: Network) -> Result<Option<Network>, Error> {
        let lived_in = self.is_lived_in(old);
        let moves = bridge_name(&network) != bridge_name(old);
        // Its own subnets are not in its way.
        let without = self.intent.apply(&Change(vec![Mutation::RemoveNetwork(old.id.clone())]));
        let mut settler = Settler { intent: &without, ..self.settler() };
        let routerless = Defaults::default();
        if lived_in && moves {
            // What the configuration says of another bridge is nothing to judge this one by.
            network.options.extend(bridge_name(old).map(|name| (BRIDGE_NAME.to_owned(), name.clone())));
            (network.foreign_link, network.ipv6) = (old.foreign_link, old.ipv6);
            network.subnets.clone_from(&old.subnets);
            settler.defaults = &routerless;
        }
        let bridge = self.drivers.of(&network).and_then(|driver| settler.foreign_bridge(driver, &network));
        if bridge.is_none_or(|(_, addresses)| addresses.is_empty()) {
            for ipv6 in [false, true] {
                let kept = |s: &&Subnet| s.subnet.addr().is_ipv6() == ipv6 && !s.requested;
                if network.subnet(ipv6).is_none() {
                    let kept = old.subnets.iter().filter(kept).cloned();
                    network.subnets.extend(kept.map(|s| Subnet { auxiliary: BTreeMap::new(), ..s }));
                }
            }
        }
        let mut settled =
            if lived_in { settler.settle(network)? } else { settler.settle_uninhabited(network)? };
        if lived_in && (moves || settled.subnets != old.subnets || settled.ipv6 != old.ipv6) {
            warn!(
                network = old.name,
                bridge = bridge_name(old),
                "keeps its bridge and subnets while containers use it; the configured ones come with the next start without \
                 any"
            );
            settled.subnets.clone_from(&old.subnets);
            settled.ipv6 = old.ipv6;
        }
        Ok((settled != *old).then_some(settled))
    }
}

fn bridge_name(network: &Network) -> Option<&String> {
    network.options.get(BRIDGE_NAME)
}

/// Whether the link of the stored default bridge is one of ours, under a name that is the user's to make: an earlier version
/// made it where it was away.
pub(crate) async fn is_made_for_user(
    kernel: &mut impl Kernel,
    drivers: &Drivers,
    intent: &Intent,
) -> Result<bool, KernelError> {
    let is_users_to_make = |network: &&Arc<Network>| {
        !network.foreign_link && bridge_name(network).is_some_and(|name| name != DOCKER0)
    };
    let Some(network) = intent.network_by_name("bridge").filter(is_users_to_make) else { return Ok(false) };
    let names = drivers.of(network).map(|driver| driver.link_names(network)).unwrap_or_default();
    let key = |name| Key::Link { rank: LinkRank::Bridge, ns: Ns::Host, name };
    let found = kernel.observe(&Scope::Keys(names.into_iter().map(key).collect())).await?;
    Ok(found.values().any(|(owner, _)| *owner == Owner::Ours))
}

/// A network that nobody made, as yet without anything of its own.
fn plain(id: NetworkId, name: &str, driver: &str) -> Network {
    Network {
        id,
        name: name.to_owned(),
        driver: driver.to_owned(),
        created_ns: now_ns(),
        ipv4: true,
        ipv6: false,
        internal: false,
        attachable: false,
        predefined: true,
        config_only: false,
        config_from: None,
        foreign_link: false,
        subnets: Vec::new(),
        idle_subnets: Vec::new(),
        labels: BTreeMap::new(),
        options: BTreeMap::new(),
        ipam_options: BTreeMap::new(),
    }
}

/// What Docker shows of its default bridge. The MTU is not among them: it follows the host.
fn default_bridge_options() -> BTreeMap<String, String> {
    [
        ("com.docker.network.bridge.default_bridge", "true"),
        ("com.docker.network.bridge.enable_icc", "true"),
        ("com.docker.network.bridge.enable_ip_masquerade", "true"),
        ("com.docker.network.bridge.host_binding_ipv4", "0.0.0.0"),
        (BRIDGE_NAME, DOCKER0),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}
