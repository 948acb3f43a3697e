//! The host as drivers and allocation may know it.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    net::IpAddr,
    path::Path,
};

use ipnet::IpNet;
use libnetwork_model::{HostFacts, PortRange, Uplink};
use libnetwork_plan::{Cause, KernelError, Ns};

use crate::{
    before::Before,
    inet::{self, FoundRoute},
    link,
    spaces::Spaces,
};

/// Of the namespace of the reading thread, which is the host's.
const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// By family; there in the machine's first namespace alone.
const NEIGHBOURS: [&str; 2] =
    ["/proc/sys/net/ipv4/neigh/default/gc_thresh3", "/proc/sys/net/ipv6/neigh/default/gc_thresh3"];
const BACKLOG: &str = "/proc/sys/net/core/netdev_max_backlog";
/// Where there is no default route.
const DEFAULT_MTU: u32 = 1500;

pub(crate) fn host(
    spaces: &mut Spaces,
    resolv_conf: &Path,
    before: &Before,
) -> Result<HostFacts, KernelError> {
    let error = |cause: Cause| KernelError { operation: "list", namespace: Ns::Host, key: None, cause };
    let space = spaces.host();
    let links = link::list(&mut space.route).map_err(error)?;
    let addresses = inet::list_addresses(&mut space.route).map_err(error)?;
    let routes = inet::list_routes_everywhere(&mut space.route).map_err(error)?;

    let by_index: HashMap<i32, &link::Found> = links.iter().map(|link| (link.index, link)).collect();
    let foreign = |index: i32| by_index.get(&index).filter(|link| !link.is_ours(&Ns::Host));
    let mut uplinks: BTreeMap<String, Uplink> = BTreeMap::new();
    let mut taken = Vec::new();
    let others = links.iter().filter(|link| link.kind == "bridge" && !link.is_ours(&Ns::Host));
    let mut bridges: BTreeMap<String, Vec<IpNet>> =
        others.map(|link| (link.name.to_string(), Vec::new())).collect();
    for found in &addresses {
        let Some(link) = foreign(found.index) else { continue };
        if !found.link_local {
            taken.push(found.address.trunc());
            if let Some(bridge) = bridges.get_mut(&*link.name) {
                bridge.push(found.address);
            }
        }
        if !link.loopback {
            let uplink = Uplink { index: link.index as u32, mtu: link.mtu, addresses: Vec::new() };
            uplinks.entry(link.name.to_string()).or_insert(uplink).addresses.push(found.address);
        }
    }
    // The default route says nothing of what is there, nor do its two halves, which VPNs put before it.
    for route in routes.iter().filter(|r| r.destination.prefix_len() > 1) {
        // One without a single link (a blackhole, several hops) is taken all the same.
        let ours = by_index.get(&route.index).is_some_and(|link| link.is_ours(&Ns::Host));
        let link_local = matches!(route.destination, IpNet::V6(net) if net.addr().is_unicast_link_local());
        if !ours && !link_local {
            taken.push(route.destination);
        }
    }
    taken.sort_unstable();
    taken.dedup();
    // IPv4's before IPv6's, then the one that the kernel prefers.
    let main = |route: &&FoundRoute| route.table == u32::from(libc::RT_TABLE_MAIN);
    let is_default = |route: &&FoundRoute| route.destination.prefix_len() == 0;
    let ways_out = routes.iter().filter(main).filter(is_default);
    let way_out = ways_out.min_by_key(|r| (r.destination.addr().is_ipv6(), r.metric));
    let mtu = way_out.and_then(|r| by_index.get(&r.index)).map_or(DEFAULT_MTU, |link| link.mtu);
    let (resolvers, search) = resolvers(&fs::read_to_string(resolv_conf).unwrap_or_default());
    let closed = before.closed().map_err(error)?;
    let ephemeral = ephemeral_ports();
    let limit = |path: &str| fs::read_to_string(path).ok()?.trim().parse().ok();
    let (neighbours, backlog) = (NEIGHBOURS.map(limit), limit(BACKLOG));
    Ok(HostFacts { uplinks, bridges, taken, mtu, resolvers, search, closed, ephemeral, neighbours, backlog })
}

/// The ports that the kernel chooses from in the namespace of the calling thread; none where it does not say.
pub fn ephemeral_ports() -> Option<PortRange> {
    ephemeral(&fs::read_to_string(PORT_RANGE).ok()?)
}

/// As ip(7) has it: the first port and the last.
fn ephemeral(text: &str) -> Option<PortRange> {
    let mut ports = text.split_whitespace().map(str::parse::<u16>);
    PortRange::new(ports.next()?.ok()?, ports.next()?.ok()?)
}

/// As resolv.conf(5) has it: the last `search` or `domain` counts.
fn resolvers(text: &str) -> (Vec<IpAddr>, Vec<String>) {
    let (mut servers, mut search) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => {
                // A scope (fe80::1%eth0) means nothing outside the host's own interfaces.
                servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok()));
            }
            Some("search" | "domain") => search = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    (servers, search)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_ephemeral_ports_is_two_numbers() {
        assert_eq!(ephemeral("32768\t60999\n"), PortRange::new(32768, 60999));
        assert_eq!(ephemeral("1"), None);
    }

    #[test]
    fn resolv_conf_is_read_as_resolvers_read_it() {
        let text = "# made by hand\ndomain old.example\nnameserver 192.0.2.53\nnameserver 2001:db8::53\n\
                    nameserver fe80::1%eth0\nsearch a.example b.example\noptions ndots:2\n";
        let (servers, search) = resolvers(text);
        assert_eq!(servers, ["192.0.2.53".parse::<IpAddr>().unwrap(), "2001:db8::53".parse().unwrap()]);
        assert_eq!(search, ["a.example", "b.example"]);
    }
}
