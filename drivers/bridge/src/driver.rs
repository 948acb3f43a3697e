use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use libnetwork_model::{Endpoint, HostFacts, MacAddress, Network, NetworkId, Subnet};
use libnetwork_plan::{
    Attachment, Desired, Driver, DriverError, Ipv6, Key, Link, LinkKind, LinkRank, Name, Ns, Object, Peer,
    Verdict,
};

use crate::{
    options::{INHIBIT_IPV4, Options},
    rules,
};

/// Compiles bridge networks.
#[derive(Debug, Clone, Copy, Default)]
pub struct BridgeDriver;

impl Driver for BridgeDriver {
    fn validate(&self, network: &Network, _host: &HostFacts) -> Result<(), DriverError> {
        let options = Options::read(network)?;
        if !network.ipv4 && !network.ipv6 {
            let what = format!("network {} has neither IPv4 nor IPv6", network.name);
            return Err(DriverError::Contradiction { what });
        }
        if options.inhibit_ipv4 && !network.ipv4 {
            let what = format!("{INHIBIT_IPV4} on network {}, which has no IPv4", network.name);
            return Err(DriverError::Contradiction { what });
        }
        Ok(())
    }

    fn host_objects(&self, _host: &HostFacts, out: &mut Desired) {
        out.insert(rules::key(), Object::Ruleset(rules::RULES.clone()));
    }

    fn network_objects(&self, network: &Network, host: &HostFacts, out: &mut Desired) {
        let options = Options::of(network);
        let bridge = bridge_name(network, &options);
        elements(network, &options, &bridge, out);
        sysctls(network, out);
        let link = Link {
            kind: LinkKind::Bridge,
            id: network.id.as_str().into(),
            mtu: options.mtu.unwrap_or(host.mtu),
            mac: Some(bridge_mac(&network.id)),
            up: true,
            master: None,
            isolated: false,
            ipv6: if network.ipv6 { Ipv6::Static } else { Ipv6::Off },
        };
        out.insert(link_key(LinkRank::Bridge, &bridge), Object::Link(link));
        for subnet in subnets(network) {
            let inhibited = options.inhibit_ipv4 && subnet.subnet.addr().is_ipv4();
            if let Some(gateway) = subnet.gateway.filter(|_| !inhibited) {
                let key = address_key(&Ns::Host, &bridge, with_length_of(gateway, subnet));
                out.insert(key, Object::Address);
            }
        }
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
            ipv6: if endpoint.ipv6.is_some() { Ipv6::Static } else { Ipv6::Off },
        };
        let link = Link {
            kind: LinkKind::Veth { peer: Some(peer) },
            id: endpoint.id.as_str().into(),
            mtu,
            mac: None,
            up: true,
            master: Some(bridge_name(network, &options)),
            // The bridge itself keeps such ports apart, without a rule.
            isolated: !options.icc,
            ipv6: Ipv6::Off,
        };
        out.insert(link_key(LinkRank::Veth, &veth_name(endpoint)), Object::Link(link));
        let addresses = endpoint.ipv4.map(IpNet::V4).into_iter().chain(endpoint.ipv6.map(IpNet::V6));
        out.extend(addresses.map(|address| (address_key(&ns, &inside, address), Object::Address)));
    }

    fn attachment(&self, network: &Network, endpoint: &Endpoint) -> Option<Attachment> {
        let bridge = bridge_name(network, &Options::of(network));
        Some(Attachment { link: veth_name(endpoint), bridge })
    }

    fn link_names(&self, network: &Network) -> Vec<Name> {
        vec![bridge_name(network, &Options::of(network))]
    }

    fn interface_prefix<'a>(&self, network: &'a Network) -> &'a str {
        Options::of(network).prefix
    }

    fn host_binding(&self, network: &Network, ipv6: bool) -> Option<IpAddr> {
        let address = Options::of(network).host_binding.filter(|_| !ipv6);
        address.filter(|address| *address != Ipv4Addr::UNSPECIFIED).map(IpAddr::V4)
    }
}

/// What the shared rules know of this network.
fn elements(network: &Network, options: &Options<'_>, bridge: &Name, out: &mut Desired) {
    let mut member = |set: &str| out.insert(rules::element(set, bridge), Object::SetElement(None));
    member(rules::BRIDGES);
    if network.internal {
        member(rules::INTERNAL);
    } else if options.masquerade {
        if network.ipv4 {
            member(rules::MASQUERADE_IPV4);
        }
        if network.ipv6 {
            member(rules::MASQUERADE_IPV6);
        }
    }
    let within = if options.icc { Verdict::Accept } else { Verdict::Drop };
    out.insert(rules::element(rules::WITHIN, bridge), Object::SetElement(Some(within)));
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

/// As Docker names it.
fn bridge_name(network: &Network, options: &Options<'_>) -> Name {
    match options.bridge {
        Some(name) => name.into(),
        None => format!("br-{}", network.id.short()).into(),
    }
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

fn link_key(rank: LinkRank, name: &Name) -> Key {
    Key::Link { rank, ns: Ns::Host, name: name.clone() }
}

fn address_key(ns: &Ns, link: &Name, address: IpNet) -> Key {
    Key::Address { ns: ns.clone(), link: link.clone(), address }
}
