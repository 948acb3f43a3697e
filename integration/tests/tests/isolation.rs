//! What must not arrive does not: each packet that is kept back stands beside one that goes the same way and arrives.

mod published;

use integration_testkit::{Host, Namespace, eventually, probe};
use published::{Backend, serve, with_each_backend};

with_each_backend!(
    container_addresses_are_closed_to_the_lan_and_loopback_ports_to_all_but_the_host,
    without_icc_neighbours_reach_what_each_other_publishes_and_the_rest,
);

/// A server on a network of its own, and what else a test asks for.
fn serving(host: &Host, name: &str, args: &str) {
    serve(host, name, &args.split_whitespace().collect::<Vec<_>>());
}

/// What is to arrive may take a while on a busy machine: a link's carrier, a neighbour that was asked for in vain.
#[track_caller]
fn arrives(what: &str, goes: impl FnMut() -> bool) {
    eventually(&format!("{what} is reached"), goes);
}

/// Whether a container's process gets through to port 80 of an address.
fn reaches(host: &Host, container: &str, target: &str, port: u16) -> bool {
    host.docker(&["exec", container, "probe", "tcp", target, &port.to_string()]).code() == 0
}

fn from(namespace: &Namespace, target: &str, port: u16) -> bool {
    namespace.sh(&format!("{} tcp {target} {port}", probe().display())).code() == 0
}

#[test]
fn networks_are_apart_in_both_families_and_meet_at_published_ports_by_the_host_s_address_only() {
    let host = Host::with_image();
    host.d("network create --ipv6 --subnet 10.86.0.0/24 --subnet fd86::/64 one");
    host.d("network create --ipv6 --subnet 10.87.0.0/24 --subnet fd87::/64 two");
    serving(&host, "server", "--network one -p 8080:80");
    host.d("run -d --name friend --network one box sleep 1000");
    host.d("run -d --name stranger --network two box sleep 1000");
    for target in ["10.86.0.2", "fd86::2"] {
        arrives(&format!("{target} from its own network"), || reaches(&host, "friend", target, 80));
        assert!(!reaches(&host, "stranger", target, 80), "{target} from another network");
    }
    // What is published is reached by the host's addresses, those on the networks too.
    for target in [Host::ADDRESS, Host::ADDRESS6, "10.86.0.1", "fd86::1", "10.87.0.1", "fd87::1"] {
        arrives(&format!("{target}:8080 from another network"), || reaches(&host, "stranger", target, 8080));
    }
    // Nor does a container that is on both networks lead from one to the other.
    host.d("run -d --name both --network one --cap-add NET_ADMIN box sleep 1000");
    host.d("network connect two both");
    arrives("from one who is on it", || reaches(&host, "both", "10.86.0.2", 80));
    assert!(!reaches(&host, "stranger", "10.86.0.2", 80));
}

fn container_addresses_are_closed_to_the_lan_and_loopback_ports_to_all_but_the_host(backend: Backend) {
    let host = backend.with_image();
    host.d("network create --ipv6 --subnet 10.88.0.0/24 --subnet fd88::/64 net");
    let open = "-o com.docker.network.bridge.gateway_mode_ipv4=nat-unprotected \
                -o com.docker.network.bridge.gateway_mode_ipv6=nat-unprotected";
    host.d(&format!("network create --ipv6 --subnet 10.89.0.0/24 --subnet fd89::/64 {open} open"));
    serving(&host, "closed", "--network net -p 8080:80 -p 127.0.0.1:8081:80");
    serving(&host, "open", "--network open");
    // A neighbour who knows the way.
    for net in ["10.88.0.0/24", "10.89.0.0/24"] {
        host.client.ip(&format!("route add {net} via {}", Host::ADDRESS));
    }
    for net in ["fd88::/64", "fd89::/64"] {
        host.client.ip(&format!("-6 route add {net} via {}", Host::ADDRESS6));
    }
    for (closed, open) in [("10.88.0.2", "10.89.0.2"), ("fd88::2", "fd89::2")] {
        eventually(&format!("{open} is reached from the LAN"), || from(&host.client, open, 80));
        assert!(!from(&host.client, closed, 80), "{closed} from the LAN");
    }
    arrives("what is published everywhere", || from(&host.client, Host::ADDRESS, 8080));
    arrives("the loopback port from the host", || from(&host.host, "127.0.0.1", 8081));
    assert!(!from(&host.client, Host::ADDRESS, 8081), "the loopback port by the host's address");
    // By a packet with the loopback address itself, from one who routes it.
    host.client.sh("echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet").ok();
    host.client.ip("address del 127.0.0.1/8 dev lo");
    host.client.ip(&format!("route add 127.0.0.1/32 via {} dev wire src {}", Host::ADDRESS, Host::CLIENT));
    assert!(!from(&host.client, "127.0.0.1", 8081), "the loopback port by its own address");
    arrives("still what is published everywhere", || from(&host.client, Host::ADDRESS, 8080));
    // Nor for a container: its loopback is another.
    host.d("run -d --name other --network net box sleep 1000");
    assert!(!reaches(&host, "other", "10.88.0.1", 8081), "the loopback port from a container");
    arrives("the port", || reaches(&host, "other", "10.88.0.1", 8080));
}

#[test]
fn an_internal_network_has_no_way_out_nor_in() {
    let host = Host::with_image();
    host.d("network create --internal --ipv6 --subnet 10.90.0.0/24 --subnet fd90::/64 inner");
    host.d("network create --ipv6 --subnet 10.91.0.0/24 --subnet fd91::/64 outer");
    serving(&host, "server", "--network inner --cap-add NET_ADMIN");
    host.d("run -d --name friend --network inner --cap-add NET_ADMIN box sleep 1000");
    host.d("run -d --name stranger --network outer box sleep 1000");
    let pings = |container: &str, target: &str| {
        host.docker(&["exec", container, "ping", "-c", "1", "-W", "1", target]).code() == 0
    };
    for (way, wide) in [("10.90.0.1", Host::CLIENT), ("fd90::1", Host::CLIENT6)] {
        // Who may change his routes gives himself one.
        let family = if way.contains(':') { "-6" } else { "-4" };
        host.docker(&["exec", "friend", "ip", family, "route", "add", "default", "via", way]);
        assert!(!pings("friend", wide), "{wide} from an internal network");
        eventually(&format!("{wide} is reached from an ordinary one"), || pings("stranger", wide));
    }
    for (net, via) in [("10.90.0.0/24", Host::ADDRESS), ("fd90::/64", Host::ADDRESS6)] {
        host.client.ip(&format!("route add {net} via {via}"));
    }
    for target in ["10.90.0.2", "fd90::2"] {
        arrives(&format!("{target} from its own network"), || reaches(&host, "friend", target, 80));
        assert!(!reaches(&host, "stranger", target, 80), "{target} from another network");
        assert!(!from(&host.client, target, 80), "{target} from the LAN");
    }
}

fn without_icc_neighbours_reach_what_each_other_publishes_and_the_rest(backend: Backend) {
    let host = backend.with_image();
    if backend == Backend::Nftables {
        // With br_netfilter what is redirected to the same bridge does not come as far as the host's routing.
        for family in ["ip", "ip6"] {
            host.host.sh(&format!("echo 0 > /proc/sys/net/bridge/bridge-nf-call-{family}tables"));
        }
    }
    let icc = "-o com.docker.network.bridge.enable_icc";
    for (net, n, value) in [("alone", 92, "false"), ("together", 93, "true")] {
        host.d(&format!(
            "network create --ipv6 --subnet 10.{n}.0.0/24 --subnet fd{n}::/64 {icc}={value} {net}"
        ));
        serving(&host, &format!("server-{net}"), &format!("--network {net} -p 80{n}:80"));
        host.d(&format!("run -d --name asker-{net} --network {net} --cap-add NET_ADMIN box sleep 1000"));
    }
    for (net, n, wanted) in [("together", 93, true), ("alone", 92, false)] {
        let asker = format!("asker-{net}");
        for target in [format!("10.{n}.0.2"), format!("fd{n}::2")] {
            if wanted {
                arrives(&target, || reaches(&host, &asker, &target, 80));
            } else {
                assert!(!reaches(&host, &asker, &target, 80), "{target} from its neighbour");
            }
        }
        for target in [Host::ADDRESS, Host::ADDRESS6, &format!("10.{n}.0.1"), &format!("fd{n}::1")] {
            let port = 8000 + n;
            arrives(&format!("{target}:{port} from {asker}"), || reaches(&host, &asker, target, port));
        }
        arrives("the outside", || {
            host.docker(&["exec", &asker, "ping", "-c", "1", "-W", "1", Host::CLIENT]).code() == 0
        });
    }
    // Nor by way of the gateway.
    host.d("exec asker-alone ip route add 10.92.0.2/32 via 10.92.0.1");
    assert!(!reaches(&host, "asker-alone", "10.92.0.2", 80), "by way of the gateway");
}

#[test]
fn a_container_that_forges_its_source_is_not_heard_outside_either() {
    let host = Host::with_image();
    host.d(
        "network create --subnet 10.94.0.0/24 -o com.docker.network.bridge.enable_ip_masquerade=false net",
    );
    host.d("run -d --name forger --network net --cap-add NET_ADMIN box sleep 1000");
    host.client.ip(&format!("route add 10.94.0.0/24 via {}", Host::ADDRESS));
    host.client.ip(&format!("route add 198.51.100.0/24 via {}", Host::ADDRESS));
    // Counted where they would arrive.
    host.client
        .sh("nft 'add table ip t; add chain ip t c { type filter hook prerouting priority 0; }; \
         add rule ip t c ip saddr 198.51.100.7 counter; add rule ip t c ip saddr 10.94.0.77 counter; \
         add rule ip t c ip saddr 10.94.0.2 counter'")
        .ok();
    for source in ["198.51.100.7", "10.94.0.77"] {
        host.d(&format!("exec forger ip addr add {source}/32 dev eth0"));
        host.docker(&["exec", "forger", "ping", "-c", "2", "-W", "1", "-I", source, Host::CLIENT]).err();
    }
    arrives("the outside, by an address of its own,", || {
        host.docker(&["exec", "forger", "ping", "-c", "1", "-W", "1", "-I", "10.94.0.2", Host::CLIENT]).code()
            == 0
    });
    let counted = host.client.sh("nft list table ip t").ok();
    let packets = |source: &str| -> u64 {
        let line = counted.lines().find(|line| line.contains(source)).unwrap();
        line.split("packets ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!((packets("198.51.100.7"), packets("10.94.0.77")), (0, 0), "{counted}");
    assert!(packets("10.94.0.2") >= 1, "{counted}");
}
