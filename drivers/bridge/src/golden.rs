//! What the driver compiles, over the whole matrix of options, as files that a person can read.
//!
//! After a change that is meant, `CAUSEWAY_BLESS=1 cargo test -p driver-bridge` writes them anew: review the difference.

use std::{collections::BTreeMap, path::Path};

use libnetwork_model::{
    Endpoint, EndpointId, ErrorKind, HasKind, HostFacts, MacAddress, Network, NetworkId, PortRange, Protocol,
    PublishedPort, SandboxId, Subnet,
};
use libnetwork_plan::{Desired, Driver, Key, render};

use crate::{BridgeDriver, options::*};

fn host() -> HostFacts {
    HostFacts { mtu: 1450, ..HostFacts::default() }
}

fn network(options: &[(&str, &str)]) -> Network {
    let subnet = |subnet: &str, gateway: &str| Subnet {
        subnet: subnet.parse().unwrap(),
        gateway: Some(gateway.parse().unwrap()),
        gateway_chosen: false,
        ip_range: None,
        auxiliary: BTreeMap::new(),
        requested: false,
    };
    Network {
        id: NetworkId::from_bytes([0xab; 32]),
        name: "net".into(),
        driver: "bridge".into(),
        created_ns: 0,
        ipv4: true,
        ipv6: false,
        internal: false,
        attachable: false,
        predefined: false,
        config_only: false,
        config_from: None,
        foreign_link: false,
        subnets: vec![subnet("10.7.0.0/24", "10.7.0.1"), subnet("fd00:7::/64", "fd00:7::1")],
        idle_subnets: vec![],
        labels: BTreeMap::new(),
        options: options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
        ipam_options: BTreeMap::new(),
    }
}

fn endpoint(network: &Network) -> Endpoint {
    Endpoint {
        id: EndpointId::from_bytes([0xcd; 32]),
        network: network.id.clone(),
        sandbox: SandboxId::from_bytes([0xef; 32]),
        segment: 0,
        ifname: "eth0".into(),
        mac: Some(MacAddress::from_ipv4([10, 7, 0, 2].into())),
        ipv4: network.ipv4.then(|| "10.7.0.2/24".parse().unwrap()),
        ipv6: network.ipv6.then(|| "fd00:7::2/64".parse().unwrap()),
        aliases: Vec::new(),
        links: BTreeMap::new(),
        openings: Vec::new(),
        gateway_priority: 0,
        link_local: Vec::new(),
        options: BTreeMap::new(),
    }
}

fn check(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(file);
    if std::env::var_os("CAUSEWAY_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == text, "{file} differs; the driver compiles\n{text}");
}

#[test]
fn the_host_s_table_is_this() {
    let mut out = Desired::new();
    BridgeDriver::default().host_objects(&host(), &mut out);
    check("host.txt", &render(&out));
}

#[test]
fn a_host_that_was_no_router_becomes_none() {
    let mut out = Desired::new();
    BridgeDriver::default().host_objects(&HostFacts { closed: [true, true], ..host() }, &mut out);
    check("host_closed.txt", &render(&out));
}

#[test]
fn every_combination_of_options_compiles_to_this() {
    let families = [("ipv4", true, false), ("ipv6", false, true), ("dual", true, true)];
    for (family, ipv4, ipv6) in families {
        let mut text = String::new();
        for bits in 0..16u8 {
            let on = |bit: u8| bits & (1 << bit) != 0;
            let mut options = Vec::new();
            if on(1) {
                options.push((ICC, "false"));
            }
            if on(2) {
                options.push((MASQUERADE, "false"));
            }
            if on(3) {
                options.extend([(MTU, "1300"), (NAME, "lan0")]);
            }
            let network = Network { ipv4, ipv6, internal: on(0), ..network(&options) };
            let title: Vec<String> = options.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let internal = if on(0) { "internal " } else { "" };
            text.push_str(&format!("# {internal}{}\n{}\n", title.join(" "), compile(&network)));
        }
        check(&format!("{family}.txt"), &text);
    }
}

#[test]
fn a_bridge_without_its_ipv4_address_still_carries_the_network() {
    let network = Network { ipv6: true, ..network(&[(INHIBIT_IPV4, "1")]) };
    check("inhibit_ipv4.txt", &compile(&network));
}

fn compile(network: &Network) -> String {
    BridgeDriver::default().validate(network, &host()).unwrap();
    let mut out = Desired::new();
    BridgeDriver::default().network_objects(network, &host(), &mut out);
    BridgeDriver::default().endpoint_objects(network, &endpoint(network), &host(), &mut out);
    render(&out)
}

#[test]
fn a_further_segment_is_a_bridge_that_leads_to_the_first() {
    let mut text = String::new();
    for icc in ["true", "false"] {
        let network = Network { ipv6: true, ..network(&[(ICC, icc)]) };
        let mut out = Desired::new();
        let driver = BridgeDriver::default();
        let host = HostFacts { neighbours: [Some(1024), Some(65_536)], backlog: Some(1000), ..host() };
        driver.segment_objects(&network, 31, &host, &mut out);
        driver.endpoint_objects(&network, &Endpoint { segment: 31, ..endpoint(&network) }, &host, &mut out);
        text.push_str(&format!("# icc={icc}\n{}\n", render(&out)));
        let longest = out.keys().filter_map(|key| match key {
            Key::Link { name, .. } => Some(name.len()),
            _ => None,
        });
        assert!(longest.max().unwrap() < 16);
    }
    check("segment.txt", &text);
}

#[test]
fn somebody_else_s_bridge_is_not_compiled_and_what_hangs_on_it_waits_for_it() {
    let network = Network { foreign_link: true, ipv6: true, ..network(&[(NAME, "br0"), (ICC, "false")]) };
    let driver = BridgeDriver { publishes: true, ..BridgeDriver::default() };
    let there = HostFacts { bridges: [("br0".to_owned(), Vec::new())].into(), ..host() };
    let mut text = String::new();
    for (title, host) in [("there", there), ("away", host())] {
        let mut out = Desired::new();
        driver.network_objects(&network, &host, &mut out);
        driver.endpoint_objects(&network, &endpoint(&network), &host, &mut out);
        driver.segment_objects(&network, 31, &host, &mut out);
        text.push_str(&format!("# {title}\n{}\n", render(&out)));
    }
    check("foreign_link.txt", &text);
}

#[test]
fn no_two_networks_share_a_key_but_settings_and_the_table() {
    let a = network(&[]);
    let mut b = Network { id: NetworkId::from_bytes([0xba; 32]), ..a.clone() };
    // Which the core sees to.
    (b.subnets[0].subnet, b.subnets[0].gateway) = ("10.8.0.0/24".parse().unwrap(), "10.8.0.1".parse().ok());
    let compiled = |network: &Network| {
        let mut out = Desired::new();
        BridgeDriver::default().network_objects(network, &host(), &mut out);
        out
    };
    let (a, b) = (compiled(&a), compiled(&b));
    let shared: Vec<String> = a.keys().filter(|k| b.contains_key(k)).map(ToString::to_string).collect();
    assert_eq!(shared, ["sysctl net/ipv4/ip_forward"]);
}

#[test]
fn options_that_are_wrong_are_refused_by_name() {
    let refusals = [
        (ICC, "maybe"),
        (MASQUERADE, "2"),
        (MTU, "67"),
        (MTU, "65536"),
        (MTU, "-1"),
        (MTU, "big"),
        (NAME, "../etc"),
        (NAME, "a name"),
        (NAME, "-rf"),
        (NAME, "sixteen-letters-"),
        (NAME, "all"),
        (NAME, "$(reboot)"),
        (PREFIX, "twelve-chars"),
        (HOST_BINDING, ""),
        (ICC, ""),
        (MTU, ""),
        (GATEWAY_MODE_IPV6, ""),
        (HOST_BINDING, "localhost"),
        (GATEWAY_MODE_IPV4, "bridge"),
        (TRUSTED, "eth0::eth1"),
        (TRUSTED, "sixteen-letters-"),
        (TRUSTED, "../x"),
        (HOST_IPV4, "fd00::1"),
        (HOST_IPV6, "1.2.3.4"),
    ];
    for (option, value) in refusals {
        let error = BridgeDriver::default().validate(&network(&[(option, value)]), &host()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{option}={value}");
        assert!(error.to_string().contains(option), "{error}");
    }
}

#[test]
fn an_unknown_option_of_ours_is_refused_and_docker_s_are_ignored_as_docker_ignores_them() {
    let validate = |option| BridgeDriver::default().validate(&network(&[(option, "1")]), &host());
    let error = validate("causeway.bridge.anti_spoof").unwrap_err().to_string();
    assert!(error.contains("\"causeway.bridge.anti_spoof\"") && error.contains(ANTI_SPOOFING), "{error}");
    for option in ["com.docker.network.bridge.mtu", "com.docker.network.driver.mut", "org.example.owner"] {
        validate(option).unwrap();
    }
}

fn published() -> [PublishedPort; 3] {
    let port = |protocol, host_ip: Option<&str>, first, last, container_port| PublishedPort {
        protocol,
        host_ip: host_ip.map(|ip| ip.parse().unwrap()),
        host_ports: PortRange::new(first, last).unwrap(),
        container_port,
        routed: false,
    };
    [
        port(Protocol::Tcp, None, 8080, 8080, 80),
        port(Protocol::Tcp, None, 9090, 9092, 79),
        port(Protocol::Udp, Some("127.0.0.1"), 1, 65535, 1),
    ]
}

fn port_objects(driver: &BridgeDriver, network: &Network, published: &[PublishedPort], out: &mut Desired) {
    for ipv6 in [false, true] {
        let of = published.iter().filter(|p| p.is_of(ipv6)).cloned().collect::<Vec<_>>();
        driver.port_objects(network, &endpoint(network), ipv6, &of, &["br-beside".into()], out);
    }
}

#[test]
fn ports_that_nftables_publishes_compile_to_this() {
    let driver = BridgeDriver { publishes: true, ..BridgeDriver::default() };
    let network = Network { ipv6: true, ..network(&[]) };
    let mut out = Desired::new();
    driver.host_objects(&host(), &mut out);
    driver.network_objects(&network, &host(), &mut out);
    port_objects(&driver, &network, &published(), &mut out);
    check("published.txt", &render(&out));
    let mut inside = Desired::new();
    driver.network_objects(&Network { internal: true, ..network }, &host(), &mut inside);
    assert!(!render(&inside).contains("route_localnet"), "nothing is published there");
}

#[test]
fn published_ports_that_are_reached_by_the_container_s_address_compile_to_this() {
    let routed = [(GATEWAY_MODE_IPV4, "routed"), (GATEWAY_MODE_IPV6, "routed")];
    let trusted = [(TRUSTED, "wg0:eth1.7"), (HOST_IPV4, "192.0.2.9"), (HOST_IPV6, "2001:db8::9")];
    let direct = BridgeDriver { direct_routing: true, forwarding: false, ..BridgeDriver::default() };
    let cases = [
        ("routed", BridgeDriver::default(), &routed[..]),
        ("trusted links, addresses of the host", BridgeDriver::default(), &trusted[..]),
        ("direct routing, no forwarding", direct, &[]),
    ];
    let published = published();
    let mut text = String::new();
    for (title, driver, options) in cases {
        let network = Network { ipv6: true, ..network(options) };
        driver.validate(&network, &host()).unwrap();
        let mut out = Desired::new();
        driver.network_objects(&network, &host(), &mut out);
        port_objects(&driver, &network, &published, &mut out);
        text.push_str(&format!("# {title}\n{}\n", render(&out)));
    }
    check("by_address.txt", &text);
    let mut out = Desired::new();
    let plain = network(&[]);
    BridgeDriver::default().port_objects(&plain, &endpoint(&plain), false, &published[..2], &[], &mut out);
    assert!(out.is_empty(), "by the host's address alone");
}

#[test]
fn gateway_modes_compile_to_this() {
    let mut text = String::new();
    for (mode, internal) in [("nat-unprotected", false), ("isolated", true)] {
        let network = network(&[(GATEWAY_MODE_IPV4, mode), (GATEWAY_MODE_IPV6, mode)]);
        let network = Network { ipv6: true, internal, ..network };
        text.push_str(&format!("# {mode}\n{}\n", compile(&network)));
    }
    check("gateway_modes.txt", &text);
    let open = network(&[(GATEWAY_MODE_IPV4, "isolated")]);
    let error = BridgeDriver::default().validate(&open, &host()).unwrap_err().to_string();
    assert!(error.contains("'isolated' can only be used for an internal network"), "{error}");
}

#[test]
fn an_endpoint_has_the_settings_and_addresses_that_it_asked_for() {
    let network = Network { ipv6: true, ..network(&[(ANTI_SPOOFING, "false")]) };
    let mut endpoint = endpoint(&network);
    endpoint.link_local = vec!["169.254.8.8/16".parse().unwrap(), "fe80::77/64".parse().unwrap()];
    let sysctls = "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.ifname.accept_ra=2";
    endpoint.options.insert(SYSCTLS.into(), sysctls.into());
    BridgeDriver::default().validate_endpoint(&network, &endpoint).unwrap();
    let mut out = Desired::new();
    BridgeDriver::default().endpoint_objects(&network, &endpoint, &host(), &mut out);
    check("endpoint.txt", &render(&out));
    for wrong in ["net.ipv4.conf.eth1.x=1", "net.ipv4.conf.IFNAME.../../x=1", "kernel.hostname=x", "x"] {
        endpoint.options.insert(SYSCTLS.into(), wrong.into());
        let error = BridgeDriver::default().validate_endpoint(&network, &endpoint).unwrap_err().to_string();
        assert!(error.contains(SYSCTLS), "{error}");
    }
}

#[test]
fn names_and_bindings_come_from_the_options() {
    let network = network(&[(NAME, "docker0"), (PREFIX, "net"), (HOST_BINDING, "127.0.0.1")]);
    let attachment = BridgeDriver::default().attachment(&network, &endpoint(&network), &host()).unwrap();
    assert_eq!((attachment.bridge.as_deref(), &*attachment.link), (Some("docker0"), "cwcdcdcdcdcdcd"));
    assert_eq!(BridgeDriver::default().interface_prefix(&network), "net");
    assert_eq!(BridgeDriver::default().host_binding(&network, false), Some([127, 0, 0, 1].into()));
    assert_eq!(BridgeDriver::default().host_binding(&network, true), None);
}
