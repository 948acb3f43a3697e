//! Requests and answers in the shape of Docker's API 1.51.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The body of `POST /volumes/create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateVolume {
    /// Empty: an anonymous volume, named by 64 random hex digits.
    pub name: String,
    /// Empty or `local`.
    pub driver: String,
    /// `type`, `o`, `device`: what mount(8) is given.
    pub driver_opts: Option<BTreeMap<String, String>>,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
}

/// A volume, as inspect, list and create return it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Volume {
    /// RFC 3339, seconds.
    pub created_at: String,
    /// Always `local`.
    pub driver: String,
    /// Labels; `null` where none were given.
    pub labels: Option<BTreeMap<String, String>>,
    /// The directory with the content, on the host.
    pub mountpoint: String,
    /// Its name.
    pub name: String,
    /// Driver options; `null` where none were given.
    pub options: Option<BTreeMap<String, String>>,
    /// Always `local`.
    pub scope: String,
    /// Only in disk usage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_data: Option<UsageData>,
}

/// What a volume costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct UsageData {
    /// Containers that use it.
    pub ref_count: i64,
    /// Bytes.
    pub size: i64,
}

/// The answer to `GET /volumes`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct VolumeList {
    /// Sorted by name.
    pub volumes: Vec<Volume>,
    /// Always `null` here: nothing can go partly wrong.
    pub warnings: Option<Vec<String>>,
}

/// The answer to `POST /volumes/prune`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PruneReport {
    /// Names; `null` when nothing went.
    pub volumes_deleted: Option<Vec<String>>,
    /// Bytes.
    pub space_reclaimed: u64,
}
