//! The real daemon on a host of its own, through its socket.
#![allow(clippy::unwrap_used, clippy::panic)]

mod host;

use std::{
    os::{
        fd::OwnedFd,
        unix::net::{UnixDatagram, UnixListener},
    },
    time::Duration,
};

use host::{Host, bare, id, join, network};
use integration_testkit::{Running, eventually, run};
use libnetwork_model::ErrorKind;
use libnetwork_rpc::{kind, v1};

#[tokio::test(flavor = "multi_thread")]
async fn sandboxes_of_one_network_reach_each_other_and_no_other() {
    let host = Host::started("reach");
    let mut client = host.client();
    let one = client.create_network(network("one")).await.unwrap().into_inner();
    let v6 = v1::CreateNetworkRequest { ipv6: Some(true), ..network("two") };
    client.create_network(v6).await.unwrap();
    assert_eq!(one.subnets[0].subnet, "172.18.0.0/16");
    let a = client.join(join(1, &["one"])).await.unwrap().into_inner();
    let mut b = client.join(join(2, &["one", "two"])).await.unwrap().into_inner();
    let c = client.join(join(3, &["two"])).await.unwrap().into_inner();
    // The way out comes first: the one that has both families.
    assert_eq!(b.endpoints.iter().map(|e| e.ifname.as_str()).collect::<Vec<_>>(), ["eth1", "eth0"]);
    b.endpoints.reverse();

    let (to_a, to_b, to_c) = (&a.endpoints[0], &b.endpoints[0], &c.endpoints[0]);
    for (from, to) in
        [(&a, &to_b.ipv4), (&b, &to_a.ipv4), (&b, &to_c.ipv4), (&b, &to_c.ipv6), (&a, &to_a.gateway4)]
    {
        assert!(host.reaches(&from.namespace, bare(to)), "{to} is not reached from {}", from.name);
    }
    run(host.inside(&a.namespace, &["busybox", "ping", "-c1", "-W1", bare(&to_c.ipv4)]), b"").err();

    let listed = client
        .get_network(v1::GetNetworkRequest { reference: one.id[..12].into(), brief: false })
        .await
        .unwrap();
    let mut names: Vec<_> = listed.into_inner().endpoints.into_iter().map(|e| e.sandbox_name).collect();
    names.sort();
    assert_eq!(names, ["box1", "box2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_carry_their_kind_and_leave_nothing() {
    let host = Host::started("refuse");
    let mut client = host.client();
    let refused = client.join(join(1, &["bridge", "nope"])).await.unwrap_err();
    assert_eq!((kind(&refused), refused.message()), (ErrorKind::NotFound, "network nope not found"));
    let bad = v1::Subnet { subnet: "10.0.0.0/99".into(), ..Default::default() };
    let refused = client
        .create_network(v1::CreateNetworkRequest { subnets: vec![bad], ..network("x") })
        .await
        .unwrap_err();
    let text = "invalid network config:\ninvalid subnet 10.0.0.0/99: invalid CIDR block notation";
    assert_eq!((kind(&refused), refused.message()), (ErrorKind::Invalid, text));
    let refused = client.leave(v1::LeaveRequest { id: "../etc".into(), keep: false }).await.unwrap_err();
    assert_eq!(kind(&refused), ErrorKind::Invalid);
    let listed = client.list_sandboxes(v1::ListSandboxesRequest {}).await.unwrap().into_inner();
    assert_eq!(listed.sandboxes, []);
    assert_eq!(host.links(), ["docker0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_quotes_much_is_an_answer_and_disturbs_nobody_on_the_same_connection() {
    let host = Host::started("long");
    let mut client = host.client();
    let mut events = client.watch(v1::WatchRequest {}).await.unwrap().into_inner();
    assert_eq!(events.message().await.unwrap().unwrap().kind, "ready");
    for length in [20 << 10, 1 << 20] {
        let reference = "€".repeat(length);
        let asked = v1::GetNetworkRequest { reference: reference.clone(), brief: true };
        let refused = client.get_network(asked).await.unwrap_err();
        assert_eq!(kind(&refused), ErrorKind::NotFound, "{refused}");
        assert!(refused.message().starts_with("network €€€"), "{refused}");
        let options = [("com.docker.network.driver.mtu".to_owned(), reference)].into();
        let asked = v1::CreateNetworkRequest { options, ..network("web") };
        let refused = client.create_network(asked).await.unwrap_err();
        assert_eq!(kind(&refused), ErrorKind::Invalid, "{refused}");
    }
    client.create_network(network("web")).await.unwrap();
    let event = events.message().await.expect("the watcher was cut off").unwrap();
    assert_eq!((event.action.as_str(), event.network_name.as_str()), ("create", "web"));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_answer_inside_a_sandbox() {
    let host = Host::started("names");
    let mut client = host.client();
    client.create_network(network("web")).await.unwrap();
    let a = client.join(join(1, &["web"])).await.unwrap().into_inner();
    let b = client.join(join(2, &["web"])).await.unwrap().into_inner();
    let ask = || run(host.inside(&a.namespace, &["busybox", "nslookup", "box2", "127.0.0.11"]), b"");
    let answer = ask().ok();
    assert!(answer.contains(bare(&b.endpoints[0].ipv4)), "{answer}");
    let other = v1::RenameRequest { sandbox_id: id(2), name: "renamed".into() };
    client.rename(other).await.unwrap();
    let gone = ask();
    assert!(!gone.stdout.contains(bare(&b.endpoints[0].ipv4)), "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_port_leads_to_the_sandbox() {
    let host = Host::started("ports");
    let outside = integration_testkit::Namespace::new("outside");
    outside.join("up0", &["192.0.2.2/24"], &host.network, "up0", &["192.0.2.1/24"]);
    let mut client = host.client();
    let port = v1::PortSpec {
        protocol: "tcp".into(),
        host_first: 8080,
        host_last: 8080,
        container_port: 80,
        ..Default::default()
    };
    let asked = v1::JoinRequest { ports: vec![port], ..join(1, &["bridge"]) };
    let sandbox = client.join(asked.clone()).await.unwrap().into_inner();
    assert_eq!(sandbox.ports[0].host_port, 8080);
    let server = ["busybox", "nc", "-ll", "-p", "80", "-e", "echo", "hello"];
    let server = Running::start(host.inside(&sandbox.namespace, &server));
    let info = client.get_info(v1::GetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.publish_backend, "ebpf", "{}", info.publish_reason);
    eventually("an answer from outside", || {
        outside.sh("busybox nc -w 2 192.0.2.1 8080 </dev/null").stdout.contains("hello")
    });
    drop(server);
    // A program on the host stands in the way of the next.
    let mut squatter = host.command("busybox");
    squatter.args(["nc", "-ll", "-p", "8081", "-e", "true"]);
    let squatter = Running::start(squatter);
    let mut asked = v1::JoinRequest { id: id(2), ..asked };
    (asked.ports[0].host_first, asked.ports[0].host_last) = (8081, 8081);
    eventually("the port to be taken", || host.sh("cat /proc/net/tcp6 /proc/net/tcp").contains(":1F91"));
    let joined = client.join(asked.clone()).await;
    // Nor may the sandbox be given a way out by which the port would be published.
    client.create_network(v1::CreateNetworkRequest { internal: true, ..network("closed") }).await.unwrap();
    asked.endpoints[0].network = "closed".into();
    client.join(asked).await.unwrap();
    let endpoint = Some(v1::EndpointSpec { network: "bridge".into(), ..Default::default() });
    let connected = client.connect(v1::ConnectRequest { sandbox_id: id(2), endpoint }).await;
    drop(squatter);
    let taken = "failed to bind host port 0.0.0.0:8081/tcp: address already in use: ";
    for refused in [joined.unwrap_err(), connected.unwrap_err()] {
        let named = refused.message().strip_prefix(taken);
        assert!(named.is_some_and(|who| who.starts_with("process busybox")), "{}", refused.message());
        assert!(refused.message().contains("(pid "), "{}", refused.message());
    }
}

/// The kernel's verifier gives up on a program while a signal is pending. It is disturbed less often than it is asked again.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_stopped_and_goes_on_as_it_starts_publishes_ports_by_bpf_all_the_same() {
    let mut host = Host::new("stopped");
    host.start();
    let pid = host.pid();
    let stopping = tokio::task::spawn_blocking(move || {
        for _ in 0..24 {
            for name in ["STOP", "CONT"] {
                run(host::signal(name, pid), b"").ok();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    host.listens();
    let info = host.client().get_info(v1::GetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.publish_backend, "ebpf", "{}", info.publish_reason);
    stopping.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn ending_it_leaves_the_network_and_the_next_adopts_it() {
    let mut host = Host::started("adopt");
    let mut client = host.client();
    client.create_network(network("web")).await.unwrap();
    let a = client.join(join(1, &["web"])).await.unwrap().into_inner();
    let b = client.join(join(2, &["web"])).await.unwrap().into_inner();
    // A watcher must not keep it from ending.
    let mut events = client.watch(v1::WatchRequest {}).await.unwrap().into_inner();
    assert_eq!(events.message().await.unwrap().unwrap().kind, "ready");
    // Links by index and name: one that was made again has another index. Their state settles by itself.
    let seen = "ip -o link | cut -d: -f1,2; ip -o -4 address; nft -s list ruleset";
    let before = host.sh(seen);
    assert_eq!(host.stop().code(), Some(0), "{}", host.log_text());
    let to = bare(&b.endpoints[0].ipv4);
    assert!(host.reaches(&a.namespace, to), "not while it is away");
    host.start();
    host.listens();
    let again = host.client().join(join(2, &["web"])).await.unwrap().into_inner();
    assert_eq!(again, b);
    assert!(host.reaches(&a.namespace, to), "not with the next one");
    assert_eq!(host.sh(seen), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_break_is_heard_of_repaired_and_told() {
    let host = Host::started("repair");
    let mut client = host.client();
    let web = client.create_network(network("web")).await.unwrap().into_inner();
    let a = client.join(join(1, &["web"])).await.unwrap().into_inner();
    let b = client.join(join(2, &["web"])).await.unwrap().into_inner();
    let mut events = client.watch(v1::WatchRequest {}).await.unwrap().into_inner();
    assert_eq!(events.message().await.unwrap().unwrap().kind, "ready");
    let bridge = format!("br-{}", &web.id[..12]);
    let veth = &a.endpoints[0].host_link;
    for (harm, missing) in [
        ("nft flush ruleset".to_owned(), "table inet causeway".to_owned()),
        (format!("ip link delete {veth}"), format!("link {veth}")),
        (
            format!("ip address flush dev {bridge}"),
            format!("address {}/16 on {bridge}", bare(&a.endpoints[0].gateway4)),
        ),
        (format!("ip link delete {bridge}"), format!("link {bridge}")),
    ] {
        let mut is_heard_of = async || {
            let before = host.log_text().len();
            host.sh(&harm);
            let repaired = async {
                loop {
                    let event = events.message().await.unwrap().unwrap();
                    assert_eq!((event.kind.as_str(), event.action.as_str()), ("repair", "repaired"));
                    // Much harm may be repaired piece by piece.
                    let pieces = event.attributes.get("missing").map_or("", String::as_str).split(", ");
                    if pieces.into_iter().any(|piece| piece == missing) {
                        break;
                    }
                }
            };
            let repaired = tokio::time::timeout(Duration::from_secs(120), repaired).await;
            repaired.unwrap_or_else(|_| panic!("no repair of: {harm}"));
            let log = host.log_text().split_off(before);
            let is_repair = |line: &&str| line.contains("repaired") && line.contains(&missing);
            log.lines().find(is_repair).unwrap().contains("reason=Drift")
        };
        // The look at everything that comes every half minute may be the first to find it, but not each time.
        let is_heard_of = is_heard_of().await || is_heard_of().await || is_heard_of().await;
        assert!(is_heard_of, "found by the look at everything only: {harm}");
        let to = bare(&b.endpoints[0].ipv4);
        assert!(host.reaches(&a.namespace, to), "the sandboxes do not reach each other after: {harm}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn started_as_a_service_it_takes_the_socket_and_says_when_it_is_ready() {
    let host = Host::new("service");
    let directory = tempfile::TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name);
    let listener = UnixListener::bind(at("listen.sock")).unwrap();
    let notified = UnixDatagram::bind(at("notify.sock")).unwrap();
    notified.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    // Nobody listens yet, and nobody is refused: the call waits in the socket.
    let mut client = libnetwork_rpc::client::connect(&at("listen.sock"));
    let call = tokio::spawn(async move { client.get_info(v1::GetInfoRequest {}).await });

    let causewayd = host.causewayd(&[]);
    let words: Vec<_> = causewayd.get_args().map(|word| word.to_string_lossy()).collect();
    let exec = words.iter().position(|word| word == "--").unwrap() + 1;
    let line = format!("exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec {}", words[exec..].join(" "));
    let mut command = host.command("sh");
    command.args(["-c", &line]).env("NOTIFY_SOCKET", at("notify.sock")).stdin(OwnedFd::from(listener));
    let daemon = Running::start(command);
    let mut buffer = [0; 64];
    let length = notified.recv(&mut buffer).unwrap();
    let answer = call.await.unwrap();
    run(host::signal("TERM", daemon.child.id()), b"").ok();
    daemon.finish().ok();
    // A message is lines, the last of which may end or not (sd_notify(3)).
    assert_eq!(buffer[..length].trim_ascii_end(), b"READY=1");
    assert!(answer.unwrap().into_inner().drivers.contains(&"bridge".to_owned()));
    assert!(!host.exists(&host.socket()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_instance_is_refused_and_disturbs_nothing() {
    let host = Host::started("second");
    let mut client = host.client();
    client.create_network(network("web")).await.unwrap();
    let second = run(host.causewayd(&[]), b"").err();
    assert!(second.contains("is in use by another causewayd"), "{second}");
    let purge = run(host.causewayd(&["purge"]), b"").err();
    assert!(purge.contains("is running"), "{purge}");
    client.get_network(v1::GetNetworkRequest { reference: "web".into(), brief: true }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn purge_leaves_nothing() {
    let mut host = Host::new("purge");
    let before = host.sh("ip -o link; ip -o address; nft list ruleset");
    host.start();
    host.listens();
    let mut client = host.client();
    client.create_network(network("web")).await.unwrap();
    client.join(join(1, &["web", "bridge"])).await.unwrap();
    host.kill();
    assert!(!host.links().is_empty());
    run(host.causewayd(&["purge"]), b"").ok();
    assert_eq!(host.sh("ip -o link; ip -o address; nft list ruleset"), before);
    assert_eq!(host.mounts(), Vec::<String>::new());
    assert!(!host.exists(&host.run_dir()) && !host.exists(&host.state()));
    // And again, where there is nothing.
    run(host.causewayd(&["purge"]), b"").ok();
}

/// Its options are made from the configuration by every start: what a command could change would be gone with the next.
#[tokio::test(flavor = "multi_thread")]
async fn the_default_bridge_is_after_a_kill_as_it_was_answered_before() {
    let mut host = Host::started("default");
    let client = host.client();
    let set = |settings: [(&str, &str); 1]| {
        let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let request = v1::SetNetworkRequest { reference: "bridge".into(), settings };
        let mut client = client.clone();
        async move { client.set_network(request).await }
    };
    let bridge = || async {
        let listed = client.clone().list_networks(v1::ListNetworksRequest {}).await.unwrap().into_inner();
        listed.networks.into_iter().find(|network| network.name == "bridge").unwrap()
    };
    set([("label.tier", "front")]).await.unwrap();
    let icc = set([("icc", "false")]).await;
    let before = bridge().await;
    host.kill();
    host.start();
    host.listens();
    assert_eq!(bridge().await, before);
    assert_eq!(before.labels["tier"], "front");
    let refused = icc.unwrap_err();
    assert!(refused.message().contains("daemon.json"), "{}", refused.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_has_a_bridge_s_name_since_the_boot_is_named_to_who_joins_and_missed_by_nobody() {
    let mut host = Host::started("taken");
    let mut client = host.client();
    let options = [("com.docker.network.bridge.name".to_owned(), "lan0".to_owned())].into();
    client.create_network(v1::CreateNetworkRequest { options, ..network("lan") }).await.unwrap();
    host.kill();
    host.sh("ip link del lan0 && ip link add lan0 type veth peer name lan1");
    host.start();
    host.listens();
    let refused = client.join(join(1, &["lan"])).await.unwrap_err();
    assert!(refused.message().ends_with("link lan0 exists and is not ours"), "{}", refused.message());
    let left = client.list_sandboxes(v1::ListSandboxesRequest {}).await.unwrap().into_inner();
    assert!(left.sandboxes.is_empty());
    host.sh("ip link del lan0");
    eventually("the bridge is there", || host.sh("ip -d link show lan0 2>&1 || true").contains(" bridge "));
    let joined = client.join(join(1, &["lan"])).await.unwrap().into_inner();
    let gateway = joined.endpoints[0].ipv4.replace(".2/", ".1/");
    assert!(host.reaches(&joined.namespace, bare(&gateway)), "{gateway} is not reached");
}
