//! The default bridge as `daemon.json` shapes it, each key by a packet or by what a container has.

use integration_testkit::{Host, Namespace, eventually, probe};
use serde_json::json;

fn reaches(host: &Host, container: &str, target: &str, port: u16) -> bool {
    host.docker(&["exec", container, "probe", "tcp", target, &port.to_string()]).code() == 0
}

fn from(namespace: &Namespace, target: &str, port: u16) -> bool {
    namespace.sh(&format!("{} tcp {target} {port}", probe().display())).code() == 0
}

fn serve(host: &Host, name: &str, options: &str) {
    host.d(&format!("run -d --name {name} {options} box probe serve 80"));
    eventually("the server serves", || host.d(&format!("logs {name}")).contains("serving"));
}

#[test]
fn it_has_no_names_and_links_are_what_there_is_instead() {
    let host = Host::with_image();
    serve(&host, "db", "");
    host.d("run -d --name web --link db:database box sleep 1000");
    host.d("run -d --name other box sleep 1000");
    for name in ["database", "db"] {
        assert!(reaches(&host, "web", name, 80), "{name}");
        assert!(!reaches(&host, "other", name, 80), "{name} without a link");
    }
    assert!(reaches(&host, "other", &host.address("db", "bridge"), 80));
    host.docker(&["run", "--rm", "--network-alias", "x", "box", "true"]).err();
    let refused = host.docker(&["run", "--rm", "--ip", "172.17.0.99", "box", "true"]).err();
    assert!(refused.contains("supported on user defined networks only"), "{refused}");
}

#[test]
fn its_subnet_range_and_way_out_are_as_configured() {
    let host = Host::new();
    let running = host.run_dockerd_by(
        r#"{"bip": "10.50.0.1/24", "fixed-cidr": "10.50.0.128/25", "default-gateway": "10.50.0.254", "ipv6": true,
            "fixed-cidr-v6": "fd50::/64", "mtu": 1420}"#,
    );
    host.import("box");
    host.d("run -d --name cc box sleep 1000");
    let bridge = host.inspect("bridge");
    assert_eq!(bridge["EnableIPv6"], true);
    assert_eq!(bridge["IPAM"]["Config"][0]["Subnet"], "10.50.0.0/24");
    assert_eq!(bridge["IPAM"]["Config"][0]["IPRange"], "10.50.0.128/25");
    assert_eq!(host.address("cc", "bridge"), "10.50.0.128");
    let routes = host.d("exec cc ip route");
    assert!(routes.contains("default via 10.50.0.254"), "{routes}");
    let inside = host.d("exec cc ip addr show eth0");
    assert!(inside.contains("fd50::") && inside.contains("mtu 1420"), "{inside}");
    assert!(host.host.ip("addr show docker0").contains("10.50.0.1/24"));
    running.end().ok();
    host.purge_dockerd().ok();
}

#[test]
fn its_ipv6_subnet_range_and_way_out_are_as_configured() {
    let host = Host::new();
    let running = host.run_dockerd_by(
        r#"{"ipv6": true, "bip6": "fd51::1/64", "fixed-cidr-v6": "fd51::8000/113", "default-gateway-v6": "fd51::fe"}"#,
    );
    host.import("box");
    host.d("run -d --name cc box sleep 1000");
    let bridge = host.inspect("bridge");
    let configs = bridge["IPAM"]["Config"].as_array().unwrap();
    let own = configs.iter().find(|config| config["Subnet"] == "fd51::/64").expect("its IPv6 subnet");
    assert_eq!((&own["IPRange"], &own["Gateway"]), (&json!("fd51::8000/113"), &json!("fd51::1")));
    let address = host.d("inspect -f {{.NetworkSettings.GlobalIPv6Address}} cc");
    assert!(address.starts_with("fd51::8"), "{address}");
    assert!(host.d("exec cc ip -6 route").contains("default via fd51::fe"));
    assert!(host.host.ip("addr show docker0").contains("fd51::1/64"));
    host.d("rm -f cc");
    running.end().ok();
    // Without IPv6 all that is said of it means nothing.
    let idle = host.run_dockerd_by(r#"{"fixed-cidr-v6": "fd52::/64", "default-gateway-v6": "fd52::1"}"#);
    assert_eq!(host.inspect("bridge")["EnableIPv6"], false);
    idle.end().ok();
    // Nobody chooses a subnet by naming a router on it.
    let refused = host.dockerd_refuses(&["--default-gateway", "10.52.0.254"]);
    assert!(refused.contains("default-gateway: 10.52.0.254 must be an address of"), "{refused}");
    host.purge_dockerd().ok();
}

#[test]
fn without_icc_and_with_ports_on_one_address_it_keeps_to_that() {
    let host = Host::new();
    let running = host.run_dockerd_by(r#"{"icc": false, "ip": "127.0.0.1"}"#);
    host.import("box");
    serve(&host, "server", "-p 8080:80");
    host.d("run -d --name asker box sleep 1000");
    assert_eq!(host.d("port server 80/tcp"), "127.0.0.1:8080");
    eventually("the host reaches it", || from(&host.host, "127.0.0.1", 8080));
    assert!(!from(&host.client, Host::ADDRESS, 8080), "a port of 127.0.0.1 from the LAN");
    assert!(!reaches(&host, "asker", &host.address("server", "bridge"), 80), "a neighbour without icc");
    // Other networks are not meant.
    host.d("network create net");
    serve(&host, "free", "--network net -p 8081:80");
    host.d("run -d --name friend --network net box sleep 1000");
    eventually("a neighbour on another network", || reaches(&host, "friend", "free", 80));
    running.end().ok();
    host.purge_dockerd().ok();
}

#[test]
fn without_icc_a_link_opens_what_its_target_exposes() {
    let host = Host::new();
    let running = host.run_dockerd_by(r#"{"icc": false, "ipv6": true, "fixed-cidr-v6": "fd51::/64"}"#);
    host.import("box");
    serve(&host, "db", "--expose 80 --expose 90-95/udp");
    host.d("run -d --name web --link db --link db:store box sleep 1000");
    let address6 = |name: &str| {
        host.inspect(name)["NetworkSettings"]["Networks"]["bridge"]["GlobalIPv6Address"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    for target in ["db", "store", &host.address("db", "bridge"), &address6("db")] {
        eventually("what is exposed", || reaches(&host, "web", target, 80));
    }
    host.d("exec -d db probe serve 81");
    host.d("exec -d web probe serve 80");
    host.d("run -d --name other box sleep 1000");
    eventually("the server serves", || reaches(&host, "db", "127.0.0.1", 81));
    assert!(!reaches(&host, "web", "db", 81), "a port that is not exposed");
    assert!(!reaches(&host, "db", &host.address("web", "bridge"), 80), "the way back");
    assert!(!reaches(&host, "other", &host.address("db", "bridge"), 80), "by who has no link");

    // It follows the target, and what that exposes, and ends with the link.
    let added = host.api().post("/causeway/containers/db/ports", &json!({"Add": ["8081:81"]}));
    assert_eq!(added.status, 200, "{added:?}");
    assert!(reaches(&host, "web", "db", 81), "a port that is exposed now");
    host.d("stop -t 0 db");
    host.d("run -d --name usurper box probe serve 80");
    assert!(
        !reaches(&host, "web", &host.address("usurper", "bridge"), 80),
        "who has the target's address now"
    );
    host.d("start db");
    eventually("where the target is now", || reaches(&host, "web", "db", 80));
    host.d("rm --link web/store");
    assert!(reaches(&host, "web", "db", 80), "by the other link");
    let address = host.address("db", "bridge");
    host.d("rm --link web/db");
    assert!(!reaches(&host, "web", &address, 80), "without a link");
    running.end().ok();
    host.purge_dockerd().ok();
}

#[test]
fn ports_are_of_ipv6_alone_where_the_default_address_is() {
    let host = Host::new();
    let running = host.run_dockerd_by(r#"{"ip": "::", "ipv6": true, "fixed-cidr-v6": "fd51::/64"}"#);
    host.import("box");
    serve(&host, "server", "-p 8080:80");
    assert_eq!(host.inspect("bridge")["Options"]["com.docker.network.bridge.host_binding_ipv4"], json!("::"));
    assert_eq!(host.d("port server 80/tcp"), "[::]:8080");
    eventually("by IPv6", || from(&host.client, Host::ADDRESS6, 8080));
    assert!(!from(&host.client, Host::ADDRESS, 8080), "by IPv4");
    running.end().ok();
    host.purge_dockerd().ok();
}

#[test]
fn default_options_are_for_networks_that_say_nothing_and_come_from_no_configuration() {
    let host = Host::new();
    let running = host.run_dockerd(&[]);
    host.d("network create --config-only settings");
    running.end().ok();
    let options = r#"{"default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "1300"}}}"#;
    let running = host.run_dockerd_by(options);
    let mtu = |name: &str| host.inspect(name)["Options"]["com.docker.network.driver.mtu"].clone();
    host.d("network create bare");
    host.d("network create -o com.docker.network.driver.mtu=1400 own");
    assert_eq!((mtu("bare"), mtu("own")), (json!("1300"), json!("1400")));
    // A configuration is all that there is to what is made from it.
    host.d("network create --config-from settings made");
    assert_eq!(mtu("made"), json!(null));
    running.end().ok();
    host.purge_dockerd().ok();
}
