//! Published ports, by real packets: from outside, from the host, from other containers.

mod published;

use integration_testkit::{Daemon, Finished, Host, eventually, probe};
use published::{Backend, ask, ports, seen, serve, with_each_backend};

with_each_backend!(
    an_outside_client_reaches_a_published_port_and_is_seen_by_its_own_address,
    the_host_reaches_a_published_port_by_its_address_and_by_localhost,
    containers_reach_a_published_port_by_the_hosts_address_from_any_network_and_from_itself,
    a_container_on_two_networks_is_reached_from_both_and_from_outside,
    a_port_on_one_host_address_is_not_served_on_another,
    a_network_says_where_ports_are_published_that_name_no_address,
    a_range_leads_to_a_range_port_by_port,
    publish_all_takes_ports_of_the_ephemeral_range_for_what_is_exposed,
    any_port_is_one_of_the_hosts_range_that_no_process_has,
    the_kernel_gives_a_published_port_to_nobody_who_asks_for_any,
    a_port_that_is_taken_is_refused_by_name_and_nothing_of_the_start_remains,
    a_port_that_a_process_of_the_host_listens_on_is_refused,
    a_port_is_closed_when_its_container_stops_and_open_again_after_a_restart,
    ports_of_a_running_container_come_and_go_and_stay_over_a_restart,
    a_change_of_ports_cuts_no_connection_by_the_others,
    all_ports_of_the_host_are_one_range,
);

fn v6_network(host: &Host) {
    host.d("network create --ipv6 --subnet 10.61.0.0/24 --subnet fd61::/64 dual");
}

fn an_outside_client_reaches_a_published_port_and_is_seen_by_its_own_address(backend: Backend) {
    let host = backend.with_image();
    v6_network(&host);
    serve(&host, "web", &["--network", "dual", "-p", "8080:80", "-p", "8080:80/udp"]);
    assert_eq!(seen(&host.client, "tcp 192.0.2.1 8080"), Host::CLIENT);
    assert_eq!(seen(&host.client, "udp 192.0.2.1 8080"), Host::CLIENT);
    assert_eq!(seen(&host.client, "tcp 2001:db8::1 8080"), Host::CLIENT6);
    assert_eq!(seen(&host.client, "udp 2001:db8::1 8080"), Host::CLIENT6);
    // Large enough for segmentation offload on the way in and out.
    ask(&host.client, "tcp 192.0.2.1 8080 8000000").ok();
    ask(&host.client, "tcp 2001:db8::1 8080 8000000").ok();
}

fn the_host_reaches_a_published_port_by_its_address_and_by_localhost(backend: Backend) {
    let host = backend.with_image();
    v6_network(&host);
    serve(&host, "web", &["--network", "dual", "-p", "8080:80", "-p", "8080:80/udp"]);
    for address in ["192.0.2.1", "127.0.0.1", "2001:db8::1", "::1"] {
        for transport in ["tcp", "udp"] {
            let client = || seen(&host.host, &format!("{transport} {address} 8080"));
            let gateway = if address.contains(':') { "fd61::1" } else { "10.61.0.1" };
            match (backend, address) {
                (Backend::Ebpf, _) | (Backend::Nftables, "127.0.0.1") => assert_eq!(client(), gateway),
                // Refused at once, as where nobody listens.
                (Backend::Nftables, "::1") => drop(ask(&host.host, &format!("{transport} ::1 8080")).err()),
                (Backend::Nftables, _) => assert_eq!(client(), address),
            }
        }
    }
    ask(&host.host, "tcp 127.0.0.1 8080 4000000").ok();
}

fn containers_reach_a_published_port_by_the_hosts_address_from_any_network_and_from_itself(backend: Backend) {
    let host = backend.with_image();
    host.d("network create --subnet 10.62.0.0/24 here");
    host.d("network create --subnet 10.63.0.0/24 elsewhere");
    serve(&host, "web", &["--network", "here", "-p", "8080:80", "-p", "8080:80/udp"]);
    host.d("run -d --name neighbour --network here box sleep 1000");
    host.d("run -d --name stranger --network elsewhere box sleep 1000");
    for client in ["neighbour", "stranger", "web"] {
        for transport in ["tcp", "udp"] {
            host.d(&format!("exec {client} probe {transport} 192.0.2.1 8080"));
        }
    }
    let neighbour = host.address("neighbour", "here");
    let answer = host.d("exec neighbour probe tcp 192.0.2.1 8080");
    // By nftables it is the gateway, where the bridge's frames do not pass the rules (br_netfilter).
    let seen =
        answer.starts_with(&neighbour) || (backend == Backend::Nftables && answer.starts_with("10.62.0.1 "));
    assert!(seen, "{answer}");
    host.d("exec stranger probe tcp 192.0.2.1 8080 2000000");
    // The published port is the only way between the two networks.
    let web = host.address("web", "here");
    host.docker(&["exec", "stranger", "probe", "tcp", &web, "80"]).err();
}

fn a_container_on_two_networks_is_reached_from_both_and_from_outside(backend: Backend) {
    let host = backend.with_image();
    host.d("network create --subnet 10.64.0.0/24 first");
    host.d("network create --subnet 10.65.0.0/24 second");
    serve(&host, "web", &["--network", "first", "-p", "8080:80", "-p", "8080:80/udp"]);
    host.d("network connect second web");
    for network in ["first", "second"] {
        host.d(&format!("run -d --name of-{network} --network {network} box sleep 1000"));
    }
    for transport in ["tcp", "udp"] {
        for client in ["of-first", "of-second"] {
            host.d(&format!("exec {client} probe {transport} 192.0.2.1 8080"));
        }
        seen(&host.client, &format!("{transport} 192.0.2.1 8080"));
    }
}

fn a_port_on_one_host_address_is_not_served_on_another(backend: Backend) {
    let host = backend.with_image();
    serve(&host, "web", &["-p", "127.0.0.1:8080:80"]);
    seen(&host.host, "tcp 127.0.0.1 8080");
    ask(&host.client, "tcp 192.0.2.1 8080").err();
    ask(&host.host, "tcp 192.0.2.1 8080").err();
}

fn a_network_says_where_ports_are_published_that_name_no_address(backend: Backend) {
    let host = backend.with_image();
    let binding =
        |family: &str, address: &str| format!("-o com.docker.network.bridge.host_binding_{family}={address}");
    let (v4, v6) = (binding("ipv4", "127.0.0.1"), binding("ipv6", "2001:db8::1"));
    host.d(&format!("network create --ipv6 --subnet 10.61.0.0/24 --subnet fd61::/64 {v4} {v6} bound"));
    serve(&host, "web", &["--network", "bound", "-p", "8080:80", "-p", "192.0.2.1:8081:80"]);
    assert_eq!(host.d("port web 80"), "127.0.0.1:8080\n192.0.2.1:8081\n[2001:db8::1]:8080");
    seen(&host.host, "tcp 127.0.0.1 8080");
    seen(&host.client, "tcp 2001:db8::1 8080");
    ask(&host.client, "tcp 192.0.2.1 8080").err();
    seen(&host.client, "tcp 192.0.2.1 8081");
}

fn a_range_leads_to_a_range_port_by_port(backend: Backend) {
    let host = backend.with_image();
    host.docker(&[
        "run",
        "-d",
        "--name",
        "web",
        "-p",
        "9000-9004:80-84",
        "box",
        "sh",
        "-c",
        "probe serve 80 & probe serve 84 & wait",
    ])
    .ok();
    eventually("both serve", || host.d("logs web").matches("serving").count() == 2);
    seen(&host.client, "tcp 192.0.2.1 9000");
    seen(&host.client, "tcp 192.0.2.1 9004");
    ask(&host.client, "tcp 192.0.2.1 9002").err();
    let shown = host.d("ps --format {{.Ports}}");
    assert!(shown.contains("0.0.0.0:9000->80/tcp") && shown.contains("[::]:9004->84/tcp"), "{shown}");
}

fn publish_all_takes_ports_of_the_ephemeral_range_for_what_is_exposed(backend: Backend) {
    let host = backend.with_image();
    serve(&host, "web", &["-P", "--expose", "80", "--expose", "80/udp"]);
    let shown = host.d("port web 80/tcp");
    let port: u16 = shown.lines().next().unwrap().rsplit(':').next().unwrap().parse().unwrap();
    assert!(port >= 32768, "{shown}");
    seen(&host.client, &format!("tcp 192.0.2.1 {port}"));
    assert_eq!(host.d("port web").lines().filter(|line| line.starts_with("80/udp")).count(), 2);
}

fn any_port_is_one_of_the_hosts_range_that_no_process_has(backend: Backend) {
    let mut host = backend.host();
    host.host.sh("echo 40000 40001 > /proc/sys/net/ipv4/ip_local_port_range").ok();
    host.start();
    host.import("box");
    let mut command = host.host.command(probe().to_str().unwrap());
    command.args(["serve", "40000"]);
    let _listener = integration_testkit::Running::start(command);
    eventually("the process listens", || ask(&host.client, "tcp 192.0.2.1 40000").status.success());
    serve(&host, "web", &["-p", "80"]);
    assert!(host.d("port web 80/tcp").contains("0.0.0.0:40001"));
    seen(&host.client, "tcp 192.0.2.1 40001");
    let text = host.docker(&["run", "--rm", "-p", "80", "box", "true"]).err();
    assert!(text.contains("all ports are allocated"), "{text}");
    // The same port on two addresses of the host is two ports, and a choice takes the first that is free.
    host.d("run -d --name two -p 127.0.0.1:40100:80 box probe serve 80");
    serve(&host, "three", &["-p", "40100-40105:80", "-p", "192.0.2.1:40200:80", "-p", "127.0.0.1:40200:80"]);
    assert!(host.d("port three").contains("0.0.0.0:40101"), "{}", host.d("port three"));
    seen(&host.client, "tcp 192.0.2.1 40101");
    seen(&host.client, "tcp 192.0.2.1 40200");
}

fn the_kernel_gives_a_published_port_to_nobody_who_asks_for_any(backend: Backend) {
    let mut host = backend.host();
    let setting = "/proc/sys/net/ipv4/ip_local_reserved_ports";
    host.host
        .sh(&format!(
            "echo 40000 40009 > /proc/sys/net/ipv4/ip_local_port_range; echo 40008-40010 > {setting}"
        ))
        .ok();
    host.start();
    host.import("box");
    let reserved = |host: &Host| host.host.sh(&format!("cat {setting}")).ok().trim_end().to_owned();
    serve(&host, "web", &["-p", "40001-40002:80-81", "-p", "40008:88", "-p", "8080:80"]);
    serve(&host, "other", &["-p", "192.0.2.1:40005:80/udp"]);
    assert_eq!(reserved(&host), "40001-40002,40005,40008-40010");
    host.kill(Daemon::Network);
    host.d("rm -f other");
    eventually("what is withdrawn is free", || reserved(&host) == "40001-40002,40008-40010");
    // The host's own stay, also the one that was published too.
    host.d("rm -f web");
    eventually("what is withdrawn is free", || reserved(&host) == "40008-40010");
    serve(&host, "web", &["-p", "40003:80"]);
    assert_eq!(reserved(&host), "40003,40008-40010");
    host.d("rm -f web");
    serve(&host, "again", &["-p", "40004:80"]);
    host.purge().ok();
    assert_eq!(reserved(&host), "40008-40010");
}

fn a_port_that_is_taken_is_refused_by_name_and_nothing_of_the_start_remains(backend: Backend) {
    let host = backend.with_image();
    serve(&host, "web", &["-p", "8080:80"]);
    let text = host.docker(&["run", "-d", "--name", "second", "-p", "8080:80", "box", "sleep", "100"]).err();
    let words = "Bind for 0.0.0.0:8080 failed: port is already allocated: container web publishes 8080/tcp";
    assert!(text.contains(words), "{text}");
    assert_eq!(host.inspect("second")["State"]["Status"], "created");
    seen(&host.client, "tcp 192.0.2.1 8080");
    // Free again with the container that had it.
    host.d("rm -f web");
    host.d("start second");
}

fn a_port_that_a_process_of_the_host_listens_on_is_refused(backend: Backend) {
    let host = backend.with_image();
    let mut command = host.host.command(probe().to_str().unwrap());
    command.args(["serve", "8080"]);
    let _listener = integration_testkit::Running::start(command);
    eventually("the process listens", || ask(&host.host, "tcp 127.0.0.1 8080").status.success());
    let text = host.docker(&["run", "--rm", "-p", "8080:80", "box", "true"]).err();
    assert!(text.contains("0.0.0.0:8080/tcp: address already in use: process probe"), "{text}");
    // Of a range, each is asked for.
    let text = host.docker(&["run", "--rm", "-p", "8000-8999:1000-1999", "box", "true"]).err();
    let says = "0.0.0.0:8000-8999/tcp: address already in use: process probe";
    assert!(text.contains(says) && text.contains("has 8080/tcp"), "{text}");
}

/// By eBPF alone: the kernel's rules are not asked about sockets.
#[test]
fn a_port_that_a_container_publishes_is_refused_to_a_process_of_the_host_while_it_runs() {
    let host = Backend::Ebpf.with_image();
    serve(&host, "web", &["-p", "8080:80"]);
    let listen = |seconds: &str| {
        let mut command = host.host.command("timeout");
        command.args([seconds, probe().to_str().unwrap(), "serve", "8080"]);
        command.output().unwrap()
    };
    let refused = listen("60");
    // Of timeout(1): it was still running.
    assert_ne!(refused.status.code(), Some(124));
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(text.contains("ddress already in use"), "{text}");
    // The engine itself asks the host before it publishes a port, and is not in its own way.
    host.d("restart -t 0 web");
    seen(&host.client, "tcp 192.0.2.1 8080");
    host.d("stop -t 0 web");
    eventually("the port is free", || listen("2").status.code() == Some(124));
}

fn a_port_is_closed_when_its_container_stops_and_open_again_after_a_restart(backend: Backend) {
    let host = backend.with_image();
    serve(&host, "web", &["-p", "8080:80"]);
    seen(&host.client, "tcp 192.0.2.1 8080");
    host.d("stop -t 0 web");
    ask(&host.client, "tcp 192.0.2.1 8080").err();
    host.d("start web");
    eventually("the port is open", || ask(&host.client, "tcp 192.0.2.1 8080").status.success());
}

fn ports_of_a_running_container_come_and_go_and_stay_over_a_restart(backend: Backend) {
    let mut host = backend.with_image();
    serve(&host, "web", &["-p", "8080:80"]);
    serve(&host, "other", &["-p", "9000:80"]);
    ports(&host, "add web 8081:80 9100-9109:9100-9109/udp").ok();
    seen(&host.client, "tcp 192.0.2.1 8081");
    seen(&host.host, "tcp 127.0.0.1 8081");
    let figures: serde_json::Value =
        serde_json::from_str(&ports(&host, "ls web --format json").ok()).unwrap();
    let counted = figures["Ports"].as_array().unwrap().iter().map(|p| p["Packets"].as_u64().unwrap_or(0));
    assert!(counted.sum::<u64>() >= 6 || backend == Backend::Nftables, "{figures}");
    let shown = ports(&host, "ls web").ok();
    assert!(shown.contains("*:8081") && shown.contains("*:9100-9109  9100-9109/udp"), "{shown}");
    let shown = host.d("ps --filter name=web --format {{.Ports}}");
    assert!(shown.contains("0.0.0.0:8081->80/tcp"), "{shown}");
    let bindings = &host.inspect("web")["HostConfig"]["PortBindings"];
    assert_eq!(bindings["80/tcp"].as_array().unwrap().len(), 2, "{bindings}");

    // All or none, with the name of who has the port.
    let refused = ports(&host, "add web 8082:80 9000:80").err();
    assert!(refused.contains("0.0.0.0:9000 failed: port is already allocated: container other"), "{refused}");
    ask(&host.client, "tcp 192.0.2.1 8082").err();
    ports(&host, "rm web 8080:80").ok();
    ask(&host.client, "tcp 192.0.2.1 8080").err();
    assert!(ports(&host, "rm web 8080:80").err().contains("does not publish 80/tcp on host port 8080"));

    host.d("restart -t 0 web");
    eventually("the port is open", || ask(&host.client, "tcp 192.0.2.1 8081").status.success());
    ask(&host.client, "tcp 192.0.2.1 8080").err();
    host.stop();
    host.start();
    seen(&host.client, "tcp 192.0.2.1 8081");
    let json: serde_json::Value = serde_json::from_str(&ports(&host, "ls web --format json").ok()).unwrap();
    assert_eq!((json["Container"].as_str(), json["Ports"].as_array().unwrap().len()), (Some("web"), 2));
    // One that does not run publishes with its next start.
    host.d("stop -t 0 web");
    ports(&host, "add web 8085:80").ok();
    host.d("start web");
    eventually("the port is open", || ask(&host.client, "tcp 192.0.2.1 8085").status.success());
}

fn a_change_of_ports_cuts_no_connection_by_the_others(backend: Backend) {
    let host = backend.with_image();
    serve(&host, "web", &["-p", "8080:80"]);
    let mut command = host.client.command(probe().to_str().unwrap());
    command.args(["hold", Host::ADDRESS, "8080"]).stdin(std::process::Stdio::piped());
    let mut held = integration_testkit::Running::start(command);
    eventually("the connection is busy", || held.said().contains("holding"));
    for _ in 0..5 {
        // Neighbours: the range that 8080 is in grows and shrinks.
        ports(&host, "add web 8081:81 8079:79").ok();
        ports(&host, "rm web 8081:81 8079:79").ok();
    }
    drop(held.child.stdin.take());
    let trips: u64 = held.finish().ok().lines().last().unwrap().parse().unwrap();
    assert!(trips > 10, "{trips} round trips");
}

fn all_ports_of_the_host_are_one_range(backend: Backend) {
    let host = backend.with_image();
    serve(&host, "web", &["-p", "192.0.2.1:1-65535:1-65535"]);
    seen(&host.client, "tcp 192.0.2.1 80");
    let shown = ports(&host, "ls web").ok();
    assert!(shown.contains("192.0.2.1:1-65535  1-65535/tcp"), "{shown}");
    let inspect = host.inspect("web");
    assert_eq!(inspect["NetworkSettings"]["Ports"].as_object().unwrap().len(), 65_535);
    assert!(host.d("ps").contains("192.0.2.1:1-65535->1-65535/tcp"));
}

/// By eBPF alone: nftables' backend does not ask the host's filter.
#[test]
fn a_port_that_the_hosts_firewall_denies_is_warned_of_with_what_opens_it_and_nothing_leaves_the_host() {
    let host = Backend::Ebpf.with_image();
    let rules = "table inet hosts { chain input { type filter hook input priority 0; policy accept; \
                 tcp dport { 8080, 8085 } reject with tcp reset; udp dport 8080 reject; tcp dport 8082 drop; }; }";
    host.host.sh(&format!("nft '{rules}'")).ok();
    // Of IPv4: of IPv6 the host's links say something of their own when they come up.
    let watch = "table netdev watch { chain seen { type filter hook ingress device wire priority 0; \
                 ether type { ip, arp } counter; }; }";
    host.client.sh(&format!("nft '{watch}'")).ok();
    let received = || host.client.sh("nft list table netdev watch").ok();
    let before = received();
    let publish = ["-p", "8080:80", "-p", "8080:80/udp", "-p", "8081:80", "-p", "8082-8083:80-81"];
    let mut run = vec!["run", "-d", "--name", "web"];
    run.extend(publish);
    run.extend(["box", "probe", "serve", "80"]);
    let Finished { stderr, .. } = host.docker(&run);
    eventually("the server serves", || host.d("logs web").contains("serving"));
    assert_eq!(received(), before, "packets left by the uplink");
    // Nor will they: who seemed to ask is asked for no more, as the kernel does for three seconds.
    let asker = "192.0.2.254";
    assert_eq!(host.host.ip(&format!("neigh show to {asker}")), "");
    let log = || std::fs::read_to_string(host.log()).unwrap();
    let warned =
        |port: &str| log().contains(&format!("published port {port} is denied by the host's firewall"));
    // The log hears of it beside the client.
    eventually("the log has it", || ["8080/tcp", "8080/udp", "8082/tcp"].into_iter().all(warned));
    assert_eq!(["8081/tcp", "8083/tcp"].map(warned), [false, false], "{}", host.log_tail());
    let remedy = "open it by `nft insert rule inet hosts input tcp dport 8080 accept`";
    assert!(
        stderr.contains("WARNING: Published port 8080/tcp is denied") && stderr.contains(remedy),
        "{stderr}"
    );
    assert_eq!(stderr.matches("WARNING").count(), 3, "{stderr}");
    assert!(log().contains(remedy), "{}", host.log_tail());
    let events = ["events", "--since=10m", "--until=0s", "--filter=container=web", "--format={{json .}}"];
    let told = || host.docker(&events).ok();
    eventually("all denials are told", || told().matches(r#""Action":"port denied""#).count() == 3);
    assert!(told().contains(remedy), "{}", told());
    // Nor where he is known, and an answer leaves without a question.
    host.host.ip(&format!("neigh add {asker} lladdr 02:00:00:00:02:fe dev uplink nud permanent"));
    ports(&host, "add web 8085:80").ok();
    eventually("it was asked", || warned("8085/tcp"));
    assert_eq!(received(), before, "packets left by the uplink");
    host.host.sh(&format!("ping -c 1 -W 1 {asker}")).err();
    eventually("what does leave is counted", || received() != before);
    // It is true.
    seen(&host.client, "tcp 192.0.2.1 8081");
    ask(&host.client, "tcp 192.0.2.1 8080").err();
}
