//! What a zone answers to whom.
#![allow(clippy::unwrap_used)]

mod properties;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use dns_zone::{Answer, Because, Forwarding, Kind, Zone};
use ipnet::{Ipv4Net, Ipv6Net};
use libnetwork_model::*;

const DEFAULT_BRIDGE: &str = "com.docker.network.bridge.default_bridge";

fn nid(n: u8) -> NetworkId {
    NetworkId::from_bytes([n; 32])
}

fn sid(n: u8) -> SandboxId {
    SandboxId::from_bytes([n; 32])
}

fn eid(network: u8, sandbox: u8) -> EndpointId {
    let mut bytes = [network; 32];
    bytes[1] = sandbox;
    EndpointId::from_bytes(bytes)
}

fn network(n: u8, name: &str) -> Network {
    Network {
        id: nid(n),
        name: name.into(),
        driver: "bridge".into(),
        created_ns: 0,
        ipv4: true,
        ipv6: true,
        internal: false,
        attachable: false,
        predefined: false,
        config_only: false,
        config_from: None,
        foreign_link: false,
        subnets: vec![],
        idle_subnets: vec![],
        labels: BTreeMap::new(),
        options: BTreeMap::new(),
        ipam_options: BTreeMap::new(),
    }
}

fn sandbox(n: u8, name: &str) -> Sandbox {
    Sandbox {
        id: sid(n),
        name: name.into(),
        owner: format!("{n:02x}").repeat(32),
        namespace: NamespaceKind::Own,
        resolver: Resolver::default(),
        wishes: vec![],
        ports: vec![],
    }
}

fn v4(network: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, network, 0, host)
}

fn v6(network: u8, host: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, network.into(), 0, 0, 0, 0, 0, host.into())
}

fn endpoint(network: u8, sandbox: u8, aliases: &[&str]) -> Endpoint {
    Endpoint {
        id: eid(network, sandbox),
        network: nid(network),
        sandbox: sid(sandbox),
        ifname: "eth0".into(),
        mac: None,
        ipv4: Some(Ipv4Net::new(v4(network, sandbox), 24).unwrap()),
        ipv6: None,
        aliases: aliases.iter().map(|a| (*a).into()).collect(),
        links: BTreeMap::new(),
        openings: Vec::new(),
        gateway_priority: 0,
        segment: 0,
        link_local: Vec::new(),
        options: BTreeMap::new(),
    }
}

fn put_network(n: Network) -> Mutation {
    Mutation::PutNetwork(Arc::new(n))
}

fn put_sandbox(s: Sandbox) -> Mutation {
    Mutation::PutSandbox(Arc::new(s))
}

fn put_endpoint(e: Endpoint) -> Mutation {
    Mutation::PutEndpoint(Arc::new(e))
}

fn zone(mutations: Vec<Mutation>) -> Zone {
    Zone::new(&Intent::default().apply(&Change(mutations)))
}

/// Two networks, `front` (1) and `back.end` (2): `Web` on both, `db` on the second, `asker` on the first.
fn town() -> Vec<Mutation> {
    vec![
        put_network(network(1, "Front")),
        put_network(network(2, "back.end")),
        put_sandbox(sandbox(1, "Web")),
        put_sandbox(sandbox(2, "db")),
        put_sandbox(sandbox(3, "asker")),
        put_endpoint(endpoint(1, 1, &["WWW", "pool"])),
        put_endpoint(endpoint(2, 1, &[])),
        put_endpoint(endpoint(2, 2, &["pool"])),
        put_endpoint(endpoint(1, 3, &["pool"])),
    ]
}

fn told(zone: &Zone, sandbox: &SandboxId, name: &str, kind: Kind) -> Answer {
    zone.answer(sandbox, name, kind).answer
}

fn addresses(list: &[Ipv4Addr]) -> Answer {
    Answer::Addresses(list.iter().map(|a| IpAddr::V4(*a)).collect())
}

#[test]
fn a_name_an_alias_and_a_short_id_answer_whatever_the_network_calls_them() {
    let zone = zone(town());
    let short = sandbox(1, "").owner[..12].to_owned();
    for name in ["web", "www", short.as_str(), "web.front", "www.front"] {
        assert_eq!(told(&zone, &sid(3), name, Kind::A), addresses(&[v4(1, 1)]), "{name}");
    }
    assert_eq!(told(&zone, &sid(2), "web.back.end", Kind::A), addresses(&[v4(2, 1)]));
    // An alias belongs to one endpoint; a prefix of the id is no name.
    assert_eq!(told(&zone, &sid(2), "www", Kind::A), Answer::NotOurs);
    assert_eq!(told(&zone, &sid(3), &short[..11], Kind::A), Answer::NotOurs);
    assert_eq!(told(&zone, &sid(3), ".front", Kind::A), Answer::NotOurs);
    assert_eq!(told(&zone, &sid(3), "front", Kind::A), Answer::NotOurs);
}

#[test]
fn a_sandbox_hears_only_of_the_networks_that_it_shares() {
    let zone = zone(town());
    assert_eq!(told(&zone, &sid(3), "db", Kind::A), Answer::NotOurs);
    assert_eq!(told(&zone, &sid(3), "web.back.end", Kind::A), Answer::NotOurs);
    assert_eq!(told(&zone, &sid(3), "2.0.2.10.in-addr.arpa", Kind::Ptr), Answer::NotOurs);
    assert_eq!(told(&zone, &sid(9), "web", Kind::A), Answer::NotOurs);
}

#[test]
fn every_holder_of_an_alias_is_named() {
    let zone = zone(town());
    assert_eq!(told(&zone, &sid(3), "pool", Kind::A), addresses(&[v4(1, 1), v4(1, 3)]));
}

#[test]
fn of_several_shared_networks_the_one_with_the_highest_priority_answers() {
    let mut mutations = town();
    mutations.push(put_endpoint(endpoint(2, 3, &[])));
    assert_eq!(told(&zone(mutations.clone()), &sid(3), "web", Kind::A), addresses(&[v4(1, 1)]));
    mutations.push(put_endpoint(Endpoint { gateway_priority: 1, ..endpoint(2, 3, &[]) }));
    assert_eq!(told(&zone(mutations), &sid(3), "web", Kind::A), addresses(&[v4(2, 1)]));
}

#[test]
fn of_several_shared_networks_the_one_that_is_the_way_out_of_both_families_answers() {
    let mut mutations = town();
    let ipv6 = Ipv6Net::new(v6(2, 3), 64).ok();
    mutations.push(put_endpoint(Endpoint { ipv6, ..endpoint(2, 3, &[]) }));
    let subnet = |subnet: &str, gateway: &str| Subnet {
        subnet: subnet.parse().unwrap(),
        gateway: gateway.parse().ok(),
        gateway_chosen: false,
        ip_range: None,
        auxiliary: BTreeMap::new(),
        requested: true,
    };
    let both = vec![subnet("10.2.0.0/16", "10.2.0.254"), subnet("fd00:2::/64", "fd00:2::ff")];
    mutations.push(put_network(Network { subnets: both, ..network(2, "back.end") }));
    assert_eq!(told(&zone(mutations), &sid(3), "web", Kind::A), addresses(&[v4(2, 1)]));
}

#[test]
fn a_known_name_has_no_data_for_a_type_that_it_lacks() {
    let zone = zone(town());
    for kind in [Kind::Aaaa, Kind::Ptr, Kind::Other] {
        assert_eq!(told(&zone, &sid(3), "web", kind), Answer::NoData);
        assert_eq!(told(&zone, &sid(3), "web.front", kind), Answer::NoData);
    }
    assert_eq!(told(&zone, &sid(3), "1.0.1.10.in-addr.arpa", Kind::A), Answer::NoData);
}

#[test]
fn an_address_is_called_by_its_container_and_network() {
    let name = told(&zone(town()), &sid(3), "1.0.1.10.in-addr.arpa", Kind::Ptr);
    assert_eq!(name, Answer::Name("Web.Front".into()));
}

#[test]
fn a_wildcard_alias_answers_for_what_nobody_has_himself() {
    let mut mutations = town();
    mutations.push(put_sandbox(sandbox(4, "proxy")));
    mutations.push(put_endpoint(endpoint(1, 4, &["*.App", "*.web"])));
    let zone = zone(mutations);
    for name in ["shop.app", "a.shop.app", "shop.app.front", "x.web"] {
        assert_eq!(told(&zone, &sid(3), name, Kind::A), addresses(&[v4(1, 4)]), "{name}");
    }
    assert_eq!(told(&zone, &sid(3), "shop.app", Kind::Other), Answer::NoData);
    assert_eq!(told(&zone, &sid(3), "web", Kind::A), addresses(&[v4(1, 1)]), "itself is not below itself");
    for name in ["app", ".app", "app.shop", "shopapp"] {
        assert_eq!(told(&zone, &sid(3), name, Kind::A), Answer::NotOurs, "{name}");
    }
    assert_eq!(told(&zone, &sid(2), "shop.app", Kind::A), Answer::NotOurs, "on another network");
}

/// `Front` with a subnet that has a gateway, and these options.
fn front(options: &[(&str, &str)]) -> Mutation {
    let subnet = Subnet {
        subnet: "10.1.0.0/16".parse().unwrap(),
        gateway: Some("10.1.0.254".parse().unwrap()),
        gateway_chosen: false,
        ip_range: None,
        auxiliary: BTreeMap::new(),
        requested: true,
    };
    let options = options.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    put_network(Network { subnets: vec![subnet], options, ..network(1, "Front") })
}

#[test]
fn a_link_is_a_name_for_who_asked_for_it_alone() {
    let web = sandbox(1, "Web").owner;
    let links =
        [("Site", "WEB"), ("byid", web.as_str()), ("db", "web"), ("gone", "nobody"), ("pool", "nobody")];
    let links = links.map(|(alias, target)| (alias.to_owned(), target.to_owned())).into();
    let mut mutations = town();
    mutations.push(put_endpoint(Endpoint { links, ..endpoint(1, 3, &["pool"]) }));
    let linked = zone(mutations.clone());
    let web = addresses(&[v4(1, 1)]);
    for name in ["site", "site.front", "byid"] {
        assert_eq!(told(&linked, &sid(3), name, Kind::A), web, "{name}");
        assert_eq!(told(&linked, &sid(3), name, Kind::Aaaa), Answer::NoData, "{name}");
        assert_eq!(told(&linked, &sid(1), name, Kind::A), Answer::NotOurs, "{name}, asked by another");
    }
    for name in ["gone", "pool"] {
        assert_eq!(told(&linked, &sid(3), name, Kind::A), Answer::NotOurs, "{name} leads nowhere");
    }
    // On another network the same name is whoever is called so; a link comes before all of these.
    mutations.push(put_endpoint(Endpoint { gateway_priority: 1, ..endpoint(2, 3, &[]) }));
    let linked = zone(mutations);
    assert_eq!(told(&linked, &sid(3), "db", Kind::A), web);
    assert_eq!(told(&linked, &sid(3), "pool", Kind::A), addresses(&[v4(2, 2)]));
    assert_eq!(told(&linked, &sid(3), "web", Kind::A), addresses(&[v4(2, 1)]));
}

#[test]
fn the_host_is_the_bridge_that_the_default_route_leads_to() {
    let mut mutations = town();
    mutations.push(front(&[]));
    let zone = zone(mutations);
    let host = Answer::Addresses(vec!["10.1.0.254".parse().unwrap()]);
    assert_eq!(told(&zone, &sid(3), "host.docker.internal", Kind::A), host);
    assert_eq!(told(&zone, &sid(3), "host.docker.internal", Kind::Aaaa), Answer::NoData);
    assert_eq!(told(&zone, &sid(2), "host.docker.internal", Kind::A), Answer::NotOurs, "no gateway");
}

#[test]
fn a_network_says_how_long_answers_last_and_who_knows_the_rest() {
    let mut mutations = town();
    mutations.push(front(&[
        ("io.causeway.dns.ttl", "60"),
        ("io.causeway.dns.upstreams", "192.0.2.1, 2001:db8::1"),
    ]));
    let zone = zone(mutations);
    assert_eq!((zone.ttl(&sid(3)), zone.ttl(&sid(2))), (Some(60), None));
    let servers = vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    assert_eq!(zone.forwarding(&sid(3)), Forwarding::Servers(servers));
    assert_eq!(zone.forwarding(&sid(2)), Forwarding::Host);
    for (option, value) in [("io.causeway.dns.ttl", "-1"), ("io.causeway.dns.upstreams", "one.one.one.one")] {
        let options = [(option.to_owned(), value.to_owned())].into();
        let refused = DnsOptions::read(&Network { options, ..network(1, "Front") }).unwrap_err();
        assert_eq!((refused.option, refused.value.as_str()), (option, value));
    }
}

#[test]
fn the_default_bridge_serves_no_names_and_forwards() {
    let mut mutations = town();
    let options = [(DEFAULT_BRIDGE.to_owned(), "true".to_owned())].into();
    mutations.push(put_network(Network { options, ..network(1, "Front") }));
    let zone = zone(mutations);
    for name in ["web", "www", "asker", "web.front", "1.0.1.10.in-addr.arpa"] {
        assert_eq!(told(&zone, &sid(3), name, Kind::Any), Answer::NotOurs);
    }
    assert_eq!(zone.forwarding(&sid(3)), Forwarding::Host);
    assert_eq!(told(&zone, &sid(2), "web", Kind::A), addresses(&[v4(2, 1)]));
}

#[test]
fn only_a_sandbox_with_a_way_out_forwards() {
    let mut mutations = town();
    mutations.push(put_network(Network { internal: true, ..network(2, "back.end") }));
    let servers = vec![IpAddr::from([9, 9, 9, 9])];
    let resolver = Resolver { servers: servers.clone(), ..Resolver::default() };
    mutations.push(put_sandbox(Sandbox { resolver: resolver.clone(), ..sandbox(1, "web") }));
    mutations.push(put_sandbox(Sandbox { resolver, ..sandbox(2, "db") }));
    let zone = zone(mutations);
    assert_eq!(zone.forwarding(&sid(1)), Forwarding::Servers(servers.to_vec()));
    assert_eq!(zone.forwarding(&sid(2)), Forwarding::Refused, "on an internal network alone");
    assert_eq!(zone.forwarding(&sid(3)), Forwarding::Host);
    assert_eq!(zone.forwarding(&sid(9)), Forwarding::Refused, "unknown");
}

#[test]
fn an_answer_says_why() {
    let mut mutations = town();
    mutations.push(put_sandbox(sandbox(4, "proxy")));
    mutations.push(put_endpoint(endpoint(1, 4, &["*.app"])));
    mutations.push(front(&[]));
    let zone = zone(mutations);
    for (name, kind, matched, holders) in
        [("web.front", Kind::A, "web", 1), ("pool", Kind::A, "pool", 2), ("a.app", Kind::Other, "*.app", 1)]
    {
        match zone.answer(&sid(3), name, kind).because {
            Because::Held { network, name: by, holders: by_whom } => {
                assert_eq!((network.name.as_str(), by, by_whom.len()), ("Front", matched, holders), "{name}");
            }
            other => unreachable!("{name}: {other:?}"),
        }
    }
    let because = |name| zone.answer(&sid(3), name, Kind::Ptr).because;
    assert!(
        matches!(because("1.0.1.10.in-addr.arpa"), Because::Leased { network } if network.name == "Front")
    );
    assert!(matches!(because("host.docker.internal"), Because::Host));
    assert!(matches!(because("example.com"), Because::Unknown));
}
