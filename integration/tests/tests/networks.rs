//! `docker network`, and what containers reach over networks.

use integration_testkit::{Host, eventually};
use serde_json::json;

#[test]
fn bridge_host_and_none_exist_from_the_start() {
    let host = Host::up();
    let mut names: Vec<String> =
        host.d("network ls --format {{.Name}}/{{.Driver}}").lines().map(Into::into).collect();
    names.sort();
    assert_eq!(names, ["bridge/bridge", "host/host", "none/null"]);
    for name in ["bridge", "host", "none"] {
        let text = host.docker(&["network", "rm", name]).err();
        assert!(text.contains("is a pre-defined network and cannot be removed"), "{text}");
    }
}

#[test]
fn a_network_is_shown_as_it_was_made() {
    let host = Host::up();
    host.d("network create --subnet 10.70.0.0/24 --gateway 10.70.0.254 --label a=b --internal --ipv6 --subnet fd70::/64 net");
    let net = host.inspect("net");
    assert_eq!(net["Driver"], "bridge");
    assert_eq!(net["Scope"], "local");
    assert_eq!(net["Internal"], true);
    assert_eq!(net["EnableIPv6"], true);
    assert_eq!(net["Labels"], json!({"a": "b"}));
    assert_eq!(net["IPAM"]["Config"][0]["Subnet"], "10.70.0.0/24");
    assert_eq!(net["IPAM"]["Config"][0]["Gateway"], "10.70.0.254");
    assert_eq!(net["IPAM"]["Config"][1]["Subnet"], "fd70::/64");
    assert_eq!(host.d("network ls -q -f label=a=b").lines().count(), 1);
    let id = net["Id"].as_str().unwrap().to_owned();
    assert_eq!(host.inspect(&id[..12])["Name"], "net");
    host.d("network rm net");
    assert!(host.docker(&["network", "inspect", "net"]).err().contains("network net not found"));
}

#[test]
fn containers_on_one_network_reach_each_other_by_name_and_address() {
    let host = Host::with_image();
    host.d("network create --ipv6 --subnet 10.71.0.0/24 --subnet fd71::/64 net");
    host.d("run -d --name server --network net --network-alias api --ip 10.71.0.9 box probe serve 80");
    eventually("the server serves", || host.d("logs server").contains("serving"));
    assert_eq!(host.address("server", "net"), "10.71.0.9");
    for target in ["server", "api", "10.71.0.9", "fd71::2", &host.d("inspect -f {{.Config.Hostname}} server")]
    {
        host.d(&format!("run --rm --network net box probe tcp {target} 80"));
    }
    host.d("run --rm --network net box ping -c 1 -W 60 server");
}

#[test]
fn networks_are_isolated_from_each_other_and_internal_ones_from_the_outside() {
    let host = Host::with_image();
    host.d("network create --subnet 10.72.0.0/24 one");
    host.d("network create --subnet 10.73.0.0/24 two");
    host.d("network create --subnet 10.74.0.0/24 --internal inside");
    host.d("run -d --name server --network one box probe serve 80");
    eventually("the server serves", || host.d("logs server").contains("serving"));
    let server = host.address("server", "one");
    host.docker(&["run", "--rm", "--network", "two", "box", "probe", "tcp", &server, "80"]).err();
    host.d(&format!("run --rm --network one box probe tcp {server} 80"));
    // Outside: by masquerade from an ordinary network, not at all from an internal one.
    host.d(&format!("run --rm --network one box ping -c 1 -W 60 {}", Host::CLIENT));
    host.docker(&["run", "--rm", "--network", "inside", "box", "ping", "-c", "1", "-W", "1", Host::CLIENT])
        .err();
    // And a container's address is not reachable from outside.
    host.client.ip(&format!("route add 10.72.0.0/24 via {}", Host::ADDRESS));
    host.client.sh(&format!("ping -c 1 -W 1 {server}")).err();
}

#[test]
fn a_running_container_is_connected_and_disconnected() {
    let host = Host::with_image();
    host.d("network create --subnet 10.75.0.0/24 extra");
    host.d("run -d --name cc box sleep 1000");
    host.d("network connect --ip 10.75.0.7 --alias other extra cc");
    assert_eq!(host.address("cc", "extra"), "10.75.0.7");
    assert!(host.d("exec cc ip -4 addr").contains("10.75.0.7/24"));
    host.d("run --rm --network extra box ping -c 1 -W 60 other");
    let containers = host.inspect("extra")["Containers"].clone();
    let entry = containers.as_object().unwrap().values().next().unwrap();
    assert_eq!(entry["Name"], "cc");
    assert_eq!(entry["IPv4Address"], "10.75.0.7/24");
    let text = host.docker(&["network", "rm", "extra"]).err();
    assert!(text.contains("has active endpoints"), "{text}");
    host.d("network disconnect extra cc");
    assert!(!host.d("exec cc ip -4 addr").contains("10.75.0.7"));
    assert_eq!(host.inspect("extra")["Containers"], json!({}));
    host.d("network rm extra");
}

#[test]
fn a_stopped_container_is_freed_of_a_network_that_is_gone() {
    let host = Host::with_image();
    host.d("network create df1");
    for forget in ["network disconnect df2 cc", "network disconnect --force ID cc"] {
        let id = host.d("network create df2");
        host.d("create --name cc --network df1 box sleep 1000");
        host.d("network connect df2 cc");
        host.d("network rm df2");
        let text = host.docker(&["start", "cc"]).err();
        assert!(text.contains("df2 not found"), "{text}");
        host.d(&forget.replace("ID", id.trim()));
        host.d("start cc");
        let text = host.docker(&["network", "disconnect", "df2", "cc"]).err();
        assert!(text.contains("df2 not found"), "{text}");
        host.d("rm -f cc");
    }
    host.d("create --name ee --network nope box sleep 1000");
    host.d("network disconnect nope ee");
    host.d("start ee");
    let text = host.docker(&["network", "disconnect", "nope", "ee"]).err();
    assert!(text.contains("nope not found"), "{text}");
    let text = host.docker(&["network", "disconnect", "--force", "df1", "nosuch"]).err();
    assert!(text.contains("endpoint nosuch not found"), "{text}");
}

#[test]
fn prune_removes_what_nothing_uses() {
    let host = Host::with_image();
    host.d("network create used");
    host.d("network create unused");
    host.d("run -d --network used box sleep 1000");
    let pruned = host.d("network prune -f");
    assert!(pruned.contains("unused") && !pruned.lines().any(|line| line == "used"), "{pruned}");
    assert!(host.d("network ls --format {{.Name}}").lines().any(|line| line == "used"));
}

#[test]
fn host_and_none_networks_are_what_they_say() {
    let host = Host::with_image();
    assert!(host.d("run --rm --network host box ip addr").contains(Host::ADDRESS));
    let alone = host.d("run --rm --network none box ip -o link");
    assert_eq!(alone.lines().count(), 1, "{alone}");
    host.d("run -d --name main box sleep 1000");
    let address = host.address("main", "bridge");
    assert!(host.d("run --rm --network container:main box ip addr").contains(&address));
}

#[test]
fn a_bad_network_is_refused_and_leaves_nothing() {
    let host = Host::up();
    let api = host.api();
    host.d("network create --subnet 10.76.0.0/24 taken");
    let before = host.d("network ls -q");
    let post = |body| api.post("/v1.51/networks/create", &body);
    for (body, status, says) in [
        (json!({"Name": "taken"}), 409, "taken"),
        (json!({"Name": ""}), 400, "name"),
        (json!({"Name": "a\nb"}), 400, "characters that can be seen"),
        (json!({"Name": ".."}), 400, "characters that can be seen"),
        (
            json!({"Name": "x", "IPAM": {"Config": [{"Subnet": "10.77.0.0/24"}, {"Subnet": "10.77.1.0/24"}]}}),
            403,
            "bridge driver doesn't support multiple subnets",
        ),
        (json!({"Name": "x", "IPAM": {"Config": [{"Subnet": "010.77.0.0/24"}]}}), 400, "invalid CIDR"),
        (json!({"Name": "x", "IPAM": {"Config": [{"Subnet": "224.1.0.0/24"}]}}), 400, "multicast"),
        (json!({"Name": "x", "Options": {"com.docker.network.driver.mtu": ""}}), 400, "driver.mtu is \"\""),
        (json!({"Name": "x", "ConfigOnly": true, "Scope": "local"}), 403, "configuration network"),
        (
            json!({"Name": "x", "IPAM": {"Config": [
                {"Subnet": "10.77.0.0/24", "AuxiliaryAddresses": {"a": "10.77.0.5", "b": "10.77.0.5"}}]}}),
            400,
            "(b:10.77.0.5): Address already in use: a is the same",
        ),
        (json!({"Name": "x", "Driver": "nonsense"}), 404, "plugin \"nonsense\" not found"),
        (json!({"Name": "x", "Driver": "overlay"}), 403, "This node is not a swarm manager."),
        (
            json!({"Name": "x", "Driver": "overlay", "ConfigOnly": true}),
            403,
            "This node is not a swarm manager.",
        ),
        (json!({"Name": "x", "IPAM": {"Config": [{"Subnet": "10.0.0.0/99"}]}}), 400, "10.0.0.0/99"),
        (
            json!({"Name": "x", "IPAM": {"Config": [{"Subnet": "10.77.0.0/24", "Gateway": "1.2.3.4"}]}}),
            400,
            "1.2.3.4",
        ),
        (json!({"Name": "x", "IPAM": {"Config": [{"Subnet": "10.76.0.128/25"}]}}), 403, "10.76.0.128/25"),
        (
            json!({"Name": "x", "IPAM": {"Config": [{"Subnet": "10.77.0.0/24", "AuxiliaryAddresses": {"a": "1.1.1.1"}}]}}),
            400,
            "invalid auxiliary address a: parent subnet 10.77.0.0/24 doesn't contain this address",
        ),
        (
            json!({"Name": "x", "IPAM": {"Config": [{"Subnet": "10.77.0.7/24"}]}}),
            400,
            "it should be 10.77.0.0/24",
        ),
        (json!({"Name": "x", "ConfigFrom": {"Network": "nope"}}), 404, "\"nope\" does not exist"),
        (json!({"Name": "x", "Options": {"com.docker.network.bridge.name": "uplink"}}), 409, "uplink"),
        (
            json!({"Name": "x", "Options": {"com.docker.network.bridge.name": "docker0"}}),
            403,
            "same bridge name",
        ),
        (json!({"Name": "x", "Options": {"causeway.bridge.anti_spoof": "true"}}), 400, "anti_spoofing"),
        (json!({"Name": "x", "Options": {"com.docker.network.bridge.enable_icc": "maybe"}}), 400, "maybe"),
        (
            json!({"Name": "x", "Options": {"com.docker.network.enable_ipv6": "maybe"}}),
            400,
            "not a valid bool",
        ),
        (
            json!({"Name": "x", "EnableIPv4": false, "Options": {"com.docker.network.enable_ipv6": "0"}}),
            400,
            "IPv4 or IPv6",
        ),
        (json!({"Name": "x", "Options": {"com.docker.network.driver.mtu": "many"}}), 400, "many"),
    ] {
        let answer = post(body.clone());
        assert!(answer.message().contains(says), "{body}: {}", answer.message());
        assert_eq!(answer.status, status, "{body}: {}", answer.message());
    }
    assert_eq!(host.d("network ls -q"), before);
    // What Docker ignores is ignored, what it keeps is kept.
    let options = json!({"vendor.key": "v", "com.docker.network.bridge.mtu": "1400"});
    let kept = post(json!({"Name": "kept", "NoSuchField": 1, "Options": options}));
    assert_eq!(kept.status, 201, "{}", String::from_utf8_lossy(&kept.body));
    assert_eq!(host.inspect("kept")["Options"], options);
}

#[test]
fn an_asked_for_address_stays_a_stopped_container_s_own() {
    let host = Host::with_image();
    host.d("network create --subnet 10.78.0.0/29 net");
    host.d("create --name owner --network net --ip 10.78.0.2 box sleep 1000");
    // The first free address would be 10.78.0.2.
    host.d("run -d --name guest --network net box sleep 1000");
    assert_eq!(host.address("guest", "net"), "10.78.0.3");
    // It is connected already: nothing is asked for anew.
    host.d("network connect net owner");
    host.d("start owner");
    assert_eq!(host.address("owner", "net"), "10.78.0.2");
    host.d("stop -t 0 owner");
    host.d("run -d --name another --network net box sleep 1000");
    assert_eq!(host.address("another", "net"), "10.78.0.4");
    host.d("rm owner");
    host.d("run -d --name heir --network net --ip 10.78.0.2 box sleep 1000");
    assert_eq!(host.address("heir", "net"), "10.78.0.2");
}

#[test]
fn a_network_is_made_from_a_configuration_only_one() {
    let host = Host::with_image();
    host.d(
        "network create --config-only --subnet 10.79.0.0/24 -o com.docker.network.driver.mtu=1300 settings",
    );
    host.d("network create --config-from settings net");
    let net = host.inspect("net");
    assert_eq!(net["ConfigFrom"]["Network"], "settings");
    assert_eq!(net["IPAM"]["Config"][0]["Subnet"], "10.79.0.0/24");
    assert_eq!(host.inspect("settings")["ConfigOnly"], true);
    let link = host.d("run --rm --network net box ip link show eth0");
    assert!(link.contains("mtu 1300"), "{link}");
    let joined = host.docker(&["run", "--rm", "--network", "settings", "box", "true"]).err();
    assert!(joined.contains("cannot create endpoint on configuration-only network"), "{joined}");
    for own in ["--label=a=b", "--ipv6", "--subnet=10.80.0.0/24", "--opt=com.docker.network.driver.mtu=1400"]
    {
        let refused = host.docker(&["network", "create", "--config-from", "settings", own, "other"]).err();
        assert!(refused.contains("if the network depends on a configuration network"), "{refused}");
    }
}

#[test]
fn a_network_has_ipv6_where_an_option_says_so() {
    let host = Host::up();
    host.d("network create -o com.docker.network.enable_ipv6=true --subnet 10.81.0.0/24 six");
    let six = host.inspect("six");
    assert_eq!((&six["EnableIPv4"], &six["EnableIPv6"]), (&json!(true), &json!(true)));
    assert_eq!(six["IPAM"]["Config"].as_array().map(Vec::len), Some(2), "{six}");
    // What is asked for by itself counts before the option.
    let both =
        json!({"Name": "four", "EnableIPv6": false, "Options": {"com.docker.network.enable_ipv6": "true"}});
    assert_eq!(host.api().post("/v1.51/networks/create", &both).status, 201);
    let four = host.inspect("four");
    assert_eq!((&four["EnableIPv6"], &four["Options"]), (&json!(false), &json!({})));
}

#[test]
fn a_gateway_is_shown_that_was_asked_for_or_came_with_the_subnet_and_no_other() {
    let host = Host::up();
    let gateways = |options: &str| -> Vec<Option<String>> {
        host.d(&format!("network create {options} net"));
        let config = host.inspect("net")["IPAM"]["Config"].clone();
        host.d("network rm net");
        let shown = |subnet: &serde_json::Value| subnet["Gateway"].as_str().map(str::to_owned);
        config.as_array().unwrap().iter().map(shown).collect()
    };
    let one = |gateway: &str| vec![Some(gateway.to_owned())];
    for chosen in ["--label=a=b", "--ipv6", "--internal --ipv6"] {
        assert!(gateways(chosen).iter().all(Option::is_some), "{chosen}");
    }
    assert_eq!(gateways("--subnet 10.84.0.0/24"), [None]);
    assert_eq!(gateways("--subnet 10.84.0.0/24 --gateway 10.84.0.1"), one("10.84.0.1"));
    assert_eq!(gateways("--internal -o com.docker.network.bridge.gateway_mode_ipv4=isolated"), [None]);
    assert_eq!(gateways("--internal --subnet 10.84.0.0/24 --gateway 10.84.0.9"), one("10.84.0.9"));
    assert!(host.inspect("bridge")["IPAM"]["Config"][0]["Gateway"].is_string());
}

#[test]
fn a_container_with_ipv6_off_has_no_address_of_it_and_no_name_leads_to_one() {
    let host = Host::with_image();
    host.d("network create --ipv6 --subnet 10.85.0.0/24 --subnet fd85::/64 net");
    host.d("network create --ipv6 --ipv4=false --subnet fd86::/64 six");
    let off = "--sysctl net.ipv6.conf.all.disable_ipv6=1";
    let of_endpoint = "net.ipv6.conf.IFNAME.disable_ipv6=1";
    let of_endpoint = format!("name=net,driver-opt=com.docker.network.endpoint.sysctls={of_endpoint}");
    for options in [format!("--network net --ip6 fd85::9 {off}"), format!("--network {of_endpoint}")] {
        host.d(&format!("run -d --name cc {options} box sleep 1000"));
        let endpoint = host.inspect("cc")["NetworkSettings"]["Networks"]["net"].clone();
        assert_eq!((&endpoint["GlobalIPv6Address"], &endpoint["IPv6Gateway"]), (&json!(""), &json!("")));
        assert!(endpoint["IPAddress"].as_str().unwrap().starts_with("10.85.0."));
        let inside = host.d("exec cc ip addr show eth0");
        assert!(!inside.contains("inet6"), "{inside}");
        assert!(!host.d("exec cc cat /etc/hosts").contains("fd85:"));
        // The one name, for who has both families.
        let asked = |kind: &str| host.d(&format!("run --rm --network net box nslookup -type={kind} cc"));
        assert!(!asked("aaaa").contains("fd85:"));
        assert!(asked("a").contains("10.85.0."));
        if options.contains(off) {
            assert!(!host.d("exec cc cat /etc/hosts").contains("::1"));
            host.d("network connect six cc");
            assert!(!host.d("exec cc ip addr").contains("inet6"));
        }
        host.d("rm -f cc");
    }
    let refused = host.docker(&[
        "create",
        "--network",
        "name=net,driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.eth0.log_martians=1",
        "box",
        "true",
    ]);
    assert!(
        refused.err().contains("unrecognised network interface sysctl 'net.ipv4.conf.eth0.log_martians=1'")
    );
}

#[test]
fn the_gateway_is_the_first_address_of_the_range_that_containers_get_theirs_from() {
    let host = Host::with_image();
    host.d("network create --subnet 10.82.0.0/24 --ip-range 10.82.0.128/25 net");
    let shown = host.d("run --rm --network net box ip -4 route");
    assert!(shown.contains("default via 10.82.0.128"), "{shown}");
    // With the gateway elsewhere it is a container's.
    host.d("network create --subnet 10.82.1.0/24 --ip-range 10.82.1.128/25 --gateway 10.82.1.3 other");
    let shown = host.d("run --rm --network other box ip -4 addr show eth0");
    assert!(shown.contains("10.82.1.128/24"), "{shown}");
}

#[test]
fn an_endpoint_gets_the_link_local_addresses_it_asks_for() {
    let host = Host::with_image();
    host.d("network create --subnet 10.83.0.0/24 net");
    let shown = host.d("run --rm --network net --link-local-ip 169.254.7.7 box ip -4 addr");
    assert!(shown.contains("169.254.7.7/"), "{shown}");
    let text = host.docker(&["create", "--network", "net", "--link-local-ip", "nope", "box", "true"]).err();
    assert!(text.contains("nope"), "{text}");
}
