//! `--link` between containers of the default bridge.

use integration_testkit::{Host, eventually};
use serde_json::json;

fn reaches(host: &Host, container: &str, target: &str, port: u16) -> bool {
    host.docker(&["exec", container, "probe", "tcp", target, &port.to_string()]).code() == 0
}

fn serve(host: &Host, name: &str, options: &str) {
    host.d(&format!("run -d --name {name} {options} box probe serve 80"));
    eventually("the server serves", || host.d(&format!("logs {name}")).contains("serving"));
}

fn links(host: &Host, name: &str) -> serde_json::Value {
    host.inspect(name)["HostConfig"]["Links"].clone()
}

/// The lines of a hosts file that name this.
fn lines(host: &Host, container: &str, name: &str) -> Vec<String> {
    let file = host.d(&format!("exec {container} cat /etc/hosts"));
    let named = |line: &&str| line.split_whitespace().skip(1).any(|word| word == name);
    file.lines().filter(named).map(str::to_owned).collect()
}

#[test]
fn a_link_to_who_is_not_on_the_default_bridge_is_refused() {
    let host = Host::with_image();
    host.d("network create net");
    host.d("run -d --name db --network net box sleep 1000");
    host.d("create --name cc --link db:x box sleep 1000");
    let text = host.docker(&["start", "cc"]).err();
    assert!(
        text.contains("Cannot link to /db AS /cc/x") && text.contains("not attached to default bridge"),
        "{text}"
    );
    host.d("network connect bridge db");
    host.d("start cc");
    assert_eq!(lines(&host, "cc", "x").len(), 1);

    // The same of one that comes to the bridge as it runs.
    host.d("network disconnect bridge db");
    host.d("network disconnect bridge cc");
    let text = host.docker(&["network", "connect", "bridge", "cc"]).err();
    assert!(text.contains("Cannot link to /db, as it does not belong to the default network"), "{text}");
    host.d("network connect bridge db");
    host.d("network connect bridge cc");
    assert_eq!(lines(&host, "cc", "x").len(), 1);

    host.d("run -d --name hosted --network host box sleep 1000");
    let text = host.docker(&["create", "--link", "hosted:x", "box", "true"]).err();
    assert!(text.contains("host type networking can't be used with links"), "{text}");
}

#[test]
fn a_link_leads_to_where_its_target_has_its_network() {
    let host = Host::with_image();
    host.d("run -d --name owner box sleep 1000");
    serve(&host, "guest", "--network container:owner");
    host.d("run -d --name cc --link guest:web box sleep 1000");
    assert!(reaches(&host, "cc", "web", 80));
    assert_eq!(links(&host, "cc"), json!(["/owner:/cc/web"]));
}

#[test]
fn a_link_leads_to_the_container_that_it_was_made_for_whatever_that_is_called() {
    let mut host = Host::with_image();
    serve(&host, "db", "");
    host.d("run -d --name cc --link db:x box sleep 1000");
    host.d("rename db old");
    assert_eq!(links(&host, "cc"), json!(["/old:/cc/x"]));
    host.d("run -d --name db box sleep 1000");
    host.d("restart -t 0 cc");
    assert!(reaches(&host, "cc", "x", 80));
    assert_eq!(lines(&host, "cc", "x"), lines(&host, "cc", "old"));
    // Also when it comes back elsewhere.
    host.d("stop -t 0 old");
    host.d("run -d --name usurper --restart no box sleep 1000");
    host.d("start old");
    eventually("it follows", || reaches(&host, "cc", "x", 80));
    let id = host.inspect("old")["Id"].as_str().unwrap().to_owned();
    host.d("rm -f old");
    host.d("stop -t 0 cc");
    let text = host.docker(&["start", "cc"]).err();
    let said = format!("Cannot link to a removed container: {} AS /cc/x", &id[..12]);
    assert!(text.contains(&said) && text.contains("`docker rm --link cc/x`"), "{text}");
    host.d("rm --link cc/x");
    host.d("start cc");
    assert_eq!(links(&host, "cc"), json!(null));

    // Records of engines that kept links by name.
    host.d("create --name dd --link db:x box sleep 1000");
    host.stop();
    let id = host_record(&host, "dd");
    let text = std::fs::read_to_string(&id).unwrap();
    let mut record: serde_json::Value = serde_json::from_str(&text).unwrap();
    record["host"]["Links"] = json!(["db:x"]);
    std::fs::write(&id, record.to_string()).unwrap();
    host.start();
    host.d("start dd");
    assert_eq!(links(&host, "dd"), json!(["/db:/dd/x"]));
    assert_eq!(lines(&host, "dd", "x"), lines(&host, "dd", "db"));
}

/// The file that a container's record is in.
fn host_record(host: &Host, name: &str) -> std::path::PathBuf {
    let all = std::fs::read_dir(host.state_dir().join("engine/containers")).unwrap().flatten();
    let records = all.map(|entry| entry.path().join("config.json"));
    let mine = |path: &std::path::PathBuf| {
        let text = std::fs::read(path).unwrap_or_default();
        serde_json::from_slice::<serde_json::Value>(&text).is_ok_and(|record| record["name"] == name)
    };
    records.into_iter().find(mine).unwrap()
}

#[test]
fn on_a_bridge_of_both_families_a_link_has_a_line_of_each() {
    let host = Host::new();
    let running = host.run_dockerd_by(r#"{"ipv6": true, "fixed-cidr-v6": "fd52::/64"}"#);
    host.import("box");
    serve(&host, "db", "--expose 80");
    host.d("run -d --name cc --link db:x box sleep 1000");
    let address = host.address("db", "bridge");
    let address6 = &host.inspect("db")["NetworkSettings"]["Networks"]["bridge"]["GlobalIPv6Address"];
    let name = &host.inspect("db")["Config"]["Hostname"];
    let line = |address: &str| format!("{address}\tx {} db", name.as_str().unwrap());
    assert_eq!(lines(&host, "cc", "x"), [line(&address), line(address6.as_str().unwrap())]);
    assert!(host.d("exec cc env").contains(&format!("X_PORT_80_TCP_ADDR={address}\n")));
    host.d("rm --link cc/x");
    assert_eq!(lines(&host, "cc", "x").len(), 0);
    running.end().ok();
    host.purge_dockerd().ok();
}

#[test]
fn links_are_of_the_network_that_a_container_was_made_for_and_hold_where_it_is() {
    let host = Host::with_image();
    host.d("network create net");
    host.d("run -d --name db box sleep 1000");
    let create = |name: &str, mode: &str, link: &str, networks: serde_json::Value| {
        let body = json!({
            "Image": "box", "Cmd": ["sleep", "1000"],
            "HostConfig": {"NetworkMode": mode, "Links": [link]},
            "NetworkingConfig": {"EndpointsConfig": networks},
        });
        host.api().post(&format!("/containers/create?name={name}"), &body)
    };
    // Made for the default bridge, and on it later.
    let refused = create("early", "bridge", "nobody:x", json!({"net": {}}));
    assert_eq!(
        (refused.status, refused.message().contains("could not get container for nobody")),
        (400, true)
    );
    assert_eq!(create("early", "bridge", "db:x", json!({"net": {}})).status, 201);
    host.d("start early");
    assert_eq!(links(&host, "early"), json!(["/db:/early/x"]));
    assert_eq!(lines(&host, "early", "x").len(), 0);
    host.d("network connect bridge early");
    assert_eq!(lines(&host, "early", "x").len(), 1);
    let refused = create("none", "none", "nobody:x", json!({}));
    assert_eq!(refused.status, 400);

    // Made for a network with names, where the name may come later, and on the default bridge too.
    assert_eq!(create("named", "net", "nobody:x", json!({"net": {}, "bridge": {}})).status, 201);
    host.d("start named");
    assert_eq!(lines(&host, "named", "x").len(), 0);
    assert_eq!(links(&host, "named"), json!(null));
}
