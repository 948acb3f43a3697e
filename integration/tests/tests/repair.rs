//! What somebody else breaks is noticed at once, made good again, and told: by notifications, long before the next look
//! at everything. Each harm is followed by a packet.

use std::time::{SystemTime, UNIX_EPOCH};

use integration_testkit::{Finished, Host, eventually, until};

/// Two containers on a network with both families, one with a published port.
struct World {
    host: Host,
    bridge: String,
    /// The host's end of each container's pair.
    veths: [String; 2],
}

impl World {
    fn up() -> Self {
        let host = Host::with_image();
        host.d("network create --ipv6 --subnet 10.85.0.0/24 --subnet fd85::/64 net");
        host.d("run -d --name server --network net -p 8080:80 box probe serve 80");
        host.d("run -d --name asker --network net --cap-add NET_ADMIN box sleep 1000");
        eventually("the server serves", || host.d("logs server").contains("serving"));
        let bridge = format!("br-{}", &host.d("network inspect -f {{.Id}} net")[..12]);
        let run_dir = host.run_dir().display().to_string();
        let shown = host.causeway(&["topology", "--run-dir", &run_dir, "--format", "json"]).ok();
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        let net = shown["networks"].as_array().unwrap().iter().find(|n| n["name"] == "net").unwrap().clone();
        let veth = |name: &str| {
            let endpoints = net["endpoints"].as_array().unwrap();
            let endpoint = endpoints.iter().find(|e| e["container"] == name).unwrap();
            endpoint["host_link"].as_str().unwrap().to_owned()
        };
        let veths = [veth("server"), veth("asker")];
        let world = Self { host, bridge, veths };
        world.is_whole("at first");
        world
    }

    fn inside(&self, container: &str, line: &str) -> Finished {
        let id = self.host.d(&format!("inspect -f {{{{.Id}}}} {container}"));
        let namespace = self.host.run_dir().join("netns").join(id);
        self.host.host.sh(&format!("nsenter --net={} -- {line}", namespace.display()))
    }

    fn is_whole(&self, when: &str) {
        let asks =
            |target: &str| self.host.docker(&["exec", "asker", "probe", "tcp", target, "80"]).code() == 0;
        eventually(&format!("neighbours reach each other {when}"), || asks("10.85.0.2") && asks("fd85::2"));
        let outside =
            || self.host.docker(&["exec", "asker", "ping", "-c", "1", "-W", "1", Host::CLIENT]).code() == 0;
        eventually(&format!("the outside is reached {when}"), outside);
        let probe = integration_testkit::probe();
        let published = || {
            let line = format!("{} tcp {} 8080", probe.display(), Host::ADDRESS);
            self.host.client.sh(&line).code() == 0
        };
        eventually(&format!("the published port is open {when}"), published);
    }

    /// Does harm, waits until a repair of `what` is told, and looks at packets. It must not have been the look at everything
    /// that found it, which comes every 30 s; that may be just under way once, and is not the next time.
    fn repairs(&self, harm: impl Fn(&Self), what: &str) {
        let heard = (0..3).any(|_| {
            let before = self.found_by_looking();
            self.repair(&harm, what);
            self.found_by_looking() == before
        });
        assert!(heard, "a harm to {what} is found by looks at everything alone: {}", self.host.log_tail());
    }

    /// How many repairs were made by the look at everything.
    fn found_by_looking(&self) -> usize {
        let log = std::fs::read_to_string(self.host.log()).unwrap();
        log.lines().filter(|line| line.contains("repaired") && line.contains("reason=Resync")).count()
    }

    fn repair(&self, harm: &impl Fn(&Self), what: &str) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let since = format!("{}.{:09}", since.as_secs(), since.subsec_nanos());
        harm(self);
        let told = until(&format!("the repair of {what} is told"), || {
            let args = ["events", "--since", &since, "--until", "0s", "--filter", "event=repaired"];
            let told = self.host.docker(&args).ok();
            told.contains(what).then_some(told)
        });
        assert!(told.contains("network repaired"), "{told}");
        self.is_whole(&format!("after a repair of {what}"));
    }
}

fn on_host(line: String) -> impl Fn(&World) {
    move |world| drop(world.host.host.sh(&line).ok())
}

#[test]
fn what_is_removed_from_the_host_comes_back() {
    let world = World::up();
    world.repairs(on_host("nft flush ruleset".into()), "table inet causeway");
    world.repairs(on_host("nft delete table bridge causeway".into()), "table bridge causeway");
    world.repairs(on_host("nft flush chain inet causeway forward".into()), "table inet causeway");
    let element = format!("nft delete element inet causeway bridges '{{ {} }}'", world.bridge);
    world.repairs(on_host(element), &world.bridge);
    let bridge = &world.bridge;
    world.repairs(on_host(format!("ip addr del 10.85.0.1/24 dev {bridge}")), "10.85.0.1/24");
    world.repairs(on_host(format!("ip -6 addr del fd85::1/64 dev {bridge}")), "fd85::1/64");
    world.repairs(on_host("echo 0 > /proc/sys/net/ipv4/ip_forward".into()), "net/ipv4/ip_forward");
    let forwarding = "net/ipv6/conf/all/forwarding";
    world.repairs(on_host(format!("echo 0 > /proc/sys/{forwarding}")), forwarding);
}

#[test]
fn links_that_are_deleted_or_put_down_come_back_with_what_was_on_them() {
    let world = World::up();
    let (bridge, [server, asker]) = (&world.bridge, &world.veths);
    world.repairs(on_host(format!("ip link set {bridge} down")), bridge);
    world.repairs(on_host(format!("ip link set {asker} down")), asker);
    world.repairs(on_host(format!("ip link set {asker} nomaster")), asker);
    world.repairs(on_host(format!("ip link del {server}")), server);
    world.repairs(|world| drop(world.inside("asker", "ip link del eth0").ok()), asker);
    world.repairs(on_host(format!("ip link del {bridge}")), bridge);
}

#[test]
fn what_a_container_takes_from_itself_comes_back() {
    let world = World::up();
    let asker = &world.veths[1];
    for (line, what) in [
        ("ip route del default", "0.0.0.0/0"),
        ("ip -6 route del default", "::/0"),
        ("ip addr del 10.85.0.3/24 dev eth0", "10.85.0.3/24"),
        ("ip link set eth0 down", asker.as_str()),
        ("ip link set eth0 mtu 1300", asker.as_str()),
    ] {
        world.repairs(|world| drop(world.inside("asker", line).ok()), what);
    }
}
