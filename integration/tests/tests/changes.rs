//! Networks that change while containers use them.

use integration_testkit::{Finished, Host, eventually, probe};

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

/// A network of a server with a published port, a neighbour, and a client outside who knows the way to it.
struct World(Host);

impl World {
    fn up() -> Self {
        let host = Host::with_image();
        host.d("network create --subnet 10.67.0.0/24 net");
        host.d("run -d --name server --network net -p 8080:80 box probe serve 80");
        host.d("run -d --name neighbour --network net box sleep 1000");
        eventually("the server serves", || host.d("logs server").contains("serving"));
        host.client.ip(&format!("route add 10.67.0.0/24 via {}", Host::ADDRESS));
        Self(host)
    }

    fn set(&self, settings: &[&str]) -> Finished {
        let run_dir = self.0.run_dir().display().to_string();
        let mut args = vec!["network", "set", "--run-dir", &run_dir, "net"];
        args.extend(settings);
        self.0.causeway(&args)
    }

    fn outside(&self, target: &str, port: u16) -> bool {
        self.0.client.sh(&format!("{} tcp {target} {port}", probe().display())).code() == 0
    }

    fn neighbour(&self, words: &str) -> bool {
        let mut args = vec!["exec", "neighbour"];
        args.extend(words.split(' '));
        self.0.docker(&args).code() == 0
    }
}

#[test]
fn each_setting_holds_at_once_and_back_again() {
    let world = World::up();
    let host = &world.0;
    let wait = |what: &str, wanted: bool, now: &dyn Fn() -> bool| eventually(what, || now() == wanted);
    let icc = || world.neighbour("probe tcp server 80");
    wait("neighbours reach each other", true, &icc);
    world.set(&["icc=false"]).ok();
    assert!(!icc(), "icc=false lets a neighbour in");
    world.set(&["icc=true"]).ok();
    wait("neighbours reach each other again", true, &icc);

    // Without masquerade the client answers the container itself, so the way back is needed.
    let out = || world.neighbour(&format!("ping -c 1 -W 1 {}", Host::CLIENT));
    wait("the outside is reached", true, &out);
    host.client.ip(&format!("route del 10.67.0.0/24 via {}", Host::ADDRESS));
    wait("as the host", true, &out);
    world.set(&["masquerade=false"]).ok();
    assert!(!out(), "the outside knows no way back to the container's own address");
    host.client.ip(&format!("route add 10.67.0.0/24 via {}", Host::ADDRESS));
    wait("as itself", true, &out);
    world.set(&["masquerade=true"]).ok();
    wait("as the host again", true, &out);

    let internal = || !out() && !world.outside(Host::ADDRESS, 8080);
    world.set(&["internal=true"]).ok();
    wait("an internal network is closed both ways", true, &internal);
    assert!(icc(), "and open within");
    world.set(&["internal=false"]).ok();
    wait("the way out is back", true, &out);
    wait("the published port is back", true, &|| world.outside(Host::ADDRESS, 8080));

    let own = || world.outside("10.67.0.2", 80);
    assert!(!own(), "a container's address from outside");
    world.set(&["gateway-mode-ipv4=routed"]).ok();
    wait("a routed network's port by its own address", true, &own);
    wait("which is shown", true, &|| !world.0.d("ps --format {{.Ports}}").contains("8080"));
    assert!(!world.outside(Host::ADDRESS, 8080), "a routed network's port by the host's address");
    world.set(&["gateway-mode-ipv4=nat"]).ok();
    wait("the port of the host", true, &|| world.outside(Host::ADDRESS, 8080));
    assert!(!own(), "a container's address from outside again");

    world.set(&["label.a=1", "label.b=2"]).ok();
    world.set(&["label.a="]).ok();
    assert_eq!(host.inspect("net")["Labels"], serde_json::json!({"b": "2"}));
    assert_eq!(host.d("network ls -q --filter label=b=2").lines().count(), 1);
    let updates = || {
        let told = host.d("events --since 0 --until 0s --filter type=network --format {{.Action}}");
        told.lines().filter(|action| *action == "update").count()
    };
    eventually("every change is told", || updates() == 10);
}

#[test]
fn settings_that_one_of_them_spoils_are_all_refused_and_the_reason_is_told() {
    let world = World::up();
    let host = &world.0;
    let before = host.inspect("net");
    let good = ["icc=false", "internal=true", "masquerade=false", "label.x=y", "mtu=1400"];
    for (bad, says) in [
        ("icc=maybe", "maybe"),
        ("mtu=12", "mtu"),
        ("internal=perhaps", "internal is \"perhaps\""),
        ("masquerade=2", "enable_ip_masquerade"),
        ("gateway-mode-ipv4=bridge", "gateway_mode_ipv4"),
        ("subnet=10.1.0.0/16", "subnet cannot be changed: containers live by it"),
        ("gateway=10.67.0.9", "gateway cannot be changed"),
        ("ipv6=true", "ipv6 cannot be changed"),
        ("name=other", "name cannot be changed"),
        ("colour=red", "unknown setting \"colour\""),
    ] {
        let key = bad.split('=').next().unwrap();
        let mut settings: Vec<&str> = good.into_iter().filter(|one| !one.starts_with(key)).collect();
        settings.push(bad);
        let said = world.set(&settings).err();
        assert!(said.contains(says), "{bad}: {said}");
        assert_eq!(host.inspect("net"), before, "{bad}");
    }
    assert!(
        world.set(&["gateway-mode-ipv4=isolated"]).err().contains("only be used for an internal network")
    );
    assert!(world.neighbour("probe tcp server 80"));
    assert!(world.neighbour(&format!("ping -c 1 -W 60 {}", Host::CLIENT)));
    assert!(world.outside(Host::ADDRESS, 8080));
}
