//! Limits and devices.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::{ContainerSpec, DeviceSpec, Resources, rootfs};
use crate::RuntimeError;

/// What Docker lets any container use: null, zero, full, random, urandom, tty, console. The OCI runtime adds the
/// terminals.
const DEFAULT_DEVICES: [(u64, u64); 7] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1)];

/// The OCI spec's `resources`, the device rules included.
pub(super) fn resources(spec: &ContainerSpec) -> Result<Value, RuntimeError> {
    let mut out = limits(&spec.resources)?;
    out.insert("devices".to_owned(), device_rules(spec)?.into());
    Ok(out.into())
}

fn limits(resources: &Resources) -> Result<Map<String, Value>, RuntimeError> {
    let mut memory = Map::new();
    put(&mut memory, "limit", resources.memory.filter(|&limit| limit != 0));
    put(&mut memory, "reservation", resources.memory_reservation.filter(|&limit| limit != 0));
    put(&mut memory, "swappiness", resources.memory_swappiness);
    put(&mut memory, "disableOOMKiller", resources.oom_kill_disable);
    if swap_is_limited() {
        // Docker's rule: as much swap as memory, unless said otherwise.
        let swap = resources.memory_swap.filter(|&swap| swap != 0);
        let default = resources.memory.filter(|&limit| limit > 0).map(|limit| limit.saturating_mul(2));
        put(&mut memory, "swap", swap.or(default));
    }
    let mut cpu = Map::new();
    put(&mut cpu, "shares", resources.cpu_shares.filter(|&shares| shares != 0));
    put(&mut cpu, "quota", resources.cpu_quota.filter(|&quota| quota != 0));
    put(&mut cpu, "period", resources.cpu_period.filter(|&period| period != 0));
    put(&mut cpu, "cpus", resources.cpuset_cpus.clone().filter(|set| !set.is_empty()));
    put(&mut cpu, "mems", resources.cpuset_mems.clone().filter(|set| !set.is_empty()));
    let mut block = Map::new();
    put(&mut block, "weight", resources.blkio_weight.filter(|&weight| weight != 0));
    let throttles = [
        ("throttleReadBpsDevice", &resources.blkio_read_bps),
        ("throttleWriteBpsDevice", &resources.blkio_write_bps),
        ("throttleReadIOPSDevice", &resources.blkio_read_iops),
        ("throttleWriteIOPSDevice", &resources.blkio_write_iops),
    ];
    for (name, list) in throttles {
        if !list.is_empty() {
            block.insert(name.to_owned(), throttle(list)?);
        }
    }
    let mut out = Map::new();
    for (name, part) in [("memory", memory), ("cpu", cpu), ("blockIO", block)] {
        if !part.is_empty() {
            out.insert(name.to_owned(), part.into());
        }
    }
    if let Some(limit) = resources.pids_limit.filter(|&limit| limit > 0) {
        out.insert("pids".to_owned(), json!({ "limit": limit }));
    }
    Ok(out)
}

fn put<T: Into<Value>>(out: &mut Map<String, Value>, name: &str, value: Option<T>) {
    if let Some(value) = value {
        out.insert(name.to_owned(), value.into());
    }
}

fn throttle(list: &[(PathBuf, u64)]) -> Result<Value, RuntimeError> {
    let entries = list.iter().map(|(path, rate)| {
        let node = rootfs::node(path)
            .ok_or_else(|| RuntimeError::InvalidSpec(format!("{} is not a device", path.display())))?;
        Ok(json!({ "major": node.major, "minor": node.minor, "rate": rate }))
    });
    Ok(entries.collect::<Result<Vec<_>, RuntimeError>>()?.into())
}

/// The kernel accounts swap by cgroup; v1 may be built without.
fn swap_is_limited() -> bool {
    use engine_protocol::cgroup;
    let v1 = Path::new(cgroup::ROOT).join("memory");
    !v1.exists() || v1.join("memory.memsw.limit_in_bytes").exists()
}

fn device_rules(spec: &ContainerSpec) -> Result<Vec<Value>, RuntimeError> {
    if spec.privileged {
        return Ok(vec![json!({ "allow": true, "access": "rwm" })]);
    }
    let mut out = vec![json!({ "allow": false, "access": "rwm" })];
    for (major, minor) in DEFAULT_DEVICES {
        out.push(json!({ "allow": true, "type": "c", "major": major, "minor": minor, "access": "rwm" }));
    }
    for (device, node) in nodes(&spec.devices)? {
        let access = if device.permissions.is_empty() { "rwm" } else { &device.permissions };
        out.push(json!({
            "allow": true, "type": node.kind, "major": node.major, "minor": node.minor, "access": access
        }));
    }
    for rule in &spec.device_cgroup_rules {
        out.push(device_rule(rule)?);
    }
    Ok(out)
}

fn device_rule(rule: &str) -> Result<Value, RuntimeError> {
    let invalid = || RuntimeError::InvalidSpec(format!("invalid device cgroup rule format: '{rule}'"));
    let mut fields = rule.split_whitespace();
    let (Some(kind), Some(number), Some(access), None) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(invalid());
    };
    let (major, minor) = number.split_once(':').ok_or_else(invalid)?;
    let known = |c: char| "rwm".contains(c);
    if !["a", "b", "c"].contains(&kind) || access.is_empty() || !access.chars().all(known) {
        return Err(invalid());
    }
    let mut out = json!({ "allow": true, "type": kind, "access": access });
    for (name, text) in [("major", major), ("minor", minor)] {
        if text != "*" {
            out[name] = text.parse::<u64>().map_err(|_| invalid())?.into();
        }
    }
    Ok(out)
}

/// The OCI spec's `devices`: the nodes to make.
pub(super) fn devices(spec: &ContainerSpec) -> Result<Vec<Value>, RuntimeError> {
    let mut found = nodes(&spec.devices)?;
    if spec.privileged {
        let all = DeviceSpec {
            path_on_host: "/dev".into(),
            path_in_container: "/dev".to_owned(),
            permissions: String::new(),
        };
        let mut host = Vec::new();
        walk(&all, &mut host);
        // These are mounts of the container's own, or made by the OCI runtime.
        let own = ["/dev/pts", "/dev/shm", "/dev/fd", "/dev/mqueue", "/dev/console", "/dev/ptmx"];
        host.retain(|(device, _)| {
            !own.iter().any(|own| Path::new(&device.path_in_container).starts_with(own))
        });
        found.splice(0..0, host);
    }
    let nodes = found.into_iter().map(|(device, node)| {
        json!({
            "path": device.path_in_container, "type": node.kind, "major": node.major, "minor": node.minor,
            "fileMode": node.mode, "uid": node.uid, "gid": node.gid,
        })
    });
    Ok(nodes.collect())
}

fn nodes(devices: &[DeviceSpec]) -> Result<Vec<(DeviceSpec, rootfs::Node)>, RuntimeError> {
    let mut out = Vec::new();
    for device in devices {
        let before = out.len();
        walk(device, &mut out);
        if out.len() == before {
            let path = device.path_on_host.display();
            let message = if device.path_on_host.exists() {
                format!(
                    "error gathering device information while adding custom device {path:?}: not a device node"
                )
            } else {
                format!(
                    "error gathering device information while adding custom device \"{path}\": no such file or directory"
                )
            };
            return Err(RuntimeError::InvalidSpec(message));
        }
    }
    Ok(out)
}

/// A directory means every device below it.
fn walk(device: &DeviceSpec, out: &mut Vec<(DeviceSpec, rootfs::Node)>) {
    if let Some(node) = rootfs::node(&device.path_on_host) {
        out.push((device.clone(), node));
        return;
    }
    let Ok(entries) = std::fs::read_dir(&device.path_on_host) else { return };
    for entry in entries.flatten() {
        // A link's target is listed where it is, or outside.
        if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
            continue;
        }
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        let path_in_container = format!("{}/{name}", device.path_in_container.trim_end_matches('/'));
        let below = DeviceSpec { path_on_host: entry.path(), path_in_container, ..device.clone() };
        walk(&below, out);
    }
}
