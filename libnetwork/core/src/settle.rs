//! From what was asked for of a network to what it is: its link's owner, subnets and gateways.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use libnetwork_ipam::{Pool, SubnetError, choose, choose_ula, complete, validate};
use libnetwork_model::{DnsOptions, HostFacts, Intent, Network, NetworkId, Subnet};
use libnetwork_plan::Driver;

use crate::{Defaults, Drivers, Error, draft::Desk};

/// What a network is settled by.
#[derive(Clone, Copy)]
pub(crate) struct Settler<'a> {
    pub(crate) intent: &'a Intent,
    pub(crate) host: &'a HostFacts,
    pub(crate) drivers: &'a Drivers,
    pub(crate) pools: &'a [Pool],
    pub(crate) defaults: &'a Defaults,
}

impl Desk<'_> {
    pub(crate) fn settler(&self) -> Settler<'_> {
        let Desk { intent, host, drivers, pools, defaults, .. } = self;
        Settler { intent, host, drivers, pools, defaults }
    }
}

impl Settler<'_> {
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
        network.foreign_link |= self.foreign_bridge(driver, &network).is_some();
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
            // What the host can reach, too.
            let others = self.intent.subnets().chain(self.host.taken.iter().copied());
            let taken = others.chain(own.iter().copied());
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
        Ok(network)
    }

    /// [`Settler::settle`] for a network that nobody lives on: whoever is the first must find a gateway.
    pub(crate) fn settle_uninhabited(&self, network: Network) -> Result<Network, Error> {
        let network = self.settle(network)?;
        self.refuse_absent_gateways(&network)?;
        Ok(network)
    }

    /// Leads the default bridge's containers out by the routers that were said for it.
    fn give_routers(&self, network: &mut Network) -> Result<(), Error> {
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
