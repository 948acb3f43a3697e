//! What is asked for an endpoint, or of a network for its endpoints, as its container finds it.

use integration_testkit::{Host, eventually};

#[test]
fn a_container_finds_its_interfaces_as_asked_for() {
    let host = Host::with_image();
    let named = "-o com.docker.network.bridge.name=wires0 -o com.docker.network.container_iface_prefix=lan";
    host.d(&format!("network create --ipv6 --subnet 10.66.0.0/24 --subnet fd66::/64 {named} one"));
    host.d("network create --subnet 10.66.1.0/24 two");
    host.d("network create --subnet 10.66.2.0/24 three");
    host.d("run -d --name db --network one --ip 10.66.0.50 box sleep 1000");
    let first = "name=one,ip=10.66.0.9,ip6=fd66::9,mac-address=02:00:00:00:66:09,link-local-ip=169.254.6.6,alias=web,\
                 driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1";
    let second = "name=two,gw-priority=7,driver-opt=com.docker.network.endpoint.ifname=way0";
    host.d(&format!(
        "run -d --name cc --network {first} --network {second} --link db:database box sleep 1000"
    ));
    let inside = host.d("exec cc ip addr");
    for shown in
        ["lan0", "10.66.0.9/24", "fd66::9/64", "02:00:00:00:66:09", "169.254.6.6/", "way0", "10.66.1.2/24"]
    {
        assert!(inside.contains(shown), "{shown}: {inside}");
    }
    assert_eq!(host.d("exec cc cat /proc/sys/net/ipv4/conf/lan0/log_martians"), "1");
    assert_eq!(host.d("exec cc cat /proc/sys/net/ipv4/conf/way0/log_martians"), "0");
    let default =
        || host.d("exec cc ip route").lines().find(|l| l.starts_with("default")).unwrap().to_owned();
    assert_eq!(default().trim(), "default via 10.66.1.1 dev way0");
    assert!(host.host.ip("addr show wires0").contains("10.66.0.1/24"));
    host.d("exec cc ping -c 1 -W 60 database");
    host.docker(&["exec", "db", "ping", "-c", "1", "-W", "2", "database"]).err();
    host.d("exec db ping -c 1 -W 60 web");
    // Another that comes with a higher priority is the way out as long as it is there.
    host.d("network connect --gw-priority 9 three cc");
    assert!(default().contains("10.66.2.1"), "{}", default());
    host.d("network disconnect three cc");
    assert_eq!(default().trim(), "default via 10.66.1.1 dev way0");
    // All of it again after another start.
    host.d("restart -t 0 cc");
    let again = host.d("exec cc ip addr");
    for shown in ["lan0", "10.66.0.9/24", "02:00:00:00:66:09", "way0", "10.66.1.2/24"] {
        assert!(again.contains(shown), "{shown}: {again}");
    }
    assert_eq!(default().trim(), "default via 10.66.1.1 dev way0");
}

#[test]
fn a_bridge_without_an_address_joins_its_containers_all_the_same() {
    let host = Host::with_image();
    host.d("network create --subnet 10.65.0.0/24 -o com.docker.network.bridge.inhibit_ipv4=true \
            -o com.docker.network.bridge.name=bare0 net");
    assert!(!host.host.ip("-4 addr show bare0").contains("inet"), "the host has an address");
    host.d("run -d --name server --network net box probe serve 80");
    eventually("a neighbour is reached", || {
        host.docker(&["run", "--rm", "--network", "net", "box", "probe", "tcp", "server", "80"])
            .status
            .success()
    });
    // Somebody else is the gateway: here, the host by an address that its owner gave the bridge.
    host.docker(&["run", "--rm", "--network", "net", "box", "ping", "-c", "1", "-W", "1", "10.65.0.1"]).err();
    host.host.ip("addr add 10.65.0.1/24 dev bare0");
    host.d("run --rm --network net box ping -c 1 -W 60 10.65.0.1");
    host.d("network create --subnet 10.64.0.0/24 after");
    assert!(host.host.ip("-4 addr show bare0").contains("10.65.0.1/24"), "the owner's address is gone");
}

#[test]
fn the_files_below_etc_say_what_was_asked_for_and_follow_connections() {
    let host = Host::with_image();
    host.d("network create --subnet 10.63.0.0/24 one");
    host.d("network create --subnet 10.63.1.0/24 two");
    host.d(
        "run -d --name cc --network one --hostname box1 --domainname corp.example --dns 192.0.2.53 --dns-search a.example \
         --dns-option ndots:3 --add-host up:host-gateway --add-host far:203.0.113.9 --add-host six:2001:db8::9 box sleep 1000",
    );
    let file = |name: &str| host.d(&format!("exec cc cat /etc/{name}"));
    assert_eq!(file("hostname"), "box1");
    let resolv = file("resolv.conf");
    for line in ["nameserver 127.0.0.11", "search a.example", "options ndots:3"] {
        assert!(resolv.lines().any(|l| l == line || l.starts_with(line)), "{line}: {resolv}");
    }
    let hosts = file("hosts");
    for line in [
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "172.17.0.1\tup",
        "203.0.113.9\tfar",
        "2001:db8::9\tsix",
        "10.63.0.2\tbox1.corp.example box1",
    ] {
        assert!(hosts.lines().any(|l| l == line), "{line}: {hosts}");
    }
    host.d("network connect two cc");
    assert!(file("hosts").contains("10.63.1.2\tbox1.corp.example box1"), "{}", file("hosts"));
    host.d("network disconnect two cc");
    assert!(!file("hosts").contains("10.63.1.2"), "{}", file("hosts"));
    host.d("exec cc ping -c 1 -W 60 up");
}
