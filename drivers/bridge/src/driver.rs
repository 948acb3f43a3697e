use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
use libnetwork_model::{
    Endpoint, HostFacts, Intent, MacAddress, Network, NetworkId, Opening, PublishedPort, Subnet,
};
use libnetwork_plan::{
    Attachment, BridgePort, Desired, Driver, DriverError, Ipv6, Key, Link, LinkKind, LinkRank, Name,
    Neighbour, Ns, Object, Peer, Segments, Value, Verdict,
};

use crate::{
    guard, links,
    options::{DRIVER, GatewayMode, INHIBIT_IPV4, NAME, Options, refuse_empty, sysctls as sysctls_of},
    ports, publish, rules,
    segment::{self, bridge_name, first_bridge},
};

/// Compiles bridge networks.
#[derive(Debug, Clone, Copy)]
pub struct BridgeDriver {
    /// Published ports are reached from outside by the containers' own addresses, too (Docker's `allow-direct-routing`).
    pub direct_routing: bool,
    /// The host is made to forward (Docker's `ip-forward`). Otherwise it forwards where somebody else makes it.
    pub forwarding: bool,
    /// Ports are published by this driver's rules; otherwise somebody else leads their clients into the containers.
    pub publishes: bool,
    /// By family, IPv4 first: whether there are rules in the host's inet table at all (Docker's `iptables`, `ip6tables`).
    pub ruled: [bool; 2],
    /// The host may route between others, too, where we made it forward (Docker's `ip-forward-no-drop`).
    pub router: bool,
    /// How the endpoints of a network are shared out among bridges.
    pub segments: Segments,
}

impl Default for BridgeDriver {
    fn default() -> Self {
        BridgeDriver {
            direct_routing: false,
            forwarding: true,
            publishes: false,
            ruled: [true; 2],
            router: false,
            segments: segment::SEGMENTS,
        }
    }
}

impl Driver for BridgeDriver {
    fn validate(&self, network: &Network, _host: &HostFacts) -> Result<(), DriverError> {
        let options = Options::read(network)?;
        refuse_empty(network)?;
        let many =
            |ipv6| network.subnets.iter().filter(|s| s.subnet.addr().is_ipv6() == ipv6).nth(1).is_some();
        if many(false) || many(true) {
            return Err(DriverError::ManySubnets { driver: DRIVER });
        }
        if !network.ipv4 && !network.ipv6 {
            let what = format!("network {} has neither IPv4 nor IPv6", network.name);
            return Err(DriverError::Contradiction { what });
        }
        if options.inhibit_ipv4 && !network.ipv4 {
            let what = format!("{INHIBIT_IPV4} on network {}, which has no IPv4", network.name);
            return Err(DriverError::Contradiction { what });
        }
        let sets_way_out = |subnet: &Subnet| subnet.way_out() != subnet.gateway;
        if network.internal && network.subnets.iter().any(sets_way_out) {
            // Docker's words.
            let what = "no gateway can be set on an internal bridge network".to_owned();
            return Err(DriverError::Contradiction { what });
        }
        Ok(())
    }

    fn validate_endpoint(&self, _network: &Network, endpoint: &Endpoint) -> Result<(), DriverError> {
        sysctls_of(endpoint).map(drop)
    }

    fn host_objects(&self, host: &HostFacts, out: &mut Desired) {
        out.insert(guard::key(), Object::Ruleset(guard::RULES.clone()));
        let closed = host.closed.map(|closed| closed && !self.router);
        out.insert(rules::key(), Object::Ruleset(rules::table(closed, self.publishes, self.ruled)));
    }

    fn network_objects(&self, network: &Network, host: &HostFacts, out: &mut Desired) {
        let options = Options::of(network);
        let bridge = bridge_name(network, &options);
        elements(network, &options, self.ruled, &bridge, out);
        ports::network_elements(network, &options, self.direct_routing, &bridge, out);
        let is_there = first_bridge(network, &options, host).is_some();
        if self.publishes && !network.internal && is_there {
            publish::network_elements(&bridge, network.ipv4, out);
        }
        if self.forwarding {
            sysctls(network, out);
        }
        // Somebody else's is used as it is.
        if network.foreign_link {
            return;
        }
        if !self.publishes {
            publish::localhost(&bridge, false, out);
        }
        let link = Link {
            kind: LinkKind::Bridge,
            id: network.id.as_str().into(),
            mtu: options.mtu.unwrap_or(host.mtu),
            mac: Some(bridge_mac(&network.id)),
            up: true,
            master: None,
            port: BridgePort::default(),
            ipv6: if network.ipv6 { Ipv6::Static } else { Ipv6::Off },
        };
        out.insert(link_key(LinkRank::Bridge, &bridge), Object::Link(link));
        for subnet in subnets(network) {
            let ipv6 = subnet.subnet.addr().is_ipv6();
            let inhibited = options.inhibit_ipv4 && !ipv6;
            let isolated = options.gateway_modes[usize::from(ipv6)] == GatewayMode::Isolated;
            if let Some(gateway) = subnet.gateway.filter(|_| !inhibited && !isolated) {
                let key = address_key(&Ns::Host, &bridge, with_length_of(gateway, subnet));
                out.insert(key, Object::Address);
                if options.anti_spoofing {
                    guard::home(gateway, bridge_mac(&network.id), out);
                }
            }
        }
    }

    fn segments(&self) -> Option<Segments> {
        Some(self.segments)
    }

    fn segment_objects(&self, network: &Network, segment: u16, host: &HostFacts, out: &mut Desired) {
        segment::objects(network, segment, host, out);
    }

    fn endpoint_objects(&self, network: &Network, endpoint: &Endpoint, host: &HostFacts, out: &mut Desired) {
        let options = Options::of(network);
        let mtu = options.mtu.unwrap_or(host.mtu);
        let ns = Ns::Sandbox(endpoint.sandbox.clone());
        let inside: Name = endpoint.ifname.as_str().into();
        let peer = Peer {
            ns: ns.clone(),
            name: inside.clone(),
            mtu,
            mac: endpoint.mac,
            up: true,
            master: None,
            ipv6: match endpoint.ipv6 {
                _ if says_ipv6(endpoint) => Ipv6::Other,
                Some(_) => Ipv6::Static,
                None => Ipv6::Off,
            },
        };
        let local_ipv6 = peer.ipv6 != Ipv6::Off;
        let port = BridgePort {
            isolated: !options.icc && endpoint.openings.is_empty(),
            known_only: options.anti_spoofing && has_own_mac(endpoint),
            // Where the bridge hands its frames to the inet rules (br_netfilter), a container that asks for its own
            // published port is led back without the host's routing.
            hairpin: self.publishes,
            // Past the rules that drop them, they would leave by a bridge that somebody else made.
            forwards_reserved: options.anti_spoofing,
        };
        let master = segment::bridge_of(network, &options, endpoint.segment, host);
        let link = Link {
            kind: LinkKind::Veth { peer: Some(peer) },
            id: endpoint.id.as_str().into(),
            mtu,
            mac: None,
            up: true,
            port: if master.is_some() { port } else { BridgePort::default() },
            master,
            ipv6: Ipv6::Off,
        };
        if endpoint.segment > 0 {
            out.insert(guard::segmented(&veth_name(endpoint)), Object::SetElement(None));
        }
        if !options.icc {
            out.insert(guard::walled(&veth_name(endpoint)), Object::SetElement(None));
        }
        if options.anti_spoofing {
            guard::elements(endpoint, &veth_name(endpoint), local_ipv6, out);
            neighbours(network, &options, endpoint, host, out);
            if !network.foreign_link {
                out.insert(guard::hushed(&veth_name(endpoint)), Object::SetElement(None));
            }
        }
        out.insert(link_key(LinkRank::Veth, &veth_name(endpoint)), Object::Link(link));
        for (name, value) in sysctls_of(endpoint).unwrap_or_default() {
            let key = Key::LinkSysctl { ns: ns.clone(), link: inside.clone(), name: name.into() };
            out.insert(key, Object::Sysctl(value.into()));
        }
        let leases = endpoint.ipv4.map(IpNet::V4).into_iter().chain(endpoint.ipv6.map(IpNet::V6));
        // An interface without IPv6 takes no such address.
        let besides = endpoint.link_local.iter().copied();
        let besides = besides.filter(|a| a.addr().is_ipv4() || endpoint.ipv6.is_some());
        let addresses = leases.chain(besides);
        out.extend(addresses.map(|address| (address_key(&ns, &inside, address), Object::Address)));
    }

    fn opening_objects(
        &self,
        network: &Network,
        from: &Endpoint,
        to: &Endpoint,
        opening: &Opening,
        out: &mut Desired,
    ) {
        if !Options::of(network).icc {
            links::objects(from, to, opening, out);
        }
    }

    fn attachment(&self, network: &Network, endpoint: &Endpoint, host: &HostFacts) -> Option<Attachment> {
        let options = Options::of(network);
        let bridge = first_bridge(network, &options, host);
        Some(Attachment { link: veth_name(endpoint), bridge, apart: !options.icc })
    }

    fn routes_ports(&self, network: &Network, ipv6: bool) -> bool {
        Options::of(network).gateway_modes[usize::from(ipv6)] == GatewayMode::Routed
    }

    fn port_objects(
        &self,
        network: &Network,
        endpoint: &Endpoint,
        ipv6: bool,
        published: &[PublishedPort],
        beside: &[Name],
        out: &mut Desired,
    ) {
        let options = Options::of(network);
        if self.direct_routing || !options.trusted.is_empty() || self.routes_ports(network, ipv6) {
            ports::endpoint_elements(endpoint, ipv6, published, out);
        }
        if self.publishes {
            publish::endpoint_elements(endpoint, ipv6, published, beside, out);
        }
    }

    fn link_names(&self, network: &Network) -> Vec<Name> {
        vec![bridge_name(network, &Options::of(network))]
    }

    fn link_holders<'a>(&self, intent: &'a Intent, name: &str) -> Vec<&'a Arc<Network>> {
        let unnamed = name.strip_prefix("br-").map(|short| intent.networks_by_prefix(short));
        intent.networks_with_option(NAME, name).chain(unnamed.into_iter().flatten()).collect()
    }

    fn takes_link(&self, network: &Network, name: &str) -> bool {
        // Without reading all of the options.
        match network.options.get(NAME).filter(|own| !own.is_empty()) {
            Some(own) => own == name,
            None => name.strip_prefix("br-") == Some(network.id.short()),
        }
    }

    fn has_gateway(&self, network: &Network, ipv6: bool) -> bool {
        Options::of(network).gateway_modes[usize::from(ipv6)] != GatewayMode::Isolated
    }

    fn interface_prefix<'a>(&self, network: &'a Network) -> &'a str {
        Options::of(network).prefix
    }

    fn host_binding(&self, network: &Network, ipv6: bool) -> Option<IpAddr> {
        let options = Options::of(network);
        if ipv6 { options.host_binding_ipv6 } else { options.host_binding }
    }
}

/// Where an endpoint is, said instead of asked for and learned: to the containers of the network, to the host, to bridges.
/// Only where a container is held to its addresses, so that what is said stays true.
/// Nothing is said to a bridge that somebody else made.
fn neighbours(
    network: &Network,
    options: &Options<'_>,
    endpoint: &Endpoint,
    host: &HostFacts,
    out: &mut Desired,
) {
    let Some(mac) = endpoint.mac else { return };
    let bridge = bridge_name(network, options);
    for address in endpoint.addresses() {
        guard::home(address, mac, out);
        if !network.foreign_link {
            let key = Key::Neighbour { ns: Ns::Host, link: bridge.clone(), address };
            out.insert(key, Object::Neighbour(Neighbour { mac }));
        }
    }
    if has_own_mac(endpoint) {
        let mut port = |link: Name| out.insert(Key::Fdb { ns: Ns::Host, link, mac }, Object::Fdb);
        let first = first_bridge(network, options, host).is_some();
        if first || endpoint.segment > 0 {
            port(veth_name(endpoint));
        }
        if first && endpoint.segment > 0 {
            let [uplink, _] = segment::uplink_names(network, endpoint.segment);
            port(uplink);
        }
    }
}

/// A MAC that was asked for may be another's, too: bridges learn where such a one is, as they do on any Ethernet.
fn has_own_mac(endpoint: &Endpoint) -> bool {
    let derived = MacAddress::derived(endpoint.ipv4.map(|net| net.addr()), &endpoint.id);
    endpoint.mac == Some(derived)
}

/// Whether the endpoint's own settings decide how its link takes part in IPv6: then it is not for us to say.
fn says_ipv6(endpoint: &Endpoint) -> bool {
    let leased = endpoint.ipv6.is_some();
    sysctls_of(endpoint).is_ok_and(|settings| settings.iter().any(|(name, _)| decides_ipv6(name, leased)))
}

/// Whether a setting is one of those that [`Ipv6`] stands for, of a link that has an address of that family or none.
fn decides_ipv6(setting: &str, leased: bool) -> bool {
    let of_a_lease = ["/accept_ra", "/accept_dad"];
    setting.ends_with("/disable_ipv6") || leased && of_a_lease.iter().any(|name| setting.ends_with(name))
}

/// What the shared rules know of this network.
fn elements(network: &Network, options: &Options<'_>, ruled: [bool; 2], bridge: &Name, out: &mut Desired) {
    let mut member = |set: &str, value| out.insert(rules::element(set, bridge), Object::SetElement(value));
    member(rules::BRIDGES, None);
    if network.internal {
        member(rules::INTERNAL, None);
    }
    for ipv6 in [false, true] {
        let family = usize::from(ipv6);
        let mode = options.gateway_modes[family];
        if !(if ipv6 { network.ipv6 } else { network.ipv4 }) {
            continue;
        }
        if mode == GatewayMode::NatUnprotected {
            member(rules::UNPROTECTED[family], None);
        }
        if network.internal || !options.masquerade || mode == GatewayMode::Routed {
            continue;
        }
        match options.host_addresses[family] {
            Some(address) => member(rules::SOURCE_NAT[family], Some(Value::Address(address))),
            None => member(rules::MASQUERADE[family], None),
        };
    }
    let within = if options.icc { Verdict::Accept } else { links::within(ruled) };
    out.insert(rules::element(rules::WITHIN, bridge), Object::SetElement(Some(Value::Verdict(within))));
}

/// The host forwards once a network exists that can be left.
fn sysctls(network: &Network, out: &mut Desired) {
    let mut set = |name: &str| {
        let key = Key::Sysctl { ns: Ns::Host, name: name.into() };
        out.insert(key, Object::Sysctl("1".into()));
    };
    if network.internal {
        return;
    }
    if network.ipv4 {
        set("net/ipv4/ip_forward");
    }
    if network.ipv6 {
        set("net/ipv6/conf/all/forwarding");
    }
}

/// The subnets of the families that are on.
fn subnets(network: &Network) -> impl Iterator<Item = &Subnet> {
    network.subnets.iter().filter(|s| if s.subnet.addr().is_ipv6() { network.ipv6 } else { network.ipv4 })
}

fn with_length_of(address: IpAddr, subnet: &Subnet) -> IpNet {
    // The length is a network's own, and the families are those of one subnet.
    IpNet::new(address, subnet.subnet.prefix_len()).unwrap_or(subnet.subnet)
}

/// The host's end, found again from the endpoint alone.
fn veth_name(endpoint: &Endpoint) -> Name {
    format!("cw{}", endpoint.id.short()).into()
}

/// A bridge without an address of its own takes its lowest port's, which changes as containers come and go, and with it
/// what every neighbour has learned of the gateway. Locally administered and unicast, by its first byte.
fn bridge_mac(id: &NetworkId) -> MacAddress {
    let digits = |at: usize| u8::from_str_radix(&id.as_str()[at..at + 2], 16).unwrap_or(0);
    MacAddress([0x02, digits(0), digits(2), digits(4), digits(6), digits(8)])
}

pub(crate) fn link_key(rank: LinkRank, name: &Name) -> Key {
    Key::Link { rank, ns: Ns::Host, name: name.clone() }
}

fn address_key(ns: &Ns, link: &Name, address: IpNet) -> Key {
    Key::Address { ns: ns.clone(), link: link.clone(), address }
}
