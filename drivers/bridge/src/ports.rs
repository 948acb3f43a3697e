//! Published ports that clients reach by a container's own address: all of a routed network; those of another beside the
//! host's ports that lead to them, from links that are trusted, or from everywhere outside.

use libnetwork_model::{Endpoint, Network, PortRange, Protocol, PublishedPort};
use libnetwork_plan::{Datum, Desired, Name, Object};

use crate::{
    options::{GatewayMode, Options},
    publish, rules,
};

/// Who may come in that way.
pub(crate) fn network_elements(
    network: &Network,
    options: &Options<'_>,
    direct: bool,
    bridge: &Name,
    out: &mut Desired,
) {
    let mut member = |key| out.insert(key, Object::SetElement(None));
    for (family, on) in [network.ipv4, network.ipv6].into_iter().enumerate() {
        if on && options.gateway_modes[family] == GatewayMode::Routed {
            member(rules::element(rules::ROUTED[family], bridge));
        }
    }
    if direct && !network.internal {
        member(rules::element(rules::DIRECT, bridge));
    }
    for link in &options.trusted {
        let pair = vec![Datum::Ifname((*link).into()), Datum::Ifname(bridge.clone())];
        member(rules::element_of(rules::TRUSTED, pair));
    }
}

/// Where to. `published`: those of a family, in any order.
pub(crate) fn endpoint_elements(
    endpoint: &Endpoint,
    ipv6: bool,
    published: &[PublishedPort],
    out: &mut Desired,
) {
    let Some(address) = endpoint.addresses().find(|a| a.is_ipv6() == ipv6) else { return };
    let datum = publish::datum(address);
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
        let ports = published.iter().filter(|p| p.protocol == protocol);
        for range in disjoint(ports.filter_map(PublishedPort::container_ports).collect()) {
            let element = vec![datum.clone(), Datum::Protocol(protocol), Datum::Ports(range)];
            out.insert(rules::element_of(rules::OPEN[usize::from(ipv6)], element), Object::SetElement(None));
        }
    }
}

/// The same ports as few ranges that do not overlap, as the kernel wants them.
fn disjoint(mut ranges: Vec<PortRange>) -> Vec<PortRange> {
    ranges.sort();
    let mut joined: Vec<PortRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        if let Some(last) = joined.last_mut()
            && u32::from(range.first()) <= u32::from(last.last()) + 1
            && let Some(both) = PortRange::new(last.first(), last.last().max(range.last()))
        {
            *last = both;
        } else {
            joined.push(range);
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_meet_become_one() {
        let ranges = |pairs: &[(u16, u16)]| -> Vec<PortRange> {
            pairs.iter().map(|(a, b)| PortRange::new(*a, *b).unwrap()).collect()
        };
        assert_eq!(
            disjoint(ranges(&[(80, 80), (1, 9), (10, 12), (81, 90), (85, 86)])),
            ranges(&[(1, 12), (80, 90)])
        );
        assert_eq!(disjoint(ranges(&[(1, 65535), (65535, 65535)])), ranges(&[(1, 65535)]));
    }
}
