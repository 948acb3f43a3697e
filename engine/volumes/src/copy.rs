//! Copying a tree with everything that makes it what it is.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mknod, utimensat};
use nix::sys::time::TimeSpec;

use crate::error::{Error, Result};

/// Copies `path` of `rootfs` into the empty directory `to`. See [`crate::VolumeStore::copy_up`].
pub(crate) fn copy_up(rootfs: &Path, path: &Path, to: &Path) -> Result<()> {
    let mut entries = fs::read_dir(to).map_err(Error::io("list", to))?;
    if entries.next().is_some() {
        return Ok(());
    }
    let Some(source) = open_in_root(rootfs, path)? else {
        return Ok(());
    };
    // By its descriptor: what the path leads to cannot change any more.
    let from = Path::new("/proc/self/fd").join(source.as_raw_fd().to_string()).join(".");
    let mut copier = Copier { links: HashMap::new() };
    copier.directory(&from, to).map_err(Error::io("copy image content into", to))?;
    let metadata = fs::metadata(&from).map_err(Error::io("stat", rootfs.join(path)))?;
    attributes(&from, to, &metadata).map_err(Error::io("copy attributes to", to))
}

/// The directory at `path`, with `rootfs` for `/`. `None` where there is no such directory.
fn open_in_root(rootfs: &Path, path: &Path) -> Result<Option<OwnedFd>> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = openat2(AT_FDCWD, rootfs, OpenHow::new().flags(flags));
    let root = root.map_err(|errno| Error::io("open", rootfs)(errno.into()))?;
    let how = OpenHow::new()
        .flags(flags)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    match openat2(&root, path, how) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(errno) => Err(Error::io("open", rootfs.join(path))(errno.into())),
    }
}

struct Copier {
    /// Files with several names, by device and inode, and where the first was copied to.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Copier {
    fn directory(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            let metadata = fs::symlink_metadata(&from)?;
            self.thing(&from, &to, &metadata)?;
        }
        Ok(())
    }

    fn thing(&mut self, from: &Path, to: &Path, metadata: &Metadata) -> io::Result<()> {
        let kind = metadata.file_type();
        if !kind.is_dir() && metadata.nlink() > 1 {
            let inode = (metadata.dev(), metadata.ino());
            if let Some(first) = self.links.get(&inode) {
                return fs::hard_link(first, to);
            }
            self.links.insert(inode, to.to_owned());
        }
        if kind.is_dir() {
            fs::create_dir(to)?;
            self.directory(from, to)?;
        } else if kind.is_file() {
            io::copy(&mut File::open(from)?, &mut File::create_new(to)?)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(from)?, to)?;
        } else if kind.is_socket() {
            return Ok(());
        } else {
            let node = if kind.is_char_device() {
                SFlag::S_IFCHR
            } else if kind.is_block_device() {
                SFlag::S_IFBLK
            } else {
                SFlag::S_IFIFO
            };
            mknod(to, node, Mode::S_IRUSR, metadata.rdev())?;
        }
        attributes(from, to, metadata)
    }
}

/// Owner before mode and attributes: changing it clears setuid bits and capabilities. Time last.
fn attributes(from: &Path, to: &Path, metadata: &Metadata) -> io::Result<()> {
    lchown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    if !metadata.file_type().is_symlink() {
        fs::set_permissions(to, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
        for name in xattr::list(from)? {
            if let Some(value) = xattr::get(from, &name)? {
                attribute(to, &name, &value)?;
            }
        }
    }
    let accessed = TimeSpec::new(metadata.atime(), metadata.atime_nsec());
    let modified = TimeSpec::new(metadata.mtime(), metadata.mtime_nsec());
    Ok(utimensat(AT_FDCWD, to, &accessed, &modified, UtimensatFlags::NoFollowSymlink)?)
}

/// A filesystem that does not take an attribute goes without.
fn attribute(to: &Path, name: &OsStr, value: &[u8]) -> io::Result<()> {
    match xattr::set(to, name, value) {
        Err(error) if error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) => Ok(()),
        result => result,
    }
}
