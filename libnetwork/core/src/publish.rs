//! Judging published ports: which host ports a sandbox gets, and who has the ones that it cannot have.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use libnetwork_ipam::{Busy, EPHEMERAL, PortError, allocate_ports, routed_port};
use libnetwork_model::{
    Change, Intent, Mutation, NamespaceKind, PortIndex, PortRange, PortWish, Protocol, PublishedPort,
    Sandbox, SandboxId,
};

use crate::{
    Error,
    draft::{Desk, Draft, Returning, Subject},
};

impl Desk<'_> {
    pub(crate) fn set_ports(&mut self, id: &SandboxId, wishes: &[PortWish]) -> Result<Draft, Error> {
        let sandbox = self.sandbox(id)?;
        if sandbox.namespace == NamespaceKind::Host {
            return Err(Error::NoPorts { sandbox: sandbox.name.clone() });
        }
        let mut changed = Sandbox { wishes: wishes.to_vec(), ..(*sandbox).clone() };
        changed.ports = self.ports(self.intent, &changed, &sandbox.ports)?;
        let subject = Subject::Sandbox(id.clone());
        let unchanged = changed == *sandbox;
        Ok(Draft {
            change: Change(if unchanged {
                Vec::new()
            } else {
                vec![Mutation::PutSandbox(Arc::new(changed))]
            }),
            undo: Some(Change(vec![Mutation::PutSandbox(sandbox.clone())])),
            subjects: [subject.clone()].into(),
            holds: vec![subject.clone()],
            events: Vec::new(),
            about: subject,
            object: format!("the ports of container {}", sandbox.name),
        })
    }

    /// The host ports for all wishes of a sandbox: none where no network is its way out, as with Docker. `before`: those
    /// that it has now, which it keeps where they fit.
    pub(crate) fn ports(
        &mut self,
        intent: &Intent,
        sandbox: &Sandbox,
        before: &[PublishedPort],
    ) -> Result<Vec<PublishedPort>, Error> {
        let Ways { routed, bound } = self.ways(intent, &sandbox.id);
        if sandbox.wishes.is_empty() || routed == [None, None] {
            return Ok(Vec::new());
        }
        let (wishes, routed) = by_family(&sandbox.wishes, &bound, routed)?;
        // Routed ports had none of the host's.
        let before: Vec<PublishedPort> = before.iter().filter(|p| !p.routed).cloned().collect();
        let ephemeral = self.host.ephemeral.unwrap_or(EPHEMERAL);
        let mut kept = vec![false; before.len()];
        let wishes: Vec<PortWish> = wishes
            .into_iter()
            .flat_map(|wish| bind(wish, &bound))
            .map(|mut wish| {
                // Ports that were chosen stay: those of a join that is repeated, and those beside which others come.
                // One that was asked for exactly needs no memory.
                let free = wish.host_ports.is_none_or(|range| range.count() > wish.count);
                let has = |p: &PublishedPort| {
                    p.protocol == wish.protocol
                        && p.container_port == wish.container_port
                        && p.host_ip == wish.host_ip
                        && p.host_ports.count() == wish.count
                        && wish.host_ports.is_none_or(|r| {
                            r.contains(p.host_ports.first()) && r.contains(p.host_ports.last())
                        })
                };
                if free && let Some(index) = before.iter().zip(&kept).position(|(p, kept)| !kept && has(p)) {
                    kept[index] = true;
                    wish.host_ports = Some(before[index].host_ports);
                }
                wish
            })
            .collect();
        let taken = others(intent, &sandbox.id);
        let random = (self.random)();
        let span = u32::from(ephemeral.last() - ephemeral.first()) + 1;
        let offset = u32::from(u16::from_le_bytes([random[0], random[1]])) % span;
        let from = ephemeral.first() + offset as u16;
        let returning = self.returning;
        let mut busy = |protocol, ip, range: PortRange| {
            let back = returned(returning, &sandbox.id, protocol, ip, range);
            back.map(|(_, port)| Busy::Taken(port))
                .or_else(|| busy_beyond(&before, protocol, ip, range, &mut self.busy))
        };
        let settled = allocate_ports(&wishes, &sandbox.id, taken, &mut busy, ephemeral, from)
            .map_err(|error| name_holder(error, intent, returning, sandbox))?;
        Ok(settled.into_iter().flat_map(|port| around(port, &before)).chain(routed).collect())
    }

    fn ways(&self, intent: &Intent, sandbox: &SandboxId) -> Ways {
        let ways = [false, true].map(|ipv6| {
            let network = intent.network(&intent.gateway_endpoint(sandbox, ipv6)?.network)?;
            let driver = self.drivers.of(network)?;
            Some((driver.routes_ports(network, ipv6), driver.host_binding(network, ipv6)))
        });
        Ways {
            routed: ways.map(|way| way.map(|(routed, _)| routed)),
            bound: ways.into_iter().flatten().filter_map(|(_, bound)| bound).collect(),
        }
    }

    /// The sandbox with its ports as `after` wants them: another network may be its way out there, or none, and take them
    /// another way or to another address of the host. None when they are right.
    pub(crate) fn ports_after(
        &mut self,
        after: &Intent,
        sandbox: &Arc<Sandbox>,
    ) -> Result<Option<Arc<Sandbox>>, Error> {
        let same = || self.ways(self.intent, &sandbox.id) == self.ways(after, &sandbox.id);
        if sandbox.wishes.is_empty() || same() {
            return Ok(None);
        }
        let ports = self.ports(after, sandbox, &sandbox.ports)?;
        let changed = ports != sandbox.ports;
        Ok(changed.then(|| Arc::new(Sandbox { ports, ..(**sandbox).clone() })))
    }
}

/// How clients get to a sandbox's ports, by the networks that are its ways out.
#[derive(Debug, PartialEq, Eq)]
struct Ways {
    /// By family, whether they are led to the sandbox's own address; none where there is no way out.
    routed: [Option<bool>; 2],
    /// The host's addresses that ports are published on where none is asked for; all, where there are none.
    bound: Vec<IpAddr>,
}

/// A wish for no particular address, as one for each of these.
fn bind(wish: PortWish, bound: &[IpAddr]) -> Vec<PortWish> {
    match wish.host_ip {
        None if !bound.is_empty() => {
            bound.iter().map(|ip| PortWish { host_ip: Some(*ip), ..wish.clone() }).collect()
        }
        _ => vec![wish],
    }
}

/// Wishes for ports of the host, and the ports of routed families, which need none. Who has IPv6 alone has none of the host's
/// IPv4 ports: another may have those. (Who has IPv4 alone has those of both, as with Docker.)
fn by_family(
    wishes: &[PortWish],
    bound: &[IpAddr],
    routed: [Option<bool>; 2],
) -> Result<(Vec<PortWish>, Vec<PublishedPort>), Error> {
    if routed[0] == Some(false) && routed[1] != Some(true) {
        return Ok((wishes.to_vec(), Vec::new()));
    }
    let (mut mapped, mut ports) = (Vec::new(), Vec::new());
    for (wish, ipv6) in wishes.iter().flat_map(|wish| [(wish, false), (wish, true)]) {
        let is_of = |ip: Option<IpAddr>| ip.is_none_or(|ip| ip.is_ipv6() == ipv6);
        match routed[usize::from(ipv6)].filter(|_| is_of(wish.host_ip)) {
            None => {}
            Some(true) => {
                let port = routed_port(wish, ipv6).map_err(Error::Port)?;
                if !ports.contains(&port) {
                    ports.push(port);
                }
            }
            Some(false) => {
                let bound = bound.iter().copied().find(|bound| is_of(Some(*bound)));
                let bound = bound.unwrap_or(unspecified(ipv6));
                mapped.push(PortWish { host_ip: wish.host_ip.or(Some(bound)), ..wish.clone() });
            }
        }
    }
    Ok((mapped, ports))
}

fn unspecified(ipv6: bool) -> IpAddr {
    if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

/// A range cut where one of `before` that it contains begins and ends. To the mapper, a longer range in the place of a
/// shorter is another mapping: the connections by the shorter one would end with it.
fn around(port: PublishedPort, before: &[PublishedPort]) -> Vec<PublishedPort> {
    let container = |host: u16| port.container_port + (host - port.host_ports.first());
    let mut inside: Vec<&PublishedPort> = before
        .iter()
        .filter(|had| {
            (had.protocol, had.host_ip) == (port.protocol, port.host_ip)
                && port.host_ports.contains(had.host_ports.first())
                && port.host_ports.contains(had.host_ports.last())
                && container(had.host_ports.first()) == had.container_port
        })
        .collect();
    inside.sort();
    let mut pieces = Vec::with_capacity(2 * inside.len() + 1);
    let piece = |first: u16, last: u16| {
        let host_ports = PortRange::new(first, last)?;
        Some(PublishedPort { host_ports, container_port: container(first), ..port.clone() })
    };
    let mut first = Some(port.host_ports.first());
    for had in inside {
        pieces.extend(first.and_then(|first| piece(first, had.host_ports.first() - 1)));
        pieces.push(had.clone());
        first = had.host_ports.last().checked_add(1);
    }
    pieces.extend(first.and_then(|first| piece(first, port.host_ports.last())));
    pieces
}

/// What keeps a range from being bound, apart from the ports of it that the sandbox has already.
fn busy_beyond(
    own: &[PublishedPort],
    protocol: Protocol,
    ip: Option<IpAddr>,
    range: PortRange,
    busy: &mut dyn FnMut(Protocol, Option<IpAddr>, PortRange) -> Option<Busy>,
) -> Option<Busy> {
    let mut own: Vec<PortRange> = own
        .iter()
        .filter(|p| p.protocol == protocol && p.host_ip == ip && p.host_ports.overlaps(range))
        .map(|p| p.host_ports)
        .collect();
    own.sort();
    let mut first = Some(range.first());
    for have in own {
        let start = first?;
        if have.first() > start
            && let Some(gap) = PortRange::new(start, have.first() - 1)
            && let Some(found) = busy(protocol, ip, gap)
        {
            return Some(found);
        }
        first = have.last().max(start - 1).checked_add(1);
    }
    busy(protocol, ip, PortRange::new(first?, range.last())?)
}

/// Who gets some of these ports of the host back if what is in hand is refused, and the first of them.
fn returned<'a>(
    returning: &'a Returning,
    asking: &SandboxId,
    protocol: Protocol,
    host_ip: Option<IpAddr>,
    host_ports: PortRange,
) -> Option<(&'a Sandbox, u16)> {
    let asked = PublishedPort { protocol, host_ip, host_ports, container_port: 1, routed: false };
    let others = returning.values().filter(|sandbox| sandbox.id != *asking);
    others.flat_map(|s| s.ports.iter().map(move |port| (s, port))).find_map(|(sandbox, port)| {
        port.collides(&asked).then(|| (&**sandbox, port.host_ports.first().max(host_ports.first())))
    })
}

/// What everybody but this sandbox has published.
fn others(intent: &Intent, sandbox: &SandboxId) -> PortIndex {
    let mut others = intent.published().clone();
    for port in intent.sandbox(sandbox).iter().flat_map(|sandbox| &sandbox.ports) {
        others.remove(port);
    }
    others
}

/// A port that is taken, with whose it is. Ports of the host's own processes are for the caller to name: nothing here
/// knows processes.
fn name_holder(error: PortError, intent: &Intent, returning: &Returning, sandbox: &Sandbox) -> Error {
    if let PortError::Busy { protocol, host_ip, ports, .. } = error
        && let Some((holder, port)) = returned(returning, &sandbox.id, protocol, host_ip, ports)
    {
        let error = PortError::Allocated { protocol, host_ip, ports };
        let (by, port) = (format!("container {}", holder.name), format!("{port}/{protocol}"));
        return Error::PortTaken { error, by, port };
    }
    let PortError::Allocated { protocol, host_ip, ports } = error else { return Error::Port(error) };
    let asked = PublishedPort { protocol, host_ip, host_ports: ports, container_port: 1, routed: false };
    let others = others(intent, &sandbox.id);
    let holder = others.collision(&asked).and_then(|(range, id)| Some((range, intent.sandbox(id)?)));
    let (by, at) = match holder {
        Some((range, holder)) => {
            (format!("container {}", holder.name), format!("{}/{protocol}", range.first().max(ports.first())))
        }
        None => (format!("container {} itself already", sandbox.name), "it".to_owned()),
    };
    Error::PortTaken { error, by, port: at }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(first: u16, last: u16) -> PublishedPort {
        PublishedPort {
            protocol: Protocol::Tcp,
            host_ip: None,
            host_ports: PortRange::new(first, last).unwrap(),
            container_port: 80,
            routed: false,
        }
    }

    #[test]
    fn a_range_that_grows_keeps_what_it_was_as_a_piece() {
        let port = |first, last, container_port| PublishedPort { container_port, ..published(first, last) };
        let whole = || port(1, 65535, 1);
        assert_eq!(around(whole(), &[]), [whole()]);
        assert_eq!(around(whole(), &[whole()]), [whole()]);
        assert_eq!(
            around(whole(), &[port(65535, 65535, 65535), port(10, 19, 10), port(30, 30, 80)]),
            [port(1, 9, 1), port(10, 19, 10), port(20, 65534, 20), port(65535, 65535, 65535)]
        );
        assert_eq!(around(port(10, 20, 1), &[port(5, 12, 1)]), [port(10, 20, 1)]);
    }

    #[test]
    fn only_what_is_new_of_a_range_is_looked_at() {
        let own = [published(10, 19), published(40, 65535)];
        let asked = |first, last| {
            let mut seen = Vec::new();
            let range = PortRange::new(first, last).unwrap();
            let found = busy_beyond(&own, Protocol::Tcp, None, range, &mut |_, _, r: PortRange| {
                seen.push((r.first(), r.last()));
                None
            });
            assert_eq!(found, None);
            seen
        };
        assert_eq!(asked(10, 19), []);
        assert_eq!(asked(12, 15), []);
        assert_eq!(asked(5, 65535), [(5, 9), (20, 39)]);
        assert_eq!(asked(15, 30), [(20, 30)]);
        assert_eq!(asked(1, 3), [(1, 3)]);
    }
}
