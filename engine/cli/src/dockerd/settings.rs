//! What dockerd 28 can be told, on its command line and in its configuration file, and what it means here.

use std::net::IpAddr;

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
    /// An object in the file, or a list of them, whose inside is of no interest here.
    Object,
}

/// What becomes of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It is done.
    Done,
    /// causewayd does it.
    Network,
    /// It cannot be done by this version: any other value than this one stops the start. The default as JSON.
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

use Kind::{Bool, Int, Ip, Ips, List, MapMap, Net, Object, Pools, Text};
use Meaning::{Done, Network, Nothing, Only};

const NO_CONTAINERD: Meaning = Nothing("causeway runs without containerd");
const NO_REGISTRY: Meaning = Nothing("this version does not speak to registries");
const NO_SWARM: Meaning = Nothing("there is no swarm mode");
const NO_FIREWALL: Meaning = Nothing("causeway keeps to an nftables table of its own");
const NO_PROXY: Meaning = Nothing("ports are published by BPF programs, not by a proxy process");
const ALWAYS: Meaning = Nothing("containers live on whenever the daemon ends");
const NOT_SET: Meaning = Nothing("there is no such setting here; containers get Docker's defaults");

/// All of them, as dockerd 28.5 lists them.
pub(super) const SETTINGS: &[Setting] = &[
    setting("add-runtime", "", Kind::Map, Done),
    setting("", "runtimes", Object, Done),
    setting("allow-direct-routing", "allow-direct-routing", Bool, Network),
    setting("authorization-plugin", "authorization-plugins", List, Only("[]")),
    setting("bip", "bip", Net, Network),
    setting("bip6", "bip6", Net, Network),
    short('b', setting("bridge", "bridge", Text, Network)),
    setting("cdi-spec-dir", "cdi-spec-dirs", List, NOT_SET),
    setting("cgroup-parent", "cgroup-parent", Text, NOT_SET),
    setting("config-file", "", Text, Done),
    setting("containerd", "containerd", Text, NO_CONTAINERD),
    setting("containerd-namespace", "containerd-namespace", Text, NO_CONTAINERD),
    setting("containerd-plugins-namespace", "containerd-plugin-namespace", Text, NO_CONTAINERD),
    setting("cpu-rt-period", "cpu-rt-period", Int, NOT_SET),
    setting("cpu-rt-runtime", "cpu-rt-runtime", Int, NOT_SET),
    setting("cri-containerd", "cri-containerd", Bool, NO_CONTAINERD),
    setting("data-root", "data-root", Text, Done),
    short('D', setting("debug", "debug", Bool, Done)),
    setting("default-address-pool", "default-address-pools", Pools, Network),
    setting("default-cgroupns-mode", "default-cgroupns-mode", Text, NOT_SET),
    setting("default-gateway", "default-gateway", Ip, Network),
    setting("default-gateway-v6", "default-gateway-v6", Ip, Network),
    setting("default-ipc-mode", "default-ipc-mode", Text, NOT_SET),
    setting("default-network-opt", "default-network-opts", MapMap, Network),
    setting("default-runtime", "default-runtime", Text, NOT_SET),
    setting("default-shm-size", "default-shm-size", Text, NOT_SET),
    setting("default-ulimit", "default-ulimits", Object, NOT_SET),
    setting("dns", "dns", Ips, Done),
    setting("dns-opt", "dns-opts", List, Done),
    setting("dns-search", "dns-search", List, Done),
    setting("exec-opt", "exec-opts", List, NOT_SET),
    setting("exec-root", "exec-root", Text, Done),
    setting("experimental", "experimental", Bool, NOT_SET),
    setting("feature", "features", Object, NOT_SET),
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
    setting("init", "init", Bool, Only("false")),
    setting("init-path", "init-path", Text, NOT_SET),
    setting("insecure-registry", "insecure-registries", List, NO_REGISTRY),
    setting("ip", "ip", Ip, Network),
    setting("ip-forward", "ip-forward", Bool, Network),
    setting("ip-forward-no-drop", "ip-forward-no-drop", Bool, NO_FIREWALL),
    setting("ip-masq", "ip-masq", Bool, Network),
    setting("ip6tables", "ip6tables", Bool, NO_FIREWALL),
    setting("iptables", "iptables", Bool, NO_FIREWALL),
    setting("ipv6", "ipv6", Bool, Network),
    setting("label", "labels", List, Done),
    setting("live-restore", "live-restore", Bool, ALWAYS),
    setting("log-driver", "log-driver", Text, Only("\"json-file\"")),
    setting("log-format", "log-format", Text, NOT_SET),
    short('l', setting("log-level", "log-level", Text, Done)),
    setting("log-opt", "log-opts", Kind::Map, NOT_SET),
    setting("max-concurrent-downloads", "max-concurrent-downloads", Int, NO_REGISTRY),
    setting("max-concurrent-uploads", "max-concurrent-uploads", Int, NO_REGISTRY),
    setting("max-download-attempts", "max-download-attempts", Int, NO_REGISTRY),
    setting("metrics-addr", "metrics-addr", Text, NOT_SET),
    setting("mtu", "mtu", Int, Network),
    setting("network-control-plane-mtu", "network-control-plane-mtu", Int, NO_SWARM),
    setting("no-new-privileges", "no-new-privileges", Bool, Only("false")),
    setting("node-generic-resource", "node-generic-resources", List, NO_SWARM),
    short('p', setting("pidfile", "pidfile", Text, Done)),
    setting("raw-logs", "raw-logs", Bool, NOT_SET),
    setting("registry-mirror", "registry-mirrors", List, NO_REGISTRY),
    setting("rootless", "rootless", Bool, Only("false")),
    setting("seccomp-profile", "seccomp-profile", Text, Only("\"builtin\"")),
    setting("selinux-enabled", "selinux-enabled", Bool, Only("false")),
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
    setting("", "deprecated-key-path", Text, NOT_SET),
];

impl Setting {
    /// How it is called where both names are wanted: the file's.
    pub(super) fn name(&self) -> &'static str {
        if self.key.is_empty() { self.flag } else { self.key }
    }

    /// What was given on the command line, as the file would have it.
    pub(super) fn parse(&self, texts: &[String]) -> Result<Value, String> {
        let last = texts.last().map(String::as_str).unwrap_or_default();
        let value = match self.kind {
            Bool => match last {
                "1" | "t" | "T" | "true" | "True" | "TRUE" => Value::Bool(true),
                "0" | "f" | "F" | "false" | "False" | "FALSE" => Value::Bool(false),
                _ => return Err(format!("{last:?} is neither true nor false")),
            },
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
            List | Object => texts.into(),
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
            Object if !(value.is_object() || value.is_array()) => wrong("an object"),
            _ => Ok(()),
        }
    }

    /// Says so when this version cannot do what is asked.
    pub(super) fn refuse(&self, value: &Value) -> Result<(), String> {
        let Only(default) = self.meaning else { return Ok(()) };
        let default: Value = serde_json::from_str(default).unwrap_or_default();
        let same = *value == default || value.as_str() == Some("") && default == "";
        if same {
            return Ok(());
        }
        Err(format!("this version of causeway can only have {default} here, not {value}"))
    }
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
