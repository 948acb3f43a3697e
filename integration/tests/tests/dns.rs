//! Names inside containers.

use integration_testkit::{Host, Running, eventually};

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
    // The upstream is a server in the outside client's namespace that knows one answer.
    let mut dnsd = host.client.command("socat");
    dnsd.args(["-T1", "udp4-recvfrom:53,fork,reuseaddr"]).arg(format!("exec:{}", answerer(&host)));
    let _server = Running::start(dnsd);
    eventually("the upstream's answer arrives", || {
        let answer = host.docker(&[
            "run",
            "--rm",
            "--network",
            "net",
            "--dns",
            "192.0.2.2",
            "box",
            "nslookup",
            "-type=a",
            "outside.test",
            "127.0.0.11",
        ]);
        answer.stdout.contains("203.0.113.7")
    });
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
    let refused = host.docker(&["network", "create", "-o", "io.causeway.dns.ttl=soon", "other"]).err();
    assert!(refused.contains("io.causeway.dns.ttl"), "{refused}");
}

/// A program that answers the one question on its stdin with 203.0.113.7: the question's bytes with the response bits
/// set, and one A record that points back at the name (RFC 1035, section 4.1).
fn answerer(host: &Host) -> String {
    let path = host.scratch().join("answer");
    let script = r#"#!/bin/bash
hex=$(head -c 512 | od -An -v -tx1 | tr -d ' \n')
id=${hex:0:4}; rest=${hex:24}
name=; i=0
while [ "${rest:$i:2}" != 00 ]; do n=$((2 * (16#${rest:$i:2} + 1))); name+=${rest:$i:$n}; i=$((i + n)); done
question=${rest:0:$((i + 10))}
answer=${id}81800001000100000000${question}c00c00010001000000050004cb007107
printf "$(sed 's/../\\x&/g' <<<"$answer")"
"#;
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    path.display().to_string()
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
