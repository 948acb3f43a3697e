//! What `daemon.json` says, done or accepted with a line about it: a file that starts dockerd 28 starts causeway.

use std::fs;

use integration_testkit::{Host, eventually, probe, run};
use serde_json::json;

#[test]
fn every_key_that_docker_knows_starts_the_daemons_and_what_has_no_meaning_is_said() {
    let host = Host::new();
    let text = r#"{
        "debug": true, "log-level": "info", "log-format": "json", "raw-logs": true, "labels": ["a=b"], "group": "root",
        "live-restore": true, "shutdown-timeout": 30, "experimental": true, "metrics-addr": "127.0.0.1:9323",
        "features": {"buildkit": true, "containerd-snapshotter": false}, "builder": {"gc": {"enabled": true}},
        "storage-driver": "overlay2", "storage-opts": ["overlay2.size=1G"],
        "exec-opts": ["native.cgroupdriver=systemd"], "cgroup-parent": "/docker",
        "max-concurrent-downloads": 6, "max-concurrent-uploads": 6, "max-download-attempts": 6,
        "registry-mirrors": ["https://mirror.example"], "insecure-registries": ["10.0.0.0/8", "reg:5000"],
        "allow-nondistributable-artifacts": [], "proxies": {"http-proxy": "http://p:1"},
        "containerd": "/run/containerd.sock", "containerd-namespace": "a", "containerd-plugins-namespace": "b",
        "cri-containerd": false, "cdi-spec-dirs": ["/etc/cdi"], "node-generic-resources": ["GPU=1"],
        "swarm-default-advertise-addr": "eth0", "network-control-plane-mtu": 1500,
        "authorization-plugins": [], "userns-remap": "", "selinux-enabled": false, "rootless": false,
        "default-runtime": "runc", "runtimes": {"kata": {"runtimeType": "io.containerd.kata.v2"}},
        "log-driver": "syslog", "log-opts": {"syslog-address": "udp://192.0.2.9:514"},
        "userland-proxy": true, "ip": "0.0.0.0", "mtu": null, "insecure-registry": ["x"]
    }"#;
    let running = host.run_dockerd_by(text);
    host.import("box");
    // Where logs are not sent away to, they are kept and can be read.
    host.d("run --name talker box echo hello");
    assert_eq!(host.d("logs talker"), "hello");
    assert_eq!(host.d("info -f {{.LoggingDriver}}"), "local");
    let said = running.end();
    assert!(said.status.success(), "{said}");
    for key in [
        "log-format",
        "raw-logs",
        "live-restore",
        "shutdown-timeout",
        "experimental",
        "metrics-addr",
        "features",
        "builder",
        "storage-driver",
        "storage-opts",
        "exec-opts",
        "cgroup-parent",
        "max-concurrent-downloads",
        "registry-mirrors",
        "insecure-registries",
        "proxies",
        "containerd",
        "cdi-spec-dirs",
        "node-generic-resources",
        "network-control-plane-mtu",
        "the runtime kata",
        "log-driver syslog",
        "insecure-registry",
        "userland-proxy",
    ] {
        let lines =
            said.stderr.lines().filter(|line| line.contains(&format!("dockerd: {key} has no effect: ")));
        assert_eq!(lines.count(), 1, "{key}: {}", said.stderr);
    }
    host.purge_dockerd().ok();
}

#[test]
fn what_containers_get_by_default_is_as_configured() {
    let host = Host::new();
    let profile = host.scratch().join("seccomp.json");
    fs::write(
        &profile,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}"#,
    )
    .unwrap();
    let text = json!({
        "init": true, "init-path": probe(), "no-new-privileges": true,
        "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 321, "Hard": 654}},
        "log-driver": "json-file", "log-opts": {"max-size": "10m", "max-file": "3"},
        "default-shm-size": "32M", "default-ipc-mode": "shareable", "default-cgroupns-mode": "private",
        "seccomp-profile": profile,
    });
    let running = host.run_dockerd_by(&text.to_string());
    host.import("box");
    let first = |extra: &str| host.d(&format!("run --rm {extra} box cat /proc/1/cmdline")).replace('\0', " ");
    assert_eq!(first("").trim(), "/sbin/docker-init -- cat /proc/1/cmdline");
    assert_eq!(first("--init=false").trim(), "cat /proc/1/cmdline");
    assert!(!first("--pid host").contains("docker-init"), "the host has an init");
    let privileges = |extra: &str| host.d(&format!("run --rm {extra} box grep NoNewPrivs /proc/self/status"));
    assert!(privileges("").ends_with('1'));
    assert!(privileges("--security-opt no-new-privileges=false").ends_with('0'));
    let limits = |extra: &str| {
        let words = ["run", "--rm", "box", "sh", "-c", "ulimit -Sn; ulimit -Hn"].map(str::to_owned);
        let extra = extra.split_whitespace().map(str::to_owned);
        let line: Vec<String> =
            words[..2].iter().cloned().chain(extra).chain(words[2..].iter().cloned()).collect();
        host.docker(&line.iter().map(String::as_str).collect::<Vec<_>>()).ok()
    };
    assert_eq!(limits(""), "321\n654");
    assert_eq!(limits("--ulimit nofile=11:12"), "11\n12");
    assert!(host.d("run --rm box df /dev/shm").contains("32768"));
    host.docker(&["run", "--rm", "box", "mkdir", "/x"]).err();
    host.d("run --rm --security-opt seccomp=unconfined box mkdir /x");
    host.d("create --name made box true");
    let made = host.inspect("made")["HostConfig"].clone();
    assert_eq!(
        made["LogConfig"],
        json!({"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}})
    );
    assert_eq!((&made["IpcMode"], &made["CgroupnsMode"]), (&json!("shareable"), &json!("private")));
    let shown = host.d("info -f {{.SecurityOptions}}{{.LoggingDriver}}");
    assert!(shown.contains("no-new-privileges") && shown.contains("profile=custom"), "{shown}");
    running.end().ok();
    host.purge_dockerd().ok();
}

#[test]
fn containers_that_were_made_before_no_new_privileges_was_configured_keep_theirs() {
    let host = Host::new();
    let running = host.run_dockerd(&[]);
    host.import("box");
    host.d("create --name old box grep NoNewPrivs /proc/self/status");
    running.end().ok();
    let running = host.run_dockerd(&["--no-new-privileges", "--log-driver", "none"]);
    assert!(host.d("start -a old").ends_with('0'));
    host.d("run --name new box true");
    assert!(host.docker(&["logs", "new"]).err().contains("does not support reading"));
    running.end().ok();
    host.purge_dockerd().ok();
}

#[test]
fn what_would_leave_containers_less_confined_or_is_wrong_stops_the_start_by_its_name() {
    let host = Host::new();
    for (text, says) in [
        (r#"{"userns-remap": "default"}"#, "userns-remap: "),
        (r#"{"authorization-plugins": ["x"]}"#, "authorization-plugins: "),
        (r#"{"log-driver": "nosuch"}"#, "log-driver: no log driver named 'nosuch'"),
        (r#"{"log-opts": {"nosuch": "1"}}"#, "log-opts: unknown log opt 'nosuch'"),
        (
            r#"{"default-runtime": "nosuch"}"#,
            "default-runtime: specified default runtime 'nosuch' does not exist",
        ),
        (r#"{"default-ulimits": {"x": {"Hard": 1}}}"#, "default-ulimits: invalid ulimit type: x"),
        (r#"{"default-shm-size": "x"}"#, "default-shm-size: invalid size"),
        (r#"{"seccomp-profile": "/nonexistent.json"}"#, "seccomp-profile: cannot read /nonexistent.json"),
        (r#"{"runtimes": {"a": {}}}"#, "runtimes: runtime a: either"),
    ] {
        let said = host.dockerd_refuses(&["--config-file", &host.daemon_json(text)]);
        assert!(said.contains(says), "{text}: {said}");
        assert!(!said.contains("starting it again"), "{text}: {said}");
    }
    host.purge_dockerd().ok();
}

/// From a container to the client outside: the address that the client sees.
fn seen_outside(host: &Host, network: &str) -> Option<String> {
    let mut command = host.docker_command();
    command.args(["run", "--rm", "--network", network, "box", "probe", "tcp", Host::CLIENT, "7070"]);
    let said = run(command, b"");
    said.status.success().then(|| said.stdout.split(' ').next().unwrap_or_default().to_owned())
}

#[test]
fn without_iptables_there_is_no_rule_and_nothing_is_masqueraded() {
    let host = Host::new();
    let mut serve = host.client.command(probe().to_str().unwrap());
    serve.args(["serve", "7070"]);
    let _serving = integration_testkit::Running::start(serve);
    host.client.ip(&format!("route add 10.91.0.0/16 via {}", Host::ADDRESS));
    let base = r#""bip": "10.91.0.1/24""#;
    // `ip-masq` is about the default bridge alone, as in Docker.
    let running = host.run_dockerd_by(&format!(r#"{{{base}, "ip-masq": false}}"#));
    host.import("box");
    host.d("network create --subnet 10.91.1.0/24 net");
    eventually("the client serves", || seen_outside(&host, "net").as_deref() == Some(Host::ADDRESS));
    assert!(seen_outside(&host, "bridge").is_some_and(|address| address.starts_with("10.91.0.")));
    running.end().ok();

    let running = host.run_dockerd_by(&format!(r#"{{{base}, "iptables": false, "ip6tables": false}}"#));
    for (network, prefix) in [("bridge", "10.91.0."), ("net", "10.91.1.")] {
        assert!(seen_outside(&host, network).is_some_and(|address| address.starts_with(prefix)), "{network}");
    }
    let rules = host.host.sh("nft list table inet causeway").ok();
    assert!(!rules.contains("chain"), "{rules}");
    // Nobody is kept from anybody: that is for the host's own rules.
    host.d("run -d --name web --network net -p 8080:80 box probe serve 80");
    eventually("the server serves", || host.d("logs web").contains("serving"));
    let ask = |address: &str, port: &str| {
        let mut command = host.client.command(probe().to_str().unwrap());
        command.args(["tcp", address, port]);
        run(command, b"").ok()
    };
    ask(&host.address("web", "net"), "80");
    // What is published is led in by BPF, which is no rule; Docker has its proxy do it.
    ask(Host::ADDRESS, "8080");
    running.end().ok();

    // Of one family alone: the other one keeps its rules.
    let running = host.run_dockerd(&["--bip=10.91.0.1/24", "--iptables=false"]);
    assert!(seen_outside(&host, "net").is_some_and(|address| address.starts_with("10.91.1.")));
    assert!(host.host.sh("nft list table inet causeway").ok().contains("chain forward"));
    running.end().ok();
    host.purge_dockerd().ok();
}

#[test]
fn a_host_that_may_route_for_others_does_with_ip_forward_no_drop() {
    let host = Host::new();
    // A neighbour of the client's that is no container of ours.
    host.host.ip("link add guest type bridge");
    host.host.ip("addr add 10.92.0.1/24 dev guest");
    host.host.ip("link set guest up");
    let away = integration_testkit::Namespace::new("away");
    host.host.join("port", &[], &away, "eth0", &["10.92.0.2/24"]);
    host.host.ip("link set port master guest");
    away.ip("route add default via 10.92.0.1");
    host.client.ip(&format!("route add 10.92.0.0/24 via {}", Host::ADDRESS));
    host.host.sh("echo 0 > /proc/sys/net/ipv4/ip_forward").ok();
    let ping = |patience: u8| away.sh(&format!("ping -c 1 -W {patience} {}", Host::CLIENT));
    let running = host.run_dockerd(&[]);
    ping(1).err();
    running.end().ok();
    let running = host.run_dockerd(&["--ip-forward-no-drop"]);
    ping(60).ok();
    running.end().ok();
    host.purge_dockerd().ok();
}
