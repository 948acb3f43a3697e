//! Named and anonymous local volumes, below one directory: `<name>/_data` and `<name>/meta.json`.
//!
//! [`VolumeStore`] is the way in; [`wire`] has the shape of Docker's API 1.51.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod copy;
mod disk;
mod error;
mod mount;
mod store;
pub mod wire;

pub use error::{Error, Result};
pub use store::VolumeStore;
pub use wire::{CreateVolume, PruneReport, UsageData, Volume, VolumeList};
