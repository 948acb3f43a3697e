//! A bridge takes 1,023 ports (BR_MAX_PORTS, net/bridge/br_private.h). A network with more endpoints has more bridges, each
//! a segment: the first has the gateway, and every other one is joined to it by a veth pair, so that together they are
//! one Ethernet segment.

use libnetwork_model::{HostFacts, MacAddress, Network};
use libnetwork_plan::{
    BridgePort, Desired, Ipv6, Key, Link, LinkKind, LinkRank, Name, Ns, Object, Peer, Segments, Value,
    Verdict,
};

use crate::{driver::link_key, guard, options::Options, rules};

/// Some 25 MB when all are in use.
const NEIGHBOURS: u32 = 65_536;

/// What a bridge holds. The first one keeps a port for each of the others; what is left of its 1,023 is for links that
/// are not ours.
pub(crate) const SEGMENTS: Segments = Segments { endpoints: 980, most: 32 };

/// As many endpoints as a network may have.
const BACKLOG: u32 = 32_768;

/// As Docker names it.
pub(crate) fn bridge_name(network: &Network, options: &Options<'_>) -> Name {
    match options.bridge {
        Some(name) => name.into(),
        None => format!("br-{}", network.id.short()).into(),
    }
}

/// The bridge that others become ports of. Somebody else's may be away for a while: until it is back, nothing can be.
pub(crate) fn first_bridge(network: &Network, options: &Options<'_>, host: &HostFacts) -> Option<Name> {
    let bridge = bridge_name(network, options);
    (!network.foreign_link || host.bridges.contains_key(&*bridge)).then_some(bridge)
}

/// The bridge that the endpoints of a segment are ports of.
pub(crate) fn bridge_of(
    network: &Network,
    options: &Options<'_>,
    segment: u16,
    host: &HostFacts,
) -> Option<Name> {
    if segment == 0 { first_bridge(network, options, host) } else { Some(further_bridge(network, segment)) }
}

fn further_bridge(network: &Network, segment: u16) -> Name {
    name("cb", network, segment)
}

/// The port of the first bridge that leads to a segment, and the port of the segment's that leads back.
pub(crate) fn uplink_names(network: &Network, segment: u16) -> [Name; 2] {
    [name("cr", network, segment), name("cu", network, segment)]
}

pub(crate) fn objects(network: &Network, segment: u16, host: &HostFacts, out: &mut Desired) {
    let options = Options::of(network);
    let mtu = options.mtu.unwrap_or(host.mtu);
    let bridge = further_bridge(network, segment);
    let [near, far] = uplink_names(network, segment);
    // A host that hands bridged frames to the inet rules (br_netfilter) shows them with the segment's bridge. What they may
    // do is settled by the ports, and by the first bridge's rules where they come to it.
    out.insert(rules::element(rules::BRIDGES, &bridge), Object::SetElement(None));
    out.insert(
        rules::element(rules::WITHIN, &bridge),
        Object::SetElement(Some(Value::Verdict(Verdict::Accept))),
    );
    out.insert(guard::segmented(&far), Object::SetElement(None));

    neighbour_table(network, host, out);
    backlog(host, out);
    let link = Link {
        kind: LinkKind::Bridge,
        id: network.id.as_str().into(),
        mtu,
        mac: Some(mac(network, segment)),
        up: true,
        master: None,
        port: BridgePort::default(),
        ipv6: Ipv6::Off,
    };
    out.insert(link_key(LinkRank::Bridge, &bridge), Object::Link(link));
    let peer =
        Peer { ns: Ns::Host, name: far, mtu, mac: None, up: true, master: Some(bridge), ipv6: Ipv6::Off };
    let pair = Link {
        kind: LinkKind::Veth { peer: Some(peer) },
        id: network.id.as_str().into(),
        mtu,
        mac: None,
        up: true,
        master: first_bridge(network, &options, host),
        port: BridgePort::default(),
        ipv6: Ipv6::Off,
    };
    if !options.icc {
        // Keeps the segment's endpoints from those of the others; an isolated port would also keep them from whom they are
        // linked to. The far end is not among them: the way to the gateway stays open.
        out.insert(guard::walled(&near), Object::SetElement(None));
    }
    out.insert(link_key(LinkRank::Veth, &near), Object::Link(pair));
}

/// The kernel remembers 1,024 neighbours, those of all containers together, and refuses to talk to more. Networks of this
/// size talk to more.
fn neighbour_table(network: &Network, host: &HostFacts, out: &mut Desired) {
    let families = [("ipv4", network.ipv4), ("ipv6", network.ipv6)];
    for ((family, on), known) in families.into_iter().zip(host.neighbours) {
        if !on || known.is_none_or(|known| known >= NEIGHBOURS) {
            continue;
        }
        let mut set = |setting: &str, value: u32| {
            let name = format!("net/{family}/neigh/default/{setting}").into();
            out.insert(Key::Sysctl { ns: Ns::Host, name }, Object::Sysctl(value.to_string().into()));
        };
        // From the first on, entries that are older than five seconds are searched for and dropped.
        set("gc_thresh2", NEIGHBOURS / 2);
        set("gc_thresh3", NEIGHBOURS);
    }
}

/// A broadcast becomes a packet for every endpoint, all of which wait for one CPU at once: beyond 1,000, it drops them.
fn backlog(host: &HostFacts, out: &mut Desired) {
    if host.backlog.is_some_and(|packets| packets < BACKLOG) {
        let key = Key::Sysctl { ns: Ns::Host, name: "net/core/netdev_max_backlog".into() };
        out.insert(key, Object::Sysctl(BACKLOG.to_string().into()));
    }
}

/// Of at most 15 characters, as a link's name may have; forty bits of the network's id, which is random.
fn name(role: &str, network: &Network, segment: u16) -> Name {
    format!("{role}{}-{segment}", &network.id.as_str()[..10]).into()
}

/// Unlike the first bridge's by its first byte, and unlike each other by the last: what is sent to one must not stay on
/// another.
fn mac(network: &Network, segment: u16) -> MacAddress {
    let digits = |at: usize| u8::from_str_radix(&network.id.as_str()[at..at + 2], 16).unwrap_or(0);
    let [high, low] = segment.to_be_bytes();
    MacAddress([0x06, digits(0), digits(2), digits(4), high, low])
}
