//! Where the subnets of networks come from when nobody asked for one.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use libnetwork_model::{ErrorKind, HasKind};

use crate::range::{address, bounds, overlaps, same_family};

/// A prefix that is cut into subnets of `size` bits of prefix length (one of Docker's `default-address-pools`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    pub base: IpNet,
    /// The prefix length of the subnets, from the base's own up to 32 or 128.
    pub size: u8,
}

impl Pool {
    /// A pool whose every subnet somebody could ask for; otherwise what it must be instead. Host bits of the base mean
    /// nothing.
    pub fn new(base: IpNet, size: u8) -> Result<Self, &'static str> {
        if size < base.prefix_len() || size > base.max_prefix_len() {
            return Err("of a size from the base's own prefix length up");
        }
        if NO_HOSTS.iter().any(|net| overlaps(*net, base)) {
            return Err("of addresses that hosts can have, without multicast and IPv4 in IPv6");
        }
        Ok(Pool { base: base.trunc(), size })
    }
}

/// Multicast, and IPv4 addresses in another form: what [`crate::validate`] refuses, as far as a pool can have it.
const NO_HOSTS: [IpNet; 3] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96)),
];

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    #[error(
        "all predefined address pools have been fully subnetted: remove networks that are not used (docker network \
         prune), give this one a --subnet, or widen default-address-pools"
    )]
    Exhausted,
}

impl HasKind for PoolError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Exhausted
    }
}

/// The pools that hold when none are configured.
///
/// The same prefixes as Docker's. The first six networks (the predefined bridge among them) get the /16 that Docker
/// gives them; the rest is cut into /24s, which makes 2,560 more networks where Docker has room for 25.
pub fn default_pools() -> Vec<Pool> {
    let pool =
        |a, b, len, size| Pool { base: IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, 0, 0), len)), size };
    let wide = (17..=22).map(|b| pool(172, b, 16, 16));
    wide.chain([pool(172, 23, 16, 24), pool(172, 24, 13, 24), pool(192, 168, 16, 24)]).collect()
}

/// The first subnet of the pools that overlaps nothing in `taken` (the subnets of other networks, and what the host
/// itself has addresses and routes for).
///
/// Costs one sort of `taken`, whatever the size of the pools.
pub fn choose(pools: &[Pool], taken: impl IntoIterator<Item = IpNet>) -> Result<IpNet, PoolError> {
    let mut taken: Vec<IpNet> = taken.into_iter().collect();
    taken.sort_by_key(|net| bounds(*net).0);
    pools.iter().find_map(|pool| first_free(*pool, &taken)).ok_or(PoolError::Exhausted)
}

/// A /64 of unique local addresses (RFC 4193) for a network that has IPv6 without a subnet. The global id comes from
/// `seed`, the network's own random id, so that two hosts hardly ever choose the same.
pub fn choose_ula(seed: &[u8], taken: impl IntoIterator<Item = IpNet>) -> Result<IpNet, PoolError> {
    let mut octets = [0u8; 16];
    octets[0] = 0xfd;
    for (octet, byte) in octets[1..8].iter_mut().zip(seed) {
        *octet = *byte;
    }
    let taken: Vec<IpNet> = taken.into_iter().collect();
    let start = u128::from(Ipv6Addr::from(octets));
    let top = 0xff << 120;
    (0..=1024u128)
        .map(|step| Ipv6Addr::from((start.wrapping_add(step << 64) & !top) | 0xfd << 120))
        .map(|base| IpNet::V6(Ipv6Net::new_assert(base, 64)))
        .find(|net| !taken.iter().any(|other| overlaps(*net, *other)))
        .ok_or(PoolError::Exhausted)
}

/// `taken` is sorted by first address.
fn first_free(pool: Pool, taken: &[IpNet]) -> Option<IpNet> {
    let (mut candidate, last) = bounds(pool.base);
    let step = 1u128
        << (pool.base.max_prefix_len() - pool.size.clamp(pool.base.prefix_len(), pool.base.max_prefix_len()));
    for net in taken.iter().filter(|net| same_family(**net, pool.base)) {
        let (from, to) = bounds(*net);
        if from > candidate.saturating_add(step - 1) {
            break;
        }
        if to >= candidate {
            // The first step at or after what follows the obstacle; steps are counted from the pool's base, aligned.
            candidate = to.checked_add(1)?.checked_next_multiple_of(step)?;
        }
    }
    (candidate.checked_add(step - 1)? <= last)
        .then(|| IpNet::new(address(pool.base, candidate), pool.size).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_network_gets_dockers_own() {
        assert_eq!(choose(&default_pools(), []), Ok(net("172.17.0.0/16")));
    }

    #[test]
    fn a_pool_has_only_subnets_that_somebody_could_ask_for() {
        assert_eq!(Pool::new(net("10.9.1.7/16"), 24), Ok(Pool { base: net("10.9.0.0/16"), size: 24 }));
        assert!(Pool::new(net("fd00::/8"), 64).is_ok() && Pool::new(net("10.0.0.0/8"), 8).is_ok());
        for (base, size) in [
            ("224.0.0.0/4", 24),
            ("192.0.0.0/2", 24),
            ("0.0.0.0/0", 24),
            ("ff05::/16", 64),
            ("::/0", 0),
            ("::ffff:10.0.0.0/104", 120),
            ("10.0.0.0/16", 15),
            ("10.0.0.0/16", 33),
        ] {
            assert!(Pool::new(net(base), size).is_err(), "{base}, {size}");
        }
    }

    #[test]
    fn a_route_of_the_host_is_stepped_over() {
        assert_eq!(choose(&default_pools(), [net("172.17.42.0/24")]), Ok(net("172.18.0.0/16")));
        assert_eq!(choose(&default_pools(), [net("172.16.0.0/12")]), Ok(net("192.168.0.0/24")));
    }

    #[test]
    fn there_are_thousands_before_the_error_says_what_to_change() {
        let mut taken = Vec::new();
        let error = loop {
            match choose(&default_pools(), taken.iter().copied()) {
                Ok(net) => taken.push(net),
                Err(error) => break error,
            }
        };
        assert!(taken.len() > 2500, "{}", taken.len());
        assert!(error.to_string().contains("default-address-pools"));
        for (i, a) in taken.iter().enumerate().step_by(37) {
            assert!(taken.iter().enumerate().all(|(j, b)| i == j || !overlaps(*a, *b)));
        }
    }

    #[test]
    fn two_networks_of_one_seed_get_two_ulas() {
        let first = choose_ula(&[7; 32], []).unwrap();
        let second = choose_ula(&[7; 32], [first]).unwrap();
        assert!(net("fd00::/8").contains(&first) && net("fd00::/8").contains(&second));
        assert!(!overlaps(first, second));
    }

    proptest! {
        /// The model is the set of all subnets of a small pool.
        #[test]
        fn the_choice_is_the_first_that_overlaps_nothing(
            taken in prop::collection::vec((0u32..2048, 20u8..=32), 0..40), size in 22u8..=28
        ) {
            let base = net("10.9.0.0/21");
            let taken: Vec<IpNet> = taken
                .into_iter()
                .map(|(offset, len)| {
                    let address = Ipv4Addr::from(0x0a09_0000 + offset);
                    IpNet::V4(Ipv4Net::new(address, len).unwrap().trunc())
                })
                .collect();
            let expected =
                base.subnets(size).unwrap().find(|s| !taken.iter().any(|t| overlaps(*s, *t)));
            prop_assert_eq!(choose(&[Pool { base, size }], taken).ok(), expected);
        }
    }
}
