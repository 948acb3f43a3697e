//! What a subnet that somebody asked for must satisfy, and what is filled in where they left it open.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use libnetwork_model::{ErrorKind, HasKind, Subnet};

use crate::range::{address, bounds, family, overlaps, same_family};

/// Docker's texts (`api/types/network`, `ValidateIPAM`), one per rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubnetError {
    #[error("invalid subnet {given}: it should be {should}")]
    HostBits { given: IpNet, should: IpNet },
    #[error("invalid ip-range {range}: parent subnet is an {family} block")]
    RangeFamily { range: IpNet, family: &'static str },
    #[error("invalid ip-range {range}: CIDR block is bigger than its parent subnet {subnet}")]
    RangeBigger { range: IpNet, subnet: IpNet },
    #[error("invalid ip-range {range}: it should be {should}")]
    RangeHostBits { range: IpNet, should: IpNet },
    #[error("invalid ip-range {range}: parent subnet {subnet} doesn't contain ip-range")]
    RangeOutside { range: IpNet, subnet: IpNet },
    #[error("invalid {which}: parent subnet is an {family} block")]
    AddressFamily { which: String, family: &'static str },
    #[error("invalid {which}: parent subnet {subnet} doesn't contain this address")]
    AddressOutside { which: String, subnet: IpNet },
    #[error(
        "failed to allocate secondary ip address ({name}:{address}): Address already in use: it is the gateway"
    )]
    AuxiliaryGateway { name: String, address: IpAddr },
    #[error(
        "failed to allocate gateway ({address}): Address already in use: it is the network or broadcast address of {subnet}"
    )]
    GatewayReserved { address: IpAddr, subnet: IpNet },
    #[error("failed to allocate secondary ip address ({name}:{address}): Address already in use: {whose}")]
    AuxiliaryTaken { name: String, address: IpAddr, whose: String },
    #[error("invalid subnet {given}: {what}")]
    NoHosts { given: IpNet, what: &'static str },
    #[error("subnet {subnet} has no address left for a gateway")]
    NoGateway { subnet: IpNet },
    #[error(
        "invalid pool request: Pool overlaps with other one on this address space: {subnet} and {other}{whose}"
    )]
    Overlap {
        subnet: IpNet,
        other: IpNet,
        /// Which network has the other, as `" of network web"`; empty within one request.
        whose: String,
    },
}

impl HasKind for SubnetError {
    fn kind(&self) -> ErrorKind {
        match self {
            // Docker answers 403 here.
            SubnetError::Overlap { .. } => ErrorKind::InUse,
            // And 500 here.
            SubnetError::AuxiliaryGateway { .. } => ErrorKind::Internal,
            _ => ErrorKind::Invalid,
        }
    }
}

/// Whether a subnet as it was asked for makes sense in itself.
pub fn validate(subnet: &Subnet) -> Result<(), SubnetError> {
    let net = subnet.subnet;
    if net != net.trunc() {
        return Err(SubnetError::HostBits { given: net, should: net.trunc() });
    }
    if let Some(what) = no_hosts(net) {
        return Err(SubnetError::NoHosts { given: net, what });
    }
    if let Some(range) = subnet.ip_range {
        if !same_family(range, net) {
            return Err(SubnetError::RangeFamily { range, family: family(net) });
        }
        if range.prefix_len() < net.prefix_len() {
            return Err(SubnetError::RangeBigger { range, subnet: net });
        }
        if range != range.trunc() {
            return Err(SubnetError::RangeHostBits { range, should: range.trunc() });
        }
        if !overlaps(net, range) {
            return Err(SubnetError::RangeOutside { range, subnet: net });
        }
    }
    if let Some(gateway) = subnet.gateway {
        inside(net, gateway, || format!("gateway {gateway}"))?;
        if is_edge(net, gateway) {
            return Err(SubnetError::GatewayReserved { address: gateway, subnet: net });
        }
    }
    let mut auxiliary: BTreeMap<IpAddr, &str> = BTreeMap::new();
    for (name, address) in &subnet.auxiliary {
        inside(net, *address, || format!("auxiliary address {name}"))?;
        if subnet.gateway == Some(*address) {
            return Err(SubnetError::AuxiliaryGateway { name: name.clone(), address: *address });
        }
        let taken = |whose| SubnetError::AuxiliaryTaken { name: name.clone(), address: *address, whose };
        if is_edge(net, *address) {
            return Err(taken(format!("it is the network or broadcast address of {net}")));
        }
        if let Some(other) = auxiliary.insert(*address, name) {
            return Err(taken(format!("{other} is the same")));
        }
    }
    Ok(())
}

/// Why no host can have an address of a subnet, if that is so.
fn no_hosts(net: IpNet) -> Option<&'static str> {
    let address = net.addr();
    if address.is_multicast() {
        return Some("multicast addresses are no host's");
    }
    if address.is_unspecified() && net.prefix_len() == 0 {
        return Some("it is all addresses there are");
    }
    match address {
        IpAddr::V6(address) if address.to_ipv4_mapped().is_some() && net.prefix_len() >= 96 => {
            Some("these are IPv4 addresses in another form")
        }
        _ => None,
    }
}

/// Fills in the gateway where none was asked for: the first address that is not reserved, of the range that containers get
/// theirs from where there is one (Docker's choice: what lies outside of it is somebody else's).
pub fn complete(mut subnet: Subnet) -> Result<Subnet, SubnetError> {
    if subnet.gateway.is_none() {
        let (first, last) = bounds(subnet.ip_range.unwrap_or(subnet.subnet));
        // No more than the auxiliary addresses and the network's own can be in the way.
        let tries = subnet.auxiliary.len() as u128 + 2;
        let gateway = (first..=last.min(first + tries))
            .map(|number| address(subnet.subnet, number))
            .find(|a| !is_edge(subnet.subnet, *a) && !subnet.auxiliary.values().any(|x| x == a))
            .ok_or(SubnetError::NoGateway { subnet: subnet.subnet })?;
        subnet.gateway = Some(gateway);
        subnet.gateway_chosen = true;
    }
    Ok(subnet)
}

/// The network's own address and an IPv4 broadcast address, which no host may have; a /31 or /32 (RFC 3021), /127 or
/// /128 has none.
pub(crate) fn is_edge(net: IpNet, address: IpAddr) -> bool {
    if net.max_prefix_len() - net.prefix_len() <= 1 {
        return false;
    }
    address == net.network() || (address.is_ipv4() && address == net.broadcast())
}

fn inside(net: IpNet, address: IpAddr, which: impl Fn() -> String) -> Result<(), SubnetError> {
    if address.is_ipv4() != net.addr().is_ipv4() {
        return Err(SubnetError::AddressFamily { which: which(), family: family(net) });
    }
    if !net.contains(&address) {
        return Err(SubnetError::AddressOutside { which: which(), subnet: net });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(net: &str, gateway: &str, range: &str) -> Subnet {
        Subnet {
            subnet: net.parse().unwrap(),
            gateway: gateway.parse().ok(),
            gateway_chosen: false,
            ip_range: range.parse().ok(),
            auxiliary: Default::default(),
            requested: true,
        }
    }

    #[test]
    fn the_gateway_is_the_first_address_that_is_not_reserved() {
        assert_eq!(complete(subnet("10.1.0.0/24", "", "")).unwrap().gateway, "10.1.0.1".parse().ok());
        assert_eq!(complete(subnet("fd00:1::/64", "", "")).unwrap().gateway, "fd00:1::1".parse().ok());
        let mut reserved = subnet("10.1.0.0/24", "", "");
        reserved.auxiliary.insert("router".into(), "10.1.0.1".parse().unwrap());
        assert_eq!(complete(reserved).unwrap().gateway, "10.1.0.2".parse().ok());
        assert_eq!(complete(subnet("10.1.0.4/31", "", "")).unwrap().gateway, "10.1.0.4".parse().ok());
    }

    #[test]
    fn what_contradicts_itself_is_refused_with_dockers_words() {
        let text = |s: Subnet| validate(&s).unwrap_err().to_string();
        assert_eq!(
            text(subnet("10.1.0.5/24", "", "")),
            "invalid subnet 10.1.0.5/24: it should be 10.1.0.0/24"
        );
        assert_eq!(
            text(subnet("10.1.0.0/24", "10.2.0.1", "")),
            "invalid gateway 10.2.0.1: parent subnet 10.1.0.0/24 doesn't contain this address"
        );
        assert_eq!(
            text(subnet("10.1.0.0/24", "fd00::1", "")),
            "invalid gateway fd00::1: parent subnet is an IPv4 block"
        );
        assert_eq!(
            text(subnet("10.1.0.0/24", "", "10.2.0.0/25")),
            "invalid ip-range 10.2.0.0/25: parent subnet 10.1.0.0/24 doesn't contain ip-range"
        );
        assert!(validate(&subnet("10.1.0.0/24", "10.1.0.255", "")).is_err());
        assert!(validate(&subnet("10.1.0.0/24", "10.1.0.254", "10.1.0.128/25")).is_ok());
    }
}
