//! Names inside containers.

use integration_testkit::{Host, Running, eventually, probe};
use serde_json::Value;

#[test]
fn names_ids_and_aliases_are_answered_on_shared_networks_only() {
    let host = Host::with_image();
    host.d("network create --subnet 10.81.0.0/24 one");
    host.d("network create --subnet 10.82.0.0/24 two");
    let id = host.d("run -d --name Web --network one --network-alias api box sleep 1000");
    for name in ["Web", "web", "WEB", "api", &id[..12], "web.one"] {
        let answer = host.d(&format!("run --rm --network one box nslookup -type=a {name} 127.0.0.11"));
        assert!(answer.contains("10.81.0.2"), "{name}: {answer}");
    }
    let stranger =
        host.docker(&["run", "--rm", "--network", "two", "box", "nslookup", "-type=a", "web", "127.0.0.11"]);
    assert!(!stranger.stdout.contains("10.81.0.2"), "{stranger}");
}

#[test]
fn an_alias_of_several_containers_answers_with_all_of_them() {
    let host = Host::with_image();
    host.d("network create --subnet 10.83.0.0/24 net");
    for name in ["aa", "bb", "cc"] {
        host.d(&format!("run -d --name {name} --network net --network-alias pool box sleep 1000"));
    }
    let answer = host.d("run --rm --network net box nslookup -type=a pool 127.0.0.11");
    for address in ["10.83.0.2", "10.83.0.3", "10.83.0.4"] {
        assert!(answer.contains(address), "{answer}");
    }
    host.d("rm -f bb");
    let answer = host.d("run --rm --network net box nslookup -type=a pool 127.0.0.11");
    assert!(!answer.contains("10.83.0.3"), "{answer}");
}

#[test]
fn a_host_name_is_a_name() {
    let host = Host::with_image();
    host.d("network create --subnet 10.92.0.0/24 net");
    host.d("run -d --name web --hostname Front.Office --network net box sleep 1000");
    let answer = host.d("run --rm --network net box nslookup -type=a front.office 127.0.0.11");
    assert!(answer.contains("10.92.0.2"), "{answer}");
}

#[test]
fn a_link_is_a_name_of_the_one_container_that_asked_for_it() {
    let host = Host::with_image();
    host.d("network create --subnet 10.93.0.0/24 net");
    host.d("network create --subnet 10.94.0.0/24 other");
    // What it leads to may come later, and go, and come back elsewhere.
    host.d("run -d --name linked --network net --ip 10.93.0.9 --link web:db --link web box sleep 1000");
    host.d("run -d --name connected --network other box sleep 1000");
    host.d("network connect --link web:DB net connected");
    let ask = |container: &str, name: &str| {
        host.docker(&["exec", container, "nslookup", "-type=a", name, "127.0.0.11"]).stdout
    };
    for address in ["10.93.0.20", "10.93.0.21"] {
        host.d(&format!("run -d --name web --network net --ip {address} box sleep 1000"));
        for (container, name) in
            [("linked", "db"), ("linked", "db.net"), ("linked", "web"), ("connected", "db")]
        {
            assert!(ask(container, name).contains(address), "{container}, {name}: {}", ask(container, name));
        }
        assert!(!ask("web", "db").contains(address), "{}", ask("web", "db"));
        assert!(
            !host.d("exec linked cat /etc/hosts").contains(address),
            "a hosts file would outlive the address"
        );
        let told = dns(&host, &["query", "db", "--from", "linked"]).ok();
        assert!(told.contains("db is an alias of container web on network net"), "{told}");
        host.d("rm -f web");
    }
    assert!(!ask("linked", "db").contains("10.93.0.2"), "{}", ask("linked", "db"));
    // It is kept with the container.
    host.d("run -d --name web --network net --ip 10.93.0.22 box sleep 1000");
    host.d("restart -t 0 linked connected");
    for container in ["linked", "connected"] {
        assert!(ask(container, "db").contains("10.93.0.22"), "{container}: {}", ask(container, "db"));
    }
}

#[test]
fn a_renamed_container_answers_to_its_new_name_and_not_to_the_old_one() {
    let host = Host::with_image();
    host.d("network create --subnet 10.93.0.0/24 net");
    host.d("run -d --name old --network net --ip 10.93.0.9 --network-alias kept box sleep 1000");
    host.d("run -d --name asker --network net box sleep 1000");
    let ask = |name: &str| host.docker(&["exec", "asker", "nslookup", "-type=a", name, "127.0.0.11"]).stdout;
    assert!(ask("old").contains("10.93.0.9"));
    host.d("rename old new");
    for name in ["new", "kept"] {
        assert!(ask(name).contains("10.93.0.9"), "{name}: {}", ask(name));
    }
    assert!(!ask("old").contains("10.93.0.9"), "{}", ask("old"));
    // The name is free for another.
    host.d("run -d --name old --network net --ip 10.93.0.8 box sleep 1000");
    assert!(ask("old").contains("10.93.0.8") && ask("new").contains("10.93.0.9"));
    host.d("restart -t 0 new");
    assert!(ask("new").contains("10.93.0.9"));
}

#[test]
fn six_and_reverse_lookups_are_answered() {
    let host = Host::with_image();
    host.d("network create --ipv6 --subnet 10.84.0.0/24 --subnet fd84::/64 net");
    host.d("run -d --name web --network net box sleep 1000");
    let answer = host.d("run --rm --network net box nslookup -type=aaaa web 127.0.0.11");
    assert!(answer.contains("fd84::2"), "{answer}");
    let answer = host.d("run --rm --network net box nslookup -type=ptr 2.0.84.10.in-addr.arpa 127.0.0.11");
    assert!(answer.contains("web.net"), "{answer}");
}

#[test]
fn everything_else_is_forwarded() {
    let host = Host::with_image();
    host.d("network create --subnet 10.85.0.0/24 net");
    let written = host.d("run --rm --network net --dns 192.0.2.2 box cat /etc/resolv.conf");
    assert!(written.contains("nameserver 127.0.0.11"), "{written}");
    let _server = upstream(&host);
    eventually("the upstream's answer arrives", || {
        let lookup = "run --rm --network net --dns 192.0.2.2 box nslookup -type=a outside.test 127.0.0.11";
        host.docker(&lookup.split(' ').collect::<Vec<_>>()).stdout.contains("203.0.113.7")
    });
    // A network may say who knows the rest, for its containers that do not.
    host.d("network create --subnet 10.95.0.0/24 -o io.causeway.dns.upstreams=192.0.2.2 branch");
    let answer = host.d("run --rm --network branch box nslookup -type=a outside.test 127.0.0.11");
    assert!(answer.contains("203.0.113.7"), "{answer}");
}

/// A DNS server in the outside client's namespace, at 192.0.2.2.
fn upstream(host: &Host) -> Running {
    let mut command = host.client.command(probe().to_str().unwrap());
    command.args(["dns", "53"]);
    Running::start(command)
}

#[test]
fn a_wildcard_alias_and_the_host_have_names() {
    let host = Host::with_image();
    host.d("network create --subnet 10.87.0.0/24 -o io.causeway.dns.ttl=60 net");
    host.d("run -d --name proxy --network net --network-alias *.app box sleep 1000");
    for (name, address) in [("shop.app", "10.87.0.2"), ("host.docker.internal", "10.87.0.1")] {
        let answer = host.d(&format!("run --rm --network net box nslookup -type=a {name} 127.0.0.11"));
        assert!(answer.contains(address), "{name}: {answer}");
    }
    let told = dns(&host, &["query", "shop.app", "--from", "proxy", "--format", "json"]).ok();
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["answers"][0]["ttl"], 60, "what the network asks for");
    let refused = host.docker(&["network", "create", "-o", "io.causeway.dns.ttl=soon", "other"]).err();
    assert!(refused.contains("io.causeway.dns.ttl"), "{refused}");
}

#[test]
fn port_53_stays_free_for_the_container() {
    let host = Host::with_image();
    host.d("network create --subnet 10.86.0.0/24 net");
    host.d("run -d --name dns --network net box probe serve 53");
    eventually("a server on port 53 of every address starts", || host.d("logs dns").contains("serving"));
    host.d("run --rm --network net box probe udp dns 53");
    host.d("exec dns nslookup -type=a dns 127.0.0.11");
}

/// `causeway dns ARGS` on this host.
fn dns(host: &Host, args: &[&str]) -> integration_testkit::Finished {
    let run_dir = host.run_dir().display().to_string();
    host.causeway(&[&["dns", args[0], "--run-dir", &run_dir], &args[1..]].concat())
}

#[test]
fn dns_query_shows_what_a_container_is_told_and_why() {
    let host = Host::with_image();
    host.d("network create --subnet 10.88.0.0/24 net");
    host.d("network create --internal --subnet 10.89.0.0/24 inner");
    host.d("run -d --name web --network net --network-alias api box sleep 1000");
    let client = host.d("run -d --name client --network net --dns 192.0.2.2 box sleep 1000");
    host.d("run -d --name confined --network inner box sleep 1000");
    host.d("run -d --name outside --network host box sleep 1000");

    let told = dns(&host, &["query", "API", "--from", "client"]).ok();
    for part in ["NOERROR", "10.88.0.2", "api is an alias of container web on network net"] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
    let told =
        dns(&host, &["query", "web", "--type", "mx", "--from", &client[..12], "--format", "json"]).ok();
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(
        (&told["code"], &told["source"], &told["holders"][0]),
        (&"NOERROR".into(), &"container".into(), &"web".into())
    );
    assert_eq!(told["answers"], Value::Array(vec![]));

    let server = upstream(&host);
    let told = |name: &str| dns(&host, &["query", name, "--from", "client"]).ok();
    eventually("the upstream server answers", || {
        let told = told("outside.test");
        told.contains("203.0.113.7") && told.contains("upstream server 192.0.2.2 answered")
    });
    told("kept.test");
    let kept = told("kept.test");
    assert!(kept.contains("kept from upstream server 192.0.2.2"), "{kept}");
    drop(server);
    let confined = dns(&host, &["query", "outside.test", "--from", "confined"]).ok();
    assert!(confined.contains("SERVFAIL") && confined.contains("do not leave the host"), "{confined}");

    for (args, part) in [
        (["query", "web", "--from", "nobody"], "no running container \"nobody\""),
        (["query", "web", "--from", "outside"], "the host's resolv.conf"),
        (["query", "a..b", "--from", "client"], "is no domain name"),
    ] {
        let refused = dns(&host, &args).err();
        assert!(refused.contains(part), "{refused}");
    }
}

#[test]
fn dns_log_follows_lookups_by_container_also_over_a_killed_causewayd() {
    let host = Host::with_image();
    host.d("network create --subnet 10.91.0.0/24 net");
    host.d("run -d --name web --network net box sleep 1000");
    host.d("run -d --name other --network net box sleep 1000");
    let mut follow = host.host.command(integration_testkit::binary("causeway").to_str().unwrap());
    follow.args(["dns", "log", "--container", "web", "--format", "json", "--run-dir"]).arg(host.run_dir());
    let following = Running::start(follow);
    let lines = |name: &str| -> Vec<Value> {
        let text = following.said();
        let all = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        all.filter(|line| line["name"] == format!("{name}.")).collect()
    };
    let ask = |name: &str| {
        eventually("the lookup is told of", || {
            host.docker(&["exec", "other", "nslookup", "-type=a", name, "127.0.0.11"]);
            host.docker(&["exec", "web", "nslookup", "-type=a", name, "127.0.0.11"]);
            !lines(name).is_empty()
        });
    };
    ask("other");
    assert!(lines("other").iter().all(|line| line["container"] == "web" && line["network"] == "net"));
    assert_eq!(lines("other")[0]["answers"][0]["data"], "10.91.0.3");
    host.kill(integration_testkit::Daemon::Network);
    ask("web");
}
