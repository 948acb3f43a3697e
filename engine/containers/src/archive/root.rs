//! A directory that no path leads out of.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

use nix::{
    fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2, readlinkat},
    sys::stat::{FileStat, Mode, SFlag, fstat, fstatat},
};

use crate::{config::PathStat, moment::Moment};

/// A container's root directory.
#[derive(Debug)]
pub(crate) struct Root {
    fd: OwnedFd,
}

/// What is to be packed: a directory to walk, or one thing in its directory.
#[derive(Debug)]
pub(super) enum Source {
    Directory(OwnedFd),
    Entry { dir: OwnedFd, name: String },
}

impl Root {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = nix::fcntl::open(path, flags, Mode::empty())?;
        Ok(Self { fd })
    }

    pub(super) fn open_in(&self, path: &str, flags: OFlag) -> io::Result<OwnedFd> {
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
        let path = if path.is_empty() { "/" } else { path };
        // EAGAIN: something was renamed meanwhile, and the kernel could not be sure.
        for _ in 0..8 {
            match openat2(&self.fd, path, how) {
                Err(nix::Error::EAGAIN) => {}
                other => return Ok(other?),
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Opens a directory, following links.
    pub(super) fn directory(&self, path: &str) -> io::Result<OwnedFd> {
        self.open_in(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
    }

    /// The directory of a path's last part, and that part; none for the root, and for what ends in a slash or dot and
    /// thus means what it leads to.
    fn split(path: &str) -> Option<(&str, &str)> {
        if path.ends_with('/') || path.ends_with("/.") || path.ends_with("/..") || path == "." {
            return None;
        }
        let (dir, name) = path.rsplit_once('/').unwrap_or(("/", path));
        (!name.is_empty()).then_some((if dir.is_empty() { "/" } else { dir }, name))
    }

    /// What is there; of a link, the link.
    pub(super) fn stat(&self, path: &str) -> io::Result<PathStat> {
        let (stat, target) = match Self::split(path) {
            None => (fstat(self.open_in(path, OFlag::O_PATH)?)?, String::new()),
            Some((dir, name)) => {
                let dir = self.directory(dir)?;
                let stat = fstatat(&dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
                let target = match kind(&stat) {
                    SFlag::S_IFLNK => self.target(path, dir.as_fd(), name)?,
                    _ => String::new(),
                };
                (stat, target)
            }
        };
        let time =
            u64::try_from(stat.st_mtime).unwrap_or_default() * 1_000_000_000 + stat.st_mtime_nsec as u64;
        Ok(PathStat {
            name: base(path).to_owned(),
            size: stat.st_size,
            mode: go_mode(&stat),
            mtime: Moment(time.max(1)).to_string(),
            link_target: target,
        })
    }

    /// Where a link leads, as a path in the container: resolved when that exists, by its text otherwise.
    fn target(&self, path: &str, dir: BorrowedFd<'_>, name: &str) -> io::Result<String> {
        if let Ok(fd) = self.open_in(path, OFlag::O_PATH) {
            let real = |fd: i32| std::fs::read_link(format!("/proc/self/fd/{fd}"));
            let (found, root) = (real(fd.as_raw_fd())?, real(self.fd.as_raw_fd())?);
            if let Ok(rest) = found.strip_prefix(&root) {
                return Ok(format!("/{}", rest.display()));
            }
        }
        let text = readlinkat(dir, name)?.to_string_lossy().into_owned();
        Ok(match text.starts_with('/') {
            true => crate::mounts::clean(&text),
            false => {
                let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
                crate::mounts::clean(&format!("{dir}/{text}"))
            }
        })
    }

    /// What to pack for a path.
    pub(super) fn source(&self, path: &str) -> io::Result<Source> {
        if let Some((dir, name)) = Self::split(path) {
            let dir = self.directory(dir)?;
            let stat = fstatat(&dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
            if kind(&stat) != SFlag::S_IFDIR {
                return Ok(Source::Entry { dir, name: name.to_owned() });
            }
        }
        Ok(Source::Directory(self.directory(path)?))
    }
}

/// The last part of a path, as Docker names an archive's top.
fn base(path: &str) -> &str {
    if path.ends_with("/.") {
        return ".";
    }
    match path.trim_end_matches('/').rsplit('/').next() {
        Some("") | None => "/",
        Some(name) => name,
    }
}

/// The rest of a clean path below a mount point; none when it is not below.
pub(super) fn below(path: &str, mount: &str) -> Option<String> {
    let rest = path.strip_prefix(mount)?;
    match rest.as_bytes().first() {
        None => Some("/".to_owned()),
        Some(b'/') => Some(rest.to_owned()),
        Some(_) => None,
    }
}

pub(super) fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

/// Go's `os.FileMode`.
fn go_mode(stat: &FileStat) -> u32 {
    let mode = stat.st_mode;
    let kind = match kind(stat) {
        SFlag::S_IFDIR => 1 << 31,
        SFlag::S_IFLNK => 1 << 27,
        SFlag::S_IFBLK => 1 << 26,
        SFlag::S_IFCHR => 1 << 26 | 1 << 21,
        SFlag::S_IFIFO => 1 << 25,
        SFlag::S_IFSOCK => 1 << 24,
        _ => 0,
    };
    let mut bits = mode & 0o777 | kind;
    for (bit, go) in [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)] {
        if mode & bit != 0 {
            bits |= go;
        }
    }
    bits
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn no_link_leads_out() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "x").unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        symlink(outside.path(), dir.path().join("out")).unwrap();
        symlink("../../../../../../etc", dir.path().join("up")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert_eq!(root.stat("/out/secret").unwrap_err().raw_os_error(), Some(nix::libc::ENOENT));
        assert_eq!(root.stat("/../../etc").unwrap().name, "etc");
        let link = root.stat("/up").unwrap();
        assert_eq!((link.name.as_str(), link.link_target.as_str()), ("up", "/etc"));
        assert_eq!(root.stat("/up/").unwrap().mode & 1 << 31, 1 << 31);
        assert_eq!(root.stat("/nope").unwrap_err().raw_os_error(), Some(nix::libc::ENOENT));
    }

    #[test]
    fn tops_are_named_as_docker_names_them() {
        for (path, name) in [("/tmp/d", "d"), ("/tmp/d/", "d"), ("/tmp/d/.", "."), ("/", "/"), ("/.", ".")] {
            assert_eq!(base(path), name, "{path}");
        }
    }

    #[test]
    fn mounts_cover_what_is_below_them() {
        assert_eq!(below("/data/x", "/data").as_deref(), Some("/x"));
        assert_eq!(below("/data", "/data").as_deref(), Some("/"));
        assert_eq!(below("/database", "/data"), None);
    }
}
