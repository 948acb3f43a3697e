//! Images: content by digest, layers unpacked once and shared, and the root filesystems that containers get from them.
//!
//! [`ImageStore`] is the way in. Its answers ([`wire`]) have the shape of Docker's API 1.51.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod archive;
mod catalog;
mod change;
mod compression;
mod config;
mod core;
mod digest;
mod durable;
mod error;
mod glob;
mod import;
mod layer;
mod load;
mod oci;
mod options;
mod progress;
mod query;
mod reference;
mod remove;
mod rootfs;
mod save;
mod store;
mod turns;
pub mod wire;

pub use archive::ArchiveStream;
pub use config::{ConfigFile, Empty, Healthcheck, History, ImageConfig, RootFsSpec};
pub use digest::{Digest, InvalidDigest};
pub use error::{Error, Result};
pub use options::{
    CommitOptions, ImageUse, ImportOptions, ListOptions, Loaded, RemoveOptions, ResolvedImage, Rootfs,
    RootfsSize,
};
pub use progress::{ErrorDetail, Progress, ProgressDetail, ProgressItem};
pub use store::ImageStore;
