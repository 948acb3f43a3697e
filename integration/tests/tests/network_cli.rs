//! Finding, showing and clearing away networks, and what is told of them.

use integration_testkit::{Host, eventually};
use serde_json::{Value, json};

/// The networks that a filter leaves, by name.
fn listed(host: &Host, filters: &[&str]) -> Vec<String> {
    let mut words = vec!["network", "ls", "--format", "{{.Name}}"];
    words.extend(filters.iter().flat_map(|filter| ["--filter", filter]));
    let mut names: Vec<String> = host.docker(&words).ok().lines().map(str::to_owned).collect();
    names.sort();
    names
}

#[test]
fn every_filter_of_ls_leaves_what_docker_leaves() {
    let host = Host::with_image();
    host.d("network create --label tier=front --label web front");
    host.d("network create --label tier=back back");
    let id = host.d("network create --config-only settings");
    host.d("run -d --network back box sleep 1000");
    for (filters, names) in [
        (vec![], vec!["back", "bridge", "front", "host", "none", "settings"]),
        (vec!["driver=bridge"], vec!["back", "bridge", "front"]),
        (vec!["driver=host", "driver=null"], vec!["host", "none", "settings"]),
        (vec!["type=builtin"], vec!["bridge", "host", "none"]),
        (vec!["type=custom"], vec!["back", "front", "settings"]),
        (vec!["scope=local", "name=front"], vec!["front"]),
        (vec!["scope=swarm"], vec![]),
        (vec!["name=ac"], vec!["back"]),
        (vec!["name=front", "name=back"], vec!["back", "front"]),
        (vec!["label=web"], vec!["front"]),
        (vec!["label=tier"], vec!["back", "front"]),
        (vec!["label=tier=back"], vec!["back"]),
        (vec!["label=tier=front", "label=nope"], vec![]),
        (vec!["dangling=true"], vec!["front", "settings"]),
        (vec!["dangling=false", "type=custom"], vec!["back"]),
        (vec![&format!("id={}", &id[..9])], vec!["settings"]),
    ] {
        assert_eq!(listed(&host, &filters), names, "{filters:?}");
    }
    for wrong in ["type=odd", "dangling=maybe", "nosuch=x", "label!=web"] {
        host.docker(&["network", "ls", "--filter", wrong]).err();
    }
}

#[test]
fn prune_goes_by_age_and_label() {
    let host = Host::with_image();
    for (name, label) in [("old", "keep=no"), ("kept", "keep=yes"), ("bare", "other")] {
        host.d(&format!("network create --label {label} {name}"));
    }
    let custom = || {
        let names = listed(&host, &["type=custom"]);
        names.into_iter().filter(|name| name != "settings").collect::<Vec<_>>()
    };
    host.d("network create --config-only --label keep=no settings");
    host.d("network prune -f --filter until=1h");
    assert_eq!(custom(), ["bare", "kept", "old"]);
    host.d("network prune -f --filter label=keep=no");
    assert_eq!(custom(), ["bare", "kept"]);
    host.d("network prune -f --filter label!=keep=yes");
    assert_eq!(custom(), ["kept"]);
    // A time that is over.
    host.d("network prune -f --filter until=2020-01-01T00:00:00Z");
    assert_eq!(custom(), ["kept"]);
    assert_eq!(host.d("network prune -f --filter until=0s"), "Deleted Networks:\nkept");
    host.docker(&["network", "prune", "-f", "--filter", "until=whenever"]).err();
    // What others may be made from is in use by being there.
    assert_eq!(listed(&host, &["type=custom"]), ["settings"]);
}

#[test]
fn a_network_is_found_by_its_name_before_the_beginning_of_an_id_and_never_by_two_of_them() {
    let host = Host::up();
    let mut ids: Vec<(String, String)> = Vec::new();
    // Of seventeen ids two begin alike.
    let (first, second) = (0..17)
        .find_map(|n| {
            let id = host.d(&format!("network create n{n}"));
            let same = ids.iter().find(|(_, other)| other[..1] == id[..1]).map(|(name, _)| name.clone());
            ids.push((format!("n{n}"), id));
            same.map(|name| (name, format!("n{n}")))
        })
        .expect("seventeen ids with seventeen first digits");
    let (name, id) = ids[0].clone();
    for reference in [&name, &id, &id[..12]] {
        assert_eq!(host.inspect(reference)["Id"], id.as_str());
    }
    let common = ids.iter().find(|(name, _)| *name == second).unwrap().1[..1].to_owned();
    let said = host.docker(&["network", "inspect", &common]).err();
    assert!(said.contains("ambiguous"), "{first} and {second}: {said}");
    let said = host.docker(&["network", "rm", &common]).err();
    assert!(said.contains("ambiguous"), "{said}");
    // A name is what was meant, whatever begins so.
    let named = host.d(&format!("network create {common}"));
    assert_eq!(host.inspect(&common)["Id"], named.as_str());
    host.d(&format!("network rm {common}"));
    assert!(host.docker(&["network", "inspect", "nosuch"]).err().contains("network nosuch not found"));
}

#[test]
fn inspect_shows_containers_and_their_addresses_verbose_or_not() {
    let host = Host::with_image();
    host.d("network create --ipv6 --subnet 10.68.0.0/24 --subnet fd68::/64 net");
    let id = host.d("run -d --name cc --network net --ip 10.68.0.7 box sleep 1000");
    for options in ["", "?verbose=true", "?verbose=0&scope=local"] {
        let answer = host.api().get(&format!("/v1.51/networks/net{options}"));
        assert_eq!(answer.status, 200, "{options}");
        let member = answer.json()["Containers"][&id].clone();
        assert_eq!((&member["Name"], &member["IPv4Address"]), (&json!("cc"), &json!("10.68.0.7/24")));
        assert_eq!(member["IPv6Address"], "fd68::2/64");
        let shown = host.inspect("cc")["NetworkSettings"]["Networks"]["net"].clone();
        assert_eq!(member["EndpointID"], shown["EndpointID"]);
        assert_eq!(member["MacAddress"], shown["MacAddress"]);
    }
    assert_eq!(host.api().get("/v1.51/networks/net?verbose=maybe").status, 400);
    // Who has stopped is not on it.
    host.d("stop -t 0 cc");
    assert_eq!(host.inspect("net")["Containers"], json!({}));
    host.d("network rm net");
}

#[test]
fn events_of_networks_have_docker_s_attributes() {
    let host = Host::with_image();
    let network = host.d("network create net");
    let container = host.d("run -d --name cc --network net box sleep 1000");
    let other = host.d("network create other");
    host.d("network connect other cc");
    host.d("network disconnect other cc");
    host.d("rm -f cc");
    host.d("network rm net");
    host.d("network prune -f");
    let told = || {
        let line = "events --since 0 --until 0s --filter type=network --format {{json.}}";
        let lines =
            host.docker(&line.replace("{{json.}}", "{{json .}}").splitn(9, ' ').collect::<Vec<_>>()).ok();
        let events: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let shown = |event: &Value| {
            (event["Action"].clone(), event["Actor"]["ID"].clone(), event["Actor"]["Attributes"].clone())
        };
        events.iter().map(shown).collect::<Vec<_>>()
    };
    let about = |name: &str| json!({"name": name, "type": "bridge"});
    let with = |name: &str| json!({"name": name, "type": "bridge", "container": container});
    let expected = [
        ("create", &network, about("net")),
        ("connect", &network, with("net")),
        ("create", &other, about("other")),
        ("connect", &other, with("other")),
        ("disconnect", &other, with("other")),
        ("disconnect", &network, with("net")),
        ("destroy", &network, about("net")),
        ("destroy", &other, about("other")),
        ("prune", &String::new(), json!({"reclaimed": "0"})),
    ];
    let expected: Vec<_> =
        expected.into_iter().map(|(action, id, attributes)| (json!(action), json!(id), attributes)).collect();
    eventually("all of it is told", || told().len() >= expected.len());
    assert_eq!(told(), expected);
}
