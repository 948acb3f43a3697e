//! What clients of older versions of the API ask for, and what they are shown.

use integration_testkit::Host;
use serde_json::{Value, json};

#[test]
fn an_older_client_s_settings_of_the_first_interface_are_made_wherever_it_is() {
    let host = Host::with_image();
    host.d("network create aaa");
    host.d("network create net");
    let create = |name: &str, interface: &str| {
        let sysctls = json!({"net.ipv4.conf.all.log_martians": "0", format!("net.ipv4.conf.{interface}.log_martians"): "1"});
        let body = json!({"Image": "box", "Cmd": ["sleep", "1000"],
            "HostConfig": {"NetworkMode": "net", "Sysctls": sysctls}});
        host.api().post(&format!("/v1.47/containers/create?name={name}"), &body)
    };
    let refused = create("no", "eth1");
    assert_eq!(
        (refused.status, refused.message().as_str()),
        (
            400,
            "unable to determine network endpoint for sysctl net.ipv4.conf.eth1.log_martians, use driver option \
             'com.docker.network.endpoint.sysctls' to set per-interface sysctls"
        )
    );
    let made = create("cc", "eth0");
    assert_eq!(made.status, 201, "{}", made.message());
    let warnings = made.json()["Warnings"].to_string();
    assert!(warnings.contains("Migrated sysctl \\\"net.ipv4.conf.eth0.log_martians\\\""), "{warnings}");
    let shown = host.inspect("cc");
    assert_eq!(shown["HostConfig"]["Sysctls"], json!({"net.ipv4.conf.all.log_martians": "0"}));
    let options = &shown["NetworkSettings"]["Networks"]["net"]["DriverOpts"];
    assert_eq!(
        *options,
        json!({"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1"})
    );
    host.d("start cc");
    assert_eq!(host.d("exec cc cat /proc/sys/net/ipv4/conf/eth0/log_martians"), "1");
    // Without that network there is an interface of this name no more, or it is another's.
    host.d("network disconnect net cc");
    host.d("restart -t 0 cc");
    host.d("network connect aaa cc");
    assert_eq!(host.d("exec cc cat /proc/sys/net/ipv4/conf/eth0/log_martians"), "0");
}

#[test]
fn what_was_not_in_a_version_of_the_api_is_not_heard() {
    let host = Host::with_image();
    let api = host.api();
    let created = |version: &str, mode: &str, mac: &str, endpoints: Value| {
        let body = json!({"Image": "box", "Cmd": ["true"], "MacAddress": mac, "HostConfig": {"NetworkMode": mode},
            "NetworkingConfig": {"EndpointsConfig": endpoints}});
        let answer = api.post(&format!("/{version}/containers/create"), &body);
        match answer.status {
            201 => Ok(host.inspect(answer.json()["Id"].as_str().unwrap())),
            _ => Err((answer.status, answer.message())),
        }
    };
    let said = "Container cannot be created with multiple network endpoints: aaa, net";
    host.d("network create net");
    host.d("network create aaa");
    assert_eq!(
        created("v1.43", "net", "", json!({"net": {}, "aaa": {}})).unwrap_err(),
        (400, said.to_owned())
    );
    let said = "conflicting options: mac-address and the network mode";
    let mac = "02:99:00:00:00:01";
    assert_eq!(created("v1.43", "host", mac, json!({})).unwrap_err(), (400, said.to_owned()));
    let own = json!({"net": {"MacAddress": mac, "GwPriority": 7}});
    for (version, given, shown, priority) in
        [("v1.43", "", "", 0), ("v1.43", mac, mac, 0), ("v1.47", "", mac, 0), ("v1.48", "", mac, 7)]
    {
        let networks =
            created(version, "net", given, own.clone()).unwrap()["NetworkSettings"]["Networks"].clone();
        assert_eq!(networks["net"]["MacAddress"], shown, "{version} {given}");
        assert_eq!(networks["net"]["GwPriority"], priority, "{version}");
    }
    host.d("create --name cc box true");
    let connection = json!({"Container": "cc", "EndpointConfig": {"GwPriority": 7}});
    for (version, network, priority) in [("v1.47", "net", 0), ("v1.48", "aaa", 7)] {
        assert_eq!(api.post(&format!("/{version}/networks/{network}/connect"), &connection).status, 200);
        let shown = host.inspect("cc");
        assert_eq!(shown["NetworkSettings"]["Networks"][network]["GwPriority"], priority);
    }
    for (version, name, ipv4) in [("v1.47", "old", true), ("v1.48", "new", false)] {
        let body = json!({"Name": name, "EnableIPv4": false, "EnableIPv6": true});
        assert_eq!(api.post(&format!("/{version}/networks/create"), &body).status, 201);
        assert_eq!(host.inspect(name)["EnableIPv4"], ipv4);
    }
}

#[test]
fn older_clients_are_shown_names_and_members_where_they_look_for_them() {
    let host = Host::with_image();
    host.d("network create net");
    host.d("run -d --name cc --network net --network-alias web --hostname there box sleep 1000");
    host.d("run -d --name plain box sleep 1000");
    let api = host.api();
    let id = host.inspect("cc")["Id"].as_str().unwrap().to_owned();
    let aliases = |version: &str, name: &str, network: &str| {
        let shown = api.get(&format!("/{version}/containers/{name}/json")).json();
        shown["NetworkSettings"]["Networks"][network]["Aliases"].clone()
    };
    assert_eq!(aliases("v1.44", "cc", "net"), json!(["web", &id[..12], "there"]));
    assert_eq!(aliases("v1.45", "cc", "net"), json!(["web"]));
    assert_eq!(aliases("v1.44", "plain", "bridge"), Value::Null);
    let members = |version: &str| {
        let networks = api.get(&format!("/{version}/networks")).json();
        let net = networks.as_array().unwrap().iter().find(|net| net["Name"] == "net").unwrap().clone();
        net["Containers"].clone()
    };
    assert_eq!(members("v1.27")[&id]["Name"], "cc");
    assert_eq!(members("v1.28"), json!({}));
}
