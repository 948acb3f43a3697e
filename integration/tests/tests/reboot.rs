//! What a reboot of the host leaves of containers and networks.

use integration_testkit::{Host, eventually};

#[test]
fn containers_get_the_addresses_back_that_they_had_whoever_starts_first() {
    let mut host = Host::with_image();
    host.d("network create --subnet 10.78.0.0/28 net");
    // Leases go from the lowest address up. The ones that come back must not be given theirs by their order alone.
    for name in ["first", "second", "third"] {
        host.d(&format!("run -d --name {name} --restart unless-stopped --network net box sleep 1000"));
    }
    host.d("create --name stopped --network net --ip 10.78.0.5 box sleep 1000");
    host.d("run -d --name fixed --restart always --network net --ip 10.78.0.9 box sleep 1000");
    host.d("rm -f first");
    host.d("run -d --name late --restart unless-stopped --network net box sleep 1000");
    host.d("stop -t 0 second");
    // A network that comes while they run is remembered like those that they started on.
    host.d("network create --subnet 10.77.0.0/28 other");
    host.d("run -d --name guest --network other box sleep 1000");
    host.d("network connect other third");
    host.d("rm -f guest");
    assert_eq!(host.address("third", "other"), "10.77.0.3");
    let had = ["third", "fixed", "late"].map(|name| host.address(name, "net"));
    assert_eq!(had, ["10.78.0.4", "10.78.0.9", "10.78.0.2"]);

    host.reboot();
    host.start();
    eventually("they run again", || {
        ["third", "fixed", "late"].iter().all(|name| host.inspect(name)["State"]["Status"] == "running")
    });
    assert_eq!(["third", "fixed", "late"].map(|name| host.address(name, "net")), had);
    assert_eq!(host.address("third", "other"), "10.77.0.3");

    // Nobody is given what a container that stands still had or asked for, while there are others.
    host.d("run -d --name newcomer --network net box sleep 1000");
    assert_eq!(host.address("newcomer", "net"), "10.78.0.6");
    host.d("run -d --name another --network net box sleep 1000");
    assert_eq!(host.address("another", "net"), "10.78.0.7");
    for (name, address) in [("second", "10.78.0.3"), ("stopped", "10.78.0.5")] {
        host.d(&format!("start {name}"));
        assert_eq!(host.address(name, "net"), address);
    }
    assert!(host.docker(&["exec", "newcomer", "ping", "-c1", "-W60", "third"]).status.success());
}

#[test]
fn networks_volumes_and_published_ports_are_there_after_a_reboot() {
    let mut host = Host::with_image();
    host.d("network create --subnet 10.79.0.0/24 -o com.docker.network.bridge.name=br-kept kept");
    host.d("run -d --name web --restart always --network kept -p 8080:80 -v data:/www box httpd -f -h /www");
    host.docker(&["exec", "web", "sh", "-c", "echo kept > /www/index.html"]).ok();
    let id = host.inspect("kept")["Id"].clone();

    host.reboot();
    host.start();
    assert_eq!(host.inspect("kept")["Id"], id);
    eventually("the page is served", || {
        let page = host.client.sh(&format!("busybox wget -qO- http://{}:8080/", Host::ADDRESS));
        page.status.success() && page.stdout == "kept\n"
    });
}

#[test]
fn containers_that_need_others_run_again_after_a_reboot() {
    let mut host = Host::with_image();
    for n in 0..4 {
        host.d(&format!("run -d --name vpn{n} --restart always -h vpn box sleep 1000"));
        host.d(&format!("run -d --name app{n} --restart always --network container:vpn{n} box sleep 1000"));
        host.d(&format!("run -d --name linked{n} --restart unless-stopped --link app{n}:x box sleep 1000"));
    }
    let all: Vec<String> =
        ["vpn", "app", "linked"].iter().flat_map(|name| (0..4).map(move |n| format!("{name}{n}"))).collect();
    host.reboot();
    host.start();
    let settled = |name: &String| !["restarting", "created"].contains(&status(&host, name).as_str());
    eventually("all of them are decided about", || all.iter().all(settled));
    let down: Vec<&String> = all.iter().filter(|name| status(&host, name) != "running").collect();
    assert!(down.is_empty(), "{down:?} stay down: {}", host.log_tail());
    for n in 0..4 {
        let address = host.address(&format!("vpn{n}"), "bridge");
        let inside = host.d(&format!("exec app{n} ip -4 addr show eth0"));
        assert!(inside.contains(&format!("{address}/")), "{inside}");
        let hosts = host.d(&format!("exec linked{n} cat /etc/hosts"));
        assert!(hosts.contains(&format!("{address}\tx vpn")), "{hosts}");
    }
}

fn status(host: &Host, name: &str) -> String {
    host.inspect(name)["State"]["Status"].as_str().unwrap().to_owned()
}
