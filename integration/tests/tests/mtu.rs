//! The MTU of links is that of the host's way out, also when that changes.

use integration_testkit::{Host, eventually};

#[test]
fn links_follow_the_mtu_of_the_host_s_default_route_and_keep_one_of_their_own() {
    let host = Host::with_image();
    host.d("network create net");
    host.d("network create -o com.docker.network.driver.mtu=1300 fixed");
    for network in ["bridge", "net", "fixed"] {
        host.d(&format!("run -d --name on-{network} --network {network} box sleep 1000"));
    }
    let inside =
        |network: &str| host.d(&format!("exec on-{network} cat /sys/class/net/eth0/mtu")).trim().to_owned();
    let mtus = || ["bridge", "net", "fixed"].map(inside);
    assert_eq!(mtus(), ["1500", "1500", "1300"]);
    // The same link gets another one: a tunnel that is renegotiated.
    host.host.ip("link set uplink mtu 1400");
    eventually("links follow the link", || mtus() == ["1400", "1400", "1300"]);
    eventually("bridges follow too", || host.host.ip("-o link show docker0").contains("mtu 1400"));
    // Another link becomes the way out: a VPN that takes everything.
    host.host.ip("link add vpn type veth peer name far");
    host.host.ip("link set far up");
    host.host.ip("link set vpn mtu 1350 up");
    host.host.ip("address add 198.51.100.1/24 dev vpn");
    host.host.ip("route replace default dev vpn");
    eventually("links follow the route", || mtus() == ["1350", "1350", "1300"]);
    assert_eq!(host.d("run --rm --network net box cat /sys/class/net/eth0/mtu"), "1350");
    host.d("network create later");
    assert_eq!(host.d("run --rm --network later box cat /sys/class/net/eth0/mtu"), "1350");
    // And it goes again.
    host.host.ip(&format!("route replace default via {} dev uplink", Host::CLIENT));
    host.host.ip("link del vpn");
    eventually("links follow back", || mtus() == ["1400", "1400", "1300"]);
    host.host.ip("link set uplink mtu 1500");
    eventually("as at first", || mtus() == ["1500", "1500", "1300"]);
    host.d("exec on-net ping -c 1 -W 60 -s 1472 172.18.0.1");
}
