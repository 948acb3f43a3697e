//! The resolvers that programs have: busybox's own, glibc's, musl's and Go's.

use std::fs;

use hickory_proto::op::{Message, ResponseCode};
use libnetwork_core::NameServer;
use libnetwork_model::HostFacts;

use crate::{
    bed::{Namespace, on_host, server},
    town::*,
    upstream::{self, addresses, encode, ip},
};

/// The rules that a sandbox gets (`libnetwork_plan::sandbox_objects`), as `nft` reads them.
const RULES: &str = "
table ip causeway {
    chain resolver {
        type filter hook output priority raw
        ip daddr 127.0.0.11 udp dport 53 udp dport set 61053 notrack
        ip saddr 127.0.0.11 udp sport 61053 udp sport set 53 notrack
        ip daddr 127.0.0.11 tcp dport 53 tcp dport set 61053 notrack
        ip saddr 127.0.0.11 tcp sport 61053 tcp sport set 53 notrack
    }
}
";

pub(crate) async fn open() -> (dns_server::DnsServer, Namespace) {
    fn one_name(query: &Message, _tcp: bool) -> Option<Vec<u8>> {
        if query.queries[0].name.to_ascii() == "example.com." {
            return encode(addresses(query, [192, 0, 2, 7], 1));
        }
        let mut reply = upstream::reply(query);
        reply.metadata.response_code = ResponseCode::NXDomain;
        encode(reply)
    }
    upstream::start("127.0.0.53", None, one_name).await;
    let (server, inside) = (server(), Namespace::new());
    server.publish(&intent(town()), None);
    server.upstreams(&HostFacts { resolvers: vec![ip("127.0.0.53")], ..HostFacts::default() });
    server.open(&sandbox(1, "asker"), inside.path()).await.unwrap();
    let loaded = inside.program("nft", &["-f", "-"], RULES).await;
    assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
    (server, inside)
}

#[test]
fn busybox_finds_names_at_port_53() {
    on_host(|| async {
        let (_server, inside) = open().await;
        for (name, address) in [("web", "10.1.0.2"), ("example.com", "192.0.2.7")] {
            let found = inside.program("busybox", &["nslookup", "-type=a", name, "127.0.0.11"], "").await;
            let text = String::from_utf8_lossy(&found.stdout).into_owned();
            assert!(found.status.success() && text.contains(address), "{text}");
        }
    });
}

#[test]
fn glibc_finds_names_and_addresses_over_udp_and_tcp() {
    on_host(|| async {
        let (_server, inside) = open().await;
        for option in ["ndots:0", "use-vc", "edns0"] {
            let script = "getent ahosts web; getent ahosts example.com; getent hosts 10.1.0.2";
            let text = resolving(&inside, &format!("options {option}"), script).await;
            for expected in ["10.1.0.2", "fd00::2", "192.0.2.7", "web.front"] {
                assert!(text.contains(expected), "{option}: {expected} missing in {text}");
            }
        }
    });
}

#[test]
fn search_domains_and_ndots_are_the_container_s_own_and_come_to_names_here() {
    on_host(|| async {
        let (_server, inside) = open().await;
        // Docker's own setting, and one with which the search domain comes first.
        for options in ["options ndots:0\nsearch front", "options ndots:5\nsearch nowhere.test front"] {
            let text = resolving(&inside, options, "getent ahosts web; getent ahosts www.front").await;
            let streams: Vec<_> = text.lines().filter(|line| line.contains("STREAM")).collect();
            let is_ours = |line: &&str| ["10.1.0.2 ", "fd00::2 "].iter().any(|a| line.starts_with(a));
            assert!(streams.len() == 4 && streams.iter().all(is_ours), "{text}");
        }
    });
}

#[test]
fn musl_finds_names_and_passes_over_families_that_they_lack() {
    on_host(|| async {
        let (_server, inside) = open().await;
        let folder = tempfile::tempdir().unwrap();
        let (source, program) = (folder.path().join("lookup.c"), folder.path().join("lookup"));
        fs::write(&source, LOOKUP).unwrap();
        let arguments = ["-static", "-o", program.to_str().unwrap(), source.to_str().unwrap()];
        assert!(inside.program("musl-gcc", &arguments, "").await.status.success());
        let script = format!("{} web db example.com", program.display());
        let text = resolving(&inside, "options ndots:0", &script).await;
        // `db` has IPv4 alone: its AAAA question is answered, with nothing, and musl waits for both.
        let mut lines: Vec<_> = text.lines().collect();
        lines.sort_unstable();
        // The server beyond answers A to AAAA, too.
        lines.dedup();
        assert_eq!(lines, ["db 10.1.0.3", "example.com 192.0.2.7", "web 10.1.0.2", "web fd00::2"]);
    });
}

/// Prints the addresses of each name.
const LOOKUP: &str = r#"
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
int main(int count, char **names) {
  for (int n = 1; n < count; n++) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = 0;
    int error = getaddrinfo(names[n], 0, &hints, &found);
    if (error) printf("%s: %s\n", names[n], gai_strerror(error));
    for (; found; found = found->ai_next) {
      char text[64];
      void *address = found->ai_family == AF_INET
                          ? (void *)&((struct sockaddr_in *)found->ai_addr)->sin_addr
                          : (void *)&((struct sockaddr_in6 *)found->ai_addr)->sin6_addr;
      printf("%s %s\n", names[n], inet_ntop(found->ai_family, address, text, sizeof text));
    }
  }
}
"#;

#[test]
fn go_finds_names() {
    on_host(|| async {
        let (_server, inside) = open().await;
        // The docker CLI is a program in Go that asks a host by name; here one that knows a single answer.
        let answer = tempfile::NamedTempFile::new().unwrap();
        let body = r#"{"Version":"1.2.3-of-web"}"#;
        let head = "HTTP/1.0 200 OK\r\nApi-Version: 1.51\r\nContent-Type: application/json\r\n\r\n";
        fs::write(answer.path(), format!("{head}{body}")).unwrap();
        let script = format!(
            "ip address add 10.1.0.2/32 dev lo
            socat tcp-listen:2375,fork,reuseaddr,bind=10.1.0.2 system:'cat {}' &
            for n in $(seq 100); do
                GODEBUG=netdns=go docker -H tcp://web:2375 version --format '{{{{.Server.Version}}}}' && break
                sleep 0.1
            done
            kill $!",
            answer.path().display()
        );
        let text = resolving(&inside, "options ndots:0", &script).await;
        assert!(text.contains("1.2.3-of-web"), "{text}");
    });
}

/// What a shell script prints in a mount namespace of its own, in which this is in resolv.conf and nothing in hosts.
async fn resolving(inside: &Namespace, options: &str, script: &str) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), format!("nameserver 127.0.0.11\n{options}\n")).unwrap();
    let script = format!(
        "mount --bind {} /etc/resolv.conf && mount --bind /dev/null /etc/hosts\n{script}",
        file.path().display()
    );
    let ran = inside.program("unshare", &["-m", "sh", "-c", &script], "").await;
    String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr)
}

#[test]
fn the_sandbox_s_own_server_on_port_53_is_left_alone() {
    on_host(|| async {
        let (_server, inside) = open().await;
        upstream::start("0.0.0.0", Some(&inside), |q, _| encode(addresses(q, [192, 0, 2, 9], 1))).await;
        for (server, address) in [("127.0.0.1", "192.0.2.9"), ("127.0.0.11", "10.1.0.2")] {
            let found = inside.program("busybox", &["nslookup", "-type=a", "web", server], "").await;
            let text = String::from_utf8_lossy(&found.stdout).into_owned();
            assert!(found.status.success() && text.contains(address), "{text}");
        }
    });
}
