//! The resolvers that programs have: busybox's own, and glibc's.

use std::{fs, io::Write};

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

async fn open() -> (dns_server::DnsServer, Namespace) {
    upstream::start("127.0.0.53", None, |q, _| encode(addresses(q, [192, 0, 2, 7], 1))).await;
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
            let mut file = tempfile();
            writeln!(file.1, "nameserver 127.0.0.11\noptions {option}").unwrap();
            // A mount namespace of its own, with this resolv.conf and nothing in the hosts file.
            let script = "mount --bind $1 /etc/resolv.conf && mount --bind /dev/null /etc/hosts
                getent ahosts web; getent ahosts example.com; getent hosts 10.1.0.2";
            let arguments = ["-m", "sh", "-c", script, "sh", &file.0];
            let found = inside.program("unshare", &arguments, "").await;
            let text = String::from_utf8_lossy(&found.stdout).into_owned();
            for expected in ["10.1.0.2", "fd00::2", "192.0.2.7", "web.front"] {
                assert!(text.contains(expected), "{option}: {expected} missing in {text}");
            }
            fs::remove_file(&file.0).unwrap();
        }
    });
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

fn tempfile() -> (String, fs::File) {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("dns-server-{}-{n}.conf", std::process::id()));
    let file = fs::File::create(&path).unwrap();
    (path.to_str().unwrap().to_owned(), file)
}
