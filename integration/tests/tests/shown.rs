//! What of networks is shown of containers that have none, do not run yet or run no more, or publish nothing.

use integration_testkit::Host;
use serde_json::json;

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
        host.d("exec cc ping -c 1 -W 2 127.0.0.1");
        host.d("rm -f cc");
    }
}
