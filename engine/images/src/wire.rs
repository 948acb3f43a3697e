//! Answers in the shape of Docker's API 1.51, so that the api crate can return them as they are.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::config::ImageConfig;

/// `GET /images/{name}/json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageInspect {
    /// `sha256:…`, the digest of the config.
    pub id: String,
    /// Familiar names: `nginx:latest`.
    pub repo_tags: Vec<String>,
    /// `nginx@sha256:…`.
    pub repo_digests: Vec<String>,
    /// The image it was committed from, or empty.
    pub parent: String,
    /// The message given at import or commit.
    pub comment: String,
    /// RFC 3339; absent where the config has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Version of the engine that made it, or empty.
    pub docker_version: String,
    /// Free text.
    pub author: String,
    /// What containers inherit.
    #[serde(serialize_with = "with_empty_fields")]
    pub config: ImageConfig,
    /// GOARCH.
    pub architecture: String,
    /// CPU variant.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// GOOS.
    pub os: String,
    /// Windows only.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// Bytes in the files of all layers, unpacked.
    pub size: u64,
    /// Where the unpacked layers are.
    pub graph_driver: GraphDriver,
    /// The layers' diff ids.
    #[serde(rename = "RootFS")]
    pub root_fs: RootFs,
    /// What only this store knows.
    pub metadata: Metadata,
}

/// API 1.50 and 1.51 leave out what is empty, except for these fields.
fn with_empty_fields<S: serde::Serializer>(config: &ImageConfig, serializer: S) -> Result<S::Ok, S::Error> {
    use serde::ser::Error;
    use serde_json::Value;
    let mut value = serde_json::to_value(config).map_err(S::Error::custom)?;
    if let Value::Object(fields) = &mut value {
        // Go takes an empty map for no value.
        fields.retain(|_, value| value.as_object().is_none_or(|map| !map.is_empty()));
        for key in ["Cmd", "Entrypoint", "Env", "Labels", "OnBuild", "Volumes"] {
            fields.entry(key).or_insert(Value::Null);
        }
        for key in ["User", "WorkingDir"] {
            fields.entry(key).or_insert_with(|| Value::String(String::new()));
        }
    }
    value.serialize(serializer)
}

/// The storage driver and its directories: `LowerDir`, `UpperDir`, `MergedDir`, `WorkDir`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GraphDriver {
    /// Directory by role; several are joined by `:`, topmost first.
    pub data: BTreeMap<String, String>,
    /// Always `overlay2`: what scripts look for, and what it is.
    pub name: String,
}

/// `RootFS` of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Diff ids, lowest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
}

/// `Metadata` of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Metadata {
    /// RFC 3339; Go's zero time where it was never tagged.
    pub last_tag_time: String,
}

/// One entry of `GET /images/json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageSummary {
    /// `sha256:…`.
    pub id: String,
    /// The image it was committed from, or empty.
    pub parent_id: String,
    /// Familiar names; empty for a dangling image.
    pub repo_tags: Vec<String>,
    /// `nginx@sha256:…`.
    pub repo_digests: Vec<String>,
    /// Unix seconds.
    pub created: i64,
    /// Bytes, unpacked.
    pub size: u64,
    /// Bytes in layers that another image has too; -1 when it was not asked for.
    pub shared_size: i64,
    /// Labels of the config.
    pub labels: Option<BTreeMap<String, String>>,
    /// Containers made from it: -1 here, the caller fills it in.
    pub containers: i64,
}

/// One entry of `GET /images/{name}/history`, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct HistoryItem {
    /// The image's id in the newest entry, `<missing>` in the others.
    pub id: String,
    /// Unix seconds.
    pub created: i64,
    /// The instruction.
    pub created_by: String,
    /// Names of the image, in the newest entry.
    pub tags: Option<Vec<String>>,
    /// Bytes that the step added.
    pub size: u64,
    /// Free text.
    pub comment: String,
}

/// One entry of the answer to `DELETE /images/{name}`: written `{"Untagged": …}` or `{"Deleted": …}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum RemovedItem {
    /// A familiar reference that is gone.
    Untagged(String),
    /// The id of an image, or the chain id of a layer, that is gone.
    Deleted(String),
}

/// The answer to `POST /images/prune`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PruneReport {
    /// What went; `null` when nothing did, as in Docker.
    pub images_deleted: Option<Vec<RemovedItem>>,
    /// Bytes of the layers that went.
    pub space_reclaimed: u64,
}

/// The images' part of `GET /system/df`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DiskUsage {
    /// Bytes in all unpacked layers, each once.
    pub layers_size: u64,
    /// All images, with `SharedSize`; `Containers` is filled in by the caller.
    pub images: Vec<ImageSummary>,
}

/// One entry of `GET /containers/{id}/changes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Change {
    /// Absolute, as the container sees it. Bytes that are no UTF-8 are replaced.
    pub path: String,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// Written as Docker's number: 0, 1, 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// `C`
    Modified = 0,
    /// `A`
    Added = 1,
    /// `D`
    Deleted = 2,
}

impl Serialize for ChangeKind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(*self as u8)
    }
}
