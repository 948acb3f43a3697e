//! Paths in the container's root filesystem, looked at from outside.

use std::{
    fs,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::Path,
};

use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    sys::stat::{Mode, mkdirat},
};

use crate::RuntimeError;

/// A file's contents, symbolic links taken as inside; empty when there is no such file.
pub(super) fn read(rootfs: &Path, path: &str) -> Result<String, RuntimeError> {
    let root = open_root(rootfs)?;
    let how = OpenHow::new().flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    match openat2(root.as_fd(), path, how) {
        Ok(file) => {
            let bytes = std::io::read_to_string(fs::File::from(file));
            bytes.map_err(RuntimeError::io("read", rootfs.join(path.trim_start_matches('/'))))
        }
        Err(_) => Ok(String::new()),
    }
}

/// Makes a directory and those above it where they are absent, symbolic links taken as inside.
pub(super) fn make_directory(rootfs: &Path, path: &str) -> Result<(), RuntimeError> {
    let how = |flags| OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    let directory = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let root = open_root(rootfs)?;
    if openat2(root.as_fd(), path, how(directory)).is_ok() {
        return Ok(());
    }
    let mut so_far = String::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        let parent = if so_far.is_empty() { "/".to_owned() } else { so_far.clone() };
        so_far = format!("{so_far}/{part}");
        match openat2(root.as_fd(), so_far.as_str(), how(directory)) {
            Ok(_) => continue,
            Err(nix::errno::Errno::ENOENT) => {}
            Err(nix::errno::Errno::ENOTDIR) => {
                return Err(RuntimeError::InvalidSpec(format!("Cannot mkdir: {path} is not a directory")));
            }
            Err(error) => return Err(RuntimeError::io("open", rootfs.join(&so_far[1..]))(error.into())),
        }
        let made = openat2(root.as_fd(), parent.as_str(), how(directory))
            .and_then(|parent| mkdirat(parent.as_fd(), part, Mode::from_bits_truncate(0o755)));
        made.map_err(|error| RuntimeError::io("make directory", rootfs.join(&so_far[1..]))(error.into()))?;
    }
    Ok(())
}

fn open_root(rootfs: &Path) -> Result<OwnedFd, RuntimeError> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::open(rootfs, flags, Mode::empty())
        .map_err(|error| RuntimeError::io("open the root filesystem", rootfs)(error.into()))
}

/// A device node of the host.
pub(super) struct Node {
    /// `b` or `c`.
    pub(super) kind: &'static str,
    pub(super) major: u64,
    pub(super) minor: u64,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// The device at a path of the host, if it is one.
pub(super) fn node(path: &Path) -> Option<Node> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let found = fs::metadata(path).ok()?;
    let kind = match found.file_type() {
        kind if kind.is_block_device() => "b",
        kind if kind.is_char_device() => "c",
        _ => return None,
    };
    let (major, minor) = (nix::sys::stat::major(found.rdev()), nix::sys::stat::minor(found.rdev()));
    let mode = found.permissions().mode() & 0o7777;
    Some(Node { kind, major, minor, mode, uid: found.uid(), gid: found.gid() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_does_not_lead_out_of_the_root() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir(root.join("etc")).unwrap();
        std::os::unix::fs::symlink("/real", root.join("etc/passwd")).unwrap();
        std::os::unix::fs::symlink("../../../..", root.join("up")).unwrap();
        fs::write(root.join("real"), "inside").unwrap();
        assert_eq!(read(root, "/etc/passwd").unwrap(), "inside");
        assert_eq!(read(root, "/etc/group").unwrap(), "");
        make_directory(root, "/up/a/b").unwrap();
        assert!(root.join("a/b").is_dir());
        make_directory(root, "/up/a/b").unwrap();
        assert!(make_directory(root, "/real/x").is_err());
    }
}
