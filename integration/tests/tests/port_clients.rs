//! What clients of published ports are told when there is nothing more to reach.

mod published;

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use integration_testkit::{Finished, Host, Talk, eventually};
use published::{Backend, ask, ports, seen, serve, with_each_backend};

with_each_backend!(
    connections_end_when_their_container_goes,
    connections_end_when_their_port_or_network_goes_and_the_container_stays,
    who_asks_by_ipv6_for_a_container_without_is_refused_at_once,
    a_client_that_goes_on_sending_datagrams_is_heard_again_after_a_restart,
);

/// Far less than TCP waits before it gives up, and more than a busy machine, or one that stands still for a minute, takes.
const SOON: Duration = Duration::from_secs(120);
/// What TCP waits before it asks for a connection again (RFC 6298, section 2.1).
const RETRANSMISSION: Duration = Duration::from_secs(1);

/// An outside client's connection to port 8080.
fn connection(host: &Host) -> TcpStream {
    let namespace = host.client.path();
    let server: SocketAddr = (Host::ADDRESS.parse::<std::net::IpAddr>().unwrap(), 8080).into();
    std::thread::spawn(move || Talk::enter(&namespace).connection(server)).join().unwrap()
}

/// Whether the client hears that it is over, without a word of its own.
#[track_caller]
fn ends(mut stream: &TcpStream, why: &str) {
    stream.set_read_timeout(Some(SOON)).unwrap();
    match stream.read(&mut [0]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("{why}: the client reads {other:?}"),
    }
}

/// Whether it does when it goes on to speak.
#[track_caller]
fn ends_when_used(mut stream: &TcpStream, why: &str) {
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let deadline = Instant::now() + SOON;
    loop {
        let told = stream.write_all(b"?").and_then(|()| stream.read(&mut [0]));
        match told {
            Ok(0) => return,
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                return;
            }
            other => assert!(Instant::now() < deadline, "{why}: the client reads {other:?}"),
        }
    }
}

fn connections_end_when_their_container_goes(backend: Backend) {
    let host = backend.with_image();
    for going in ["rm -f", "stop -t 0", "kill", "restart -t 0"] {
        serve(&host, "web", &["-p", "8080:80"]);
        let stream = connection(&host);
        host.d(&format!("{going} web"));
        ends(&stream, going);
        host.docker(&["rm", "-f", "web"]);
    }
    // One that cannot say anything any more.
    serve(&host, "web", &["-p", "8080:80"]);
    let stream = connection(&host);
    host.d("pause web");
    host.d("rm -f web");
    ends_when_used(&stream, "rm -f of a paused container");
}

fn connections_end_when_their_port_or_network_goes_and_the_container_stays(backend: Backend) {
    let host = backend.with_image();
    host.d("network create only");
    serve(&host, "web", &["--network", "only", "-p", "8080:80", "-p", "8081:80"]);
    let stream = connection(&host);
    ports(&host, "rm web 8080:80").ok();
    ends_when_used(&stream, "ports rm");
    seen(&host.client, "tcp 192.0.2.1 8081");
    ports(&host, "add web 8080:80").ok();
    let stream = connection(&host);
    host.d("network disconnect only web");
    ends_when_used(&stream, "network disconnect");
}

fn a_client_that_goes_on_sending_datagrams_is_heard_again_after_a_restart(backend: Backend) {
    let host = backend.with_image();
    serve(&host, "web", &["-p", "8080:80/udp"]);
    let namespace = host.client.path();
    let socket = std::thread::spawn(move || {
        let _there = Talk::enter(&namespace);
        UdpSocket::bind((Host::CLIENT, 7777)).unwrap()
    });
    let socket = socket.join().unwrap();
    socket.connect((Host::ADDRESS, 8080)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    // From one port, without a pause in which anybody could forget it.
    let heard = || socket.send(b"who?").and_then(|_| socket.recv(&mut [0; 64])).is_ok();
    eventually("it is heard", heard);
    host.d("stop -t 0 web");
    // What was asked twice on a busy machine may have been answered twice.
    while socket.recv(&mut [0; 64]).is_ok() {}
    for _ in 0..5 {
        assert!(!heard());
    }
    host.d("start web");
    eventually("it is heard again", heard);
}

/// As where nobody listens; Docker's proxy would translate, and hide who asks.
fn who_asks_by_ipv6_for_a_container_without_is_refused_at_once(backend: Backend) {
    let host = backend.with_image();
    serve(&host, "web", &["-p", "8080-8084:80-84", "-p", "8080-8084:80-84/udp"]);
    for (from, to) in [(&host.client, "2001:db8::1"), (&host.host, "2001:db8::1"), (&host.host, "::1")] {
        for transport in ["tcp", "udp"] {
            // The first question to a port is, which a busy machine may show late.
            let is_at_once = (8080..8085).any(|port| {
                let asked = Instant::now();
                let refused = ask(from, &format!("{transport} {to} {port}")).err();
                assert!(refused.contains("refused"), "{transport} to {to}: {refused}");
                asked.elapsed() < RETRANSMISSION
            });
            assert!(is_at_once, "{transport} to {to} is refused only when it is asked again");
        }
    }
}

#[test]
fn a_port_that_the_hosts_firewall_denies_to_ipv6_clients_alone_is_warned_of_where_there_can_be_some() {
    let host = Backend::Ebpf.with_image();
    host.d("network create --ipv6 --subnet 10.61.0.0/24 --subnet fd61::/64 dual");
    let rules = "table ip6 filter { chain INPUT { type filter hook input priority 0; policy accept; \
                 tcp dport 8080 drop; }; }";
    host.host.sh(&format!("nft '{rules}'")).ok();
    let run = |name: &str, network: &str| {
        let publish = format!("{}:80", if name == "dual" { 8080 } else { 8081 });
        host.docker(&[
            "run",
            "-d",
            "--name",
            name,
            "--network",
            network,
            "-p",
            &publish,
            "box",
            "sleep",
            "1000",
        ])
    };
    let Finished { stderr, .. } = run("dual", "dual");
    let remedy = "open it by `ip6tables -I INPUT -p tcp --dport 8080 -j ACCEPT`";
    let warning = format!(
        "Published port 8080/tcp is denied by the host's firewall to IPv6 clients on uplink: {remedy}"
    );
    assert!(stderr.contains(&warning), "{stderr}");
    let events = ["events", "--since=60s", "--until=0s", "--filter=container=dual", "--format={{json .}}"];
    let told = || host.docker(&events).ok();
    eventually("the denial is told", || told().contains("IPv6 clients") && told().contains(remedy));
    eventually("the log has it", || {
        let log = std::fs::read_to_string(host.log()).unwrap();
        log.contains("published port 8080/tcp is denied") && log.contains(remedy)
    });

    // No IPv6 client gets to a container that has no IPv6, whatever the firewall says.
    host.d("rm -f dual");
    host.host.sh("nft add rule ip6 filter INPUT tcp dport 8081 drop").ok();
    let Finished { stderr, .. } = run("ipv4", "bridge");
    assert!(!stderr.contains("WARNING"), "{stderr}");
}

#[test]
fn an_uplink_without_ethernet_headers_is_served_when_it_comes_and_let_go_when_it_goes() {
    let host = Backend::Ebpf.with_image();
    let served = || {
        let layouts = std::fs::read_dir(host.run_dir().join("bpf")).unwrap();
        let links = layouts.filter_map(|layout| std::fs::read_dir(layout.unwrap().path().join("links")).ok());
        let names = links.flatten().map(|link| link.unwrap().file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with("bare-uplink-")).count()
    };
    assert_eq!(served(), 0);
    host.host.sh("ip tuntap add dev vpn0 mode tun && ip link set vpn0 up && ip address add 198.51.100.1/24 dev vpn0").ok();
    eventually("the tunnel is attached to", || served() == 1);
    host.host.sh("ip link delete vpn0").ok();
    eventually("the tunnel is let go", || served() == 0);
    assert!(!std::fs::read_to_string(host.log()).unwrap().contains("cannot be reached by it"));
}
