use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    port_set::PortSet,
    wire::{Set, is_empty, is_false, null, strings},
};

/// What runs in a container, independent of the host (Docker's `Config`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    #[serde(deserialize_with = "null")]
    pub hostname: String,
    #[serde(deserialize_with = "null")]
    pub domainname: String,
    #[serde(deserialize_with = "null")]
    pub user: String,
    #[serde(deserialize_with = "null")]
    pub attach_stdin: bool,
    #[serde(deserialize_with = "null")]
    pub attach_stdout: bool,
    #[serde(deserialize_with = "null")]
    pub attach_stderr: bool,
    #[serde(skip_serializing_if = "no_ports")]
    pub exposed_ports: Option<PortSet>,
    #[serde(deserialize_with = "null")]
    pub tty: bool,
    #[serde(deserialize_with = "null")]
    pub open_stdin: bool,
    #[serde(deserialize_with = "null")]
    pub stdin_once: bool,
    pub env: Option<Vec<String>>,
    #[serde(deserialize_with = "strings")]
    pub cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    #[serde(skip_serializing_if = "is_false", deserialize_with = "null")]
    pub args_escaped: bool,
    #[serde(deserialize_with = "null")]
    pub image: String,
    pub volumes: Option<Set>,
    #[serde(deserialize_with = "null")]
    pub working_dir: String,
    #[serde(deserialize_with = "strings")]
    pub entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "is_false", deserialize_with = "null")]
    pub network_disabled: bool,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null")]
    pub mac_address: String,
    pub on_build: Option<Vec<String>>,
    pub labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null")]
    pub stop_signal: String,
    /// Seconds to wait after the stop signal before killing; none means 10, negative means forever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    #[serde(skip_serializing_if = "is_empty", deserialize_with = "strings")]
    pub shell: Option<Vec<String>>,
}

fn no_ports(ports: &Option<PortSet>) -> bool {
    ports.as_ref().is_none_or(PortSet::is_empty)
}

/// How to find out whether a container is healthy. Durations are in nanoseconds; 0 means Docker's default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthConfig {
    /// `["NONE"]`, `["CMD", args...]` or `["CMD-SHELL", command]`; empty inherits the image's.
    #[serde(skip_serializing_if = "is_empty", deserialize_with = "strings")]
    pub test: Option<Vec<String>>,
    #[serde(skip_serializing_if = "super::wire::is_zero", deserialize_with = "null")]
    pub interval: i64,
    #[serde(skip_serializing_if = "super::wire::is_zero", deserialize_with = "null")]
    pub timeout: i64,
    #[serde(skip_serializing_if = "super::wire::is_zero", deserialize_with = "null")]
    pub start_period: i64,
    #[serde(skip_serializing_if = "super::wire::is_zero", deserialize_with = "null")]
    pub start_interval: i64,
    #[serde(skip_serializing_if = "super::wire::is_zero", deserialize_with = "null")]
    pub retries: i64,
}
