//! What dockerd 28 can be told, on its command line and in its configuration file, and what it means here.

use std::{net::IpAddr, path::Path};

use serde_json::{Map, Value};

/// What a value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int,
    Text,
    Ip,
    /// A list of texts; the flag may be given more than once.
    List,
    /// A list of addresses.
    Ips,
    /// `key=value`, more than once; an object in the file.
    Map,
    /// An address with a prefix length; an empty text is none.
    Net,
    /// `base=CIDR,size=N`, more than once; a list of objects in the file.
    Pools,
    /// `driver=key=value`, more than once; an object of objects in the file.
    MapMap,
    /// `name=true`, more than once; an object of them in the file.
    Bools,
    /// `name=soft:hard`, more than once; an object in the file, of objects with `Soft` and `Hard`.
    Ulimits,
    /// An object in the file, whose inside is of no interest here.
    Object,
}

/// What becomes of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It is done.
    Done,
    /// causewayd does it.
    Network,
    /// causeway-engine does it for the containers that it makes.
    Containers,
    /// It would protect the host, and this version cannot: any other value than this one, the default as JSON, stops the start
    /// rather than leave it unprotected.
    Only(&'static str),
    /// It has no meaning here; the reason follows "--x has no effect: ".
    Nothing(&'static str),
}

/// One option.
#[derive(Debug)]
pub(super) struct Setting {
    /// Empty where there is none.
    pub(super) flag: &'static str,
    pub(super) short: Option<char>,
    /// Its name in the file; empty where there is none.
    pub(super) key: &'static str,
    pub(super) kind: Kind,
    pub(super) meaning: Meaning,
}

const fn setting(flag: &'static str, key: &'static str, kind: Kind, meaning: Meaning) -> Setting {
    Setting { flag, short: None, key, kind, meaning }
}

const fn short(short: char, mut setting: Setting) -> Setting {
    setting.short = Some(short);
    setting
}

use Kind::{Bool, Bools, Int, Ip, Ips, List, MapMap, Net, Object, Pools, Text, Ulimits};
use Meaning::{Containers, Done, Network, Nothing, Only};

const SELINUX: &str = "selinux-enabled";

const NO_CONTAINERD: Meaning = Nothing("causeway runs without containerd");
const NO_REGISTRY: Meaning = Nothing("this version does not speak to registries");
const NO_SWARM: Meaning = Nothing("there is no swarm mode");
const NO_PROXY: Meaning = Nothing("ports are published by BPF programs, not by a proxy process");
const ALWAYS: Meaning = Nothing("containers live on whenever the daemon ends");
const NO_DEVICES: Meaning = Nothing("this version does not hand out devices by CDI");
const NO_METRICS: Meaning = Nothing("this version serves no metrics");
const NO_LOG_FORMAT: Meaning = Nothing("the daemons log plain text to stderr, each line with its time");
const OWN_CGROUP: Meaning = Nothing("containers' cgroups are below causeway's own, made through cgroupfs");
const NO_REALTIME: Meaning = Nothing("this version gives no cgroup real-time CPU time");
const NO_FEATURES: Meaning = Nothing("there are no features here to switch");

/// All of them, as dockerd 28.5 lists them.
pub(super) const SETTINGS: &[Setting] = &[
    setting("add-runtime", "", Kind::Map, Done),
    setting("", "runtimes", Object, Done),
    setting("allow-direct-routing", "allow-direct-routing", Bool, Network),
    setting("authorization-plugin", "authorization-plugins", List, Only("[]")),
    setting("bip", "bip", Net, Network),
    setting("bip6", "bip6", Net, Network),
    short('b', setting("bridge", "bridge", Text, Network)),
    setting("cdi-spec-dir", "cdi-spec-dirs", List, NO_DEVICES),
    setting("cgroup-parent", "cgroup-parent", Text, OWN_CGROUP),
    setting("config-file", "", Text, Done),
    setting("containerd", "containerd", Text, NO_CONTAINERD),
    setting("containerd-namespace", "containerd-namespace", Text, NO_CONTAINERD),
    setting("containerd-plugins-namespace", "containerd-plugins-namespace", Text, NO_CONTAINERD),
    setting("cpu-rt-period", "cpu-rt-period", Int, NO_REALTIME),
    setting("cpu-rt-runtime", "cpu-rt-runtime", Int, NO_REALTIME),
    setting("cri-containerd", "cri-containerd", Bool, NO_CONTAINERD),
    setting("data-root", "data-root", Text, Done),
    short('D', setting("debug", "debug", Bool, Done)),
    setting("default-address-pool", "default-address-pools", Pools, Network),
    setting("default-cgroupns-mode", "default-cgroupns-mode", Text, Containers),
    setting("default-gateway", "default-gateway", Ip, Network),
    setting("default-gateway-v6", "default-gateway-v6", Ip, Network),
    setting("default-ipc-mode", "default-ipc-mode", Text, Containers),
    setting("default-network-opt", "default-network-opts", MapMap, Network),
    setting("default-runtime", "default-runtime", Text, Containers),
    setting("default-shm-size", "default-shm-size", Text, Containers),
    setting("default-ulimit", "default-ulimits", Ulimits, Containers),
    setting("dns", "dns", Ips, Done),
    setting("dns-opt", "dns-opts", List, Done),
    setting("dns-search", "dns-search", List, Done),
    setting("exec-opt", "exec-opts", List, OWN_CGROUP),
    setting("exec-root", "exec-root", Text, Done),
    setting("experimental", "experimental", Bool, NO_FEATURES),
    setting("feature", "features", Bools, NO_FEATURES),
    setting("fixed-cidr", "fixed-cidr", Net, Network),
    setting("fixed-cidr-v6", "fixed-cidr-v6", Net, Network),
    short('G', setting("group", "group", Text, Done)),
    short('H', setting("host", "hosts", List, Done)),
    setting("host-gateway-ip", "host-gateway-ips", Ips, Done),
    setting("http-proxy", "http-proxy", Text, NO_REGISTRY),
    setting("https-proxy", "https-proxy", Text, NO_REGISTRY),
    setting("no-proxy", "no-proxy", Text, NO_REGISTRY),
    setting("", "proxies", Object, NO_REGISTRY),
    setting("icc", "icc", Bool, Network),
    setting("init", "init", Bool, Containers),
    setting("init-path", "init-path", Text, Containers),
    setting("insecure-registry", "insecure-registries", List, NO_REGISTRY),
    setting("ip", "ip", Ip, Network),
    setting("ip-forward", "ip-forward", Bool, Network),
    setting("ip-forward-no-drop", "ip-forward-no-drop", Bool, Network),
    setting("ip-masq", "ip-masq", Bool, Network),
    setting("ip6tables", "ip6tables", Bool, Network),
    setting("iptables", "iptables", Bool, Network),
    setting("ipv6", "ipv6", Bool, Network),
    setting("label", "labels", List, Done),
    setting("live-restore", "live-restore", Bool, ALWAYS),
    setting("log-driver", "log-driver", Text, Containers),
    setting("log-format", "log-format", Text, NO_LOG_FORMAT),
    short('l', setting("log-level", "log-level", Text, Done)),
    setting("log-opt", "log-opts", Kind::Map, Containers),
    setting("max-concurrent-downloads", "max-concurrent-downloads", Int, NO_REGISTRY),
    setting("max-concurrent-uploads", "max-concurrent-uploads", Int, NO_REGISTRY),
    setting("max-download-attempts", "max-download-attempts", Int, NO_REGISTRY),
    setting("metrics-addr", "metrics-addr", Text, NO_METRICS),
    setting("mtu", "mtu", Int, Network),
    setting("network-control-plane-mtu", "network-control-plane-mtu", Int, NO_SWARM),
    setting("no-new-privileges", "no-new-privileges", Bool, Containers),
    setting("node-generic-resource", "node-generic-resources", List, NO_SWARM),
    short('p', setting("pidfile", "pidfile", Text, Done)),
    setting("raw-logs", "raw-logs", Bool, NO_LOG_FORMAT),
    setting("registry-mirror", "registry-mirrors", List, NO_REGISTRY),
    setting("rootless", "rootless", Bool, Only("false")),
    setting("seccomp-profile", "seccomp-profile", Text, Containers),
    setting("selinux-enabled", SELINUX, Bool, Only("false")),
    setting("shutdown-timeout", "shutdown-timeout", Int, ALWAYS),
    short('s', setting("storage-driver", "storage-driver", Text, Nothing("images are mounted by overlayfs"))),
    setting("storage-opt", "storage-opts", List, Nothing("images are mounted by overlayfs")),
    setting("swarm-default-advertise-addr", "swarm-default-advertise-addr", Text, NO_SWARM),
    setting("tls", "tls", Bool, Done),
    setting("tlscacert", "tlscacert", Text, Done),
    setting("tlscert", "tlscert", Text, Done),
    setting("tlskey", "tlskey", Text, Done),
    setting("tlsverify", "tlsverify", Bool, Done),
    setting("userland-proxy", "userland-proxy", Bool, NO_PROXY),
    setting("userland-proxy-path", "userland-proxy-path", Text, NO_PROXY),
    setting("userns-remap", "userns-remap", Text, Only("\"\"")),
    setting("validate", "", Bool, Done),
    setting("", "builder", Object, Nothing("this version does not build")),
    setting("", "allow-nondistributable-artifacts", List, NO_REGISTRY),
    setting("", "deprecated-key-path", Text, NO_REGISTRY),
];

impl Setting {
    /// How it is called where both names are wanted: the file's.
    pub(super) fn name(&self) -> &'static str {
        if self.key.is_empty() { self.flag } else { self.key }
    }

    /// Why it does nothing, if that is so.
    pub(super) fn no_effect(&self, value: &Value) -> Option<&'static str> {
        match self.meaning {
            Nothing(why) => Some(why),
            // Docker starts there, too, with a warning.
            Only(_) if self.key == SELINUX && *value == Value::Bool(true) => Some("this host has no SELinux"),
            _ => None,
        }
    }

    /// What was given on the command line, as the file would have it.
    pub(super) fn parse(&self, texts: &[String]) -> Result<Value, String> {
        let last = texts.last().map(String::as_str).unwrap_or_default();
        let value = match self.kind {
            Bool => Value::Bool(flag(last)?),
            Int => last.parse::<i64>().map_err(|_| format!("{last:?} is not a number"))?.into(),
            Text | Ip | Net => last.into(),
            Pools => texts.iter().map(|text| pool(text)).collect::<Result<_, String>>()?,
            MapMap => {
                let mut drivers: Map<String, Value> = Map::new();
                for text in texts {
                    let mut parts = text.splitn(3, '=');
                    let (Some(driver), Some(key), Some(value)) = (parts.next(), parts.next(), parts.next())
                    else {
                        return Err(format!("{text:?} is not DRIVER=KEY=VALUE"));
                    };
                    let options = drivers.entry(driver).or_insert_with(|| Map::new().into());
                    options[key] = value.into();
                }
                drivers.into()
            }
            List => texts.into(),
            Object => Value::Object(Map::new()),
            Bools => {
                let pair = |text: &String| {
                    let (name, value) = text.split_once('=').unwrap_or((text, "true"));
                    Ok((name.to_owned(), Value::Bool(flag(value)?)))
                };
                Value::Object(texts.iter().map(pair).collect::<Result<Map<_, _>, String>>()?)
            }
            Ulimits => {
                let limit =
                    |text: &String| ulimit(text).ok_or_else(|| format!("{text:?} is not NAME=SOFT[:HARD]"));
                Value::Object(texts.iter().map(limit).collect::<Result<Map<_, _>, String>>()?)
            }
            Ips => texts.iter().flat_map(|text| text.split(',')).collect(),
            Kind::Map => {
                let pair = |text: &String| {
                    let (key, value) =
                        text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
                    Ok((key.to_owned(), Value::from(value)))
                };
                Value::Object(texts.iter().map(pair).collect::<Result<Map<_, _>, String>>()?)
            }
        };
        self.check(&value)?;
        Ok(value)
    }

    /// Whether a value is of its kind.
    pub(super) fn check(&self, value: &Value) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("{value} is not {what}"));
        let texts = |list: &Value| list.as_array().is_some_and(|list| list.iter().all(Value::is_string));
        match self.kind {
            Bool if !value.is_boolean() => wrong("true or false"),
            Int if !value.is_i64() => wrong("a whole number"),
            Text if !value.is_string() => wrong("a text"),
            Ip if !value.as_str().is_some_and(|text| text.is_empty() || is_ip(text)) => {
                wrong("an IP address")
            }
            List if !texts(value) => wrong("a list of texts"),
            Ips if !(texts(value)
                && value.as_array().into_iter().flatten().filter_map(Value::as_str).all(is_ip)) =>
            {
                wrong("a list of IP addresses")
            }
            Net if !value.as_str().is_some_and(|text| text.is_empty() || is_net(text)) => {
                wrong("an address with a prefix length, as in 10.1.0.1/16")
            }
            Pools if !value.as_array().is_some_and(|list| list.iter().all(is_pool)) => {
                wrong("a list of pools, as in [{\"base\":\"10.0.0.0/8\",\"size\":24}]")
            }
            MapMap if !value.as_object().is_some_and(|map| map.values().all(is_texts)) => {
                wrong("an object of objects of texts")
            }
            Kind::Map if !is_texts(value) => wrong("an object of texts"),
            Bools if !value.as_object().is_some_and(|map| map.values().all(Value::is_boolean)) => {
                wrong("an object of true and false")
            }
            Ulimits if !value.as_object().is_some_and(|map| map.values().all(is_ulimit)) => wrong(
                "an object of limits, as in {\"nofile\":{\"Name\":\"nofile\",\"Soft\":1024,\"Hard\":4096}}",
            ),
            Object if !value.is_object() => wrong("an object"),
            _ => Ok(()),
        }
    }

    /// Says so when this version cannot do what is asked.
    pub(super) fn refuse(&self, value: &Value) -> Result<(), String> {
        let Only(default) = self.meaning else { return Ok(()) };
        let default: Value = serde_json::from_str(default).unwrap_or_default();
        if *value == default || self.key == SELINUX && !has_selinux() {
            return Ok(());
        }
        Err(format!(
            "this version of causeway can only have {default} here, not {value}: without what it asks for containers would be \
             less confined than you mean them to be"
        ))
    }
}

fn has_selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

fn is_net(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let most = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    length.parse::<u8>().is_ok_and(|length| length <= most)
}

fn is_texts(value: &Value) -> bool {
    value.as_object().is_some_and(|map| map.values().all(Value::is_string))
}

fn is_ulimit(value: &Value) -> bool {
    let number = |name: &str| value.get(name).is_none_or(Value::is_i64);
    value.is_object() && number("Soft") && number("Hard")
}

/// Go's `strconv.ParseBool`.
fn flag(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

/// `nofile=1024:4096`; one number stands for both.
fn ulimit(text: &str) -> Option<(String, Value)> {
    let (name, limits) = text.split_once('=')?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let (soft, hard): (i64, i64) = (soft.parse().ok()?, hard.parse().ok()?);
    Some((name.to_owned(), serde_json::json!({ "Name": name, "Soft": soft, "Hard": hard })))
}

fn is_pool(value: &Value) -> bool {
    value["base"].as_str().is_some_and(is_net)
        && value["size"].as_u64().is_some_and(|size| (1..=128).contains(&size))
}

/// `base=10.0.0.0/8,size=24`.
fn pool(text: &str) -> Result<Value, String> {
    let wrong = || format!("{text:?} is not base=CIDR,size=PREFIX-LENGTH");
    let mut pool = Map::new();
    for part in text.split(',') {
        let (key, value) = part.trim().split_once('=').ok_or_else(wrong)?;
        let value = match key {
            "base" => Value::from(value),
            "size" => value.parse::<u64>().map_err(|_| wrong())?.into(),
            _ => return Err(wrong()),
        };
        pool.insert(key.to_owned(), value);
    }
    Ok(pool.into())
}
