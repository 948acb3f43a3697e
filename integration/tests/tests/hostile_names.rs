//! Names, labels and options that mean something to a shell or a file system: kept as text, or refused, and nothing else.

use std::{collections::BTreeSet, fs, path::Path};

use integration_testkit::Host;
use serde_json::{Value, json};

/// What leaves a mark where it is run by a shell, and what leads elsewhere as a path. `MARK` is a file that must not be.
const HOSTILE: [&str; 16] = [
    "$(touch MARK)",
    "`touch MARK`",
    "x; touch MARK",
    "x && touch MARK",
    "x | touch MARK",
    "x\ntouch MARK",
    "--exec=touch MARK",
    "../../../MARK",
    "/MARK",
    "..",
    ".",
    "%2e%2e%2fMARK",
    "a/../../MARK",
    "\u{202e}txt",
    "'; touch MARK; '",
    "x\u{7f}\u{1b}[2J",
];

fn below(path: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let path = entry.path();
        found.insert(path.display().to_string());
        if path.is_dir() && !path.is_symlink() && !path.ends_with("images") {
            below(&path, found);
        }
    }
}

/// A network of this name: there under it and no other, for containers too, or refused with the reason.
fn a_name_is_kept_as_text_or_refused(host: &Host, name: &str) {
    let made = host.api().post("/v1.51/networks/create", &json!({"Name": name}));
    if made.status == 400 {
        assert!(made.message().contains("invalid network name"), "{name:?}: {}", made.message());
        return;
    }
    assert_eq!(made.status, 201, "{name:?}: {}", made.message());
    let id = made.json()["Id"].as_str().unwrap().to_owned();
    assert_eq!(host.inspect(&id)["Name"], name.trim());
    let body = json!({"Image": "box", "Cmd": ["true"], "HostConfig": {"NetworkMode": name}});
    let container = host.api().post("/v1.51/containers/create", &body);
    assert_eq!(container.status, 201, "{name:?}: {}", container.message());
    let container = container.json()["Id"].as_str().unwrap().to_owned();
    host.d(&format!("start -a {container}"));
    let joined = host.inspect(&container)["NetworkSettings"]["Networks"].clone();
    assert_eq!(joined[name]["NetworkID"], id.as_str(), "{joined}");
    host.d(&format!("rm {container}"));
    // The CLI leaves out what a path can do without: this is the name, every byte of it.
    let encoded: String = name.trim().bytes().map(|byte| format!("%{byte:02x}")).collect();
    assert_eq!(host.api().delete(&format!("/v1.51/networks/{encoded}")).status, 204, "{name:?}");
    assert_eq!(host.api().get(&format!("/v1.51/networks/{id}")).status, 404, "{name:?}");
}

#[test]
fn nothing_that_a_client_says_is_run_or_leads_out_of_its_place() {
    let host = Host::with_image();
    let api = host.api();
    let mark = host.scratch().join("mark");
    let mark_text = mark.display().to_string();
    let texts: Vec<String> = HOSTILE.iter().map(|text| text.replace("MARK", &mark_text)).collect();
    let links = |host: &Host| {
        let mut names: Vec<String> = host
            .host
            .ip("-o link")
            .lines()
            .filter_map(|line| line.split(": ").nth(1).map(str::to_owned))
            .collect();
        names.retain(|name| !name.starts_with("cw"));
        names
    };
    let (mut before, links_before) = (BTreeSet::new(), links(&host));
    below(&host.state_dir().join("engine/containers"), &mut before);

    for text in &texts {
        let network = |body: Value| api.post("/v1.51/networks/create", &body);
        a_name_is_kept_as_text_or_refused(&host, text);
        for option in [
            "com.docker.network.bridge.name",
            "com.docker.network.container_iface_prefix",
            "com.docker.network.bridge.trusted_host_interfaces",
            "com.docker.network.driver.mtu",
            "com.docker.network.host_ipv4",
            "com.docker.network.bridge.gateway_mode_ipv4",
        ] {
            let answer = network(json!({"Name": "made", "Options": {option: text}}));
            let plain = text.bytes().all(|b| b.is_ascii_graphic() && b != b'/') && text.len() <= 15;
            let is_link = option.ends_with("trusted_host_interfaces") && plain;
            assert_eq!(
                answer.status,
                if is_link { 201 } else { 400 },
                "{option}={text:?}: {}",
                answer.message()
            );
            if is_link {
                api.delete("/v1.51/networks/made");
            }
        }
        for driver in ["Driver", "IPAM"] {
            let body = match driver {
                "IPAM" => json!({"Name": "made", "IPAM": {"Driver": text}}),
                _ => json!({"Name": "made", "Driver": text}),
            };
            assert!((400..500).contains(&network(body).status), "{driver} {text:?}");
        }
        let config = json!({"Image": "box", "Cmd": ["true"]});
        let encoded: String = text.bytes().map(|b| format!("%{b:02X}")).collect();
        let container = api.post(&format!("/v1.51/containers/create?name={encoded}"), &config);
        assert_eq!(container.status, 400, "{text:?}: {}", container.message());
        for path in ["networks", "containers", "volumes", "images"] {
            let tail = if path == "containers" || path == "images" { "/json" } else { "" };
            let answer = api.get(&format!("/v1.51/{path}/{encoded}{tail}"));
            assert!((400..500).contains(&answer.status), "{path} {text:?}: {}", answer.status);
        }
        let volume = api.post("/v1.51/volumes/create", &json!({"Name": text}));
        assert_eq!(volume.status, 400, "{text:?}: {}", volume.message());
        // As what is only kept: it comes back as it was given.
        let made =
            network(json!({"Name": "made", "Labels": {text: text}, "Options": {"org.example.x": text}}));
        assert_eq!(made.status, 201, "{text:?}: {}", made.message());
        let shown = api.get("/v1.51/networks/made").json();
        assert_eq!(shown["Labels"][text], *text);
        assert_eq!(shown["Options"]["org.example.x"], *text);
        // In a container: labels and variables as text, names of interfaces and hosts where the kernel's rules allow.
        let body = json!({
            "Image": "box", "Cmd": ["true"], "Labels": {text: text}, "Env": [format!("V={text}")],
            "HostConfig": {"NetworkMode": "made"},
            "NetworkingConfig": {"EndpointsConfig": {"made": {
                "Aliases": [text],
                "DriverOpts": {"com.docker.network.endpoint.ifname": text, "com.docker.network.endpoint.sysctls": text},
            }}},
        });
        let container = api.post("/v1.51/containers/create", &body);
        if container.status == 201 {
            let id = container.json()["Id"].as_str().unwrap().to_owned();
            let start = api.post(&format!("/v1.51/containers/{id}/start"), &json!({}));
            assert!((400..500).contains(&start.status), "{text:?}: {} {}", start.status, start.message());
            assert_eq!(api.delete(&format!("/v1.51/containers/{id}?force=1")).status, 204);
        } else {
            assert_eq!(container.status, 400, "{text:?}: {}", container.message());
        }
        assert_eq!(api.delete("/v1.51/networks/made").status, 204);
    }
    assert!(!mark.exists(), "{}", mark.display());
    assert!(!Path::new("/MARK").exists());
    let mut after = BTreeSet::new();
    below(&host.state_dir().join("engine/containers"), &mut after);
    assert_eq!(before, after);
    let eventually_same = || links(&host) == links_before || links(&host).len() == links_before.len();
    integration_testkit::eventually("the links are those that were", eventually_same);
}
