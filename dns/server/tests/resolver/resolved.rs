//! systemd-resolved itself, on both sides: as what the host asks (127.0.0.53), and as the resolver inside a container.

use std::{
    env,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    sync::mpsc,
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::RecordType,
};
use integration_testkit::{Apart, apart};
use libnetwork_core::NameServer;
use libnetwork_model::HostFacts;

use crate::{
    bed::{Namespace, on_host, server},
    programs,
    town::*,
    upstream::{self, addresses, encode, ip},
};

/// Runs it without systemd and D-Bus, in mounts of its own: its user may be missing, and the bus is what it can do
/// without. Then a script, with its stub as the only resolver; then ends it. `$1` is the program, `$2` its settings.
const RUN: &str = r#"
set -e
# Without an address it takes the network for down.
if [ ! -e /proc/sys/net/ipv4/conf/up0 ]; then
    ip link add up0 up type veth peer name up1
    ip link set up1 up
    ip address add 10.1.0.250/32 dev up0
fi
mount -t tmpfs none /run
mkdir -p /run/etc /run/systemd/resolve
(grep -v ^systemd-resolve: /etc/passwd; echo systemd-resolve:x:65500:65500::/:/bin/false) > /run/etc/passwd
(grep -v ^systemd-resolve: /etc/group; echo systemd-resolve:x:65500:) > /run/etc/group
mount --bind /run/etc/passwd /etc/passwd
mount --bind /run/etc/group /etc/group
chown 65500:65500 /run/systemd/resolve
mkdir -p /run/systemd/resolved.conf.d
printf '[Resolve]\nLLMNR=no\nMulticastDNS=no\n%b' "$2" > /run/systemd/resolved.conf.d/test.conf
printf 'nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch front\n' > /run/etc/resolv.conf
mount --bind /run/etc/resolv.conf /etc/resolv.conf
mount --bind /dev/null /etc/hosts
SYSTEMD_LOG_TARGET=console SYSTEMD_LOG_LEVEL=debug "$1" 2> /run/log &
trap "kill $! && wait" EXIT
until [ -e /run/systemd/resolve/stub-resolv.conf ]; do
    kill -0 $! || { cat /run/log >&2; exit 1; }
    sleep 0.02
done
"#;

/// `make deps` unpacks Debian's beside the other tools: installed, it would take over this machine's resolv.conf.
fn resolved() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    // target/debug/deps/resolver-…
    let target = env::current_exe().unwrap().ancestors().nth(3).unwrap().join("tools/bin");
    let places = env::split_paths(&path).chain([target, "/usr/lib/systemd".into()]);
    places
        .map(|place| place.join("systemd-resolved"))
        .find(|program| program.is_file())
        .expect("no systemd-resolved: `make deps` fetches one")
}

/// The command that runs a script beside a systemd-resolved with these settings.
fn beside(settings: &str, script: &str) -> (&'static str, Vec<String>) {
    let (script, program) = (format!("{RUN}{script}"), resolved().display().to_string());
    ("unshare", ["-m", "sh", "-c", &script, "sh", &program, settings].map(str::to_owned).into())
}

/// The host's, until dropped.
struct Hosts {
    stop: Option<mpsc::Sender<()>>,
    ended: Option<Apart<()>>,
}

impl Hosts {
    /// On the thread that stands for the host.
    fn start(settings: &str) -> Self {
        let (program, arguments) = beside(settings, "echo ready; cat");
        let (stop, stopped) = mpsc::channel();
        let (said, is_said) = mpsc::channel();
        let host = Namespace::current();
        let run = move || {
            let mut command = Command::new(program);
            command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.spawn().unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            said.send(line).unwrap();
            let _ = stopped.recv();
            // The script ends with its input, and systemd-resolved with the script.
            drop(child.stdin.take());
            child.wait().unwrap();
        };
        let hosts = Self { stop: Some(stop), ended: Some(apart(Some(host.path()), run)) };
        assert_eq!(is_said.recv().unwrap(), "ready\n", "systemd-resolved starts");
        hosts
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A panic here would be one too many where the test has failed.
        let _ = self.ended.take().map(Apart::wait);
    }
}

#[test]
fn the_host_s_systemd_resolved_is_asked_like_any_server() {
    on_host(|| async {
        fn known(query: &Message, tcp: bool) -> Option<Vec<u8>> {
            match query.queries[0].name.to_lowercase().to_ascii().as_str() {
                "example.com." => encode(addresses(query, [192, 0, 2, 7], 1)),
                "large.example." if tcp => encode(addresses(query, [192, 0, 2, 1], 100)),
                "large.example." => {
                    let mut reply = upstream::reply(query);
                    reply.metadata.truncation = true;
                    encode(reply)
                }
                _ => {
                    let mut reply = upstream::reply(query);
                    reply.metadata.response_code = ResponseCode::NXDomain;
                    encode(reply)
                }
            }
        }
        let asked = upstream::start("127.0.1.1", None, known).await;
        let _resolved = Hosts::start("DNS=127.0.1.1\\nDomains=~.\\n");
        let (server, inside) = (server(), Namespace::new());
        server.publish(&intent(town()), None);
        server.upstreams(&HostFacts { resolvers: vec![ip("127.0.0.53")], ..HostFacts::default() });
        server.open(&sandbox(1, "asker"), inside.path()).await.unwrap();
        assert_eq!(data(&inside.ask("Example.com.", RecordType::A).await), ["192.0.2.7"]);
        assert_eq!(data(&inside.ask_tcp("example.com.", RecordType::A).await), ["192.0.2.7"]);
        let edns = inside.ask_edns("example.com.", RecordType::A, 1232).await;
        assert!(data(&edns) == ["192.0.2.7"] && edns.edns.is_some());
        assert_eq!(inside.ask_edns("large.example.", RecordType::A, 4096).await.answers.len(), 100);
        assert_eq!(inside.ask_tcp("large.example.", RecordType::A).await.answers.len(), 100);
        let absent = inside.ask("absent.example.", RecordType::A).await;
        assert_eq!(absent.metadata.response_code, ResponseCode::NXDomain);
        // What is ours is none of its business.
        assert_eq!(data(&inside.ask("web.front.", RecordType::A).await), ["10.1.0.2"]);
        let asked = asked.lock().unwrap();
        assert!(asked.iter().all(|(_, m)| m.queries[0].name.to_ascii() != "web.front."));
    });
}

#[test]
fn systemd_resolved_inside_finds_names_and_addresses() {
    on_host(|| async {
        let (_server, inside) = programs::open().await;
        // Without DNSSEC it begins with EDNS0, with it with the DO bit as well, and finds out what the server can do.
        for setting in ["DNSSEC=no", "DNSSEC=allow-downgrade", "DNSSEC=no\\nDNSOverTLS=opportunistic"] {
            let settings = format!("{setting}\\nDNS=127.0.0.11\\nDomains=~.\\n");
            let script = "for name in web www.front db example.com; do
                echo \"$name\" $(getent ahosts \"$name\" | grep STREAM | cut -d' ' -f1 | sort -u)
            done
            getent hosts 10.1.0.2";
            let (program, arguments) = beside(&settings, script);
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let ran = inside.program(program, &arguments, "").await;
            let text = String::from_utf8_lossy(&ran.stdout).into_owned();
            let expected =
                "web 10.1.0.2 fd00::2\nwww.front 10.1.0.2 fd00::2\ndb 10.1.0.3\nexample.com 192.0.2.7\n";
            let told = String::from_utf8_lossy(&ran.stderr);
            assert!(text.starts_with(expected) && text.contains("web.front"), "{setting}: {text}{told}");
        }
    });
}
