//! Structs that BPF programs and user space share.
#![no_std]
