//! A container that runs a Causeway of its own, as build machines do.

use integration_testkit::{Daemon, Host, binary, docker_cli, eventually, probe, rootfs_tar, run};

#[test]
fn a_causeway_in_a_container_runs_containers_and_publishes_their_ports() {
    let host = Host::with_image();
    host.d("network create --subnet 10.96.0.0/24 outer");
    // Beside the outer one's directories, which it cannot see: its own root is the machine's.
    let dir = host.scratch().join("inner");
    std::fs::create_dir(&dir).unwrap();
    let (dir, causeway) = (dir.display(), binary("causeway"));
    let inner = format!("unix://{dir}/docker.sock");
    host.d(&format!(
        "run -d --name inner --privileged --cgroupns host --network outer --ip 10.96.0.9 -p 8080:8080 -v /:/rootfs \
         box busybox chroot /rootfs {} up --state-dir {dir}/state --run-dir {dir}/run -H {inner}",
        causeway.display()
    ));
    eventually("the inner one is ready", || {
        let said = host.docker(&["logs", "inner"]);
        (said.stdout + &said.stderr).contains("causeway: ready")
    });
    let command = |words: &[&str]| {
        let mut command = host.host.command(docker_cli().to_str().unwrap());
        command.args(["-H", &inner]).args(words);
        command
    };
    let docker = |line: &str| run(command(&line.split_whitespace().collect::<Vec<_>>()), b"").ok();
    run(command(&["import", "-", "box"]), rootfs_tar()).ok();
    docker("run -d --name web -p 8080:80 box probe serve 80");
    eventually("the server serves", || docker("logs web").contains("serving"));

    // By two ports that are published, from outside; by one from a neighbour of the container's; and out again.
    let mut client = host.client.command(probe().to_str().unwrap());
    client.args(["tcp", Host::ADDRESS, "8080"]);
    assert!(run(client, b"").ok().contains(Host::CLIENT));
    host.d("run --rm --network outer box probe tcp 10.96.0.9 8080");
    docker(&format!("run --rm box ping -c 1 -W 60 {}", Host::CLIENT));

    // What each made is left alone by the other, also when either starts anew.
    host.kill(Daemon::Network);
    eventually("the outer one is back", || host.docker(&["network", "inspect", "outer"]).status.success());
    host.d("run --rm --network outer box probe tcp 10.96.0.9 8080");
    docker("rm -f web");
    host.d("exec inner ping -c 1 -W 60 10.96.0.1");
    host.d("stop -t 10 inner");
    host.causeway(&[
        "down",
        "--purge",
        "--state-dir",
        &format!("{dir}/state"),
        "--run-dir",
        &format!("{dir}/run"),
    ])
    .ok();
}
