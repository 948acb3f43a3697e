//! Removing everything, also what a dead shim left behind.

use std::path::Path;

use crate::RuntimeError;

/// Kills every container and shim below `run_dir` (the engine's RUN directory), removes the cgroups below
/// `/<cgroup_parent>` and the shims' directories. Blocking; needs neither the engine nor a living shim.
///
/// Goes on after a failure and returns every one.
pub fn purge(run_dir: &Path, cgroup_parent: &str) -> Vec<RuntimeError> {
    let _ = (run_dir, cgroup_parent);
    todo!()
}
