//! The host's resolvers change while the daemon runs.
#![allow(clippy::unwrap_used, clippy::panic)]

mod host;

use std::time::Duration;

use host::{Host, id, join, network};
use integration_testkit::{Running, probe, run};

/// Each takes some 30 ms, so these are over long before the look at everything that comes every half minute; where a machine
/// stands still, or is slow, nobody asks, or more slowly.
const QUESTIONS: u32 = 250;

#[tokio::test(flavor = "multi_thread")]
async fn the_host_s_resolvers_are_followed_however_they_are_changed() {
    let mut host = Host::new("resolvers");
    // An /etc of its own, and a server on loopback; nothing leads to 192.0.2.53.
    host.sh("mount -t tmpfs none /mnt && cp -a /etc/. /mnt && mount --move /mnt /etc");
    host.sh("rm -f /etc/resolv.conf; echo nameserver 192.0.2.53 > /etc/resolv.conf");
    let mut server = host.command(probe());
    server.args(["dns", "53"]);
    let _server = Running::start(server);
    host.start();
    host.listens();
    let mut client = host.client();
    client.create_network(network("net")).await.unwrap();
    let sandbox = client.join(join(1, &["net"])).await.unwrap().into_inner();
    assert_eq!(sandbox.id, id(1));
    let question = ["busybox", "nslookup", "-type=a", "outside.test", "127.0.0.11"];
    let is_answered = || run(host.inside(&sandbox.namespace, &question), b"").stdout.contains("203.0.113.7");
    assert!(!is_answered(), "nobody answers at 192.0.2.53");
    for (change, answered) in [
        // As editors, DHCP clients and NetworkManager do.
        ("echo nameserver 127.0.0.1 > /etc/new && mv /etc/new /etc/resolv.conf", true),
        ("echo nameserver 192.0.2.53 > /etc/resolv.conf", false),
        // As systemd-resolved and resolvconf do: a link, and what it leads to is replaced.
        ("mkdir /etc/a && echo nameserver 127.0.0.1 > /etc/a/stub && ln -sf a/stub /etc/resolv.conf", true),
        ("echo nameserver 192.0.2.53 > /etc/a/new && mv /etc/a/new /etc/a/stub", false),
        ("rm -r /etc/a", false),
        ("mkdir /etc/a && echo nameserver 127.0.0.1 > /etc/a/stub", true),
        ("rm /etc/resolv.conf && echo nameserver 192.0.2.53 > /etc/resolv.conf", false),
    ] {
        host.sh(change);
        let is_followed = (0..QUESTIONS).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            is_answered() == answered
        });
        assert!(is_followed, "not followed: {change}");
    }
}
