use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    port_bindings::PortBindings,
    wire::{is_empty, is_empty_map, is_zero, null, strings},
};

/// One side of a published port as the client wrote it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortBinding {
    #[serde(deserialize_with = "null")]
    pub host_ip: String,
    /// A port, a range `first-last`, or empty for any free one.
    #[serde(deserialize_with = "null")]
    pub host_port: String,
}

/// From `80/tcp` to where it is published; `null` for a port that is only exposed.
pub type PortMap = BTreeMap<String, Option<Vec<PortBinding>>>;

/// How a container is run on this host (Docker's `HostConfig`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    pub binds: Option<Vec<String>>,
    #[serde(rename = "ContainerIDFile", deserialize_with = "null")]
    pub container_id_file: String,
    #[serde(deserialize_with = "null")]
    pub log_config: LogConfig,
    #[serde(deserialize_with = "null")]
    pub network_mode: String,
    pub port_bindings: Option<PortBindings>,
    #[serde(deserialize_with = "null")]
    pub restart_policy: RestartPolicy,
    #[serde(deserialize_with = "null")]
    pub auto_remove: bool,
    #[serde(deserialize_with = "null")]
    pub volume_driver: String,
    pub volumes_from: Option<Vec<String>>,
    /// Rows, columns.
    #[serde(deserialize_with = "null")]
    pub console_size: [u16; 2],
    #[serde(skip_serializing_if = "is_empty_map")]
    pub annotations: Option<BTreeMap<String, String>>,
    #[serde(deserialize_with = "strings")]
    pub cap_add: Option<Vec<String>>,
    #[serde(deserialize_with = "strings")]
    pub cap_drop: Option<Vec<String>>,
    /// `host` or `private`.
    #[serde(deserialize_with = "null")]
    pub cgroupns_mode: String,
    pub dns: Option<Vec<String>>,
    pub dns_options: Option<Vec<String>>,
    pub dns_search: Option<Vec<String>>,
    pub extra_hosts: Option<Vec<String>>,
    pub group_add: Option<Vec<String>>,
    #[serde(deserialize_with = "null")]
    pub ipc_mode: String,
    #[serde(deserialize_with = "null")]
    pub cgroup: String,
    pub links: Option<Vec<String>>,
    #[serde(deserialize_with = "null")]
    pub oom_score_adj: i32,
    #[serde(deserialize_with = "null")]
    pub pid_mode: String,
    #[serde(deserialize_with = "null")]
    pub privileged: bool,
    #[serde(deserialize_with = "null")]
    pub publish_all_ports: bool,
    #[serde(deserialize_with = "null")]
    pub readonly_rootfs: bool,
    pub security_opt: Option<Vec<String>>,
    #[serde(skip_serializing_if = "is_empty_map")]
    pub storage_opt: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "is_empty_map")]
    pub tmpfs: Option<BTreeMap<String, String>>,
    #[serde(rename = "UTSMode", deserialize_with = "null")]
    pub uts_mode: String,
    #[serde(deserialize_with = "null")]
    pub userns_mode: String,
    /// Bytes of /dev/shm.
    #[serde(deserialize_with = "null")]
    pub shm_size: i64,
    #[serde(skip_serializing_if = "is_empty_map")]
    pub sysctls: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null")]
    pub runtime: String,
    #[serde(deserialize_with = "null")]
    pub isolation: String,
    #[serde(flatten)]
    pub resources: Resources,
    #[serde(skip_serializing_if = "is_empty")]
    pub mounts: Option<Vec<Mount>>,
    pub masked_paths: Option<Vec<String>>,
    pub readonly_paths: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
}

/// What a container may use of the host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Resources {
    #[serde(deserialize_with = "null")]
    pub cpu_shares: i64,
    /// Bytes.
    #[serde(deserialize_with = "null")]
    pub memory: i64,
    /// Thousand-millionths of a CPU.
    #[serde(deserialize_with = "null")]
    pub nano_cpus: i64,
    #[serde(deserialize_with = "null")]
    pub cgroup_parent: String,
    #[serde(deserialize_with = "null")]
    pub blkio_weight: u16,
    pub blkio_weight_device: Option<Vec<WeightDevice>>,
    pub blkio_device_read_bps: Option<Vec<ThrottleDevice>>,
    pub blkio_device_write_bps: Option<Vec<ThrottleDevice>>,
    #[serde(rename = "BlkioDeviceReadIOps")]
    pub blkio_device_read_iops: Option<Vec<ThrottleDevice>>,
    #[serde(rename = "BlkioDeviceWriteIOps")]
    pub blkio_device_write_iops: Option<Vec<ThrottleDevice>>,
    /// Microseconds.
    #[serde(deserialize_with = "null")]
    pub cpu_period: i64,
    /// Microseconds per period.
    #[serde(deserialize_with = "null")]
    pub cpu_quota: i64,
    #[serde(deserialize_with = "null")]
    pub cpu_realtime_period: i64,
    #[serde(deserialize_with = "null")]
    pub cpu_realtime_runtime: i64,
    #[serde(deserialize_with = "null")]
    pub cpuset_cpus: String,
    #[serde(deserialize_with = "null")]
    pub cpuset_mems: String,
    pub devices: Option<Vec<DeviceMapping>>,
    pub device_cgroup_rules: Option<Vec<String>>,
    pub device_requests: Option<Vec<serde_json::Value>>,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null")]
    pub kernel_memory: i64,
    #[serde(rename = "KernelMemoryTCP", skip_serializing_if = "is_zero", deserialize_with = "null")]
    pub kernel_memory_tcp: i64,
    #[serde(deserialize_with = "null")]
    pub memory_reservation: i64,
    /// Bytes of memory and swap together; -1 for no limit.
    #[serde(deserialize_with = "null")]
    pub memory_swap: i64,
    pub memory_swappiness: Option<i64>,
    pub oom_kill_disable: Option<bool>,
    pub pids_limit: Option<i64>,
    pub ulimits: Option<Vec<Ulimit>>,
    #[serde(deserialize_with = "null")]
    pub cpu_count: i64,
    #[serde(deserialize_with = "null")]
    pub cpu_percent: i64,
    #[serde(rename = "IOMaximumIOps", deserialize_with = "null")]
    pub io_maximum_iops: u64,
    #[serde(rename = "IOMaximumBandwidth", deserialize_with = "null")]
    pub io_maximum_bandwidth: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LogConfig {
    /// `json-file` or `none`; empty means `json-file`.
    pub r#type: String,
    pub config: Option<BTreeMap<String, String>>,
}

/// When a container that has exited is started again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RestartPolicy {
    /// `no`, `on-failure`, `always` or `unless-stopped`; empty means `no`.
    #[serde(deserialize_with = "null")]
    pub name: String,
    #[serde(deserialize_with = "null")]
    pub maximum_retry_count: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct WeightDevice {
    #[serde(deserialize_with = "null")]
    pub path: String,
    #[serde(deserialize_with = "null")]
    pub weight: u16,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ThrottleDevice {
    #[serde(deserialize_with = "null")]
    pub path: String,
    #[serde(deserialize_with = "null")]
    pub rate: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeviceMapping {
    #[serde(deserialize_with = "null")]
    pub path_on_host: String,
    #[serde(deserialize_with = "null")]
    pub path_in_container: String,
    #[serde(deserialize_with = "null")]
    pub cgroup_permissions: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ulimit {
    #[serde(deserialize_with = "null")]
    pub name: String,
    #[serde(deserialize_with = "null")]
    pub hard: i64,
    #[serde(deserialize_with = "null")]
    pub soft: i64,
}

/// A mount as `--mount` describes it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Mount {
    /// `bind`, `volume` or `tmpfs`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub r#type: String,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null")]
    pub source: String,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null")]
    pub target: String,
    #[serde(skip_serializing_if = "super::wire::is_false", deserialize_with = "null")]
    pub read_only: bool,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null")]
    pub consistency: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_options: Option<BindOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_options: Option<VolumeOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs_options: Option<TmpfsOptions>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BindOptions {
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null")]
    pub propagation: String,
    #[serde(skip_serializing_if = "super::wire::is_false", deserialize_with = "null")]
    pub non_recursive: bool,
    #[serde(skip_serializing_if = "super::wire::is_false", deserialize_with = "null")]
    pub create_mountpoint: bool,
    #[serde(skip_serializing_if = "super::wire::is_false", deserialize_with = "null")]
    pub read_only_non_recursive: bool,
    #[serde(skip_serializing_if = "super::wire::is_false", deserialize_with = "null")]
    pub read_only_force_recursive: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumeOptions {
    #[serde(skip_serializing_if = "super::wire::is_false", deserialize_with = "null")]
    pub no_copy: bool,
    #[serde(skip_serializing_if = "is_empty_map")]
    pub labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null")]
    pub subpath: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_config: Option<DriverConfig>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DriverConfig {
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null")]
    pub name: String,
    #[serde(skip_serializing_if = "is_empty_map")]
    pub options: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TmpfsOptions {
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null")]
    pub size_bytes: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    #[serde(skip_serializing_if = "is_empty")]
    pub options: Option<Vec<Vec<String>>>,
}
