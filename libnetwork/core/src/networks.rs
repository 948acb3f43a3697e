//! Judging commands about networks.

use std::sync::Arc;

use libnetwork_ipam::validate;
use libnetwork_model::{Change, Mutation, Network, NetworkId, parse_flag};

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
            foreign_link: false,
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
        let network = if network.config_only {
            as_configuration(network)?
        } else {
            self.settler().settle_uninhabited(network)?
        };
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
