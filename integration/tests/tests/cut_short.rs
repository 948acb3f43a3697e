//! Changes of a running container that end half way: what causewayd has and what the engine has written agree afterwards,
//! and every command works.

use std::{fs, path::PathBuf, time::Duration};

use integration_testkit::{Daemon, Host, Running, eventually, until};

/// A container `cc` on network `one`; network `two` is empty.
struct World {
    host: Host,
    /// Of `cc`.
    dir: PathBuf,
}

impl World {
    fn up() -> Self {
        let host = Host::with_image();
        host.d("network create --subnet 10.83.1.0/24 one");
        host.d("network create --subnet 10.83.2.0/24 two");
        host.d("run -d --name cc --network one box sleep 1000");
        let dir = host.state_dir().join("engine/containers").join(host.inspect("cc")["Id"].as_str().unwrap());
        Self { host, dir }
    }

    fn record(&self) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.dir.join("config.json")).unwrap()).unwrap()
    }

    /// By which names causewayd knows who is on a network.
    fn on(&self, network: &str) -> Vec<String> {
        let inspect = self.host.inspect(network);
        let containers = inspect["Containers"].as_object().unwrap().values();
        containers.map(|container| container["Name"].as_str().unwrap().to_owned()).collect()
    }

    /// Does this, and takes it from the record again while the engine is killed: as if it had been killed before it wrote.
    fn unrecorded(&self, line: &str) {
        let before = fs::read(self.dir.join("config.json")).unwrap();
        self.host.d(line);
        fs::write(self.dir.join("config.json"), before).unwrap();
        self.kill(Daemon::Engine);
    }

    fn kill(&self, daemon: Daemon) {
        let before = self.host.pid(daemon);
        self.host.kill(daemon);
        until("it is started again", || self.host.pid(daemon).filter(|now| Some(*now) != before));
        eventually("the daemons answer", || self.host.docker(&["network", "ls"]).status.success());
    }

    /// Whether `cc` is on `two` in every respect; panics where they differ.
    #[track_caller]
    fn is_on_two(&self) -> bool {
        let name = self.record()["name"].as_str().unwrap().to_owned();
        let recorded = self.record()["networks"].get("two").is_some();
        let there = self.on("two");
        assert_eq!(
            there,
            if recorded { vec![name.clone()] } else { vec![] },
            "network two, by the record {recorded}"
        );
        assert_eq!(self.on("one"), [name.as_str()]);
        // Not by exec, which needs all of its directory.
        let pid = &self.host.inspect(&name)["State"]["Pid"];
        let links = self.host.host.sh(&format!("nsenter --target {pid} --net ip -br link")).ok();
        assert_eq!(links.contains("eth1"), recorded, "{links}");
        let hosts = fs::read_to_string(self.dir.join("hosts")).unwrap();
        assert_eq!(hosts.contains("10.83.2."), recorded, "{hosts}");
        recorded
    }
}

#[test]
fn what_the_engine_was_killed_before_it_wrote_did_not_happen() {
    let world = World::up();
    let host = &world.host;
    world.unrecorded("network connect two cc");
    assert!(!world.is_on_two());
    host.d("network connect two cc");
    assert!(world.is_on_two());
    world.unrecorded("network disconnect two cc");
    assert!(world.is_on_two());
    host.d("network disconnect two cc");
    assert!(!world.is_on_two());
    host.d("network rm two");
    host.d("network create --subnet 10.83.2.0/24 two");

    world.unrecorded("rename cc dd");
    assert!(!world.is_on_two());
    host.d("run -d --name dd --network one box sleep 1000");
    for name in ["cc", "dd"] {
        let answer = host.d(&format!("exec dd ping -c 1 {name}"));
        let address = host.address(name, "one");
        assert!(answer.contains(&format!("({address})")), "{name} is {address}: {answer}");
    }
}

#[test]
fn a_full_disk_leaves_a_container_on_its_networks_and_with_its_name() {
    let world = World::up();
    let host = &world.host;
    // Its files on a small filesystem of their own, which is filled.
    let dir = world.dir.display();
    let small = format!(
        "mkdir {dir}/small && mount -t tmpfs -o size=256k none {dir}/small && \
         find {dir} -maxdepth 1 -type f -exec cp {{}} {dir}/small \\; && mount --move {dir}/small {dir}"
    );
    host.host.sh(&small).ok();
    let fill = || drop(host.host.sh(&format!("dd if=/dev/zero of={dir}/filler bs=4k")));
    let free = || host.host.sh(&format!("rm {dir}/filler")).ok();

    fill();
    let text = host.docker(&["network", "connect", "two", "cc"]).err();
    assert!(text.contains("No space left on device"), "{text}");
    assert!(!world.is_on_two());
    free();
    host.d("network connect two cc");
    let address = host.address("cc", "two");
    fill();
    let text = host.docker(&["network", "disconnect", "two", "cc"]).err();
    assert!(text.contains("No space left on device"), "{text}");
    assert!(world.is_on_two());
    assert_eq!(host.address("cc", "two"), address);
    let text = host.docker(&["rename", "cc", "dd"]).err();
    assert!(text.contains("No space left on device"), "{text}");
    assert!(world.is_on_two());
    free();
    host.d("rename cc dd");
    assert!(world.is_on_two());
    host.d("network disconnect two dd");
    assert!(!world.is_on_two());
    host.host.sh(&format!("umount --lazy {dir}")).ok();
}

/// One after another, while a daemon is killed a little later each time; from either state.
fn killed_under_changes(daemon: Daemon, done: impl Fn(&World, &str, bool)) {
    let world = World::up();
    for round in 0..10 {
        let name = world.record()["name"].as_str().unwrap().to_owned();
        let other = if name == "cc" { "dd" } else { "cc" };
        let change = match world.is_on_two() {
            _ if round % 5 == 4 => format!("rename {name} {other}"),
            true => format!("network disconnect two {name}"),
            false => format!("network connect two {name}"),
        };
        let mut command = world.host.docker_command();
        command.args(change.split(' '));
        let running = Running::start(command);
        std::thread::sleep(Duration::from_millis(10 + 5 * round));
        world.kill(daemon);
        let finished = running.finish();
        done(&world, &change, finished.status.success());
        let _agreed = world.is_on_two();
    }
    let name = world.record()["name"].as_str().unwrap().to_owned();
    if world.is_on_two() {
        world.host.d(&format!("network disconnect two {name}"));
    }
    world.host.d(&format!("network connect two {name}"));
    assert!(world.is_on_two());
    world.host.d(&format!("network disconnect two {name}"));
    assert!(!world.is_on_two());
}

#[test]
fn causewayd_killed_at_any_moment_of_a_change_does_not_fail_it() {
    killed_under_changes(Daemon::Network, |world, change, success| {
        assert!(success, "{change} failed:\n{}", world.host.log_tail());
    });
}

#[test]
fn the_engine_killed_at_any_moment_of_a_change_leaves_it_done_or_not_begun() {
    killed_under_changes(Daemon::Engine, |_, _, _| {});
}

#[test]
fn a_change_beside_a_removal_is_done_or_refused() {
    let host = Host::with_image();
    host.d("network create net");
    let api = host.api();
    for round in 0..15 {
        host.d("create --name cc --network net box true");
        let id = host.inspect("cc")["Id"].as_str().unwrap().to_owned();
        let (rename, disconnect) =
            (format!("/containers/{id}/rename?name=dd"), "/networks/net/disconnect".to_owned());
        let changes = [(rename, serde_json::json!({})), (disconnect, serde_json::json!({"Container": id}))];
        std::thread::scope(|scope| {
            let removal = scope.spawn(|| api.delete(&format!("/containers/{id}")).status);
            for (path, body) in &changes {
                // A little later each time, so that they meet it in each of its phases.
                std::thread::sleep(Duration::from_micros(300 * round));
                let answer = api.post(path, body);
                let text = String::from_utf8_lossy(&answer.body);
                assert!([200, 204, 404, 409].contains(&answer.status), "{path}: {} {text}", answer.status);
            }
            assert_eq!(removal.join().unwrap(), 204);
        });
    }
}
