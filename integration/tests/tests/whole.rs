//! A container starts with all that it asked for, or fails with the reason and leaves nothing behind.

use integration_testkit::{Host, Running, eventually, probe, until};

/// What there is of networks and containers on a host, in the kernel and in the run directory.
fn picture(host: &Host) -> String {
    let links = host.host.ip("-o link show");
    let mut links: Vec<&str> = links
        .lines()
        .filter_map(|line| line.split(": ").nth(1))
        .map(|l| l.split('@').next().unwrap())
        .collect();
    links.sort_unstable();
    let list = |dir: &str| {
        let entries = std::fs::read_dir(host.run_dir().join(dir)).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|e| e.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let rules = host.host.sh("nft -s list ruleset").ok();
    let mounts = host.mounts().len();
    format!("{links:?}\n{:?}\n{:?}\n{mounts} mounts\n{rules}", list("netns"), list("shims"))
}

/// A start that fails with a reason, and leaves what there was.
#[track_caller]
fn fails(host: &Host, args: &[&str], reason: &str) {
    let before = picture(host);
    let mut words = vec!["run", "--name", "failing"];
    words.extend(args);
    words.extend(["box", "true"]);
    let said = host.docker(&words).err();
    assert!(said.contains(reason), "{reason:?} is not in {said}");
    // `docker run` keeps the container that it made and could not start.
    host.docker(&["rm", "-f", "failing"]);
    eventually("nothing is left", || picture(host) == before);
}

#[test]
fn a_start_that_fails_says_why_and_leaves_nothing() {
    let host = Host::with_image();
    host.d("network create --subnet 10.96.0.0/24 one");
    host.d("network create --subnet 10.97.0.0/24 two");
    host.d("run -d --name owner --network one --ip 10.96.0.9 -p 8080:80 box sleep 1000");
    let two = ["--network", "name=one", "--network"];

    // An address, a port of another container, a port of a process.
    fails(&host, &["--network", "one", "--ip", "10.96.0.9"], "Address already in use");
    fails(&host, &[&two[..], &["name=two,ip=10.97.0.300"]].concat(), "10.97.0.300");
    fails(&host, &["--network", "one", "-p", "9001:80", "-p", "8080:81"], "port is already allocated");
    let mut listener = host.host.command(probe().to_str().unwrap());
    listener.args(["serve", "8090"]);
    let listener = Running::start(listener);
    eventually("the process listens", || {
        host.host.sh("cat /proc/net/tcp /proc/net/tcp6").ok().contains(":1F9A")
    });
    fails(&host, &["--network", "one", "-p", "9001:80", "-p", "8090:80"], "8090/tcp: address already in use");
    drop(listener);
    // An interface's name, twice; a setting that the kernel refuses; a setting that there is not.
    let named = "name=one,driver-opt=com.docker.network.endpoint.ifname=lan0";
    fails(&host, &["--network", named, "--network", &named.replace("one", "two")], "lan0");
    let sysctls = "com.docker.network.endpoint.sysctls";
    let refused = format!("name=one,driver-opt={sysctls}=net.ipv4.conf.IFNAME.forwarding=nonsense");
    fails(&host, &[&two[..2], &["--network", &refused.replace("one", "two")]].concat(), "forwarding");
    let unknown = format!("name=two,driver-opt={sysctls}=net.ipv4.conf.IFNAME.no_such_setting=1");
    fails(&host, &[&two[..2], &["--network", &unknown]].concat(), "no_such_setting");
    // A network that is not there, after one that is.
    fails(&host, &[&two[..2], &["--network", "name=nowhere"]].concat(), "nowhere");

    // And nobody has what they asked for.
    host.d("run --rm --network one --ip 10.96.0.10 -p 9001:80 -p 8090:80 box true");
    host.d("rm -f owner");
    host.d("network rm one two");
}

/// moby 49781, 51758: what a network is removed by is what it has, so it is never "in use" by nobody.
#[test]
fn a_network_whose_every_start_failed_can_be_removed() {
    let host = Host::with_image();
    host.d("network create --subnet 10.98.0.0/24 net");
    for _ in 0..5 {
        fails(&host, &["--network", "net", "--ip", "10.98.0.1"], "10.98.0.1");
    }
    host.d("network rm net");
}

#[test]
fn a_full_disk_fails_what_needs_it_and_is_got_over() {
    let mut host = Host::new();
    std::fs::create_dir_all(host.state_dir()).unwrap();
    let state = host.state_dir().display().to_string();
    let mut mount = std::process::Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=24m", "tmpfs", &state]);
    integration_testkit::run(mount, b"").ok();
    host.start();
    host.import("box");
    host.d("network create before");
    let before = picture(&host);
    let ballast = host.state_dir().join("ballast");
    let mut fill = std::process::Command::new("dd");
    fill.args(["if=/dev/zero", &format!("of={}", ballast.display()), "bs=4k"]);
    integration_testkit::run(fill, b"").err();

    let mut said = String::new();
    // The store has some room of its own: it is full in the end.
    for n in 0..200 {
        let created = host.docker(&["network", "create", &format!("n{n}")]);
        if created.code() != 0 {
            said = created.err();
            break;
        }
    }
    assert!(said.contains("cannot record it") && said.contains("No space left on device"), "{said}");
    let said = host.docker(&["run", "--rm", "box", "true"]).err();
    assert!(said.contains("no space left on device") || said.contains("No space left on device"), "{said}");

    std::fs::remove_file(&ballast).unwrap();
    host.d("network create after");
    host.d("run --rm --network after box true");
    let names = host.d("network ls --format {{.Name}}");
    for name in names.lines().filter(|name| name.starts_with('n') && *name != "none" || *name == "after") {
        host.d(&format!("network rm {name}"));
    }
    eventually("nothing is left", || picture(&host) == before);
    // What is stored is what was answered.
    let networks = host.d("network ls --format {{.Name}}");
    host.stop();
    host.start();
    assert_eq!(host.d("network ls --format {{.Name}}"), networks);
    // What is mounted cannot be removed by the purge that comes next.
    host.stop();
    eventually("nobody uses it any more", || nix::mount::umount(&host.state_dir()).is_ok());
}

#[test]
fn a_network_that_asks_for_no_subnet_gets_one_that_the_host_has_no_way_to() {
    let mut host = Host::new();
    // A route, an address, a VPN with a table of its own, and one that takes everything by two halves.
    host.host.ip("route add 172.18.0.0/16 via 192.0.2.2");
    host.host.ip("address add 172.19.7.1/24 dev uplink");
    host.host.ip("route add 172.20.0.0/14 via 192.0.2.2 table 52");
    host.host.ip("route add 0.0.0.0/1 via 192.0.2.2");
    host.host.ip("route add 128.0.0.0/1 via 192.0.2.2");
    host.start();
    let host = &host;
    let subnet = |name: &str| {
        host.d(&format!("network create {name}"));
        host.inspect(name)["IPAM"]["Config"][0]["Subnet"].as_str().unwrap().to_owned()
    };
    assert_eq!(subnet("first"), "172.24.0.0/24");
    // One that comes while Causeway runs is heard of.
    host.host.ip("route add 172.24.1.0/24 via 192.0.2.2");
    eventually("the new route is kept clear of", || {
        let free = subnet("second") == "172.24.2.0/24";
        host.d("network rm second");
        free
    });
    // Where nothing is left the error says what helps.
    for route in ["172.16.0.0/12", "192.168.0.0/16"] {
        host.host.ip(&format!("route add {route} via 192.0.2.2"));
    }
    let said = until("the pools have run out", || {
        let created = host.docker(&["network", "create", "third"]);
        if created.status.success() {
            host.d("network rm third");
            return None;
        }
        Some(created.err())
    });
    assert!(said.contains("--subnet") && said.contains("default-address-pools"), "{said}");
}

#[test]
fn an_interface_name_that_the_container_took_itself_fails_the_connect_whole() {
    let host = Host::with_image();
    host.d("network create --subnet 10.99.1.0/24 one");
    host.d("network create --subnet 10.99.2.0/24 two");
    host.d("run -d --name tenant --network one --cap-add NET_ADMIN box sleep 1000");
    host.d("exec tenant ip link add eth1 type bridge");
    let before = picture(&host);
    let said = host.docker(&["network", "connect", "two", "tenant"]).err();
    assert!(said.contains("eth1 exists and is not ours"), "{said}");
    assert_eq!(host.inspect("two")["Containers"], serde_json::json!({}));
    eventually("nothing is left", || picture(&host) == before);
    host.d("exec tenant ip link del eth1");
    host.d("network connect two tenant");
    assert!(host.d("exec tenant ip -4 addr show eth1").contains("10.99.2."));
}
