//! A private host per test: network namespaces, directories, daemons and a docker CLI of its own, all of it gone when
//! the value is dropped, also when the test fails.
//!
//! This crate panics where other code returns errors: its callers are tests, and a panic with the command and what it
//! said is the report they want. Its tools (`ip`, `nsenter`, `busybox`) are Debian's, installed by `make deps`.
#![allow(clippy::panic, clippy::unwrap_used, clippy::missing_panics_doc)]

mod apart;
mod api;
mod dockerd;
mod engine;
mod image;
mod lookups;
mod netns;
mod poll;
mod process;
mod reboot;
mod syscalls;
mod talk;
mod tools;

pub use apart::{Apart, alone, apart, enter_new_namespace};
pub use api::{Api, Response};
pub use engine::{Daemon, Host};
pub use image::{probe, rootfs_tar, rootfs_tar_with};
pub use lookups::{Asker, Told};
pub use netns::Namespace;
pub use poll::{SetWhenDropped, eventually, until};
pub use process::{Finished, Running, has_ended, run};
pub use syscalls::{Call, Verdict, Watched};
pub use talk::Talk;
pub use tools::{binary, docker_cli};
