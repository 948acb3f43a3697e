//! The mounts of a container: Docker's defaults, then what was asked for.

use std::path::Path;

use serde_json::{Value, json};

use super::{CgroupMode, ContainerSpec, MountKind, MountSpec, NamespaceMode, Propagation};

/// Docker's size of `/dev/shm`, bytes.
const SHM_SIZE: u64 = 64 << 20;

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": kind, "source": source, "options": options })
}

/// All mounts in the order in which they are made. `private_cgroup`: a cgroup namespace of its own.
pub(super) fn mounts(spec: &ContainerSpec) -> Vec<Value> {
    let mut out = defaults(spec);
    // A mount on a default's path replaces it; one on /dev replaces all below it, as in Docker.
    out.retain(|default| {
        let destination = default["destination"].as_str().unwrap_or_default();
        !spec.mounts.iter().any(|mount| {
            let wanted = mount.destination.trim_end_matches('/');
            wanted == destination || wanted == "/dev" && destination.starts_with("/dev/")
        })
    });
    if let Some(init) = &spec.init {
        let source = init.to_string_lossy();
        out.push(mount(super::INIT_PATH, "bind", &source, &["bind", "ro", "rprivate"]));
    }
    // A mount below another comes after it, whatever order they were given in.
    let mut wanted: Vec<&MountSpec> = spec.mounts.iter().collect();
    wanted.sort_by_key(|mount| Path::new(&mount.destination).components().count());
    out.extend(wanted.into_iter().map(translate));
    out
}

fn defaults(spec: &ContainerSpec) -> Vec<Value> {
    let access = if spec.privileged { "rw" } else { "ro" };
    let shm_size = if spec.shm_size == 0 { SHM_SIZE } else { spec.shm_size };
    let shm_size = format!("size={shm_size}");
    let mut out = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", access]),
    ];
    match &spec.ipc {
        NamespaceMode::Private => {
            out.push(mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]));
            let options = ["nosuid", "noexec", "nodev", "mode=1777", &shm_size];
            out.push(mount("/dev/shm", "tmpfs", "shm", &options));
        }
        NamespaceMode::Host => {
            out.push(mount("/dev/mqueue", "bind", "/dev/mqueue", &["rbind", "nosuid", "noexec", "nodev"]));
            out.push(mount("/dev/shm", "bind", "/dev/shm", &["rbind", "nosuid", "noexec", "nodev"]));
        }
        NamespaceMode::OfProcess(pid) => {
            out.push(mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]));
            let source = format!("/proc/{pid}/root/dev/shm");
            out.push(mount("/dev/shm", "bind", &source, &["rbind", "nosuid", "noexec", "nodev"]));
        }
    }
    // What is not on this host cannot be bound.
    out.retain(|m| {
        m["type"] != "bind" || m["source"].as_str().is_some_and(|source| Path::new(source).exists())
    });
    out
}

fn translate(wanted: &MountSpec) -> Value {
    let access = if wanted.readonly { "ro" } else { "rw" };
    let mut options: Vec<&str> = Vec::new();
    let (kind, source) = match &wanted.kind {
        MountKind::Bind { source, propagation, non_recursive } => {
            options.push(if *non_recursive { "bind" } else { "rbind" });
            options.push(access);
            options.push(match propagation {
                Propagation::Private => "private",
                Propagation::RPrivate => "rprivate",
                Propagation::Shared => "shared",
                Propagation::RShared => "rshared",
                Propagation::Slave => "slave",
                Propagation::RSlave => "rslave",
            });
            ("bind", source.to_string_lossy())
        }
        MountKind::Tmpfs => {
            options.extend(["nosuid", "nodev", "noexec", access]);
            ("tmpfs", "tmpfs".into())
        }
    };
    options.extend(wanted.options.iter().map(String::as_str));
    json!({ "destination": wanted.destination, "type": kind, "source": source, "options": options })
}

/// The propagation of the root that the container's mounts need.
pub(super) fn root_propagation(spec: &ContainerSpec) -> Option<&'static str> {
    let any = |wanted: &[Propagation]| {
        let found = |m: &MountSpec| matches!(&m.kind, MountKind::Bind { propagation, .. } if wanted.contains(propagation));
        spec.mounts.iter().any(found)
    };
    if any(&[Propagation::Shared, Propagation::RShared]) {
        Some("shared")
    } else if any(&[Propagation::Slave, Propagation::RSlave]) {
        Some("slave")
    } else {
        None
    }
}

/// The container gets a cgroup namespace.
pub(super) fn private_cgroup(mode: CgroupMode, unified: bool) -> bool {
    match mode {
        CgroupMode::Private => true,
        CgroupMode::Host => false,
        CgroupMode::Default => unified,
    }
}
