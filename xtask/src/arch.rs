//! Who may import whom. The rules are those of ARCHITECTURE.md, section "The arrows".

use std::{collections::BTreeMap, process::Command};

use serde_json::Value;

/// A library that only some crates may depend on, and why.
const CONFINED: &[(&str, &[&str], &str)] = &[
    ("rtnetlink", &["libnetwork-kernel"], "netlink is spoken in one place"),
    ("netlink-packet-route", &["libnetwork-kernel"], "netlink is spoken in one place"),
    ("netlink-packet-core", &["libnetwork-kernel"], "netlink is spoken in one place"),
    ("netlink-sys", &["libnetwork-kernel"], "netlink is spoken in one place"),
    ("netlink-proto", &["libnetwork-kernel"], "netlink is spoken in one place"),
    ("nftnl", &["libnetwork-kernel"], "nftables is spoken in one place"),
    ("mnl-sys", &["libnetwork-kernel"], "netlink is spoken in one place"),
    ("nftnl-sys", &["libnetwork-kernel"], "nftables is spoken in one place"),
    ("aya", &["ebpf-portmap"], "BPF is loaded in one place"),
    ("redb", &["libnetwork-store"], "the intent is stored in one place"),
    ("hickory-proto", &["dns-server"], "the DNS wire format is read in one place"),
    ("hickory-server", &["dns-server"], "the DNS wire format is read in one place"),
    ("axum", &["engine-api"], "HTTP is served in one place"),
    ("tokio-rustls", &["engine-api"], "TLS ends where HTTP is served"),
    ("libcontainer", &["engine-shim"], "containers are made in one place"),
    (
        "tonic",
        &[
            "libnetwork-rpc",
            "libnetwork-daemon",
            "engine-cli",
            "engine-api",
            "engine-containers",
            "engine-daemon",
        ],
        "gRPC ends at the daemons",
    ),
];

/// Pure crates: no async, no netlink, no clock, no file.
const PURE: &[&str] = &[
    "libnetwork-model",
    "libnetwork-ipam",
    "libnetwork-plan",
    "driver-bridge",
    "driver-host",
    "dns-zone",
    "ebpf-layouts",
];
const IMPURE: &[&str] =
    &["tokio", "tokio-util", "nix", "libc", "rustix", "hyper", "jiff", "tempfile", "tracing"];

/// The crates of ours that a crate may import: the arrows, whole.
const ARROWS: &[(&str, &[&str])] = &[
    ("libnetwork-model", &[]),
    ("libnetwork-ipam", &["libnetwork-model"]),
    ("libnetwork-plan", &["libnetwork-model"]),
    ("libnetwork-core", &["libnetwork-model", "libnetwork-ipam", "libnetwork-plan"]),
    ("libnetwork-kernel", &["libnetwork-model", "libnetwork-plan", "libnetwork-core"]),
    ("libnetwork-store", &["libnetwork-model", "libnetwork-core"]),
    ("libnetwork-rpc", &["libnetwork-model"]),
    ("driver-bridge", &["libnetwork-model", "libnetwork-plan"]),
    ("driver-host", &["libnetwork-model", "libnetwork-plan"]),
    ("ebpf-layouts", &[]),
    ("ebpf-portmap", &["ebpf-layouts", "libnetwork-model", "libnetwork-plan", "libnetwork-core"]),
    ("dns-zone", &["libnetwork-model"]),
    ("dns-server", &["dns-zone", "libnetwork-model", "libnetwork-plan", "libnetwork-core"]),
    (
        "libnetwork-daemon",
        &[
            "libnetwork-model",
            "libnetwork-ipam",
            "libnetwork-plan",
            "libnetwork-core",
            "libnetwork-kernel",
            "libnetwork-store",
            "libnetwork-rpc",
            "driver-bridge",
            "driver-host",
            "ebpf-portmap",
            "dns-server",
        ],
    ),
    ("engine-protocol", &[]),
    ("engine-shim", &["engine-protocol"]),
    ("engine-runtime", &["engine-protocol", "libnetwork-model"]),
    ("engine-filters", &["libnetwork-model"]),
    ("engine-images", &["engine-filters", "libnetwork-model"]),
    ("engine-volumes", &["engine-filters", "libnetwork-model"]),
    (
        "engine-containers",
        &[
            "engine-filters",
            "engine-runtime",
            "engine-protocol",
            "engine-images",
            "engine-volumes",
            "libnetwork-model",
            "libnetwork-rpc",
        ],
    ),
    (
        "engine-api",
        &[
            "engine-containers",
            "engine-filters",
            "engine-images",
            "engine-volumes",
            "engine-runtime",
            "engine-protocol",
            "libnetwork-model",
            "libnetwork-rpc",
        ],
    ),
    (
        "engine-daemon",
        &[
            "engine-api",
            "engine-containers",
            "engine-images",
            "engine-volumes",
            "engine-runtime",
            "libnetwork-model",
            "libnetwork-rpc",
        ],
    ),
    ("engine-cli", &["libnetwork-model", "libnetwork-rpc"]),
    ("integration-testkit", &[]),
    ("integration-tests", &["integration-testkit"]),
    ("integration-bench", &["integration-testkit"]),
    ("xtask", &[]),
];

/// Module names that say nothing about what is in them.
const NAMELESS: &[&str] = &["utils", "util", "common", "helpers", "types", "misc"];

pub(crate) fn check() -> Vec<String> {
    let packages = packages();
    let mut findings = Vec::new();
    let arrows: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    for package in &packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(allowed) = arrows.get(name) else {
            findings.push(format!(
                "{name}: give the new crate its arrows in xtask/src/arch.rs and in ARCHITECTURE.md"
            ));
            continue;
        };
        // What only tests use does not shape the house.
        let dependencies =
            package["dependencies"].as_array().into_iter().flatten().filter(|d| d["kind"].is_null());
        for dependency in dependencies {
            let target = dependency["name"].as_str().unwrap_or_default();
            if arrows.contains_key(target) && !allowed.contains(&target) {
                findings
                    .push(format!("{name} must not import {target}: see \"The arrows\" in ARCHITECTURE.md"));
            }
            if let Some((_, homes, why)) = CONFINED.iter().find(|(library, _, _)| *library == target)
                && !homes.contains(&name)
            {
                findings.push(format!(
                    "{name} must not depend on {target}, only {} may: {why}",
                    homes.join(", ")
                ));
            }
            if PURE.contains(&name) && IMPURE.contains(&target) {
                findings.push(format!("{name} is pure: it must not depend on {target}"));
            }
        }
    }
    findings.extend(crate::sizes::sources().into_iter().filter_map(|(path, _)| {
        let stem = path.file_stem()?.to_str()?;
        let folder = path.parent()?.file_name()?.to_str()?;
        NAMELESS
            .iter()
            .find(|word| stem == **word || folder == **word)
            .map(|word| format!("{}: name the module after what it holds, not {word:?}", path.display()))
    }));
    findings
}

fn packages() -> Vec<Value> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .output()
        .expect("cargo runs");
    let mut metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    match metadata["packages"].take() {
        Value::Array(packages) => packages,
        _ => Vec::new(),
    }
}
