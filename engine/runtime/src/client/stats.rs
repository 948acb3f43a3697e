//! What a container's cgroup counts, as the kernel says it.

use std::{collections::BTreeMap, fs, path::Path};

use engine_protocol::cgroup::Group;

/// One reading. Zero or empty where the kernel has no such counter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Nanoseconds of CPU since the container started.
    pub cpu_total: u64,
    pub cpu_user: u64,
    pub cpu_system: u64,
    /// Nanoseconds by CPU; empty with cgroup v2.
    pub cpu_each: Vec<u64>,
    pub throttling_periods: u64,
    pub throttled_periods: u64,
    /// Nanoseconds.
    pub throttled_time: u64,
    /// Bytes, page cache included.
    pub memory_usage: u64,
    /// Bytes; 0 with cgroup v2 where the kernel keeps no peak.
    pub memory_max_usage: u64,
    /// Bytes; `u64::MAX` without a limit.
    pub memory_limit: u64,
    pub memory_failures: u64,
    /// `memory.stat`.
    pub memory_stat: BTreeMap<String, u64>,
    pub pids_current: u64,
    /// 0 without a limit.
    pub pids_limit: u64,
    /// Bytes by device and operation.
    pub blkio_bytes: Vec<BlkioEntry>,
    /// Operations by device and operation.
    pub blkio_operations: Vec<BlkioEntry>,
}

/// One line of the block I/O counters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlkioEntry {
    pub major: u64,
    pub minor: u64,
    /// `read` or `write`.
    pub operation: String,
    pub value: u64,
}

/// Reads all counters; those that the kernel lacks stay zero.
pub(super) fn read(group: &Group<'_>) -> Stats {
    let mut out = Stats { memory_limit: u64::MAX, ..Stats::default() };
    if group.is_unified() {
        read_v2(group, &mut out);
    } else {
        read_v1(group, &mut out);
    }
    if let Some(pids) = group.controller("pids") {
        out.pids_current = number(&pids, "pids.current").unwrap_or(0);
        out.pids_limit = number(&pids, "pids.max").unwrap_or(0);
    }
    out
}

fn read_v1(group: &Group<'_>, out: &mut Stats) {
    if let Some(directory) = group.controller("cpuacct") {
        out.cpu_total = number(&directory, "cpuacct.usage").unwrap_or(0);
        let each = text(&directory, "cpuacct.usage_percpu");
        out.cpu_each = each.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        // In hundredths of a second.
        let split = pairs(&text(&directory, "cpuacct.stat"));
        out.cpu_user = split.get("user").copied().unwrap_or(0) * 10_000_000;
        out.cpu_system = split.get("system").copied().unwrap_or(0) * 10_000_000;
    }
    if let Some(directory) = group.controller("cpu") {
        throttling(&pairs(&text(&directory, "cpu.stat")), "throttled_time", 1, out);
    }
    if let Some(directory) = group.controller("memory") {
        out.memory_usage = number(&directory, "memory.usage_in_bytes").unwrap_or(0);
        out.memory_max_usage = number(&directory, "memory.max_usage_in_bytes").unwrap_or(0);
        out.memory_failures = number(&directory, "memory.failcnt").unwrap_or(0);
        // No limit is the largest multiple of the page size.
        let limit = number(&directory, "memory.limit_in_bytes").filter(|&limit| limit < 1 << 62);
        out.memory_limit = limit.unwrap_or(u64::MAX);
        out.memory_stat = pairs(&text(&directory, "memory.stat"));
    }
    if let Some(directory) = group.controller("blkio") {
        out.blkio_bytes = block_v1(&text(&directory, "blkio.throttle.io_service_bytes_recursive"));
        out.blkio_operations = block_v1(&text(&directory, "blkio.throttle.io_serviced_recursive"));
    }
}

fn read_v2(group: &Group<'_>, out: &mut Stats) {
    let Some(directory) = group.unified() else { return };
    let cpu = pairs(&text(&directory, "cpu.stat"));
    // In microseconds.
    let time = |name: &str| cpu.get(name).copied().unwrap_or(0) * 1000;
    (out.cpu_total, out.cpu_user, out.cpu_system) =
        (time("usage_usec"), time("user_usec"), time("system_usec"));
    throttling(&cpu, "throttled_usec", 1000, out);
    out.memory_usage = number(&directory, "memory.current").unwrap_or(0);
    out.memory_max_usage = number(&directory, "memory.peak").unwrap_or(0);
    out.memory_limit = number(&directory, "memory.max").unwrap_or(u64::MAX);
    out.memory_failures = pairs(&text(&directory, "memory.events")).get("max").copied().unwrap_or(0);
    out.memory_stat = pairs(&text(&directory, "memory.stat"));
    for line in text(&directory, "io.stat").lines() {
        let mut fields = line.split_whitespace();
        let Some((major, minor)) = fields.next().and_then(device) else { continue };
        for field in fields {
            let Some((name, Ok(value))) = field.split_once('=').map(|(name, n)| (name, n.parse())) else {
                continue;
            };
            let entry = |operation: &str| BlkioEntry { major, minor, operation: operation.to_owned(), value };
            match name {
                "rbytes" => out.blkio_bytes.push(entry("read")),
                "wbytes" => out.blkio_bytes.push(entry("write")),
                "rios" => out.blkio_operations.push(entry("read")),
                "wios" => out.blkio_operations.push(entry("write")),
                _ => {}
            }
        }
    }
}

fn throttling(counters: &BTreeMap<String, u64>, time: &str, unit: u64, out: &mut Stats) {
    let counter = |name: &str| counters.get(name).copied().unwrap_or(0);
    out.throttling_periods = counter("nr_periods");
    out.throttled_periods = counter("nr_throttled");
    out.throttled_time = counter(time) * unit;
}

fn block_v1(text: &str) -> Vec<BlkioEntry> {
    let entry = |line: &str| {
        let mut fields = line.split_whitespace();
        let (major, minor) = device(fields.next()?)?;
        let operation = fields.next()?.to_ascii_lowercase();
        let value = fields.next()?.parse().ok()?;
        Some(BlkioEntry { major, minor, operation, value })
            .filter(|e| e.operation == "read" || e.operation == "write")
    };
    text.lines().filter_map(entry).collect()
}

fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn text(directory: &Path, file: &str) -> String {
    fs::read_to_string(directory.join(file)).unwrap_or_default()
}

fn number(directory: &Path, file: &str) -> Option<u64> {
    text(directory, file).trim().parse().ok()
}

fn pairs(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}
