//! Networks on a bridge that somebody else made: it is used as it is, with the addresses that it has, and never changed.

use ipnet::IpNet;
use libnetwork_model::{Network, Subnet};
use libnetwork_plan::Driver;

use crate::{Error, draft::Desk, settle::Settler};

impl Settler<'_> {
    /// Gives a network the subnets that such a bridge has addresses of, for the families that none was asked for of.
    pub(crate) fn adopt(&self, driver: &dyn Driver, network: &mut Network) {
        let Some((_, addresses)) = self.foreign_bridge(driver, network) else { return };
        for (ipv6, on) in [(false, network.ipv4), (true, network.ipv6)] {
            let own = addresses.iter().find(|address| address.addr().is_ipv6() == ipv6);
            let Some(address) = own.filter(|_| on) else { continue };
            // What is said of the default bridge by its range alone is all of it, where it is not of a bridge's.
            let is_range = |s: &Subnet| {
                let part = s.subnet.prefix_len() > address.prefix_len() && address.contains(&s.subnet);
                network.predefined && part && s.gateway.is_none() && s.subnet.addr().is_ipv6() == ipv6
            };
            let range = network.subnets.iter().position(is_range).map(|place| network.subnets.remove(place));
            if network.subnet(ipv6).is_none() {
                network.subnets.push(Subnet {
                    subnet: address.trunc(),
                    gateway: Some(address.addr()),
                    gateway_chosen: false,
                    ip_range: range.as_ref().map(|range| range.subnet),
                    auxiliary: range.map(|range| range.auxiliary).unwrap_or_default(),
                    requested: true,
                });
            }
        }
    }

    /// Refuses gateways that such a bridge does not have, since nobody would be there.
    pub(crate) fn refuse_absent_gateways(&self, network: &Network) -> Result<(), Error> {
        let bridge = self.drivers.of(network).and_then(|driver| self.foreign_bridge(driver, network));
        let Some((bridge, addresses)) = bridge else { return Ok(()) };
        for subnet in &network.subnets {
            let Some(gateway) = subnet.gateway else { continue };
            if !addresses.iter().any(|address| address.addr() == gateway) {
                let has: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                let has = if has.is_empty() { "none".to_owned() } else { has.join(", ") };
                let what = format!(
                    "bridge {bridge} was made by somebody else and is used as it is: network {} needs the address \
                     {gateway}/{} on it, and its addresses are: {has}",
                    network.name,
                    subnet.subnet.prefix_len()
                );
                return Err(Error::Invalid { what });
            }
        }
        Ok(())
    }

    /// The bridge and its addresses.
    pub(crate) fn foreign_bridge(
        &self,
        driver: &dyn Driver,
        network: &Network,
    ) -> Option<(String, &[IpNet])> {
        driver
            .link_names(network)
            .into_iter()
            .find_map(|name| Some((name.to_string(), self.host.bridges.get(&*name)?.as_slice())))
    }
}

impl Desk<'_> {
    /// Refuses a new endpoint on such a bridge while it is not there: those that are wait for it.
    pub(crate) fn refuse_absent_bridge(&self, driver: &dyn Driver, network: &Network) -> Result<(), Error> {
        if !network.foreign_link || self.settler().foreign_bridge(driver, network).is_some() {
            return Ok(());
        }
        let bridge = driver.link_names(network).into_iter().next().unwrap_or_default().to_string();
        Err(Error::BridgeAway { network: network.name.clone(), bridge })
    }
}
