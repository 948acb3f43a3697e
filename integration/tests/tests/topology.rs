//! `causeway topology`.

use integration_testkit::Host;
use serde_json::Value;

#[test]
fn topology_shows_networks_endpoints_addresses_and_ports() {
    let host = Host::with_image();
    host.d("network create --subnet 10.95.0.0/24 app");
    host.d("run -d --name web --network app -p 8080:80 -p 9000-9009:9000-9009/udp box sleep 1000");
    let run_dir = host.run_dir().display().to_string();
    let tree = host.causeway(&["topology", "--run-dir", &run_dir]).ok();
    for part in [
        "uplink uplink",
        "192.0.2.1/24",
        "network app",
        "10.95.0.0/24 via 10.95.0.1",
        "web",
        "10.95.0.2/24",
        "*:8080 → 80/tcp",
        "*:9000-9009 → 9000-9009/udp",
    ] {
        assert!(tree.contains(part), "no {part:?} in\n{tree}");
    }
    assert!(!tree.contains('\x1b'), "colours only on a terminal");
    let json = host.causeway(&["topology", "--run-dir", &run_dir, "--format", "json"]).ok();
    let json: Value = serde_json::from_str(&json).unwrap();
    let app = json["networks"].as_array().unwrap().iter().find(|n| n["name"] == "app").unwrap();
    assert_eq!(app["endpoints"][0]["container"], "web");
}

#[test]
fn topology_without_a_daemon_says_what_to_do() {
    let host = Host::new();
    let text = host.causeway(&["topology", "--run-dir", host.run_dir().to_str().unwrap()]).err();
    assert!(text.contains("causeway up"), "{text}");
}
