use std::{net::IpAddr, sync::Arc};

use imbl::{OrdMap, OrdSet};
use ipnet::IpNet;

use crate::{Network, NetworkId};

/// Networks by what is asked of all of them when one comes, so that the thousandth costs what the first did. Networks that
/// only hold options are here by their name alone: there is nothing of theirs on the host.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct NetworkIndex {
    names: OrdMap<Arc<str>, NetworkId>,
    /// First address and length of the prefix.
    subnets: OrdSet<(IpAddr, u8, NetworkId)>,
    /// Option and value.
    options: OrdSet<(Arc<str>, Arc<str>, NetworkId)>,
    /// How many networks a driver has; none for one that has none.
    drivers: OrdMap<Arc<str>, u32>,
}

impl NetworkIndex {
    pub(crate) fn insert(&mut self, network: &Network) {
        let id = &network.id;
        self.names.insert(network.name.as_str().into(), id.clone());
        if network.config_only {
            return;
        }
        for net in subnets(network) {
            self.subnets.insert((net.addr(), net.prefix_len(), id.clone()));
        }
        for (option, value) in &network.options {
            self.options.insert((option.as_str().into(), value.as_str().into(), id.clone()));
        }
        *self.drivers.entry(network.driver.as_str().into()).or_insert(0) += 1;
    }

    pub(crate) fn remove(&mut self, network: &Network) {
        let id = &network.id;
        self.names.remove(network.name.as_str());
        if network.config_only {
            return;
        }
        for net in subnets(network) {
            self.subnets.remove(&(net.addr(), net.prefix_len(), id.clone()));
        }
        for (option, value) in &network.options {
            self.options.remove(&(option.as_str().into(), value.as_str().into(), id.clone()));
        }
        match self.drivers.get(network.driver.as_str()).copied().unwrap_or(0) {
            0 | 1 => self.drivers.remove(network.driver.as_str()),
            others => self.drivers.insert(network.driver.as_str().into(), others - 1),
        };
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<&NetworkId> {
        self.names.get(name)
    }

    pub(crate) fn has_driver(&self, driver: &str) -> bool {
        self.drivers.contains_key(driver)
    }

    pub(crate) fn with_option<'a>(
        &'a self,
        option: &str,
        value: &str,
    ) -> impl Iterator<Item = &'a NetworkId> {
        let (option, value): (Arc<str>, Arc<str>) = (option.into(), value.into());
        let lowest = NetworkId::from_bytes([0; 32]);
        self.options
            .range((option.clone(), value.clone(), lowest)..)
            .take_while(move |(o, v, _)| *o == option && *v == value)
            .map(|(_, _, id)| id)
    }

    /// In the order of their first addresses, IPv4 first.
    pub(crate) fn subnets(&self) -> impl Iterator<Item = IpNet> {
        self.subnets.iter().filter_map(|(first, length, _)| IpNet::new(*first, *length).ok())
    }

    /// Of subnets none of which overlaps another, the one with the highest first address that overlaps this one.
    pub(crate) fn overlapping(&self, subnet: IpNet) -> Option<(IpNet, &NetworkId)> {
        let highest = NetworkId::from_bytes([0xff; 32]);
        let upto = (subnet.broadcast(), u8::MAX, highest);
        let (first, length, id) = self.subnets.range(..=upto).next_back()?;
        let other = IpNet::new(*first, *length).ok()?;
        (other.contains(&subnet) || subnet.contains(&other)).then_some((other, id))
    }
}

/// As they are written down: without host bits.
fn subnets(network: &Network) -> impl Iterator<Item = IpNet> {
    network.subnets.iter().map(|subnet| subnet.subnet.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(number: u8, subnets: &[&str], options: &[(&str, &str)]) -> Network {
        let subnet = |text: &&str| crate::Subnet {
            subnet: text.parse().unwrap(),
            gateway: None,
            gateway_chosen: false,
            ip_range: None,
            auxiliary: Default::default(),
            requested: true,
        };
        Network {
            id: NetworkId::from_bytes([number; 32]),
            name: format!("n{number}"),
            driver: "bridge".into(),
            created_ns: 0,
            ipv4: true,
            ipv6: true,
            internal: false,
            attachable: false,
            predefined: false,
            config_only: false,
            config_from: None,
            foreign_link: false,
            subnets: subnets.iter().map(subnet).collect(),
            idle_subnets: Vec::new(),
            labels: Default::default(),
            options: options.iter().map(|(o, v)| ((*o).into(), (*v).into())).collect(),
            ipam_options: Default::default(),
        }
    }

    #[test]
    fn an_overlap_is_found_whichever_of_the_two_is_the_larger() {
        let mut index = NetworkIndex::default();
        index.insert(&network(1, &["10.1.0.0/16", "fd00:1::/64"], &[]));
        index.insert(&network(2, &["10.3.4.0/24"], &[]));
        let found = |net: &str| {
            let found = index.overlapping(net.parse().unwrap());
            found.map(|(other, id)| (other.to_string(), id.clone()))
        };
        let [one, two] = [1, 2].map(|n| NetworkId::from_bytes([n; 32]));
        assert_eq!(found("10.1.200.0/24"), Some(("10.1.0.0/16".into(), one.clone())));
        assert_eq!(found("10.1.0.0/16"), Some(("10.1.0.0/16".into(), one.clone())));
        assert_eq!(found("10.3.0.0/16"), Some(("10.3.4.0/24".into(), two)));
        assert_eq!(found("fd00:1::/80"), Some(("fd00:1::/64".into(), one)));
        for free in ["10.2.0.0/16", "10.3.5.0/24", "10.0.0.0/16", "fd00::/64", "fd00:1:0:1::/64", "::/128"] {
            assert_eq!(found(free), None, "{free}");
        }
    }

    #[test]
    fn what_is_removed_leaves_nothing() {
        let mut index = NetworkIndex::default();
        let network = network(1, &["10.1.0.0/16"], &[("a", "b"), ("c", "")]);
        index.insert(&network);
        assert_eq!(index.with_option("a", "b").collect::<Vec<_>>(), [&network.id]);
        assert_eq!(index.with_option("a", "c").count(), 0);
        assert!(index.has_driver("bridge") && !index.has_driver("host"));
        index.remove(&network);
        assert_eq!(index, NetworkIndex::default());
    }
}
