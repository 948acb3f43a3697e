//! What callers ask for.

use std::path::PathBuf;

use engine_filters::Filters;

use crate::Digest;
use crate::config::{ConfigFile, ImageConfig};

/// `POST /images/create?fromSrc=-`.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// `repo[:tag]` to name it by.
    pub reference: Option<String>,
    /// What `docker import URL` names; kept in the default message. `-` for a body.
    pub source: String,
    /// The comment; `Imported from SOURCE` when empty.
    pub message: String,
    /// Dockerfile instructions (`--change`), each one line.
    pub changes: Vec<String>,
    /// `os[/arch[/variant]]`; the host's when absent.
    pub platform: Option<String>,
}

/// An image that `load` made or found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its id.
    pub id: Digest,
    /// The familiar names it was given.
    pub names: Vec<String>,
}

/// `GET /images/json`.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Also images that only serve as parents.
    pub all: bool,
    /// Kept for Docker's flag: digests are always in the answer.
    pub digests: bool,
    /// Compute `SharedSize`.
    pub shared_size: bool,
    /// `reference`, `dangling`, `label`, `label!`, `before`, `since`, `until`.
    pub filters: Filters,
}

/// `DELETE /images/{name}`.
#[derive(Debug, Clone, Copy, Default)]
pub struct RemoveOptions {
    /// Also when stopped containers use it or several names point at it.
    pub force: bool,
    /// Leave untagged parents alone.
    pub no_prune: bool,
}

/// A container that uses an image, as the caller of `remove` and `prune` knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUse {
    /// The container's full id.
    pub container_id: String,
    /// The image it was created from.
    pub image: Digest,
    /// A running (or paused) container's image can not be removed by force either.
    pub running: bool,
}

/// `POST /commit`.
#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// `repo[:tag]` to name it by.
    pub reference: Option<String>,
    /// The container's own config: what the new image starts from.
    pub config: ImageConfig,
    /// Dockerfile instructions applied to that config.
    pub changes: Vec<String>,
    /// Free text.
    pub author: String,
    /// Free text.
    pub comment: String,
    /// The command whose result this layer is, for the history.
    pub created_by: String,
}

/// An image as the makers of containers need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedImage {
    /// Its id.
    pub id: Digest,
    /// The whole config; `config.config` is what containers inherit.
    pub config: ConfigFile,
    /// Familiar names, sorted.
    pub names: Vec<String>,
}

/// The directories of a container's root filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rootfs {
    /// The image it was prepared from.
    pub image: Digest,
    /// Read-only directories, topmost first.
    pub lower: Vec<PathBuf>,
    /// What the container changes.
    pub upper: PathBuf,
    /// overlayfs's own.
    pub work: PathBuf,
    /// Where it is, or will be, mounted: the container's `/`.
    pub merged: PathBuf,
}

/// Sizes of a container (`docker ps --size`), in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RootfsSize {
    /// What the container itself wrote.
    pub rw: u64,
    /// That and its image.
    pub root_fs: u64,
}
