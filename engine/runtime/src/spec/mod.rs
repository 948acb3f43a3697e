//! What a container should be, and its translation to the OCI runtime spec with Docker's defaults.

mod container;

pub use container::*;
