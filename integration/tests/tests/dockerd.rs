//! `dockerd`: causeway under Docker's name, with Docker's command line and configuration file.

use std::{fs, os::unix::fs::symlink, path::Path};

use integration_testkit::{Finished, Host, Running, binary, eventually, run};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A link to causeway under Docker's name, and everything else below the host's own directory.
fn dockerd(host: &Host, args: &[&str]) -> std::process::Command {
    let link = host.scratch().join("dockerd");
    if !link.exists() {
        symlink(binary("causeway"), &link).unwrap();
    }
    let at = |name: &str| host.scratch().join(name).display().to_string();
    let mut command = host.host.command(link.to_str().unwrap());
    command.args(["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid")]);
    command.args(["-H", &host.docker_host()]).args(args);
    command
}

fn refused(host: &Host, args: &[&str]) -> String {
    run(dockerd(host, args), b"").err()
}

fn purge(host: &Host) -> Finished {
    let at = |name: &str| host.scratch().join(name).join("causeway").display().to_string();
    host.causeway(&["down", "--purge", "--state-dir", &at("data"), "--run-dir", &at("exec")])
}

#[test]
fn docker_s_command_line_and_file_start_causeway_and_shape_its_networks() {
    let host = Host::new();
    let file = host.scratch().join("daemon.json");
    fs::write(
        &file,
        r#"{"bip": "10.9.0.1/24", "dns": ["192.0.2.53"], "dns-search": ["corp.example"], "userland-proxy": false,
            "default-address-pools": [{"base": "10.40.0.0/16", "size": 26}], "live-restore": true}"#,
    )
    .unwrap();
    let args = [
        "--config-file",
        file.to_str().unwrap(),
        "--mtu=1400",
        "--containerd=/run/containerd/containerd.sock",
    ];
    let running = Running::start(dockerd(&host, &args));
    eventually("dockerd answers", || host.docker(&["version"]).status.success());
    host.import("box");
    assert_eq!(host.inspect("bridge")["IPAM"]["Config"][0]["Subnet"], "10.9.0.0/24");
    let resolv = host.d("run --rm box cat /etc/resolv.conf");
    assert!(resolv.contains("nameserver 192.0.2.53") && resolv.contains("search corp.example"), "{resolv}");
    let link = host.d("run --rm box ip link show eth0");
    assert!(link.contains("mtu 1400"), "{link}");
    host.d("network create net");
    assert_eq!(host.inspect("net")["IPAM"]["Config"][0]["Subnet"], "10.40.0.0/26");
    let pid = running.child.id();
    assert_eq!(fs::read_to_string(host.scratch().join("pid")).unwrap(), pid.to_string());
    assert!(refused(&host, &[]).contains(&format!("process with PID {pid} is still running")));
    kill(Pid::from_raw(pid as i32), Signal::SIGTERM).unwrap();
    let said = running.finish();
    assert!(said.status.success(), "{said}");
    assert!(!host.scratch().join("pid").exists());
    purge(&host).ok();
}

#[test]
fn what_is_wrong_stops_the_start_by_its_name() {
    let host = Host::new();
    let file = host.scratch().join("daemon.json");
    for (text, says) in [
        (r#"{"bipp": "10.9.0.1/24"}"#, "don't match any configuration option: bipp"),
        (r#"{"bip": "10.9.0.300/24"}"#, "bip: \"10.9.0.300/24\" is not"),
        (r#"{"mtu": "big"}"#, "mtu: \"big\" is not"),
        (
            r#"{"debug": true, "icc": false}"#,
            "both as a flag and in the configuration file: debug: (from flag: true",
        ),
        ("{", "invalid JSON"),
    ] {
        fs::write(&file, text).unwrap();
        let said = refused(&host, &["-D", "--config-file", file.to_str().unwrap()]);
        assert!(said.contains(says), "{text}: {said}");
    }
    assert!(refused(&host, &["--config-file", "/nonexistent.json"]).contains("/nonexistent.json"));
    assert!(refused(&host, &["--fixed-cidr", "10.9.0.0"]).contains("--fixed-cidr"));
    assert!(!Path::new(&host.scratch().join("data")).exists(), "nothing was begun");
}
