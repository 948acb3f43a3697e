//! Judging commands about networks.

use std::{collections::BTreeMap, sync::Arc};

use ipnet::IpNet;
use libnetwork_ipam::{Pool, SubnetError, choose, choose_ula, complete, validate};
use libnetwork_model::{Change, DnsOptions, Mutation, Network, NetworkId, Subnet, parse_flag};
use libnetwork_plan::Driver;

use crate::{
    Error, Event,
    draft::{Desk, Draft, Subject, resolve},
    drivers::{HOST, NONE},
    event::now_ns,
    request::CreateNetwork,
};

/// What Docker shows as the driver of a config-only network.
const CONFIGURATION: &str = "null";

/// The driver of networks that hosts share.
const OVERLAY: &str = "overlay";

/// Docker's options for the families (`netlabel.EnableIPv4`), which `default-network-opts` may set for all networks.
const ENABLE_IPV4: &str = "com.docker.network.enable_ipv4";
const ENABLE_IPV6: &str = "com.docker.network.enable_ipv6";

/// Names that stand for something else on Docker's command line (`runconfig.IsPreDefinedNetwork`).
const RESERVED: [&str; 4] = ["bridge", "host", "none", "default"];

/// So many endpoints are named that keep a network from being removed; it may have thousands.
const NAMED: usize = 5;

impl Desk<'_> {
    pub(crate) fn create_network(&mut self, request: &CreateNetwork) -> Result<Draft, Error> {
        let name = request.name.trim();
        if RESERVED.contains(&name) {
            return Err(Error::NetworkReserved { name: name.to_owned() });
        }
        if name.is_empty() {
            return Err(Error::NoName);
        }
        if !is_name(name) {
            return Err(Error::NetworkName { name: name.to_owned() });
        }
        if self.intent.network_by_name(name).is_some() {
            return Err(Error::NetworkExists { name: name.to_owned() });
        }
        let driver = if request.driver.is_empty() { "bridge" } else { &request.driver };
        // Docker's needs a swarm, and there is none here.
        if driver == OVERLAY {
            return Err(Error::NoSwarm);
        }
        if driver == HOST || driver == NONE {
            return Err(Error::OneInstance { driver: driver.to_owned() });
        }
        if !matches!(request.ipam_driver.as_str(), "" | "default") {
            return Err(Error::UnknownPlugin { name: request.ipam_driver.clone() });
        }
        let id = NetworkId::from_bytes((self.random)());
        let mut network = Network {
            id,
            name: name.to_owned(),
            driver: driver.to_owned(),
            created_ns: now_ns(),
            ipv4: request.ipv4.unwrap_or(true),
            ipv6: request.ipv6.unwrap_or(false),
            internal: request.internal,
            attachable: request.attachable,
            predefined: false,
            config_only: request.config_only,
            config_from: request.config_from.clone(),
            subnets: request.subnets.clone(),
            idle_subnets: Vec::new(),
            labels: request.labels.clone(),
            options: request.options.clone(),
            ipam_options: request.ipam_options.clone(),
        };
        self.take_configuration(&mut network)?;
        // A configuration says all that there is to say.
        if network.config_from.is_none()
            && let Some(defaults) = self.defaults.network_options.get(driver)
        {
            for (option, value) in defaults {
                network.options.entry(option.clone()).or_insert_with(|| value.clone());
            }
        }
        if network.config_from.is_none() {
            network.ipv4 = enabled(&network, ENABLE_IPV4, request.ipv4, true)?;
            network.ipv6 = enabled(&network, ENABLE_IPV6, request.ipv6, false)?;
            // What was overruled is not shown beside what is.
            for (option, asked) in [(ENABLE_IPV4, request.ipv4), (ENABLE_IPV6, request.ipv6)] {
                if asked.is_some() {
                    network.options.remove(option);
                }
            }
        }
        if !network.ipv4 && !network.ipv6 && !network.config_only {
            return Err(Error::NoFamily);
        }
        let network = if network.config_only { as_configuration(network)? } else { self.settle(network)? };
        let network = Arc::new(network);
        let subject = Subject::Network(network.id.clone());
        Ok(Draft {
            undo: Some(Change(vec![Mutation::RemoveNetwork(network.id.clone())])),
            subjects: [subject.clone(), Subject::Shared].into(),
            holds: vec![subject.clone()],
            events: vec![Event::network("create", &network)],
            about: subject,
            object: format!("network {}", network.name),
            change: Change(vec![Mutation::PutNetwork(network)]),
        })
    }

    pub(crate) fn remove_network(&mut self, reference: &str) -> Result<Draft, Error> {
        let network = resolve(self.intent, reference)?;
        if network.config_only
            && let Some(user) = self.intent.networks().find(|n| n.config_from.as_ref() == Some(&network.name))
        {
            return Err(Error::ConfigurationInUse { name: network.name.clone(), user: user.name.clone() });
        }
        if network.predefined {
            return Err(Error::NetworkPredefined { name: network.name.clone() });
        }
        let mut active = self.intent.endpoints_on(&network.id);
        let named = active.by_ref().take(NAMED).map(|e| {
            let name = self.intent.sandbox(&e.sandbox).map_or("", |s| s.name.as_str());
            format!("name:{name:?} id:{:?}", e.id.short())
        });
        let named: Vec<String> = named.collect();
        if !named.is_empty() {
            let mut endpoints = named.join(", ");
            match active.count() {
                0 => {}
                more => endpoints.push_str(&format!(" and {more} more")),
            }
            return Err(Error::ActiveEndpoints { name: network.name.clone(), endpoints });
        }
        let subject = Subject::Network(network.id.clone());
        Ok(Draft {
            change: Change(vec![Mutation::RemoveNetwork(network.id.clone())]),
            undo: None,
            subjects: [subject.clone()].into(),
            holds: vec![subject.clone()],
            events: vec![Event::network("destroy", network)],
            about: subject,
            object: format!("network {}", network.name),
        })
    }

    /// Copies what a network takes from a config-only one (Docker's `applyConfigurationTo`).
    fn take_configuration(&self, network: &mut Network) -> Result<(), Error> {
        let Some(name) = network.config_from.clone() else { return Ok(()) };
        if network.config_only {
            let what = "a configuration network cannot depend on another configuration network";
            return Err(Error::Forbidden { what: what.into() });
        }
        let source = self.intent.network_by_name(&name).filter(|n| n.config_only);
        let source = source.ok_or_else(|| Error::ConfigurationNotFound { name: name.clone() })?;
        let own = !network.ipv4
            || network.ipv6
            || !network.labels.is_empty()
            || !network.subnets.is_empty()
            || !network.ipam_options.is_empty();
        let given =
            [("user specified configurations", own), ("network driver options", !network.options.is_empty())];
        if let Some((what, _)) = given.iter().find(|(_, given)| *given) {
            let what = format!("{what} are not supported if the network depends on a configuration network");
            return Err(Error::Forbidden { what });
        }
        (network.ipv4, network.ipv6) = (source.ipv4, source.ipv6);
        network.subnets.clone_from(&source.subnets);
        network.idle_subnets.clone_from(&source.idle_subnets);
        network.options.clone_from(&source.options);
        network.ipam_options.clone_from(&source.ipam_options);
        network.labels.clone_from(&source.labels);
        Ok(())
    }

    /// Checks a network with its driver and gives it the subnets that it did not ask for.
    pub(crate) fn settle(&self, mut network: Network) -> Result<Network, Error> {
        let driver =
            self.drivers.of(&network).ok_or_else(|| Error::UnknownPlugin { name: network.driver.clone() })?;
        // Subnets of a family that is off are shown, as Docker shows them, and mean nothing.
        let on = [network.ipv4, network.ipv6];
        let (used, idle) =
            std::mem::take(&mut network.subnets).into_iter().partition(|s| on[usize::from(is_v6(s.subnet))]);
        network.subnets = used;
        if !network.predefined {
            network.idle_subnets.extend::<Vec<Subnet>>(idle);
        }
        self.adopt(driver, &mut network);
        // IPv4 first, as Docker shows them; the docker CLI sends them in any order.
        network.subnets.sort_by_key(|s| is_v6(s.subnet));
        for subnet in &network.subnets {
            validate(subnet).map_err(Error::Config)?;
        }
        driver.validate(&network, self.host).map_err(Error::Driver)?;
        self.refuse_same_links(driver, &network)?;
        DnsOptions::read(&network).map_err(|error| Error::Invalid { what: error.to_string() })?;
        if !driver.leases_addresses() {
            network.subnets.clear();
            network.idle_subnets.clear();
            return Ok(network);
        }
        self.refuse_overlaps(&network.subnets)?;

        let own: Vec<IpNet> = network.subnets.iter().map(|s| s.subnet).collect();
        for (ipv6, on) in [(false, network.ipv4), (true, network.ipv6)] {
            if !on || network.subnet(ipv6).is_some() {
                continue;
            }
            let taken = self.taken().chain(own.iter().copied());
            let pools: Vec<Pool> =
                self.pools.iter().filter(|pool| is_v6(pool.base) == ipv6).copied().collect();
            let net = match pools.as_slice() {
                // As in Docker, where no pool was configured of that family.
                [] if ipv6 => choose_ula(&seed(&network.id), taken),
                pools => choose(pools, taken),
            };
            network.subnets.push(chosen(net.map_err(Error::Pool)?));
        }
        if network.predefined {
            self.give_routers(&mut network)?;
        }
        choose_gateways(driver, &mut network)?;
        self.refuse_absent_gateways(driver, &network)?;
        Ok(network)
    }

    /// Two networks on one bridge would be one (Docker's words).
    fn refuse_same_links(&self, driver: &dyn Driver, network: &Network) -> Result<(), Error> {
        let names = driver.link_names(network);
        for name in &names {
            let candidates =
                self.drivers.iter().flat_map(|(_, driver)| driver.link_holders(self.intent, name));
            let takes = |other: &&Arc<Network>| {
                other.id != network.id
                    && self.drivers.of(other).is_some_and(|driver| driver.takes_link(other, name))
            };
            if let Some(other) = candidates.into_iter().find(takes) {
                let what = format!(
                    "cannot create network {} ({name}): conflicts with network {} ({name}): networks have same bridge name",
                    network.id, other.id
                );
                return Err(Error::Forbidden { what });
            }
        }
        Ok(())
    }

    /// Asked-for subnets may lie on what the host can reach (somebody means it), never on another network of ours.
    fn refuse_overlaps(&self, subnets: &[Subnet]) -> Result<(), Error> {
        let overlap = |a: IpNet, b: IpNet| a.contains(&b) || b.contains(&a);
        for (i, subnet) in subnets.iter().enumerate() {
            let subnet = subnet.subnet;
            let within = subnets[..i].iter().map(|s| s.subnet).find(|other| overlap(*other, subnet));
            let other = || self.intent.overlapping(subnet);
            let clash = within
                .map(|other| (other, String::new()))
                .or_else(|| other().map(|(other, network)| (other, format!(" of network {}", network.name))));
            if let Some((other, whose)) = clash {
                return Err(Error::Subnet(SubnetError::Overlap { subnet, other, whose }));
            }
        }
        Ok(())
    }
}

/// A network that only holds options: its subnets are checked, and nothing is chosen for it.
fn as_configuration(mut network: Network) -> Result<Network, Error> {
    if network.internal || network.attachable {
        let what = "configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | attachable | scope ] are not supported.";
        return Err(Error::Forbidden { what: what.into() });
    }
    for subnet in &network.subnets {
        validate(subnet).map_err(Error::Config)?;
    }
    network.driver = CONFIGURATION.to_owned();
    Ok(network)
}

/// Whatever Docker takes, but for what harms who reads a list of names, and what no address of the API can lead to.
pub(crate) fn is_name(name: &str) -> bool {
    // Marks that turn the direction of what follows, and that are not seen: names that look like others.
    let hidden = |c: char| {
        matches!(
            c,
            '\u{00ad}'
                | '\u{061c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{feff}'
                | '\u{e0000}'..='\u{e007f}'
        )
    };
    name.len() <= 255 && !matches!(name, "." | "..") && !name.chars().any(|c| c.is_control() || hidden(c))
}

/// Whether a family is on: as was asked, else as its option says, else by default.
fn enabled(network: &Network, option: &str, asked: Option<bool>, default: bool) -> Result<bool, Error> {
    match (asked, network.options.get(option).map(|value| parse_flag(value))) {
        (Some(asked), _) => Ok(asked),
        (None, None) => Ok(default),
        (None, Some(Some(value))) => Ok(value),
        (None, Some(None)) => {
            Err(Error::Invalid { what: format!("driver-opt {option:?} is not a valid bool") })
        }
    }
}

/// Of the subnets that have none, where the driver wants them.
pub(crate) fn choose_gateways(driver: &dyn Driver, network: &mut Network) -> Result<(), Error> {
    let wanted = [false, true].map(|ipv6| driver.has_gateway(network, ipv6));
    for subnet in network.subnets.iter_mut().filter(|s| wanted[usize::from(is_v6(s.subnet))]) {
        *subnet = complete(subnet.clone()).map_err(Error::Subnet)?;
    }
    Ok(())
}

fn chosen(subnet: IpNet) -> Subnet {
    Subnet {
        subnet,
        gateway: None,
        gateway_chosen: false,
        ip_range: None,
        auxiliary: BTreeMap::new(),
        requested: false,
    }
}

fn is_v6(net: IpNet) -> bool {
    matches!(net, IpNet::V6(_))
}

/// The first bytes of an id, which is random: enough for a global id of RFC 4193 and a subnet id.
fn seed(id: &NetworkId) -> Vec<u8> {
    let digits = id.as_str().as_bytes();
    digits.chunks(2).take(7).map(|pair| pair.iter().fold(0, |byte, d| byte << 4 | hex(*d))).collect()
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => digit.wrapping_sub(b'a').wrapping_add(10),
    }
}
