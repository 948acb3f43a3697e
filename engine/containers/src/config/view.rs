//! Bodies of requests and answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    ContainerConfig, EndpointSettings, HostConfig, MountPoint, NetworkSettings, NetworkingConfig, PortSet,
    Resources, RestartPolicy, State, wire::null,
};

/// `POST /containers/create`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default, from = "CreateFields")]
pub struct CreateBody {
    #[serde(flatten)]
    pub config: ContainerConfig,
    pub host_config: Option<HostConfig>,
    pub networking_config: Option<NetworkingConfig>,
}

/// What is in a flattened struct is read into pieces that could be anything first. There may be a thousand of these.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct CreateFields {
    exposed_ports: Option<PortSet>,
    #[serde(flatten)]
    config: ContainerConfig,
    host_config: Option<HostConfig>,
    networking_config: Option<NetworkingConfig>,
}

impl From<CreateFields> for CreateBody {
    fn from(fields: CreateFields) -> Self {
        let CreateFields { exposed_ports, config, host_config, networking_config } = fields;
        Self { config: ContainerConfig { exposed_ports, ..config }, host_config, networking_config }
    }
}

/// What `create` answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Created {
    pub id: String,
    pub warnings: Vec<String>,
}

/// `POST /containers/{id}/update`: zero values leave things as they are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpdateBody {
    #[serde(flatten)]
    pub resources: Resources,
    #[serde(deserialize_with = "null")]
    pub restart_policy: RestartPolicy,
}

/// What `update` answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Updated {
    pub warnings: Option<Vec<String>>,
}

/// `POST /causeway/containers/{id}/ports`: published ports to take away and to add, as `docker run -p` takes them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortsBody {
    #[serde(deserialize_with = "null")]
    pub add: Vec<String>,
    /// Host address and host port may be left out: any.
    #[serde(deserialize_with = "null")]
    pub remove: Vec<String>,
}

/// `GET /causeway/containers/{id}/ports`, and what a change of them answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PublishedPorts {
    pub id: String,
    /// Its name, without a slash.
    pub container: String,
    pub running: bool,
    pub ports: Vec<PublishedRange>,
}

/// Consecutive host ports that lead to consecutive container ports. Figures are of the whole range since it was
/// published, both directions together; absent where the backend does not count.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PublishedRange {
    pub protocol: String,
    /// Empty: every address of both families.
    pub host_ip: String,
    /// The first; 0 while it is not settled.
    pub host_port: u32,
    pub container_port: u32,
    pub count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_flows: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusals: Option<u64>,
}

/// `GET /containers/{id}/json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Inspect {
    pub id: String,
    pub created: String,
    pub path: String,
    pub args: Vec<String>,
    pub state: State,
    /// The image's id.
    pub image: String,
    pub resolv_conf_path: String,
    pub hostname_path: String,
    pub hosts_path: String,
    pub log_path: String,
    /// With a slash in front.
    pub name: String,
    pub restart_count: i64,
    pub driver: String,
    pub platform: String,
    pub mount_label: String,
    pub process_label: String,
    pub app_armor_profile: String,
    #[serde(rename = "ExecIDs")]
    pub exec_ids: Option<Vec<String>>,
    pub host_config: HostConfig,
    pub graph_driver: GraphDriver,
    /// Bytes in the container's own layer, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<i64>,
    pub mounts: Vec<MountPoint>,
    pub config: ContainerConfig,
    pub network_settings: NetworkSettings,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GraphDriver {
    pub data: BTreeMap<String, String>,
    pub name: String,
}

/// One entry of `GET /containers/json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Summary {
    pub id: String,
    pub names: Vec<String>,
    pub image: String,
    #[serde(rename = "ImageID")]
    pub image_id: String,
    pub command: String,
    /// Seconds since 1970.
    pub created: i64,
    pub ports: Vec<Port>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<i64>,
    pub labels: BTreeMap<String, String>,
    pub state: String,
    pub status: String,
    pub host_config: SummaryHostConfig,
    pub network_settings: SummaryNetworks,
    pub mounts: Vec<MountPoint>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SummaryHostConfig {
    pub network_mode: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SummaryNetworks {
    pub networks: BTreeMap<String, EndpointSettings>,
}

/// An exposed or published port in `ps`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Port {
    #[serde(rename = "IP", skip_serializing_if = "String::is_empty")]
    pub ip: String,
    pub private_port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_port: Option<u16>,
    pub r#type: String,
}

/// What `wait` answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct WaitResult {
    pub status_code: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<WaitError>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct WaitError {
    pub message: String,
}

/// What `top` answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Top {
    pub processes: Vec<Vec<String>>,
    pub titles: Vec<String>,
}

/// `GET /exec/{id}/json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ExecInspect {
    #[serde(rename = "ID")]
    pub id: String,
    pub running: bool,
    pub exit_code: Option<i32>,
    pub process_config: ExecProcessConfig,
    pub open_stdin: bool,
    pub open_stderr: bool,
    pub open_stdout: bool,
    pub can_remove: bool,
    #[serde(rename = "ContainerID")]
    pub container_id: String,
    pub detach_keys: String,
    pub pid: i32,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ExecProcessConfig {
    pub tty: bool,
    pub entrypoint: String,
    pub arguments: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
}

/// A file in a container: the `X-Docker-Container-Path-Stat` header, as base64 of this as JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PathStat {
    pub name: String,
    pub size: i64,
    /// Go's `os.FileMode` bits.
    pub mode: u32,
    /// RFC 3339.
    pub mtime: String,
    #[serde(rename = "linkTarget")]
    pub link_target: String,
}

/// What `prune` answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Pruned {
    pub containers_deleted: Option<Vec<String>>,
    pub space_reclaimed: u64,
}
