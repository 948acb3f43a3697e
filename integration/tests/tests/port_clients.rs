//! What clients of published ports are told when there is nothing more to reach.

mod published;

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use integration_testkit::{Host, Talk};
use published::{Backend, ask, ports, seen, serve, with_each_backend};

with_each_backend!(
    connections_end_when_their_container_goes,
    connections_end_when_their_port_or_network_goes_and_the_container_stays,
    who_asks_by_ipv6_for_a_container_without_is_refused_at_once,
);

/// Far less than TCP waits before it gives up.
const SOON: Duration = Duration::from_secs(3);

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

/// As where nobody listens; Docker's proxy would translate, and hide who asks.
fn who_asks_by_ipv6_for_a_container_without_is_refused_at_once(backend: Backend) {
    let host = backend.with_image();
    serve(&host, "web", &["-p", "8080:80", "-p", "8080:80/udp"]);
    for (from, to) in [(&host.client, "2001:db8::1"), (&host.host, "2001:db8::1"), (&host.host, "::1")] {
        for transport in ["tcp", "udp"] {
            let asked = Instant::now();
            let refused = ask(from, &format!("{transport} {to} 8080")).err();
            assert!(refused.contains("refused") && asked.elapsed() < SOON, "{transport} to {to}: {refused}");
        }
    }
}
