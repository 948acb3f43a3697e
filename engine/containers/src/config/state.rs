use serde::{Deserialize, Serialize};

use super::wire::null;

/// Where a container's life stands (Docker's `State.Status`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    #[default]
    Created,
    Running,
    Paused,
    Restarting,
    Removing,
    Exited,
    Dead,
}

impl Status {
    /// As Docker writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }
}

/// A container's `State` in `inspect`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct State {
    pub status: Status,
    pub running: bool,
    pub paused: bool,
    pub restarting: bool,
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    pub dead: bool,
    /// In the engine's PID namespace; 0 when nothing runs.
    pub pid: i32,
    pub exit_code: i32,
    pub error: String,
    /// RFC 3339 with nanoseconds; the year 1 when it never happened.
    pub started_at: String,
    pub finished_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

/// What the health checks have found so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Health {
    /// `starting`, `healthy` or `unhealthy`.
    #[serde(deserialize_with = "null")]
    pub status: String,
    #[serde(deserialize_with = "null")]
    pub failing_streak: i64,
    /// The last five results.
    #[serde(deserialize_with = "null")]
    pub log: Vec<HealthResult>,
}

/// One run of a health check.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthResult {
    #[serde(deserialize_with = "null")]
    pub start: String,
    #[serde(deserialize_with = "null")]
    pub end: String,
    #[serde(deserialize_with = "null")]
    pub exit_code: i32,
    #[serde(deserialize_with = "null")]
    pub output: String,
}

/// A mount as `inspect` shows it (Docker's `MountPoint`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MountPoint {
    /// `bind`, `volume` or `tmpfs`.
    pub r#type: String,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null")]
    pub name: String,
    #[serde(deserialize_with = "null")]
    pub source: String,
    #[serde(deserialize_with = "null")]
    pub destination: String,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null")]
    pub driver: String,
    #[serde(deserialize_with = "null")]
    pub mode: String,
    #[serde(rename = "RW", deserialize_with = "null")]
    pub rw: bool,
    #[serde(deserialize_with = "null")]
    pub propagation: String,
}
