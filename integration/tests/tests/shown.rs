//! What of networks is shown of containers that have none, do not run yet or run no more, or publish nothing.

use integration_testkit::{Host, eventually, probe};
use serde_json::{Value, json};

#[test]
fn a_container_without_networks_has_its_loopback_and_shows_none() {
    let host = Host::with_image();
    for mode in ["bridge", "host"] {
        let body = json!({"Image": "box", "Cmd": ["sleep", "1000"], "NetworkDisabled": true, "HostConfig": {"NetworkMode": mode}});
        let made = host.api().post("/v1.51/containers/create?name=cc", &body);
        assert_eq!(made.status, 201, "{}", made.message());
        assert_eq!(host.inspect("cc")["NetworkSettings"]["Networks"], json!({}));
        host.d("start cc");
        assert_eq!(host.inspect("cc")["NetworkSettings"]["Networks"], json!({}));
        assert_eq!(host.d("ps -q --filter network=bridge"), "");
        let links = host.d("exec cc ip -o addr");
        assert!(links.contains("127.0.0.1/8") && links.contains("::1/128"), "{links}");
        assert!(links.lines().all(|line| line.contains(": lo")), "{links}");
        host.d("exec cc ping -c 1 -W 60 127.0.0.1");
        let refused = host.docker(&["network", "connect", "bridge", "cc"]).err();
        assert!(!refused.is_empty() && !host.d("exec cc ip link").contains("eth0"), "{refused}");
        host.d("rm -f cc");
    }
}

#[test]
fn ports_are_shown_where_a_network_could_publish_them() {
    let host = Host::with_image();
    host.d("network create net");
    host.d("network create --internal inside");
    host.d("create --name never --network net --expose 80 box true");
    let ports = |name: &str| {
        let column = host.d(&format!("ps -a --filter name={name} --format {{{{.Ports}}}}"));
        (host.inspect(name)["NetworkSettings"]["Ports"].clone(), column)
    };
    let exposing = || host.d("ps -a --filter expose=80 --format {{.Names}}");
    assert_eq!(exposing(), "");
    for network in ["host", "none", "inside"] {
        host.d(&format!("run -d --name cc --network {network} -p 80:80 box sleep 1000"));
        assert_eq!(ports("cc"), (json!({}), String::new()), "{network}");
        assert_eq!(exposing(), "");
        host.d("rm -f cc");
    }
    host.d("run -d --name cc --network net --expose 80 box sleep 1000");
    assert_eq!(ports("cc"), (json!({"80/tcp": null}), "80/tcp".to_owned()));
    host.d("run -d --name other --network container:cc box sleep 1000");
    assert_eq!(exposing(), "cc");
    host.d("network disconnect net cc");
    assert_eq!(ports("cc"), (json!({}), String::new()));
    host.d("network connect net cc");
    assert_eq!(exposing(), "cc");
    host.d("stop -t 0 cc");
    assert_eq!(exposing(), "");
}

#[test]
fn an_ipv4_address_of_the_host_may_be_written_as_an_ipv6_one() {
    let host = Host::with_image();
    let bindings = json!({"80/tcp": [{"HostIp": "::ffff:127.0.0.1", "HostPort": "8090"}]});
    let create = |bindings: &Value| {
        let body = json!({"Image": "box", "Cmd": ["probe", "serve", "80"], "ExposedPorts": {"80/tcp": {}},
            "HostConfig": {"PortBindings": bindings}});
        host.api().post("/v1.51/containers/create?name=cc", &body)
    };
    let refused = create(&json!({"80/tcp": [{"HostPort": " 8090"}]}));
    assert_eq!((refused.status, refused.message().contains("\" 8090\"")), (400, true));
    assert_eq!(create(&bindings).status, 201);
    host.d("start cc");
    assert_eq!(host.d("port cc"), "80/tcp -> 127.0.0.1:8090");
    eventually("the port is served", || {
        host.host.sh(&format!("{} tcp 127.0.0.1 8090", probe().display())).status.success()
    });
}

#[test]
fn a_container_s_names_on_a_network_are_shown_by_inspect_whether_it_runs_or_not() {
    let host = Host::with_image();
    host.d("network create net");
    host.d("create --name cc --hostname there box sleep 1000");
    host.d("network connect --alias web net cc");
    let id = host.inspect("cc")["Id"].as_str().unwrap().to_owned();
    let names = || host.inspect("cc")["NetworkSettings"]["Networks"]["net"]["DNSNames"].clone();
    let all = json!(["cc", "web", &id[..12], "there"]);
    assert_eq!(names(), all);
    host.d("start cc");
    assert_eq!(names(), all);
    let listed = host.api().get("/v1.51/containers/json").json()[0]["NetworkSettings"]["Networks"].clone();
    assert_eq!((&listed["net"]["DNSNames"], &listed["net"]["Aliases"]), (&Value::Null, &Value::Null));
    assert_eq!(listed["net"]["IPAddress"], host.address("cc", "net"));
    host.d("stop -t 0 cc");
    assert_eq!(names(), all);
    assert_eq!(host.inspect("cc")["NetworkSettings"]["Networks"]["bridge"]["DNSNames"], Value::Null);
}

#[test]
fn what_a_container_was_made_with_is_shown_as_docker_has_it() {
    let host = Host::with_image();
    host.d("create --name cc --mac-address 02:99:00:00:00:01 box true");
    let shown = host.inspect("cc");
    assert_eq!(shown["NetworkSettings"]["MacAddress"], "02:99:00:00:00:01");
    assert_eq!(
        (&shown["Config"]["Volumes"], &shown["HostConfig"]["MemorySwappiness"]),
        (&Value::Null, &Value::Null)
    );
    host.d("network create net");
    assert_eq!(host.inspect("net")["IPAM"]["Options"], json!({}));
    assert_eq!(host.inspect("bridge")["IPAM"]["Options"], Value::Null);
    let body = json!({"Image": "box", "Cmd": ["true"], "HostConfig": {"ExtraHosts": ["foo=1.2.3.4"]}});
    let refused = host.api().post("/v1.51/containers/create", &body);
    assert_eq!(
        (refused.status, refused.message().as_str()),
        (400, "bad format for add-host: \"foo=1.2.3.4\"")
    );
    assert_eq!(host.d("run --rm --add-host foo=1.2.3.4 box grep -c 1.2.3.4.*foo /etc/hosts"), "1");
}

#[test]
fn a_link_s_name_is_its_target_s_for_inspect() {
    let host = Host::with_image();
    host.d("create --name target box true");
    host.d("create --name asker --link target:db box true");
    let id = |name: &str| host.d(&format!("inspect --type container -f {{{{.Id}}}} {name}"));
    assert_eq!(id("asker/db"), id("target"));
    let unknown = host.docker(&["inspect", "--type", "container", "asker/nope"]).err();
    assert!(unknown.to_lowercase().contains("no such container"), "{unknown}");
}

#[test]
fn events_tell_of_no_end_where_there_was_no_beginning() {
    let host = Host::with_image();
    host.docker(&["run", "--rm", "--name", "cc", "box", "/nowhere"]).err();
    host.d("network create --config-only settings");
    host.d("network rm settings");
    let told = host.d("events --since 0 --until 0s --format {{.Type}}:{{.Action}}");
    assert!(told.contains("container:destroy") && !told.contains("container:die"), "{told}");
    assert!(told.contains("network:create") && !told.contains("network:destroy"), "{told}");
}
