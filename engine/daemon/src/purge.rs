//! `causeway-engine purge`: no container, image or volume is left.

use std::{
    fs, io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, umount2};

use crate::{
    args::Directories,
    chain,
    run::{RunError, lock},
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum PurgeError {
    #[error(transparent)]
    Running(RunError),
    #[error("not everything could be removed: {}", problems.join("; "))]
    Left { problems: Vec<String> },
}

/// Kills every container and removes what the engine keeps. What fails does not keep the rest from being removed; all of
/// it is told.
pub(crate) fn purge(directories: &Directories) -> Result<(), PurgeError> {
    let absolute = |dir: &PathBuf| dir.canonicalize().unwrap_or_else(|_| dir.clone());
    let directories =
        Directories { state_dir: absolute(&directories.state_dir), run_dir: absolute(&directories.run_dir) };
    let engine = directories.engine();
    // Held until the end, so that no engine starts in between.
    let held = match engine.exists() {
        true => Some(lock(&engine).map_err(PurgeError::Running)?),
        false => None,
    };
    let mut problems: Vec<String> =
        engine_runtime::purge(&directories.run_dir, &directories.cgroup()).iter().map(|e| chain(e)).collect();
    match unmount_below(&engine) {
        Ok(()) => {
            // A volume may be somebody's directory, mounted: nothing is removed before all mounts are gone.
            if let Err(error) = gone(fs::remove_dir_all(&engine)) {
                problems.push(format!("cannot remove {}: {error}", engine.display()));
            }
        }
        Err(error) => problems.push(format!("cannot unmount what is below {}: {error}", engine.display())),
    }
    drop(held);
    // Other daemons may have theirs in there.
    for directory in [&directories.run_dir, &directories.state_dir] {
        let _ = fs::remove_dir(directory);
    }
    if problems.is_empty() { Ok(()) } else { Err(PurgeError::Left { problems }) }
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Unmounts everything below a directory, the latest first.
fn unmount_below(dir: &Path) -> io::Result<()> {
    let mounts = mounts_below(dir, &fs::read("/proc/self/mountinfo")?);
    for mount in mounts.iter().rev() {
        umount2(mount, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
    }
    match mounts_below(dir, &fs::read("/proc/self/mountinfo")?).first() {
        None => Ok(()),
        Some(left) => Err(io::Error::other(format!("{} is still mounted", left.display()))),
    }
}

/// The mount points below a directory, in the order in which they were made.
fn mounts_below(dir: &Path, mountinfo: &[u8]) -> Vec<PathBuf> {
    let point = |line: &[u8]| {
        let field = line.split(|byte| *byte == b' ').nth(4)?;
        let path = PathBuf::from(std::ffi::OsString::from_vec(unescape(field)));
        path.starts_with(dir).then_some(path)
    };
    mountinfo.split(|byte| *byte == b'\n').filter_map(point).collect()
}

/// The kernel writes blanks and backslashes as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'\\'
            && let Some(digits) = tail.get(..3)
            && let Some(byte) = std::str::from_utf8(digits).ok().and_then(|d| u8::from_str_radix(d, 8).ok())
        {
            bytes.push(byte);
            rest = &tail[3..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_below_a_directory_are_found_whatever_their_names() {
        let info = b"1 0 0:1 / / rw - x x rw\n2 1 0:2 / /s/engine/a\\040b rw - overlay o rw\n3 1 0:2 / /s/enginex rw - x x rw\n";
        assert_eq!(mounts_below(Path::new("/s/engine"), info), [PathBuf::from("/s/engine/a b")]);
    }

    #[test]
    fn purging_what_is_not_there_succeeds() {
        let dir = tempfile::tempdir().unwrap();
        let directories =
            Directories { state_dir: dir.path().join("state"), run_dir: dir.path().join("run") };
        purge(&directories).unwrap();
    }
}
