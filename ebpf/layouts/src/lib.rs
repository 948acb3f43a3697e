//! Structs that the BPF programs and user space share.
//!
//! The programs are built by another toolchain in a workspace of their own and take in `maps.rs` as a module: as a
//! dependency its path would go into the object's symbols, and the object would no longer be reproducible.
#![no_std]

mod maps;

pub use maps::*;
