//! A default bridge that the user makes, and takes away, and a configuration that changes while containers run.

use std::fs;

use integration_testkit::{Daemon, Host, Namespace, eventually, probe};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const GATEWAY: &str = "10.88.0.254";

fn make(host: &Host) {
    host.host.ip("link add lan0 type bridge");
    host.host.ip(&format!("addr add {GATEWAY}/24 dev lan0"));
    host.host.ip("link set lan0 up");
}

fn is_there(host: &Host) -> bool {
    host.host.sh("ip link show lan0").status.success()
}

fn reaches(from: &Namespace, target: &str, port: u16) -> bool {
    from.sh(&format!("{} tcp {target} {port}", probe().display())).code() == 0
}

#[test]
fn one_that_goes_is_not_made_and_its_containers_are_reached_again_when_it_is_back() {
    let host = Host::new();
    make(&host);
    let running = host.run_dockerd(&["--bridge", "lan0"]);
    host.import("box");
    host.d("run -d --name web -p 8080:80 box probe serve 80");
    let address = host.address("web", "bridge");
    eventually("the host reaches it", || reaches(&host.host, &address, 80));

    host.host.ip("link del lan0");
    let refused = || {
        let run = host.docker(&["run", "--rm", "box", "true"]);
        run.stderr.contains("bridge lan0 of network bridge is not there: it was made by somebody else")
    };
    eventually("nothing new comes to it", refused);
    // Nor does a causewayd that starts meanwhile make it, or end.
    let before = host.pid(Daemon::Network).expect("a network daemon");
    host.kill(Daemon::Network);
    eventually("another starts", || host.pid(Daemon::Network).is_some_and(|pid| pid != before));
    eventually("nothing new comes to it", refused);
    assert!(!is_there(&host), "it is the user's to make");
    assert_eq!(host.d("inspect -f {{.State.Running}} web"), "true");

    make(&host);
    eventually("the host reaches it again", || reaches(&host.host, &address, 80));
    eventually("so do clients", || reaches(&host.client, Host::ADDRESS, 8080));
    host.d(&format!("run --rm box ping -c 1 -W 60 {address}"));
    host.d("rm -f web");

    // Where nobody lives on it, containers of other networks need a causewayd all the same.
    host.d("network create other");
    host.d("run -d --name elsewhere --network other box sleep 1000");
    host.host.ip("link del lan0");
    let before = host.pid(Daemon::Network).expect("a network daemon");
    host.kill(Daemon::Network);
    eventually("another starts", || host.pid(Daemon::Network).is_some_and(|pid| pid != before));
    eventually("nothing new comes to it", refused);
    host.d("run --rm --network other box ping -c 1 -W 60 elsewhere");
    host.d("rm -f elsewhere");
    host.d("network rm other");
    make(&host);
    let said = running.end().stderr;
    // A look that is under way when it goes may fail, each of the two times; none after it does, of which one comes every 2 s.
    let failed: Vec<&str> =
        said.lines().filter_map(|line| Some(line.split_once("not as it should be")?.1)).collect();
    let often = failed.iter().filter(|&text| failed.iter().filter(|other| *other == text).count() > 2);
    assert_eq!(often.count(), 0, "it is waited for in silence: {said}");

    host.host.ip("link del lan0");
    let missing = host.dockerd_refuses(&["--bridge", "lan0"]);
    assert!(missing.contains("lan0 must be created manually"), "{missing}");
    assert!(!is_there(&host));
    make(&host);
    host.run_dockerd(&["--bridge", "lan0"]).end().ok();
    host.purge_dockerd().ok();
    assert!(host.host.ip("addr show lan0").contains(GATEWAY), "it is the user's");
}

#[test]
fn sighup_moves_the_ports_of_running_containers_and_leaves_them_their_bridge() {
    let host = Host::new();
    make(&host);
    let file = host.daemon_json("{}");
    let running = host.run_dockerd(&["--config-file", &file]);
    host.import("box");
    host.d("run -d --name web -p 8080:80 box probe serve 80");
    eventually("clients reach it", || reaches(&host.client, Host::ADDRESS, 8080));
    let address = host.address("web", "bridge");

    fs::write(&file, r#"{"ip": "127.0.0.1", "bridge": "lan0"}"#).unwrap();
    kill(Pid::from_raw(running.child.id() as i32), Signal::SIGHUP).unwrap();
    eventually("the port is where it is configured", || host.d("port web 80/tcp") == "127.0.0.1:8080");
    eventually("the host reaches it there", || reaches(&host.host, "127.0.0.1", 8080));
    assert!(!reaches(&host.client, Host::ADDRESS, 8080), "a port of 127.0.0.1 from the LAN");
    host.d(&format!("exec web ping -c 1 -W 60 {}", Host::CLIENT));
    assert!(reaches(&host.host, &address, 80));

    // Nobody lives on it any more.
    host.d("rm -f web");
    host.kill(Daemon::Network);
    eventually("the bridge is the configured one", || {
        host.docker(&["network", "inspect", "bridge"]).stdout.contains(GATEWAY)
    });
    assert!(host.d("run --rm box ip route").contains(&format!("default via {GATEWAY}")));
    let said = running.end().stderr;
    assert!(said.contains("keeps its bridge and subnets while containers use it"), "{said}");
    host.purge_dockerd().ok();
}
