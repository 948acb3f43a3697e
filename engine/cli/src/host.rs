//! The namespaces that the daemons run in.

use std::{
    fs::{self, File},
    path::Path,
};

use nix::sched::{CloneFlags, setns};

use crate::paths::PathError;

/// `ip netns exec` runs a command in a mount namespace of its own that dies with it, and hides the cgroup hierarchies
/// behind a new /sys. Container mounts made there would be lost to the next `causeway up`; so where no cgroup hierarchy
/// is mounted, join the mount namespace of the nearest ancestor that has them, process 1 the last. The network namespace
/// stays.
pub(crate) fn leave_hidden_mounts() -> Result<(), HiddenMounts> {
    if cgroups_visible("self") {
        return Ok(());
    }
    let mut process = parent("self");
    while let Some(pid) = process.filter(|&pid| pid != 0) {
        let name = pid.to_string();
        if cgroups_visible(&name)
            && join(Path::new(&format!("/proc/{pid}/ns/mnt")), CloneFlags::CLONE_NEWNS).is_ok()
        {
            return Ok(());
        }
        process = parent(&name);
    }
    Err(HiddenMounts)
}

#[derive(Debug, thiserror::Error)]
#[error(
    "no cgroup hierarchy is mounted here, nor where this was started from; to run in another network namespace use \
     `nsenter --net=/run/netns/NAME causeway …`, which keeps the mounts"
)]
pub(crate) struct HiddenMounts;

/// Joins the network namespace of another process.
pub(crate) fn join_network_of(pid: i32) -> Result<(), PathError> {
    join(Path::new(&format!("/proc/{pid}/ns/net")), CloneFlags::CLONE_NEWNET)
}

fn join(path: &Path, kind: CloneFlags) -> Result<(), PathError> {
    let namespace = File::open(path).map_err(PathError::at("open the namespace", path))?;
    setns(namespace, kind).map_err(|e| PathError::at("join the namespace", path)(e.into()))
}

/// Whether a process sees cgroup hierarchies.
fn cgroups_visible(process: &str) -> bool {
    let Ok(text) = fs::read_to_string(format!("/proc/{process}/mountinfo")) else { return false };
    // proc_pid_mountinfo(5): the type follows the separator " - ".
    text.lines().any(|line| line.split_once(" - ").is_some_and(|(_, rest)| rest.starts_with("cgroup")))
}

fn parent(process: &str) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}
