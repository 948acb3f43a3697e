//! `causeway down`: ends the daemons; with `--purge`, all that is ours.

use std::{
    fs,
    io::ErrorKind,
    os::fd::{AsFd, FromRawFd, OwnedFd},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{Flock, FlockArg},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    Outcome,
    args::Down,
    host,
    paths::{self, PathError},
    up::listen,
};

/// Longer than the supervisor's own grace for its daemons.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, thiserror::Error)]
enum DownError {
    #[error("causeway (pid {pid}) has not ended within {} s of SIGTERM", PATIENCE.as_secs())]
    StillRunning { pid: i32 },
    #[error("{program} could not remove everything; what it said is above")]
    Purge { program: &'static str },
}

pub(crate) fn run(args: &Down) -> Outcome {
    host::leave_hidden_mounts()?;
    let run_dir = absolute(&args.directories.run_dir)?;
    let state_dir = absolute(&args.directories.state_dir)?;
    let supervisor = supervisor(&run_dir);
    // What is ours in the network is in the namespace that the daemons ran in, not in the caller's.
    if let Some(pid) = supervisor.or_else(|| shim(&run_dir)) {
        host::join_network_of(pid)?;
    }
    match supervisor {
        Some(pid) => stop(pid)?,
        None if !args.purge => {
            println!("causeway: nothing runs with the run directory {}", run_dir.display())
        }
        None => {}
    }
    if args.purge {
        // Containers before their network.
        for program in ["causeway-engine", "causewayd"] {
            purge(program, &state_dir, &run_dir)?;
        }
        listen::remove_remembered(&run_dir)?;
        for directory in [&run_dir, &state_dir] {
            match fs::remove_dir_all(directory) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(PathError::at("remove", directory)(error).into());
                }
                _ => {}
            }
        }
        println!("causeway: removed {} and {}", state_dir.display(), run_dir.display());
    }
    Ok(())
}

/// The directory's absolute path; it need not exist any more.
fn absolute(directory: &Path) -> Result<PathBuf, PathError> {
    match directory.canonicalize() {
        Ok(path) => Ok(path),
        Err(_) => std::path::absolute(directory).map_err(PathError::at("resolve the directory", directory)),
    }
}

/// The pid of the supervisor that holds the run directory; none when nobody does.
fn supervisor(run_dir: &Path) -> Option<i32> {
    let path = paths::pid_file(run_dir);
    let file = fs::File::open(&path).ok()?;
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_free) => None,
        Err(_held) => fs::read_to_string(&path).ok()?.trim().parse().ok(),
    }
}

/// A container's shim: it lives in the daemons' network namespace, also when these are dead.
fn shim(run_dir: &Path) -> Option<i32> {
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let command = fs::read(entry.path().join("cmdline")).ok()?;
        let mut words = command.split(|&b| b == 0);
        let ours = words.next()?.ends_with(b"causeway-shim")
            && words.any(|w| Path::new(&*String::from_utf8_lossy(w)).starts_with(run_dir));
        ours.then_some(pid)
    })
}

fn stop(pid: i32) -> Outcome {
    let patience = Instant::now() + PATIENCE;
    // SAFETY: pidfd_open takes plain numbers and returns a descriptor that we own.
    let raw = unsafe { nix::libc::syscall(nix::libc::SYS_pidfd_open, pid, 0) };
    if raw < 0 {
        return Ok(()); // gone already
    }
    // SAFETY: the descriptor was just made for us.
    let process = unsafe { OwnedFd::from_raw_fd(raw as i32) };
    kill(Pid::from_raw(pid), Signal::SIGTERM)?;
    loop {
        let left = patience.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(DownError::StillRunning { pid }.into());
        }
        let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(1..) => return Ok(()),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn purge(program: &'static str, state_dir: &Path, run_dir: &Path) -> Outcome {
    let path = paths::sibling(program)?;
    let status = Command::new(&path)
        .arg("purge")
        .args([Path::new("--state-dir"), state_dir, Path::new("--run-dir"), run_dir])
        .status()
        .map_err(PathError::at("run", &path))?;
    if status.success() { Ok(()) } else { Err(DownError::Purge { program }.into()) }
}
