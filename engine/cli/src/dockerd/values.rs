//! What is wrong with settings though each is of its kind: Docker's `validate`, in its words where it has some.

use std::{collections::BTreeMap, net::Ipv4Addr};

use serde_json::Value;

use super::{file::Given, list, logs, runtimes, text};
use crate::up::{PORT, listen};

/// The levels that Docker's logger knows.
const LEVELS: [&str; 8] = ["trace", "debug", "info", "warn", "warning", "error", "fatal", "panic"];
const COUNTS: [(&str, &str); 3] = [
    ("max-concurrent-downloads", "invalid max concurrent downloads"),
    ("max-concurrent-uploads", "invalid max concurrent uploads"),
    ("max-download-attempts", "invalid max download attempts"),
];

/// The first thing that is wrong, after the name of its key.
pub(super) fn judge(given: &Given) -> Result<(), String> {
    let mut labels = BTreeMap::new();
    for label in list(given, "labels") {
        let Some((name, value)) = label.split_once('=') else {
            return Err(format!("labels: bad attribute format: {label}"));
        };
        let other = labels.insert(name.to_owned(), value.to_owned()).filter(|other| other != value);
        if let Some(other) = other {
            return Err(format!("labels: conflict labels for {name}={value} and {name}={other}"));
        }
    }
    modes(given)?;
    if let Some(level) = text(given, "log-level").filter(|level| !LEVELS.contains(level)) {
        return Err(format!("log-level: invalid logging level: {level}"));
    }
    if let Some(format) = text(given, "log-format").filter(|format| !matches!(*format, "text" | "json")) {
        return Err(format!("log-format: invalid log format: {format}"));
    }
    let number = |name: &str| given.get(name).and_then(Value::as_i64);
    if let Some(mtu) = number("mtu").filter(|mtu| *mtu < 0) {
        return Err(format!("mtu: invalid default MTU: {mtu}"));
    }
    for (name, words) in COUNTS {
        if let Some(count) = number(name).filter(|count| *count < 0) {
            return Err(format!("{name}: {words}: {count}"));
        }
    }
    for host in list(given, "hosts").iter().filter(|host| !host.starts_with("fd://")) {
        if let Err(error) = listen::canonical(host, PORT) {
            return Err(format!("hosts: invalid bind address: {error}"));
        }
    }
    if let Some(domain) = list(given, "dns-search").iter().find(|domain| !is_domain(domain)) {
        return Err(format!("dns-search: {domain} is not a valid domain"));
    }
    if let Some(bip) = text(given, "bip").filter(|bip| is_network(bip)) {
        return Err(format!(
            "bip: {bip} is the network's own address: give the bridge's, such as the one after it"
        ));
    }
    let gateways = list(given, "host-gateway-ips");
    if [false, true].iter().any(|ipv6| gateways.iter().filter(|ip| ip.contains(':') == *ipv6).count() > 1) {
        return Err("host-gateway-ips: at most one address of each family".to_owned());
    }
    if text(given, "bridge").is_some_and(|name| name != "none") {
        for name in ["bip", "bip6"] {
            if let Some(address) = text(given, name) {
                return Err(format!(
                    "bridge, {name}: give one of them: a bridge of your own keeps its address, {address} is not needed"
                ));
            }
        }
    }
    Ok(())
}

/// What is one of a few words, or made of them.
fn modes(given: &Given) -> Result<(), String> {
    let wrong = |key: &str, known: &[&str]| text(given, key).filter(|value| !known.contains(value));
    if let Some(mode) = wrong("default-cgroupns-mode", &["host", "private"]) {
        return Err(format!(
            "default-cgroupns-mode: invalid default cgroup namespace ({mode}): use \"host\" or \"private\""
        ));
    }
    if let Some(mode) = wrong("default-ipc-mode", &["shareable", "private"]) {
        return Err(format!(
            "default-ipc-mode: default IPC mode setting ({mode}) is invalid; use \"shareable\" or \"private\""
        ));
    }
    for option in list(given, "exec-opts") {
        match option.split_once('=') {
            None => {
                return Err(format!("exec-opts: invalid exec-opt ({option}): must be formatted 'opt=value'"));
            }
            Some(("native.cgroupdriver", "cgroupfs" | "systemd")) => {}
            Some(("native.cgroupdriver", value)) => {
                return Err(format!("exec-opts: native.cgroupdriver option {value} not supported"));
            }
            Some((name, _)) => {
                return Err(format!("exec-opts: invalid exec-opt ({option}): unknown option: '{name}'"));
            }
        }
    }
    for mirror in list(given, "registry-mirrors") {
        if !mirror.starts_with("https://") && !mirror.starts_with("http://") {
            return Err(format!(
                "registry-mirrors: invalid mirror: no scheme specified for {mirror:?}: must use either 'https://' or 'http://'"
            ));
        }
        if mirror.contains(['?', '#']) {
            return Err(format!(
                "registry-mirrors: invalid mirror: query or fragment at end of the URI {mirror:?}"
            ));
        }
    }
    let proxies = given.get("proxies").and_then(Value::as_object).into_iter().flatten();
    for (name, value) in proxies {
        if !matches!(name.as_str(), "http-proxy" | "https-proxy" | "no-proxy") || !value.is_string() {
            return Err(format!("proxies: {name}: {value} is not a proxy that Docker knows"));
        }
    }
    let driver = text(given, "log-driver");
    if let Some(driver) = driver.filter(|driver| !logs::is_known(driver)) {
        return Err(format!("log-driver: no log driver named '{driver}' is registered"));
    }
    for (name, runtime) in given.get("runtimes").and_then(Value::as_object).into_iter().flatten() {
        runtimes::judge(name, runtime).map_err(|problem| format!("runtimes: {problem}"))?;
    }
    Ok(())
}

/// Docker's rule, where one `.` stands for no domain at all.
fn is_domain(text: &str) -> bool {
    let text = text.trim_matches(' ');
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
        !label.is_empty() && label.chars().all(fits) && !label.starts_with('-') && !label.ends_with('-')
    };
    let is_name = name.len() < 255 && name.split('.').all(label);
    text == "." || is_name && name.contains(|c: char| c.is_ascii_alphabetic())
}

/// Whether an IPv4 address with its prefix length leaves nothing to the host; of two or fewer, all are hosts'.
fn is_network(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    match (address.parse::<Ipv4Addr>(), length.parse::<u32>()) {
        (Ok(address), Ok(length @ ..=30)) => u64::from(address.to_bits()) % (1 << (32 - length)) == 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        for (name, value, says) in [
            ("labels", serde_json::json!(["a=b", "a"]), "labels: bad attribute format: a"),
            ("labels", serde_json::json!(["a=b", "a=c"]), "labels: conflict labels for a=c and a=b"),
            ("default-cgroupns-mode", "x".into(), "default-cgroupns-mode: invalid"),
            ("default-ipc-mode", "host".into(), "default-ipc-mode: default IPC mode setting (host)"),
            ("exec-opts", serde_json::json!(["x"]), "exec-opts: invalid exec-opt (x): must be formatted"),
            (
                "exec-opts",
                serde_json::json!(["native.cgroupdriver=x"]),
                "exec-opts: native.cgroupdriver option x",
            ),
            (
                "registry-mirrors",
                serde_json::json!(["mirror.example"]),
                "registry-mirrors: invalid mirror: no scheme",
            ),
            ("proxies", serde_json::json!({"x": "y"}), "proxies: x"),
            ("log-driver", "nosuch".into(), "log-driver: no log driver named 'nosuch'"),
            ("runtimes", serde_json::json!({"a": {}}), "runtimes: runtime a: either a runtimeType or a path"),
            (
                "runtimes",
                serde_json::json!({"runc": {"path": "/x"}}),
                "runtimes: runtime name 'runc' is reserved",
            ),
            ("log-level", "foo".into(), "log-level: invalid logging level: foo"),
            ("log-format", "xml".into(), "log-format: invalid log format: xml"),
            ("mtu", (-1).into(), "mtu: invalid default MTU: -1"),
            ("max-concurrent-uploads", (-2).into(), "max-concurrent-uploads: invalid"),
            (
                "hosts",
                serde_json::json!(["fd://", "tcp://x:y:z"]),
                "hosts: invalid bind address: cannot listen on \"tcp",
            ),
            ("dns-search", serde_json::json!(["a.b", "a b"]), "dns-search: a b is not a valid domain"),
            ("dns-search", serde_json::json!(["1.2.3.4"]), "dns-search: 1.2.3.4 is not"),
            ("dns-search", serde_json::json!(["a.-b"]), "dns-search: a.-b is not"),
            ("bip", "10.50.0.0/16".into(), "bip: 10.50.0.0/16 is the network's own address"),
            ("host-gateway-ips", serde_json::json!(["1.1.1.1", "1.1.1.2"]), "host-gateway-ips: at most one"),
        ] {
            let problem = judge(&Given::from([(name, value)])).unwrap_err();
            assert!(problem.starts_with(says), "{problem}");
        }
        let fine = Given::from([
            ("dns-search", serde_json::json!([".", "Corp-1.example.", " a "])),
            ("bip", "10.50.1.0/16".into()),
        ]);
        assert_eq!(judge(&fine), Ok(()));
        let both = Given::from([("bridge", "br0".into()), ("bip", "10.0.0.1/8".into())]);
        assert!(judge(&both).unwrap_err().starts_with("bridge, bip: "));
        assert_eq!(judge(&Given::from([("bridge", "none".into()), ("bip", "10.0.0.1/8".into())])), Ok(()));
    }
}
