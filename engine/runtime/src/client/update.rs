//! Changing limits of a running container.

use std::{fs, path::Path};

use engine_protocol::cgroup::Group;

use crate::{Resources, RuntimeError};

/// Writes what is given, and nothing else.
pub(super) fn update(group: &Group<'_>, resources: &Resources) -> Result<(), RuntimeError> {
    if group.is_unified() { update_v2(group, resources) } else { update_v1(group, resources) }
}

fn write(directory: Option<&Path>, file: &str, value: &str) -> Result<(), RuntimeError> {
    let Some(directory) = directory else {
        return Err(RuntimeError::InvalidSpec(format!("the kernel has no {file}")));
    };
    let path = directory.join(file);
    fs::write(&path, value).map_err(RuntimeError::io("write", path))
}

fn update_v1(group: &Group<'_>, resources: &Resources) -> Result<(), RuntimeError> {
    let cpu = group.controller("cpu");
    if let Some(shares) = resources.cpu_shares {
        write(cpu.as_deref(), "cpu.shares", &shares.to_string())?;
    }
    if let Some(period) = resources.cpu_period {
        write(cpu.as_deref(), "cpu.cfs_period_us", &period.to_string())?;
    }
    if let Some(quota) = resources.cpu_quota {
        write(cpu.as_deref(), "cpu.cfs_quota_us", &quota.to_string())?;
    }
    let cpuset = group.controller("cpuset");
    if let Some(cpus) = &resources.cpuset_cpus {
        write(cpuset.as_deref(), "cpuset.cpus", cpus)?;
    }
    if let Some(mems) = &resources.cpuset_mems {
        write(cpuset.as_deref(), "cpuset.mems", mems)?;
    }
    memory_v1(group, resources)?;
    if let Some(limit) = resources.pids_limit {
        let value = if limit > 0 { limit.to_string() } else { "max".to_owned() };
        write(group.controller("pids").as_deref(), "pids.max", &value)?;
    }
    if let Some(weight) = resources.blkio_weight {
        write(group.controller("blkio").as_deref(), "blkio.weight", &weight.to_string())?;
    }
    Ok(())
}

fn memory_v1(group: &Group<'_>, resources: &Resources) -> Result<(), RuntimeError> {
    let memory = group.controller("memory");
    let memory = memory.as_deref();
    let with_swap = memory.is_some_and(|path| path.join("memory.memsw.limit_in_bytes").exists());
    let limits = [
        ("memory.limit_in_bytes", resources.memory),
        ("memory.memsw.limit_in_bytes", resources.memory_swap.filter(|_| with_swap)),
    ];
    let mut limits: Vec<_> = limits.into_iter().filter_map(|(file, limit)| Some((file, limit?))).collect();
    // The kernel wants memory below memory with swap at every moment: raising starts with the one, lowering with
    // the other.
    if let (2, Some((file, limit))) = (limits.len(), limits.first()) {
        let current = memory.and_then(|path| fs::read_to_string(path.join(file)).ok());
        let current = current.and_then(|text| text.trim().parse::<i64>().ok()).unwrap_or(i64::MAX);
        if *limit > current {
            limits.reverse();
        }
    }
    for (file, limit) in limits {
        write(memory, file, &limit.to_string())?;
    }
    if let Some(reservation) = resources.memory_reservation {
        write(memory, "memory.soft_limit_in_bytes", &reservation.to_string())?;
    }
    if let Some(swappiness) = resources.memory_swappiness {
        write(memory, "memory.swappiness", &swappiness.to_string())?;
    }
    Ok(())
}

fn update_v2(group: &Group<'_>, resources: &Resources) -> Result<(), RuntimeError> {
    let directory = group.unified();
    let directory = directory.as_deref();
    let or_max = |value: i64| if value > 0 { value.to_string() } else { "max".to_owned() };
    if let Some(shares) = resources.cpu_shares {
        write(directory, "cpu.weight", &weight(shares).to_string())?;
    }
    if resources.cpu_quota.is_some() || resources.cpu_period.is_some() {
        let current =
            directory.and_then(|path| fs::read_to_string(path.join("cpu.max")).ok()).unwrap_or_default();
        let mut current = current.split_whitespace();
        let (quota, period) = (current.next().unwrap_or("max"), current.next().unwrap_or("100000"));
        let quota = resources.cpu_quota.map_or_else(|| quota.to_owned(), or_max);
        let period = resources.cpu_period.map_or_else(|| period.to_owned(), |period| period.to_string());
        write(directory, "cpu.max", &format!("{quota} {period}"))?;
    }
    if let Some(cpus) = &resources.cpuset_cpus {
        write(directory, "cpuset.cpus", cpus)?;
    }
    if let Some(mems) = &resources.cpuset_mems {
        write(directory, "cpuset.mems", mems)?;
    }
    if let Some(limit) = resources.memory {
        write(directory, "memory.max", &or_max(limit))?;
    }
    if let Some(swap) = resources.memory_swap {
        // v2 counts swap by itself.
        let swap = if swap > 0 { swap - resources.memory.unwrap_or(0) } else { swap };
        write(directory, "memory.swap.max", &if swap < 0 { "max".to_owned() } else { swap.to_string() })?;
    }
    if let Some(reservation) = resources.memory_reservation {
        write(directory, "memory.low", &reservation.to_string())?;
    }
    if let Some(limit) = resources.pids_limit {
        write(directory, "pids.max", &or_max(limit))?;
    }
    if let Some(weight) = resources.blkio_weight {
        write(directory, "io.weight", &format!("default {weight}"))?;
    }
    Ok(())
}

/// CPU shares (2 to 262144) as a v2 weight (1 to 10000), by the conversion that all OCI runtimes use.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}
