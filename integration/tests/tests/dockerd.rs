//! `dockerd`: causeway under Docker's name, with Docker's command line and configuration file.

use std::{fs, path::Path};

use integration_testkit::{Host, Running, eventually, run};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

#[test]
fn docker_s_command_line_and_file_start_causeway_and_shape_its_networks() {
    let host = Host::new();
    let file = host.scratch().join("daemon.json");
    fs::write(
        &file,
        r#"{"bip": "10.9.0.1/24", "dns": ["192.0.2.53"], "dns-search": ["corp.example"], "userland-proxy": false,
            "default-address-pools": [{"base": "fd40::/48", "size": 64}, {"base": "10.40.0.0/16", "size": 26}],
            "live-restore": true}"#,
    )
    .unwrap();
    let args = [
        "--config-file",
        file.to_str().unwrap(),
        "--mtu=1400",
        "--containerd=/run/containerd/containerd.sock",
    ];
    let running = host.run_dockerd(&args);
    host.import("box");
    assert_eq!(host.inspect("bridge")["IPAM"]["Config"][0]["Subnet"], "10.9.0.0/24");
    let resolv = host.d("run --rm box cat /etc/resolv.conf");
    assert!(resolv.contains("nameserver 192.0.2.53") && resolv.contains("search corp.example"), "{resolv}");
    let link = host.d("run --rm box ip link show eth0");
    assert!(link.contains("mtu 1400"), "{link}");
    host.d("network create net");
    assert_eq!(host.inspect("net")["IPAM"]["Config"][0]["Subnet"], "10.40.0.0/26");
    host.d("network create --ipv6 six");
    assert_eq!(host.inspect("six")["IPAM"]["Config"][0]["Subnet"], "10.40.0.64/26");
    assert_eq!(host.inspect("six")["IPAM"]["Config"][1]["Subnet"], "fd40::/64");
    let pid = running.child.id();
    assert_eq!(fs::read_to_string(host.scratch().join("pid")).unwrap(), pid.to_string());
    assert!(host.dockerd_refuses(&[]).contains(&format!("process with PID {pid} is still running")));
    kill(Pid::from_raw(pid as i32), Signal::SIGTERM).unwrap();
    let said = running.finish();
    assert!(said.status.success(), "{said}");
    assert!(!host.scratch().join("pid").exists());
    host.purge_dockerd().ok();
}

#[test]
fn a_unit_s_long_command_line_starts_it_and_what_means_nothing_is_said_once() {
    let host = Host::new();
    let line = "--bip 10.51.0.1/24 --fixed-cidr 10.51.0.0/25 --default-address-pool base=10.52.0.0/16,size=24 --icc=true \
                --ip-forward=true --ip-masq=true --iptables=true --ip6tables=true --ipv6=false --userland-proxy=false \
                --userland-proxy-path /usr/bin/docker-proxy --live-restore --dns 192.0.2.53 --dns-search corp.example \
                --dns-opt ndots:2 --mtu 1450 --allow-direct-routing=false --containerd /run/containerd/containerd.sock \
                --cgroup-parent docker.slice --exec-opt native.cgroupdriver=systemd --storage-driver overlay2 \
                --log-driver json-file --log-opt max-size=10m --log-level info --default-ulimit nofile=1024:4096 \
                --max-concurrent-downloads 3 --registry-mirror https://mirror.example --insecure-registry 10.0.0.0/8 \
                --shutdown-timeout 20 --label a=b --group root --experimental --metrics-addr 127.0.0.1:9323 \
                --host-gateway-ip 192.0.2.1 --default-network-opt bridge=com.docker.network.driver.mtu=1440";
    let args: Vec<&str> = line.split_whitespace().collect();
    let running = host.run_dockerd(&args);
    host.import("box");
    host.d("run -d --name cc box sleep 1000");
    assert_eq!(host.address("cc", "bridge"), "10.51.0.2");
    host.d("network create net");
    assert_eq!(host.inspect("net")["IPAM"]["Config"][0]["Subnet"], "10.52.0.0/24");
    assert_eq!(host.inspect("net")["Options"]["com.docker.network.driver.mtu"], "1440");
    let said = running.end().stderr;
    for flag in [
        "userland-proxy",
        "userland-proxy-path",
        "live-restore",
        "containerd",
        "cgroup-parent",
        "exec-opts",
        "storage-driver",
        "max-concurrent-downloads",
        "registry-mirrors",
        "insecure-registries",
        "shutdown-timeout",
        "experimental",
        "metrics-addr",
    ] {
        let lines = said.lines().filter(|line| line.contains(&format!("dockerd: {flag} has no effect: ")));
        assert_eq!(lines.count(), 1, "{flag}: {said}");
    }
    for flag in ["bip", "icc", "iptables", "ip-forward", "mtu", "dns", "label"] {
        assert!(!said.contains(&format!("dockerd: {flag} has no effect")), "{flag}: {said}");
    }
    host.purge_dockerd().ok();
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
        let said = host.dockerd_refuses(&["-D", "--config-file", file.to_str().unwrap()]);
        assert!(said.contains(says), "{text}: {said}");
    }
    assert!(host.dockerd_refuses(&["--config-file", "/nonexistent.json"]).contains("/nonexistent.json"));
    assert!(host.dockerd_refuses(&["--fixed-cidr", "10.9.0.0"]).contains("--fixed-cidr"));
    assert!(!Path::new(&host.scratch().join("data")).exists(), "nothing was begun");
}

#[test]
fn what_only_the_daemons_can_judge_stops_the_start_once_and_by_its_name() {
    let host = Host::new();
    let file = host.scratch().join("daemon.json");
    for (text, says) in [
        (r#"{"mtu": 67}"#, "mtu"),
        (r#"{"bridge": "../x"}"#, "bridge"),
        (r#"{"bip": "10.9.0.1/24", "fixed-cidr": "10.8.0.0/24"}"#, "fixed-cidr"),
        (r#"{"default-gateway": "10.0.0.1"}"#, "default-gateway"),
        (
            r#"{"default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "x"}}}"#,
            "default-network-opts",
        ),
        (r#"{"tlsverify": true, "tlscert": "/nonexistent.pem"}"#, "/nonexistent.pem"),
        (r#"{"log-level": "loud"}"#, "log-level"),
        (r#"{"labels": ["x"]}"#, "labels"),
        (r#"{"hosts": ["tcp://x:y:z"]}"#, "hosts"),
    ] {
        fs::write(&file, text).unwrap();
        let said = host.dockerd_refuses(&["--config-file", file.to_str().unwrap()]);
        assert!(said.contains(says), "{text}: {said}");
        assert!(!said.contains("starting it again"), "{text}: {said}");
    }
    host.purge_dockerd().ok();
}

#[test]
fn several_sockets_are_served_in_the_clear_and_by_tls() {
    let host = Host::new();
    let pki = Pki::new(host.scratch());
    let tls =
        ["--tlsverify", "--tlscacert", &pki.file("ca.pem"), "--tlscert", &pki.file("cert.pem"), "--tlskey"];
    let mut args = tls.to_vec();
    let key = pki.file("key.pem");
    args.extend([key.as_str(), "-H", "tcp://127.0.0.1:2376"]);
    let running = host.run_dockerd(&args);
    host.import("box");
    let docker = |args: &[&str]| {
        let mut command = host.docker_command();
        command.env("DOCKER_HOST", "tcp://127.0.0.1:2376").args(args);
        run(command, b"")
    };
    let (ca, cert, key) = (pki.file("ca.pem"), pki.file("client.pem"), pki.file("client-key.pem"));
    let with = ["--tlsverify", "--tlscacert", &ca, "--tlscert", &cert, "--tlskey", &key];
    let mut line = with.to_vec();
    // A stream that takes the connection over, whose end is told while the other side still speaks.
    line.extend(["run", "--rm", "-i", "box", "cat"]);
    let mut command = host.docker_command();
    command.env("DOCKER_HOST", "tcp://127.0.0.1:2376").args(&line);
    assert_eq!(run(command, b"over tls").ok(), "over tls");
    let mut line = with.to_vec();
    line.extend(["ps", "-q"]);
    docker(&line).ok();
    // Neither in the clear, nor by a certificate that nobody has signed.
    docker(&["ps"]).err();
    docker(&["--tls", "ps"]).err();
    running.end().ok();
    // Without TLS it is said what that means.
    let mut running = host.dockerd(&["-H", "tcp://0.0.0.0:2375"]);
    running.args(["--label", "site=here"]);
    let running = Running::start(running);
    eventually("dockerd answers", || host.docker(&["version"]).status.success());
    let mut command = host.client.command(integration_testkit::docker_cli().to_str().unwrap());
    command.env("DOCKER_HOST", format!("tcp://{}:2375", Host::ADDRESS)).args(["info"]);
    command.env("DOCKER_CONFIG", host.scratch().join("docker-config"));
    assert!(run(command, b"").ok().contains("site=here"));
    let said = running.end();
    assert!(said.stderr.contains("without encryption"), "{said}");
    host.purge_dockerd().ok();
}

#[test]
fn sighup_rereads_the_file_and_keeps_what_was_when_it_is_wrong() {
    let host = Host::new();
    let file = host.scratch().join("daemon.json");
    fs::write(&file, r#"{"labels": ["site=here"]}"#).unwrap();
    let running = host.run_dockerd(&["--config-file", file.to_str().unwrap()]);
    let shows = |label: &str| host.docker(&["info", "-f", "{{.Labels}}"]).stdout.contains(label);
    assert!(shows("site=here"));
    host.import("box");
    host.d("run -d --name cc -p 8080:80 box sleep 1000");
    let hup = |text: &str| {
        fs::write(&file, text).unwrap();
        kill(Pid::from_raw(running.child.id() as i32), Signal::SIGHUP).unwrap();
    };
    hup(r#"{"labels": ["site=there"], "group": "nobody-of-that-name",
            "default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "1300"}}}"#);
    eventually("the label is there", || shows("site=there"));
    eventually("the option is there", || {
        host.docker(&["network", "rm", "net"]);
        host.docker(&["network", "create", "net"]).status.success()
            && host.inspect("net")["Options"]["com.docker.network.driver.mtu"] == "1300"
    });
    // One that only causewayd can judge.
    hup(
        r#"{"labels": ["site=third"], "default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "x"}}}"#,
    );
    eventually("the label is there", || shows("site=third"));
    let refused = "causewayd goes on with the settings that it had";
    eventually("causewayd has refused it", || running.complained().contains(refused));
    eventually("networks are made as before", || {
        host.docker(&["network", "rm", "net"]);
        host.docker(&["network", "create", "net"]).status.success()
            && host.inspect("net")["Options"]["com.docker.network.driver.mtu"] == "1300"
    });
    assert_eq!(host.d("inspect -f {{.State.Running}} cc"), "true");
    let said = running.end().stderr;
    assert!(said.contains("group cannot be changed"), "{said}");
    host.purge_dockerd().ok();
}

#[test]
fn forwarding_and_direct_routing_and_the_host_s_gateway_are_as_configured() {
    let host = Host::new();
    let args = ["--ip-forward=false", "--allow-direct-routing", "--host-gateway-ip", "192.0.2.99"];
    let running = host.run_dockerd(&args);
    host.import("box");
    host.d("network create --subnet 10.89.0.0/24 net");
    let forwards = || host.host.sh("cat /proc/sys/net/ipv4/ip_forward").ok();
    assert_eq!(forwards(), "0");
    let hosts = host.d("run --rm --add-host up:host-gateway box cat /etc/hosts");
    assert!(hosts.contains("192.0.2.99\tup"), "{hosts}");
    host.d("run -d --name web --network net -p 8080:80 box probe serve 80");
    eventually("the server serves", || host.d("logs web").contains("serving"));
    host.host.sh("echo 1 > /proc/sys/net/ipv4/ip_forward").ok();
    host.client.ip(&format!("route add 10.89.0.0/24 via {}", Host::ADDRESS));
    let mut command = host.client.command(integration_testkit::probe().to_str().unwrap());
    command.args(["tcp", "10.89.0.2", "80"]);
    run(command, b"").ok();
    running.end().ok();
    host.purge_dockerd().ok();
}

/// Certificates of an authority of our own, by openssl.
struct Pki(std::path::PathBuf);

impl Pki {
    fn new(scratch: &Path) -> Self {
        let pki = Self(scratch.join("pki"));
        fs::create_dir(&pki.0).unwrap();
        let openssl = |line: &str| {
            let mut command = std::process::Command::new("openssl");
            command.args(line.split(' ')).current_dir(&pki.0);
            run(command, b"").ok();
        };
        let new = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        openssl(&format!("{new} -x509 -days 2 -subj /CN=ca -keyout ca-key.pem -out ca.pem"));
        for (name, key, usage) in [
            ("cert", "key", "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth"),
            ("client", "client-key", "extendedKeyUsage=clientAuth"),
        ] {
            fs::write(pki.0.join("ext"), usage).unwrap();
            openssl(&format!("{new} -subj /CN={name} -keyout {key}.pem -out {name}.csr"));
            openssl(&format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 -extfile ext -out {name}.pem"
            ));
        }
        pki
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

#[test]
fn a_bridge_of_the_user_s_is_used_as_it_is() {
    let host = Host::new();
    let missing = host.dockerd_refuses(&["--bridge", "lan0"]);
    assert!(missing.contains("lan0 must be created manually"), "{missing}");
    host.host.ip("link add lan0 type bridge");
    let bare = host.dockerd_refuses(&["--bridge", "lan0"]);
    assert!(bare.contains("lan0") && bare.contains("its addresses are: none"), "{bare}");
    host.host.ip("addr add 10.88.0.254/24 dev lan0");
    host.host.ip("link set lan0 up");
    // Left by dockerd, say: of the default name, and with an address of its own.
    host.host.ip("link add br-user type bridge");
    host.host.ip("addr add 10.87.0.1/24 dev br-user");
    host.host.ip("link set br-user up");
    // The range is a part of the bridge's own subnet, and a router on it the way out.
    let outside = host.dockerd_refuses(&["--bridge", "lan0", "--default-gateway", "10.89.0.1"]);
    assert!(outside.contains("default-gateway: 10.89.0.1") && outside.contains("10.88.0.0/24"), "{outside}");
    let part = ["--bridge", "lan0", "--fixed-cidr", "10.88.0.128/25", "--default-gateway", "10.88.0.1"];
    let running = host.run_dockerd(&part);
    host.import("box");
    let config = &host.inspect("bridge")["IPAM"]["Config"][0];
    assert_eq!(config["Subnet"], "10.88.0.0/24", "{config}");
    assert_eq!((&config["IPRange"], &config["Gateway"]), (&"10.88.0.128/25".into(), &"10.88.0.254".into()));
    let ways = host.d("run --rm box ip -4 -o route");
    assert!(ways.contains("default via 10.88.0.1 dev eth0"), "{ways}");
    let address = host.d("run --rm box ip -4 -o addr show eth0");
    assert!(address.contains("10.88.0.128/24") || address.contains("10.88.0.129/24"), "{address}");
    drop(running);
    let running = host.run_dockerd(&["--bridge", "lan0"]);
    assert_eq!(host.inspect("bridge")["IPAM"]["Config"][0]["Subnet"], "10.88.0.0/24");
    assert_eq!(host.inspect("bridge")["IPAM"]["Config"][0]["Gateway"], "10.88.0.254");
    host.d("network create --subnet 10.87.0.0/24 -o com.docker.network.bridge.name=br-user net");
    for network in ["bridge", "net"] {
        host.d(&format!("run -d --name on-{network} --network {network} -p 80 box probe serve 80"));
        eventually("the server serves", || host.d(&format!("logs on-{network}")).contains("serving"));
        let port = host.d(&format!("port on-{network} 80/tcp"));
        let port = port.lines().next().unwrap().rsplit(':').next().unwrap().to_owned();
        let mut command = host.client.command(integration_testkit::probe().to_str().unwrap());
        command.args(["tcp", Host::ADDRESS, &port]);
        run(command, b"").ok();
        // By the host's address from a neighbour, and out of it.
        host.d(&format!("run --rm --network {network} box probe tcp {} {port}", Host::ADDRESS));
        host.d(&format!("run --rm --network {network} box ping -c 1 -W 60 {}", Host::CLIENT));
    }
    let refusal = host.docker(&[
        "network",
        "create",
        "--subnet",
        "10.86.0.0/24",
        "-o",
        "com.docker.network.bridge.name=uplink",
        "x",
    ]);
    refusal.err();
    host.d("rm -f on-net on-bridge");
    host.d("network rm net");
    running.end().ok();
    host.purge_dockerd().ok();
    for bridge in ["lan0", "br-user"] {
        assert!(host.host.ip(&format!("addr show {bridge}")).contains("inet 10.8"), "it is the user's");
    }
}

#[test]
fn a_docker0_that_dockerd_left_is_taken_over_and_none_means_none() {
    let host = Host::new();
    host.host.ip("link add docker0 type bridge");
    host.host.ip("addr add 172.17.0.1/16 dev docker0");
    let running = host.run_dockerd(&[]);
    host.import("box");
    host.host.ip("link set docker0 up");
    host.d(&format!("run --rm box ping -c 1 -W 60 {}", Host::CLIENT));
    running.end().ok();
    let running = host.run_dockerd(&["--bridge", "none"]);
    let names = host.d("network ls --format {{.Name}}");
    assert!(!names.lines().any(|name| name == "bridge"), "{names}");
    let alone = host.d("run --rm box ip -o link");
    assert_eq!(alone.lines().count(), 1, "{alone}");
    host.d("run --rm box ping -c 1 -W 60 127.0.0.1");
    running.end().ok();
    host.purge_dockerd().ok();
}
