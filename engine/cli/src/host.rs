//! The namespaces that the daemons run in.

use std::{
    fs::{self, File},
    path::Path,
};

use nix::sched::{CloneFlags, setns};

use crate::paths::PathError;

/// `ip netns exec` runs a command in a mount namespace of its own that dies with it, and hides the cgroup hierarchies
/// behind a new /sys. Container mounts made there would be lost to the next `causeway up`; so where no cgroup hierarchy
/// is mounted, join the mount namespace of process 1, where they are. The network namespace stays.
pub(crate) fn leave_hidden_mounts() -> Result<(), PathError> {
    if cgroups_visible(Path::new("/proc/self/mountinfo")) || !cgroups_visible(Path::new("/proc/1/mountinfo"))
    {
        return Ok(());
    }
    join(Path::new("/proc/1/ns/mnt"), CloneFlags::CLONE_NEWNS)
}

/// Joins the network namespace of another process.
pub(crate) fn join_network_of(pid: i32) -> Result<(), PathError> {
    join(Path::new(&format!("/proc/{pid}/ns/net")), CloneFlags::CLONE_NEWNET)
}

fn join(path: &Path, kind: CloneFlags) -> Result<(), PathError> {
    let namespace = File::open(path).map_err(PathError::at("open the namespace", path))?;
    setns(namespace, kind).map_err(|e| PathError::at("join the namespace", path)(e.into()))
}

fn cgroups_visible(mountinfo: &Path) -> bool {
    let Ok(text) = fs::read_to_string(mountinfo) else { return false };
    // proc_pid_mountinfo(5): the type follows the separator " - ".
    text.lines().any(|line| line.split_once(" - ").is_some_and(|(_, rest)| rest.starts_with("cgroup")))
}
