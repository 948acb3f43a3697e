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
