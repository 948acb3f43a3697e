//! What the outside reaches of containers by their own addresses, and as whom they go out, by real packets.

use integration_testkit::{Finished, Host, Namespace, eventually, probe, run};
use serde_json::json;

const ROUTED: [&str; 4] = [
    "-o",
    "com.docker.network.bridge.gateway_mode_ipv4=routed",
    "-o",
    "com.docker.network.bridge.gateway_mode_ipv6=routed",
];

fn create(host: &Host, subnets: &[&str], options: &[&str], name: &str) {
    let mut args = vec!["network", "create"];
    if subnets.iter().any(|s| s.contains(':')) {
        args.push("--ipv6");
    }
    args.extend(subnets.iter().flat_map(|subnet| ["--subnet", subnet]));
    args.extend(options);
    args.push(name);
    host.docker(&args).ok();
}

/// A container that serves on ports 80 and 81 of both transports.
fn serve(host: &Host, name: &str, args: &[&str]) {
    let mut line = vec!["run", "-d", "--name", name];
    line.extend(args);
    line.extend(["box", "sh", "-c", "probe serve 81 & probe serve 80"]);
    host.docker(&line).ok();
    eventually("the server serves", || host.d(&format!("logs {name}")).matches("serving").count() == 2);
}

fn ask(from: &Namespace, args: &str) -> Finished {
    let mut command = from.command(probe().to_str().unwrap());
    command.args(args.split(' '));
    run(command, b"")
}

/// The address that the server says the client has.
#[track_caller]
fn seen(from: &Namespace, args: &str) -> String {
    ask(from, args).ok().split(' ').next().unwrap().to_owned()
}

fn route(host: &Host, subnet: &str) {
    let via = if subnet.contains(':') { Host::ADDRESS6 } else { Host::ADDRESS };
    host.client.ip(&format!("route add {subnet} via {via}"));
}

#[test]
fn a_routed_network_is_reached_by_its_own_addresses_at_published_ports_and_by_icmp() {
    let host = Host::with_image();
    create(&host, &["10.91.0.0/24", "fd91::/64"], &ROUTED, "net");
    create(&host, &["10.92.0.0/24"], &[], "other");
    // The host's port is nobody's: two containers may wish for it.
    serve(&host, "web", &["--network", "net", "-p", "8080:80", "-p", "8080:80/udp"]);
    serve(&host, "twin", &["--network", "net", "-p", "8080:80"]);
    for subnet in ["10.91.0.0/24", "fd91::/64"] {
        route(&host, subnet);
    }
    for (address, client) in
        [("10.91.0.2", Host::CLIENT), ("10.91.0.3", Host::CLIENT), ("fd91::2", Host::CLIENT6)]
    {
        assert_eq!(seen(&host.client, &format!("tcp {address} 80")), client);
        host.client.sh(&format!("ping -c 1 -W 60 {address}")).ok();
        // Neither what was not published, nor by the host's address.
        ask(&host.client, &format!("tcp {address} 81")).err();
    }
    assert_eq!(seen(&host.client, "udp 10.91.0.2 80"), Host::CLIENT);
    ask(&host.client, "udp 10.91.0.3 80").err();
    ask(&host.client, &format!("tcp {} 8080", Host::ADDRESS)).err();
    ask(&host.client, &format!("tcp {} 80", Host::ADDRESS)).err();
    // The host reaches all of it, another network what is published.
    ask(&host.host, "tcp 10.91.0.2 81").ok();
    host.d("run --rm --network other box probe tcp 10.91.0.2 80");
    host.docker(&["run", "--rm", "--network", "other", "box", "probe", "tcp", "10.91.0.2", "81"]).err();
    // Containers go out as themselves, and answers come back.
    let heard = host.d(&format!("exec web ping -c 1 -W 60 {}", Host::CLIENT));
    assert!(heard.contains("1 packets received"), "{heard}");
    // As Docker shows it.
    let ports = host.inspect("twin")["NetworkSettings"]["Ports"]["80/tcp"].clone();
    assert_eq!(ports, json!([{"HostIp": "0.0.0.0", "HostPort": ""}, {"HostIp": "::", "HostPort": ""}]));
    // A container that is gone leaves nothing open.
    host.d("rm -f twin");
    host.d("run -d --name heir --network net --ip 10.91.0.3 box probe serve 80");
    eventually("the server serves", || host.d("logs heir").contains("serving"));
    ask(&host.client, "tcp 10.91.0.3 80").err();
}

#[test]
fn a_network_may_be_routed_in_one_family_and_mapped_in_the_other() {
    let host = Host::with_image();
    create(&host, &["10.93.0.0/24", "fd93::/64"], &ROUTED[2..], "net");
    serve(&host, "web", &["--network", "net", "-p", "8080:80"]);
    route(&host, "10.93.0.0/24");
    route(&host, "fd93::/64");
    assert_eq!(seen(&host.client, "tcp 192.0.2.1 8080"), Host::CLIENT);
    ask(&host.client, "tcp 10.93.0.2 80").err();
    assert_eq!(seen(&host.client, "tcp fd93::2 80"), Host::CLIENT6);
    ask(&host.client, "tcp 2001:db8::1 8080").err();
    let ports = host.inspect("web")["NetworkSettings"]["Ports"]["80/tcp"].clone();
    assert_eq!(ports, json!([{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": ""}]));
}

#[test]
fn ports_follow_when_another_network_becomes_the_way_out_or_the_mode_changes() {
    let host = Host::with_image();
    create(&host, &["10.94.0.0/24"], &ROUTED[..2], "routed");
    create(&host, &["10.95.0.0/24"], &[], "mapped");
    serve(&host, "web", &["--network", "routed", "-p", "8080:80"]);
    route(&host, "10.94.0.0/24");
    ask(&host.client, "tcp 10.94.0.2 80").ok();
    host.d("network connect --gw-priority 9 mapped web");
    assert_eq!(seen(&host.client, "tcp 192.0.2.1 8080"), Host::CLIENT);
    host.d("network disconnect mapped web");
    ask(&host.client, "tcp 192.0.2.1 8080").err();
    ask(&host.client, "tcp 10.94.0.2 80").ok();
    let run_dir = host.run_dir().display().to_string();
    let set = |mode: &str| {
        let setting = format!("gateway-mode-ipv4={mode}");
        host.causeway(&["network", "set", "--run-dir", &run_dir, "routed", &setting]).ok();
    };
    set("nat");
    assert_eq!(seen(&host.client, "tcp 192.0.2.1 8080"), Host::CLIENT);
    ask(&host.client, "tcp 10.94.0.2 80").err();
    set("routed");
    ask(&host.client, "tcp 192.0.2.1 8080").err();
    ask(&host.client, "tcp 10.94.0.2 80").ok();
}

#[test]
fn a_container_without_a_way_out_takes_no_port_of_the_host_until_it_has_one() {
    let host = Host::with_image();
    create(&host, &["10.88.0.0/24"], &["--internal"], "inner");
    create(&host, &["10.89.0.0/24"], &[], "outer");
    serve(&host, "web", &["--network", "inner", "-p", "8080:80"]);
    assert_eq!(host.d("port web"), "");
    host.d("run -d --name other -p 8080:81 box sleep 1000");
    let taken = host.docker(&["network", "connect", "outer", "web"]).err();
    assert!(taken.contains("8080") && taken.contains("other"), "{taken}");
    host.d("rm -f other");
    host.d("network connect outer web");
    assert_eq!(host.d("port web 80/tcp"), "0.0.0.0:8080\n[::]:8080");
    assert_eq!(seen(&host.client, "tcp 192.0.2.1 8080"), Host::CLIENT);
    host.d("network disconnect outer web");
    assert_eq!(host.d("port web"), "");
    ask(&host.client, "tcp 192.0.2.1 8080").err();
    host.d("run -d --name other -p 8080:81 box sleep 1000");
}

#[test]
fn ports_go_to_the_address_of_the_host_that_the_way_out_names() {
    let host = Host::with_image();
    let local = ["-o", "com.docker.network.bridge.host_binding_ipv4=127.0.0.1"];
    create(&host, &["10.90.0.0/24"], &[], "open");
    create(&host, &["10.91.0.0/24"], &local, "local");
    serve(&host, "web", &["--network", "open", "-p", "8080:80"]);
    ask(&host.client, "tcp 192.0.2.1 8080").ok();
    host.d("network connect --gw-priority 9 local web");
    assert_eq!(host.d("port web 80/tcp"), "127.0.0.1:8080");
    ask(&host.client, "tcp 192.0.2.1 8080").err();
    ask(&host.host, "tcp 127.0.0.1 8080").ok();
    host.d("network disconnect local web");
    ask(&host.client, "tcp 192.0.2.1 8080").ok();
}

/// Docker's documentation: in spite of the option's name it takes IPv6 addresses, too, and `::` is every address of IPv6.
#[test]
fn the_default_binding_of_ports_may_be_of_ipv6_alone() {
    let host = Host::with_image();
    let six = ["-o", "com.docker.network.bridge.host_binding_ipv4=::"];
    create(&host, &["10.88.7.0/24", "fd88:7::/64"], &six, "six");
    serve(&host, "web", &["--network", "six", "-p", "8080:80"]);
    assert_eq!(host.d("port web 80/tcp"), "[::]:8080");
    ask(&host.client, "tcp 2001:db8::1 8080").ok();
    ask(&host.host, "tcp ::1 8080").ok();
    ask(&host.client, "tcp 192.0.2.1 8080").err();
    ask(&host.host, "tcp 127.0.0.1 8080").err();
}

#[test]
fn a_trusted_link_reaches_published_ports_by_the_container_s_address() {
    let host = Host::with_image();
    let trusted = ["-o", "com.docker.network.bridge.trusted_host_interfaces=nothing0:uplink"];
    create(&host, &["10.96.0.0/24"], &trusted, "net");
    create(&host, &["10.97.0.0/24"], &[], "plain");
    serve(&host, "web", &["--network", "net", "-p", "8080:80"]);
    serve(&host, "closed", &["--network", "plain", "-p", "8081:80"]);
    route(&host, "10.96.0.0/24");
    route(&host, "10.97.0.0/24");
    ask(&host.client, "tcp 10.96.0.2 80").ok();
    ask(&host.client, "tcp 192.0.2.1 8080").ok();
    ask(&host.client, "tcp 10.96.0.2 81").err();
    ask(&host.client, "tcp 10.97.0.2 80").err();
}

#[test]
fn containers_go_out_as_the_address_of_the_host_that_their_network_names() {
    let host = Host::with_image();
    host.host.ip("addr add 192.0.2.77/24 dev uplink");
    host.host.ip("addr add 2001:db8::77/64 dev uplink nodad");
    let as_address =
        ["-o", "com.docker.network.host_ipv4=192.0.2.77", "-o", "com.docker.network.host_ipv6=2001:db8::77"];
    create(&host, &["10.98.0.0/24", "fd98::/64"], &as_address, "net");
    let mut server = host.client.command(probe().to_str().unwrap());
    server.args(["serve", "90"]);
    let server = integration_testkit::Running::start(server);
    let from = |address: &str| {
        let line = format!("run --rm --network net box probe tcp {address} 90");
        let mut said = String::new();
        eventually("the client answers", || {
            let finished = host.docker(&line.split(' ').collect::<Vec<_>>());
            said = finished.stdout.split(' ').next().unwrap_or_default().to_owned();
            finished.status.success()
        });
        said
    };
    assert_eq!(from(Host::CLIENT), "192.0.2.77");
    assert_eq!(from(Host::CLIENT6), "2001:db8::77");
    drop(server);
}

#[test]
fn an_isolated_network_has_no_gateway_and_its_first_address_is_a_container_s() {
    let host = Host::with_image();
    let isolated = "-o com.docker.network.bridge.gateway_mode_ipv4=isolated";
    host.d(&format!("network create --internal {isolated} --subnet 10.95.0.0/24 net"));
    assert!(host.inspect("net")["IPAM"]["Config"][0]["Gateway"].is_null());
    // A router of the user's own, say.
    host.d("run -d --name router --network net --ip 10.95.0.1 box sleep 1000");
    host.d("run --rm --network net box ping -c 1 -W 60 10.95.0.1");
    assert!(!host.host.ip("addr").contains("10.95.0."));
    // With that address taken there is none for a gateway.
    let set = |value: &str| {
        let run_dir = host.run_dir().display().to_string();
        host.causeway(&[
            "network",
            "set",
            "--run-dir",
            &run_dir,
            "net",
            &format!("gateway-mode-ipv4={value}"),
        ])
    };
    let refused = set("nat").err();
    assert!(refused.contains("would get the gateway 10.95.0.1"), "{refused}");
    host.d("rm -f router");
    set("nat").ok();
    assert!(host.host.ip("addr").contains("10.95.0.1/24"));
    host.d("run --rm --network net box ping -c 1 -W 60 10.95.0.1");
    let text = host.docker(&[
        "network",
        "create",
        "--internal",
        "--subnet",
        "10.96.0.0/24",
        "--aux-address",
        "DefaultGatewayIPv4=10.96.0.9",
        "x",
    ]);
    assert!(text.err().contains("no gateway can be set on an internal bridge network"));
}

#[test]
fn of_several_networks_the_one_that_leads_out_in_both_families_is_the_way_out_unless_priorities_say_otherwise()
 {
    let host = Host::with_image();
    host.d("network create --subnet 10.97.0.0/24 aa");
    host.d("network create --ipv6 --ipv4=false --subnet fd97::/64 ab");
    host.d("network create --ipv6 --subnet 10.98.0.0/24 --subnet fd98::/64 both");
    host.d("network create --ipv6 --subnet 10.99.0.0/24 --subnet fd99::/64 --internal inside");
    let ways = |networks: &str| {
        let shell = "ip route; ip -6 route";
        let mut line: Vec<&str> = ["run", "--rm"].into_iter().chain(networks.split(' ')).collect();
        line.extend(["box", "sh", "-c", shell]);
        let said = host.docker(&line).ok();
        let via = |line: &str| Some(line.strip_prefix("default via ")?.split(' ').next()?.to_owned());
        said.lines().filter_map(via).collect::<Vec<_>>().join(" ")
    };
    for (networks, expected) in [
        ("--network aa --network both", "10.98.0.1 fd98::1"),
        ("--network ab --network both", "10.98.0.1 fd98::1"),
        ("--network aa --network ab --network inside", "10.97.0.1 fd97::1"),
        ("--network name=aa,gw-priority=1 --network both", "10.97.0.1 fd98::1"),
        // Which has IPv4 alone for a container without IPv6.
        ("--sysctl net.ipv6.conf.all.disable_ipv6=1 --network aa --network both", "10.97.0.1"),
    ] {
        assert_eq!(ways(networks), expected, "{networks}");
    }
}
