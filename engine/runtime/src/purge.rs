//! Removing everything, also what a dead shim left behind.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use engine_protocol::{Exit, ShimConfig, State, Status, cgroup::Hierarchies, layout};
use nix::libc;

use crate::RuntimeError;

/// How long processes may take to die and the kernel to let their groups go.
const PATIENCE: Duration = Duration::from_secs(5);
/// The exit code of a container whose shim was killed, so that nobody knows; Docker's for the same case.
const UNKNOWN_EXIT: i32 = 255;

/// Kills every container and shim below `run_dir` (the engine's RUN directory), removes the cgroups below
/// `/<cgroup_parent>` and the shims' directories. Blocking; needs neither the engine nor a living shim.
///
/// Goes on after a failure and returns every one.
pub fn purge(run_dir: &Path, cgroup_parent: &str) -> Vec<RuntimeError> {
    let shims = shims(run_dir);
    let mut failures = Vec::new();
    match ids(&shims) {
        Ok(ids) => failures.extend(ids.iter().filter_map(|id| remove(run_dir, cgroup_parent, id).err())),
        Err(error) => failures.push(error),
    }
    // Also what has no directory any more.
    failures.extend(remove_cgroup(&format!("/{cgroup_parent}")).err());
    for directory in [shims, seccomp_cache(run_dir)] {
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                failures.push(RuntimeError::io("remove", &directory)(error));
            }
            _ => {}
        }
    }
    failures
}

/// Where the shims' directories are.
pub(crate) fn shims(run_dir: &Path) -> PathBuf {
    run_dir.join("shims")
}

/// Where compiled seccomp profiles are.
pub(crate) fn seccomp_cache(run_dir: &Path) -> PathBuf {
    run_dir.join("seccomp")
}

/// The names of the shims' directories.
pub(crate) fn ids(shims: &Path) -> Result<Vec<String>, RuntimeError> {
    let entries = match fs::read_dir(shims) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(RuntimeError::io("list", shims))?,
    };
    let mut ids: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    ids.sort();
    Ok(ids)
}

/// Removes one container with its shim, alive or dead.
pub(crate) fn remove(run_dir: &Path, cgroup_parent: &str, id: &str) -> Result<(), RuntimeError> {
    let directory = shims(run_dir).join(id);
    remove_directory(&directory, &format!("/{cgroup_parent}/{id}"), id)
}

/// Kills one container with its shim; the directory stays, without its configuration when no shim ever ran in it.
pub(crate) fn kill(run_dir: &Path, cgroup_parent: &str, id: &str) -> Result<(), RuntimeError> {
    let directory = shims(run_dir).join(id);
    let held = hold(&directory, id)?;
    if !directory.join(layout::PID).exists() {
        forbid(&directory)?;
    }
    kill_shim(&directory, id)?;
    drop(held);
    remove_cgroup(&format!("/{cgroup_parent}/{id}"))
}

/// As [`remove`], for one whose directory and cgroup are known.
pub(crate) fn remove_directory(directory: &Path, cgroup: &str, id: &str) -> Result<(), RuntimeError> {
    let held = hold(directory, id)?;
    forbid(directory)?;
    kill_shim(directory, id)?;
    drop(held);
    remove_cgroup(cgroup)?;
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(RuntimeError::io("remove", directory)(error))
        }
        _ => Ok(()),
    }
}

fn remove_cgroup(path: &str) -> Result<(), RuntimeError> {
    let hierarchies = Hierarchies::detect().map_err(RuntimeError::io("find the cgroups for", path))?;
    let (group, deadline) = (hierarchies.group(path), Instant::now() + PATIENCE);
    group.kill_all(deadline);
    group.remove(deadline).map_err(RuntimeError::io("remove the cgroup", path))
}

/// Waits until a shim that is just being started is there to be killed, and lets none start until this is dropped: an
/// engine that was killed may have spawned one that has done nothing yet.
fn hold(directory: &Path, id: &str) -> Result<Option<File>, RuntimeError> {
    let path = directory.join(layout::CONFIG);
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(RuntimeError::io("open", &path))?,
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::Error(error)) => return Err(RuntimeError::io("lock", &path)(error)),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(RuntimeError::Shim {
                    id: id.to_owned(),
                    detail: "it does not get ready".to_owned(),
                });
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// A shim without a configuration ends. Whoever calls this [`hold`]s it.
fn forbid(directory: &Path) -> Result<(), RuntimeError> {
    let path = directory.join(layout::CONFIG);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(RuntimeError::io("remove", &path)(error))
        }
        _ => Ok(()),
    }
}

/// Kills the shim of a directory, if it lives, and waits until it is gone. One that is about to end by itself has
/// nothing left to do.
fn kill_shim(directory: &Path, id: &str) -> Result<(), RuntimeError> {
    let Ok(text) = fs::read_to_string(directory.join(layout::PID)) else { return Ok(()) };
    let Ok(pid) = text.trim().parse::<i32>() else { return Ok(()) };
    let deadline = Instant::now() + PATIENCE;
    while is_shim(pid, directory) {
        // SAFETY: no memory is involved.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        if Instant::now() >= deadline {
            return Err(RuntimeError::Shim {
                id: id.to_owned(),
                detail: format!("process {pid} does not die"),
            });
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// A process id may have passed to somebody else; only a shim works in its directory. A zombie works nowhere.
fn is_shim(pid: i32, directory: &Path) -> bool {
    let (Ok(works_in), Ok(directory)) = (fs::read_link(format!("/proc/{pid}/cwd")), directory.canonicalize())
    else {
        return false;
    };
    works_in == directory
}

/// What a shim left that has ended.
pub(crate) fn exit_state(directory: &Path) -> Option<State> {
    serde_json::from_slice(&fs::read(directory.join(layout::EXIT)).ok()?).ok()
}

/// The state of a container whose shim was killed.
pub(crate) fn lost_state(directory: &Path, id: &str) -> Option<State> {
    let config: ShimConfig = serde_json::from_slice(&fs::read(directory.join(layout::CONFIG)).ok()?).ok()?;
    let now =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    debug_assert_eq!(config.id, id);
    Some(State {
        id: config.id,
        status: Status::Exited,
        pid: 0,
        shim_pid: 0,
        started_at: None,
        exit: Some(Exit { code: UNKNOWN_EXIT, signal: None, oom_killed: false, finished_at: now }),
        execs: Default::default(),
    })
}
