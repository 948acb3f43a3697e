//! Which ports of the host a sandbox's ports are published on.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use libnetwork_model::{
    ErrorKind, HasKind, PortIndex, PortRange, PortWish, Protocol, PublishedPort, SandboxId,
};

/// Linux' own range of ports for who asks for none by number (`net.ipv4.ip_local_port_range`), where the host's is not
/// known.
pub const EPHEMERAL: PortRange = match PortRange::new(32768, 60999) {
    Some(range) => range,
    None => unreachable!(),
};

/// Why the host does not let go of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Busy {
    /// A program has bound this port of it: the first such.
    Taken(u16),
    /// Nobody can bind it, with the host's reason (an address that the host does not have).
    Refused(String),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    #[error("invalid port {port}/{protocol}: {problem}")]
    Invalid { port: u16, protocol: Protocol, problem: &'static str },
    #[error("Bind for {} failed: port is already allocated", Place(*host_ip, *ports))]
    Allocated { protocol: Protocol, host_ip: Option<IpAddr>, ports: PortRange },
    /// `port`: the first that is in use.
    #[error("failed to bind host port {}/{protocol}: address already in use", Place(*host_ip, *ports))]
    Busy { protocol: Protocol, host_ip: Option<IpAddr>, ports: PortRange, port: u16 },
    #[error("failed to bind host port {}/{protocol}: {reason}", Place(*host_ip, *ports))]
    Refused { protocol: Protocol, host_ip: Option<IpAddr>, ports: PortRange, reason: String },
    #[error("Bind for {} failed: all ports are allocated", Place(*host_ip, *ports))]
    Exhausted { protocol: Protocol, host_ip: Option<IpAddr>, ports: PortRange },
}

impl HasKind for PortError {
    fn kind(&self) -> ErrorKind {
        match self {
            PortError::Invalid { .. } => ErrorKind::Invalid,
            PortError::Allocated { .. } | PortError::Busy { .. } => ErrorKind::Conflict,
            PortError::Exhausted { .. } => ErrorKind::Exhausted,
            // Docker answers 500 here.
            PortError::Refused { .. } => ErrorKind::Internal,
        }
    }
}

/// Settles all wishes of one sandbox, or none of them.
///
/// `taken`: what other sandboxes have published. `busy`: what keeps a range from being bound, if anything; asked only for
/// ranges that are free otherwise. `ephemeral`: where ports come from that are not asked for by number; `from`: where the
/// search in it starts, so that a port that was just given back is not given out at once.
pub fn allocate(
    wishes: &[PortWish],
    sandbox: &SandboxId,
    mut taken: PortIndex,
    busy: &mut dyn FnMut(Protocol, Option<IpAddr>, PortRange) -> Option<Busy>,
    ephemeral: PortRange,
    from: u16,
) -> Result<Vec<PublishedPort>, PortError> {
    // What was asked for exactly goes first: an ephemeral choice must not take it away.
    let mut order: Vec<usize> = (0..wishes.len()).collect();
    order.sort_by_key(|i| {
        wishes[*i]
            .host_ports
            .map_or(u32::MAX, |r| u32::from(r.count()) - u32::from(wishes[*i].count.min(r.count())))
    });
    let mut places: Vec<Option<PublishedPort>> = vec![None; wishes.len()];
    for index in order {
        let wish = &wishes[index];
        let port = settle(wish, &taken, busy, ephemeral, from)?;
        taken.insert(&port, sandbox);
        places[index] = Some(port);
    }
    Ok(places.into_iter().flatten().collect())
}

/// The wish for a family that is routed: the container's ports as they are, which nobody has to give.
pub fn routed(wish: &PortWish, ipv6: bool) -> Result<PublishedPort, PortError> {
    check(wish)?;
    let last = |first: u16| PortRange::new(first, first.saturating_add(wish.count - 1));
    let host_ports = wish.host_ports.map_or(wish.container_port, PortRange::first);
    let any = if ipv6 { IpAddr::from([0u16; 8]) } else { IpAddr::from([0u8; 4]) };
    let refuse = || PortError::Invalid {
        port: wish.container_port,
        protocol: wish.protocol,
        problem: "no ports to publish",
    };
    Ok(PublishedPort {
        protocol: wish.protocol,
        host_ip: Some(any),
        host_ports: last(host_ports).ok_or_else(refuse)?,
        container_port: wish.container_port,
        routed: true,
    })
}

fn settle(
    wish: &PortWish,
    taken: &PortIndex,
    busy: &mut dyn FnMut(Protocol, Option<IpAddr>, PortRange) -> Option<Busy>,
    ephemeral: PortRange,
    from: u16,
) -> Result<PublishedPort, PortError> {
    check(wish)?;
    let space = wish.host_ports.unwrap_or(ephemeral);
    let make = |host_ports| PublishedPort {
        protocol: wish.protocol,
        host_ip: wish.host_ip,
        host_ports,
        container_port: wish.container_port,
        routed: false,
    };
    let obstacle = |run| taken.collision(&make(run)).map(|(range, _)| range);
    let start = if wish.host_ports.is_none() && space.contains(from) { from } else { space.first() };
    let mut in_use = None;
    for (low, high) in [(start, space.last()), (space.first(), start.saturating_sub(1))] {
        let mut candidate = u32::from(low);
        while let Some(run) = free_run(candidate, wish.count, &obstacle) {
            // The second round may end in the run that the first began in the middle of.
            let limit =
                if high < space.last() { u32::from(high) + u32::from(wish.count) - 1 } else { high.into() };
            if u32::from(run.last()) > limit.min(space.last().into()) {
                break;
            }
            match busy(wish.protocol, wish.host_ip, run) {
                None => return Ok(make(run)),
                Some(Busy::Refused(reason)) => {
                    let (protocol, host_ip) = (wish.protocol, wish.host_ip);
                    return Err(PortError::Refused { protocol, host_ip, ports: run, reason });
                }
                Some(Busy::Taken(port)) => {
                    in_use = in_use.or(Some(port));
                    candidate = u32::from(port.max(run.first())) + 1;
                }
            }
        }
        if high < low || low == space.first() {
            break;
        }
    }
    let (protocol, host_ip, ports) = (wish.protocol, wish.host_ip, space);
    Err(match (space.count() == wish.count, in_use) {
        (true, Some(port)) => PortError::Busy { protocol, host_ip, ports, port },
        (true, None) => PortError::Allocated { protocol, host_ip, ports },
        (false, _) => PortError::Exhausted { protocol, host_ip, ports },
    })
}

fn check(wish: &PortWish) -> Result<(), PortError> {
    let refuse = |problem| PortError::Invalid { port: wish.container_port, protocol: wish.protocol, problem };
    let Some(last) = wish.count.checked_sub(1) else { return Err(refuse("no ports to publish")) };
    if wish.container_port == 0 || wish.container_port.checked_add(last).is_none() {
        return Err(refuse("container ports are from 1 to 65535"));
    }
    if wish.host_ports.is_some_and(|range| range.count() < wish.count) {
        return Err(refuse("the range of host ports is smaller than the range of container ports"));
    }
    Ok(())
}

/// The first run of `count` ports at or above `candidate` that meets no obstacle.
fn free_run(
    mut candidate: u32,
    count: u16,
    obstacle: &impl Fn(PortRange) -> Option<PortRange>,
) -> Option<PortRange> {
    loop {
        let first = u16::try_from(candidate).ok()?;
        let run = PortRange::new(first, first.checked_add(count - 1)?)?;
        let Some(range) = obstacle(run) else { return Some(run) };
        candidate = u32::from(range.last()) + 1;
    }
}

/// A host address with its ports, as Docker writes them.
struct Place(Option<IpAddr>, PortRange);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = self.0.unwrap_or(IpAddr::from([0, 0, 0, 0]));
        write!(f, "{}", SocketAddr::new(ip, self.1.first()))?;
        if self.1.last() != self.1.first() {
            write!(f, "-{}", self.1.last())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wish(first: u16, last: u16, count: u16) -> PortWish {
        PortWish {
            protocol: Protocol::Tcp,
            host_ip: None,
            host_ports: PortRange::new(first, last),
            container_port: 80,
            count,
        }
    }

    fn published(first: u16, last: u16) -> PublishedPort {
        PublishedPort {
            protocol: Protocol::Tcp,
            host_ip: None,
            host_ports: PortRange::new(first, last).unwrap(),
            container_port: 80,
            routed: false,
        }
    }

    fn own() -> SandboxId {
        SandboxId::from_bytes([1; 32])
    }

    fn index(ports: &[PublishedPort]) -> PortIndex {
        let mut index = PortIndex::default();
        for port in ports {
            index.insert(port, &SandboxId::from_bytes([2; 32]));
        }
        index
    }

    #[test]
    fn a_taken_port_is_refused_with_dockers_words() {
        let taken = index(&[published(8080, 8080)]);
        let error =
            allocate(&[wish(8080, 8080, 1)], &own(), taken.clone(), &mut |_, _, _| None, EPHEMERAL, 0)
                .unwrap_err();
        assert_eq!(error.to_string(), "Bind for 0.0.0.0:8080 failed: port is already allocated");
        let error = allocate(
            &[wish(81, 81, 1)],
            &own(),
            PortIndex::default(),
            &mut |_, _, _| Some(Busy::Taken(81)),
            EPHEMERAL,
            0,
        )
        .unwrap_err();
        assert_eq!(error.to_string(), "failed to bind host port 0.0.0.0:81/tcp: address already in use");
        let mut v6 = wish(8080, 8080, 1);
        v6.host_ip = "::".parse().ok();
        let error = allocate(&[v6], &own(), taken, &mut |_, _, _| None, EPHEMERAL, 0).unwrap_err();
        assert_eq!(error.to_string(), "Bind for [::]:8080 failed: port is already allocated");
    }

    #[test]
    fn two_addresses_share_a_port() {
        let mut one = wish(80, 80, 1);
        one.host_ip = "10.0.0.1".parse().ok();
        let mut two = one.clone();
        two.host_ip = "10.0.0.2".parse().ok();
        assert_eq!(
            allocate(&[one.clone(), two], &own(), PortIndex::default(), &mut |_, _, _| None, EPHEMERAL, 0)
                .unwrap()
                .len(),
            2
        );
        assert!(
            allocate(
                &[one, wish(80, 80, 1)],
                &own(),
                PortIndex::default(),
                &mut |_, _, _| None,
                EPHEMERAL,
                0
            )
            .is_err()
        );
    }

    #[test]
    fn an_ephemeral_port_goes_round_and_steps_over_the_hosts_own() {
        let any = PortWish { host_ports: None, ..wish(1, 1, 1) };
        let first = |from, busy: Option<u16>| {
            let mut busy = |_, _, r: PortRange| busy.filter(|b| r.contains(*b)).map(Busy::Taken);
            allocate(std::slice::from_ref(&any), &own(), PortIndex::default(), &mut busy, EPHEMERAL, from)
                .unwrap()[0]
                .host_ports
                .first()
        };
        assert_eq!(first(0, None), 32768);
        assert_eq!(first(40000, None), 40000);
        assert_eq!(first(60999, Some(60999)), 32768);
        assert_eq!(first(0, Some(32768)), 32769);
    }

    #[test]
    fn an_exact_port_is_not_lost_to_an_ephemeral_one_of_the_same_sandbox() {
        let any = PortWish { host_ports: None, ..wish(1, 1, 1) };
        let ports = allocate(
            &[any, wish(32768, 32768, 1)],
            &own(),
            PortIndex::default(),
            &mut |_, _, _| None,
            EPHEMERAL,
            32768,
        )
        .unwrap();
        assert_eq!([ports[0].host_ports.first(), ports[1].host_ports.first()], [32769, 32768]);
    }

    proptest! {
        #[test]
        fn the_run_is_the_first_that_a_set_has_free(
            taken in prop::collection::vec((100u16..140, 0u16..4), 0..12),
            busy in prop::collection::btree_set(100u16..140, 0..6),
            count in 1u16..6,
        ) {
            let mut disjoint: Vec<PublishedPort> = Vec::new();
            for port in taken.into_iter().map(|(first, more)| published(first, first + more)) {
                if !disjoint.iter().any(|other| other.collides(&port)) {
                    disjoint.push(port);
                }
            }
            let taken = disjoint;
            let free = |p: u16| !busy.contains(&p) && !taken.iter().any(|t| t.host_ports.contains(p));
            let expected = (100..=140 - count).find(|first| (*first..first + count).all(free));
            let mut ask = |_, _, r: PortRange| busy.range(r.first()..=r.last()).next().copied().map(Busy::Taken);
            let given = allocate(&[wish(100, 139, count)], &own(), index(&taken), &mut ask, EPHEMERAL, 0);
            prop_assert_eq!(given.ok().map(|p| p[0].host_ports.first()), expected);
        }
    }
}
