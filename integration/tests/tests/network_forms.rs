//! What a network may be called, and what is shown of it that does nothing.

use integration_testkit::Host;
use serde_json::json;

#[test]
fn subnets_of_a_family_that_is_off_are_shown_and_used_by_nothing() {
    let mut host = Host::with_image();
    host.d(
        "network create --ipv4=false --ipv6 --subnet 10.69.0.0/24 --gateway 10.69.0.9 --subnet fd69::/64 six",
    );
    host.d("network create --subnet 10.69.1.0/24 --subnet fd69:1::/64 four");
    let config = |host: &Host, name: &str| host.inspect(name)["IPAM"]["Config"].clone();
    let six = json!([{"Subnet": "10.69.0.0/24", "Gateway": "10.69.0.9"}, {"Subnet": "fd69::/64"}]);
    assert_eq!(config(&host, "six"), six);
    assert_eq!(config(&host, "four"), json!([{"Subnet": "10.69.1.0/24"}, {"Subnet": "fd69:1::/64"}]));
    let inside = host.d("run --rm --network six box ip addr show eth0");
    assert!(inside.contains("fd69::") && !inside.contains("10.69."), "{inside}");
    assert!(!host.host.ip("addr").contains("10.69.0."), "the host has an address of it");
    let refused = host.docker(&["run", "--rm", "--network", "six", "--ip", "10.69.0.7", "box", "true"]);
    assert!(refused.err().contains("10.69.0.7"));
    // So they are in nobody's way, and stay what they were.
    host.d("network create --subnet 10.69.0.0/24 --ipv6 --subnet fd69:1::/64 both");
    host.stop();
    host.start();
    assert_eq!(config(&host, "six"), six);
}

#[test]
fn interfaces_are_numbered_in_the_order_of_their_names() {
    let host = Host::with_image();
    let networks: Vec<String> = (0..12).map(|n| format!("net{n}")).collect();
    let mut run = vec!["run", "-d", "--name", "cc"];
    for network in &networks {
        host.d(&format!("network create {network}"));
        run.extend(["--network", network]);
    }
    run.extend(["box", "sleep", "1000"]);
    host.docker(&run).ok();
    let names: Vec<String> = (0..12).map(|n| format!("eth{n}")).collect();
    for _ in 0..3 {
        let links = host.d("exec cc ip -o link show");
        let name = |line: &str| line.split(": ").nth(1).unwrap().split('@').next().unwrap().to_owned();
        let seen: Vec<String> = links.lines().map(name).filter(|name| name != "lo").collect();
        assert_eq!(seen, names);
        host.d("restart -t 0 cc");
    }
}

#[test]
fn a_network_may_have_any_name_that_can_be_seen() {
    let host = Host::with_image();
    for name in ["my network", "team/app", "_x", "été", "a:b", "create", "prune"] {
        host.docker(&["network", "create", name]).ok();
        host.docker(&[
            "run",
            "-d",
            "--name",
            "cc",
            "--network",
            name,
            "--network-alias",
            "web",
            "box",
            "sleep",
            "1000",
        ])
        .ok();
        host.docker(&["run", "--rm", "--network", name, "box", "ping", "-c", "1", "-W", "60", "web"]).ok();
        let shown = host.docker(&["network", "ls", "-q", "--filter", &format!("name={name}")]).ok();
        assert_eq!(shown.lines().count(), 1, "{name}: {shown}");
        host.docker(&["network", "disconnect", name, "cc"]).ok();
        host.docker(&["network", "connect", name, "cc"]).ok();
        host.d("rm -f cc");
        host.docker(&["network", "rm", "--", name]).ok();
    }
}

#[test]
fn what_create_is_told_is_shown_and_kept_to() {
    let host = Host::with_image();
    host.d(
        "network create --scope local --attachable --label a=b --ipam-driver default --ipam-opt x=y --subnet 10.62.0.0/28 \
         --ip-range 10.62.0.8/29 --gateway 10.62.0.1 --aux-address first=10.62.0.8 --aux-address other=10.62.0.10 net",
    );
    let net = host.inspect("net");
    assert_eq!(
        (&net["Scope"], &net["Attachable"], &net["Internal"]),
        (&json!("local"), &json!(true), &json!(false))
    );
    assert_eq!(net["Labels"], json!({"a": "b"}));
    let subnet = json!({"Subnet": "10.62.0.0/28", "IPRange": "10.62.0.8/29", "Gateway": "10.62.0.1",
        "AuxiliaryAddresses": {"first": "10.62.0.8", "other": "10.62.0.10"}});
    assert_eq!(net["IPAM"], json!({"Driver": "default", "Options": {"x": "y"}, "Config": [subnet]}));
    // Addresses come from the range, but for those that are somebody else's.
    let mut leased = Vec::new();
    for name in ["c1", "c2"] {
        host.d(&format!("run -d --name {name} --network net box sleep 1000"));
        leased.push(host.address(name, "net"));
    }
    assert_eq!(leased, ["10.62.0.9", "10.62.0.11"]);
    let taken = host.docker(&["run", "--rm", "--network", "net", "--ip", "10.62.0.10", "box", "true"]).err();
    assert!(taken.contains("Address already in use"), "{taken}");
    // What is asked for may lie outside of the range.
    host.d("run -d --name c3 --network net --ip 10.62.0.5 box sleep 1000");
    host.d("exec c1 ping -c 1 -W 60 10.62.0.5");
    // The range runs out before the subnet does.
    for name in ["c4", "c5", "c6"] {
        host.d(&format!("run -d --name {name} --network net box sleep 1000"));
    }
    let full = host.docker(&["run", "--rm", "--network", "net", "box", "true"]).err();
    assert!(full.contains("no available"), "{full}");
}

#[test]
fn an_address_is_asked_for_only_where_somebody_chose_the_subnet() {
    let host = Host::with_image();
    let rule = "supported only when connecting to networks with user configured subnets";
    host.d("network create pool");
    let subnet = host.d("network inspect -f {{range.IPAM.Config}}{{.Subnet}}{{end}} pool");
    let address = subnet.replace(".0.0/16", ".0.9");
    // When it is created already, which no start has to find out.
    let refused = host.docker(&["create", "--network", "pool", "--ip", &address, "box", "true"]).err();
    assert!(refused.contains(rule), "{refused}");
    assert_eq!(host.d("ps -aq"), "");
    host.d("create --name cc box true");
    let refused = host.docker(&["network", "connect", "--ip", &address, "pool", "cc"]).err();
    assert!(refused.contains(rule), "{refused}");
    host.d("network create --ipv6 --subnet 10.67.0.0/24 half");
    let refused = host.docker(&["network", "connect", "--ip6", "fd67::9", "half", "cc"]).err();
    assert!(refused.contains(rule), "{refused}");
    host.d("network connect --ip 10.67.0.9 half cc");
}
