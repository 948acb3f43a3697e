//! What a container's cgroup counts, as the kernel says it.

use std::collections::BTreeMap;

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
