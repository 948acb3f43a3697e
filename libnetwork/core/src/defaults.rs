//! What the daemon's configuration says about networks that nobody made, and about options that nobody gave.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use libnetwork_ipam::validate;
use libnetwork_model::{Change, Mutation, Network, NetworkId, Subnet};
use tracing::warn;

use crate::{
    Error,
    draft::Desk,
    drivers::{HOST, NONE},
    event::now_ns,
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

impl Desk<'_> {
    /// What is missing of `bridge`, `host` and `none`, and what of the default bridge is not as the configuration has it.
    pub(crate) fn predefined(&mut self) -> Result<Change, Error> {
        let defaults = self.defaults;
        for (driver, options) in &defaults.network_options {
            self.judge_options(driver, options)?;
        }
        let mut change = Change::default();
        for (name, driver) in [("bridge", "bridge"), ("host", HOST), ("none", NONE)] {
            let old = self.intent.network_by_name(name).cloned();
            if self.drivers.get(driver).is_none() || (old.is_some() && driver != "bridge") {
                continue;
            }
            if driver == "bridge" && defaults.no_bridge {
                let unused = |n: &Arc<Network>| self.intent.endpoints_on(&n.id).next().is_none();
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
                self.refuse_absent_bridge(&network, old.as_deref())?;
            }
            match old {
                None => change.0.push(Mutation::PutNetwork(Arc::new(self.settle(network)?))),
                Some(old) => change.0.extend(self.adapt(&old, network)?.map(Mutation::PutNetwork)),
            }
        }
        Ok(change)
    }

    /// A default bridge under another name than its usual one is the user's to make (Docker's rule and words).
    fn refuse_absent_bridge(&self, network: &Network, old: Option<&Network>) -> Result<(), Error> {
        let Some(name) = self.defaults.bridge_options.get(BRIDGE_NAME) else { return Ok(()) };
        let known = old.is_some_and(|old| old.options.get(BRIDGE_NAME) == Some(name));
        let Some(driver) = self.drivers.of(network) else { return Ok(()) };
        driver.validate(network, self.host).map_err(Error::Driver)?;
        if known || self.foreign_bridge(driver, network).is_some() {
            return Ok(());
        }
        let what = format!("bridge device with non default name {name} must be created manually");
        Err(Error::Invalid { what })
    }

    /// Refuses options that no network could be made with. Those of a driver that is not there are nobody's.
    fn judge_options(&self, driver: &str, options: &BTreeMap<String, String>) -> Result<(), Error> {
        let Some(judge) = self.drivers.get(driver) else { return Ok(()) };
        let mut network = plain(NetworkId::from_bytes([0; 32]), "default-network-opts", driver);
        network.options.clone_from(options);
        judge.validate(&network, self.host).map_err(Error::Driver)
    }

    /// Leads the default bridge's containers out by the routers that were said for it.
    pub(crate) fn give_routers(&self, network: &mut Network) -> Result<(), Error> {
        // As by Docker, what is said of a family that is off means nothing.
        let on = |router: &&IpAddr| if router.is_ipv4() { network.ipv4 } else { network.ipv6 };
        for router in self.defaults.bridge_routers.iter().flatten().filter(on) {
            let own = network.subnets.iter_mut().find(|own| own.subnet.addr().is_ipv4() == router.is_ipv4());
            match own {
                Some(own) if own.subnet.contains(router) => {
                    own.auxiliary.insert(own.router_name().to_owned(), *router);
                    validate(own).map_err(Error::Config)?;
                }
                own => {
                    let key = if router.is_ipv4() { "default-gateway" } else { "default-gateway-v6" };
                    let has = own.map_or("none".to_owned(), |own| own.subnet.to_string());
                    let what = format!(
                        "{key}: {router} must be an address of the default bridge's subnet, which is {has}: a bip or a \
                         fixed-cidr chooses another"
                    );
                    return Err(Error::Invalid { what });
                }
            }
        }
        Ok(())
    }

    /// The network that `old` becomes; none when it is as it should be. Subnets stay while containers live by them.
    fn adapt(&self, old: &Arc<Network>, mut network: Network) -> Result<Option<Arc<Network>>, Error> {
        let adopted = self.drivers.of(&network).is_some_and(|d| self.foreign_bridge(d, &network).is_some());
        for ipv6 in [false, true].into_iter().filter(|_| !adopted) {
            let chosen = |s: &&Subnet| !s.requested && s.subnet.addr().is_ipv6() == ipv6;
            if network.subnet(ipv6).is_none() {
                let kept = old.subnets.iter().filter(chosen).cloned();
                network.subnets.extend(kept.map(|subnet| Subnet { auxiliary: BTreeMap::new(), ..subnet }));
            }
        }
        // Its own subnets are not in its way.
        let without = self.intent.apply(&Change(vec![Mutation::RemoveNetwork(old.id.clone())]));
        let mut random = || [0; 32];
        let settled = Desk {
            intent: &without,
            host: self.host,
            drivers: self.drivers,
            pools: self.pools,
            defaults: self.defaults,
            hints: &mut Default::default(),
            random: &mut random,
            busy: &mut (Box::new(|_, _, _| None) as crate::BusyPorts),
            returning: self.returning,
        }
        .settle(network)?;
        let lived_in = self.intent.endpoints_on(&old.id).next().is_some();
        let mut settled = settled;
        if lived_in && (settled.subnets != old.subnets || settled.ipv6 != old.ipv6) {
            warn!(
                network = old.name,
                "keeps its subnets while containers use it; the configured ones come with the next start without any"
            );
            settled.subnets.clone_from(&old.subnets);
            settled.ipv6 = old.ipv6;
        }
        Ok((settled != **old).then(|| Arc::new(settled)))
    }
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
        (BRIDGE_NAME, "docker0"),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}
