//! Networks that change while containers use them.

use integration_testkit::{Host, eventually};

#[test]
fn a_network_changes_under_a_running_container_or_refuses_whole() {
    let host = Host::with_image();
    let run_dir = host.run_dir();
    let set = |settings: &[&str]| {
        let mut args = vec!["network", "set", "--run-dir", run_dir.to_str().expect("a path in UTF-8"), "net"];
        args.extend(settings);
        host.causeway(&args)
    };
    host.d("network create net");
    host.d("run -d --name server --network net box probe serve 80");
    eventually("the server serves", || host.d("logs server").contains("serving"));
    let mtu = || host.d("exec server cat /sys/class/net/eth0/mtu").trim().to_owned();
    let reached = || {
        host.docker(&["run", "--rm", "--network", "net", "box", "probe", "tcp", "server", "80"]).code() == 0
    };
    assert!(reached());

    assert_eq!(set(&["mtu=1400", "icc=false", "label.tier=back"]).ok().trim(), "net");
    assert_eq!(mtu(), "1400");
    assert!(!reached(), "a neighbour is reached without icc");
    assert_eq!(host.inspect("net")["Labels"]["tier"], "back");

    let text = set(&["mtu=9", "icc=true"]).err();
    assert!(text.contains("com.docker.network.driver.mtu"), "{text}");
    assert!(set(&["subnet=10.0.0.0/8"]).err().contains("subnet cannot be changed"));
    assert_eq!(mtu(), "1400");

    set(&["icc=", "internal=true"]).ok();
    assert!(reached());
    assert!(!host.d("exec server ip route").contains("default"), "an internal network has a way out");
}
