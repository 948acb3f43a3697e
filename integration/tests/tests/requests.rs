//! What a client asks for when it makes a container: kept as it was given, or refused in Docker's words.

use integration_testkit::Host;
use serde_json::json;

#[test]
fn a_container_wide_mac_address_is_the_main_network_s_and_shown() {
    let host = Host::with_image();
    host.d("network create net");
    host.d("run -d --name cc --network net --mac-address 02:99:00:00:00:01 box sleep 1000");
    let shown = host.inspect("cc");
    assert_eq!(shown["Config"]["MacAddress"], "02:99:00:00:00:01");
    assert_eq!(shown["NetworkSettings"]["Networks"]["net"]["MacAddress"], "02:99:00:00:00:01");
    let api = host.api();
    let body = |mac: &str| {
        let endpoints = json!({"net": {"MacAddress": mac}});
        json!({"Image": "box", "Cmd": ["true"], "MacAddress": "02:99:00:00:00:02", "HostConfig": {"NetworkMode": "net"},
            "NetworkingConfig": {"EndpointsConfig": endpoints}})
    };
    let both = api.post("/v1.51/containers/create", &body("02:99:00:00:00:03"));
    assert_eq!(both.status, 400);
    assert_eq!(
        both.message(),
        "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty"
    );
    let warned = |version: &str| {
        let made = api.post(&format!("/{version}/containers/create"), &body(""));
        assert_eq!(made.status, 201, "{made:?}");
        let shown = host.inspect(made.json()["Id"].as_str().unwrap());
        assert_eq!(shown["Config"]["MacAddress"], "02:99:00:00:00:02");
        made.json()["Warnings"].to_string().contains("container-wide MacAddress field is now deprecated")
    };
    assert!(warned("v1.44"));
    assert!(!warned("v1.43"));
}

#[test]
fn the_network_mode_stays_as_it_was_given_and_means_the_main_network() {
    let host = Host::with_image();
    // By name, another comes first.
    host.d("network create aaa");
    let id = host.d("network create net");
    for given in [id.trim(), &id[..12]] {
        host.d(&format!("create --name cc --network {given} --mac-address 02:99:00:00:00:01 box sleep 1000"));
        host.d("network connect aaa cc");
        host.d("start cc");
        let shown = host.inspect("cc");
        assert_eq!(shown["HostConfig"]["NetworkMode"], given);
        assert_eq!(shown["Config"]["MacAddress"], "02:99:00:00:00:01");
        let first = host.d("exec cc ip link show eth0");
        assert!(first.contains("02:99:00:00:00:01"), "{first}");
        host.d("rm -f cc");
    }
}

#[test]
fn what_docker_refuses_of_networks_is_refused() {
    let host = Host::with_image();
    host.d("network create net");
    host.d("run -d --name cc box sleep 1000");
    for (options, says) in [
        ("--network container:cc --ip 10.0.0.7", "supported on user defined networks only"),
        ("--network container:cc --expose 80", "port exposing and the container type network mode"),
        ("--network container:cc --link cc:c", "container type network can't be used with links"),
        ("--sysctl net.ipv4.conf.eth0.forwarding=1", "interface specific sysctl setting"),
    ] {
        let line = format!("create {options} box true");
        let text = host.docker(&line.split(' ').collect::<Vec<_>>()).err();
        assert!(text.contains(says), "{options}: {text}");
    }
    let body = json!({"Image": "box", "Cmd": ["true"], "HostConfig": {"NetworkMode": "net"},
        "NetworkingConfig": {"EndpointsConfig": {"net": null}}});
    let answer = host.api().post("/v1.51/containers/create", &body);
    assert_eq!(
        (answer.status, answer.message().as_str()),
        (400, "invalid config for network net: EndpointsConfig is nil")
    );
}

/// One that asks by the API for an internal network alone does not mean the default bridge besides.
#[test]
fn a_container_is_on_the_networks_that_were_asked_for_and_no_other() {
    let host = Host::with_image();
    host.d("network create --internal inside");
    host.d("network create net");
    let create = |mode: &str| {
        let body = json!({"Image": "box", "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": mode},
            "NetworkingConfig": {"EndpointsConfig": {"inside": {"Aliases": ["web"]}}}});
        let made = host.api().post("/v1.51/containers/create?name=cc", &body);
        assert_eq!(made.status, 201, "{}", made.message());
    };
    for mode in ["", "default", "bridge", "net", "none"] {
        create(mode);
        host.d("start cc");
        let networks = host.inspect("cc")["NetworkSettings"]["Networks"].clone();
        let names: Vec<&String> = networks.as_object().unwrap().keys().collect();
        assert_eq!(names, ["inside"], "{mode:?}");
        host.docker(&["exec", "cc", "ping", "-c", "1", "-W", "1", Host::CLIENT]).err();
        host.d("run --rm --network inside box ping -c 1 -W 60 web");
        host.d("rm -f cc");
    }
    for (mode, says) in
        [("nowhere", "network nowhere not found"), ("host", "cannot be connected to any other")]
    {
        create(mode);
        let said = host.docker(&["start", "cc"]).err();
        assert!(said.contains(says), "{mode}: {said}");
        host.d("rm cc");
    }
}

#[test]
fn an_endpoint_s_malformed_settings_are_refused_before_there_is_a_container() {
    let host = Host::with_image();
    host.d("network create net");
    for (settings, says) in [
        (json!({"IPAMConfig": {"LinkLocalIPs": ["10.1.2.3"]}}), "invalid link-local IP address: 10.1.2.3"),
        (json!({"IPAMConfig": {"LinkLocalIPs": ["fd00::1"]}}), "invalid link-local IP address: fd00::1"),
        (json!({"Links": ["a:b:c"]}), "bad format for links: a:b:c"),
        (json!({"DriverOpts": {"com.docker.network.endpoint.sysctls": ""}}), "network interface sysctl ''"),
        (json!({"MacAddress": "01:00:5e:00:00:01"}), "invalid MAC address: 01:00:5e:00:00:01"),
    ] {
        let body = json!({"Image": "box", "Cmd": ["true"], "HostConfig": {"NetworkMode": "net"},
            "NetworkingConfig": {"EndpointsConfig": {"net": settings}}});
        let answer = host.api().post("/v1.51/containers/create", &body);
        assert_eq!(answer.status, 400, "{settings}");
        assert!(answer.message().contains(says), "{settings}: {}", answer.message());
    }
    assert_eq!(host.d("ps -aq"), "");
}

#[test]
fn a_log_driver_that_sends_logs_away_keeps_them_here_and_says_so() {
    let host = Host::with_image();
    for driver in ["journald", "syslog"] {
        let made = host.docker(&[
            "run",
            "--name",
            "cc",
            "--log-driver",
            driver,
            "--log-opt",
            "tag=x",
            "box",
            "echo",
            "hello",
        ]);
        assert!(made.stderr.contains(&format!("log driver {driver} sends nothing")), "{made}");
        assert_eq!(made.ok(), "hello");
        assert_eq!(host.d("logs cc"), "hello");
        assert_eq!(host.inspect("cc")["HostConfig"]["LogConfig"]["Type"], driver);
        host.d("rm cc");
    }
    for driver in ["local", "json-file", "none"] {
        let made = host.docker(&["run", "--name", "cc", "--log-driver", driver, "box", "echo", "hello"]);
        assert_eq!(made.stderr, "", "{driver}");
        assert_eq!(host.docker(&["logs", "cc"]).stdout.trim(), if driver == "none" { "" } else { "hello" });
        host.d("rm cc");
    }
    let refused = host.docker(&["create", "--log-driver", "nosuch", "box", "true"]).err();
    assert!(refused.contains("nosuch"), "{refused}");
}
