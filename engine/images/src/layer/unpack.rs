//! A layer's tar to a directory, safely: whatever the archive says, nothing outside that directory is touched.
//!
//! Two things make it so. Names are normalised before use, and one that climbs out is refused. Then each parent is
//! opened by `openat2(RESOLVE_IN_ROOT)`, as if the directory were `/`, and the last component is never followed.

mod header;

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmodat, fstatat, makedev, mkdirat, mknodat,
    utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{LinkatFlags, fchownat, linkat, symlinkat};
use tar::EntryType;

use self::header::{Attributes, attributes, device, normalised};
use super::whiteout;
use crate::error::{Error, Result};

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// Bytes, as [`super::size`] counts them.
    pub(crate) size: u64,
    /// Whether there was an entry for the root directory.
    pub(crate) has_root: bool,
}

/// Unpacks `tar` into the existing directory `into` and reads it to its end.
pub(crate) fn unpack(mut tar: impl Read, into: &Path) -> Result<Unpacked> {
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC);
    let root = openat2(nix::fcntl::AT_FDCWD, into, how).map_err(Error::errno("open", into))?;
    let mut unpacker =
        Unpacker { root: Rc::new(root), last_parent: None, times: Vec::new(), result: Unpacked::default() };
    let mut archive = tar::Archive::new(&mut tar);
    for entry in archive.entries().map_err(broken)? {
        unpacker.entry(entry.map_err(broken)?)?;
    }
    unpacker.directory_times();
    // Measured afterwards: an entry may replace an earlier one.
    unpacker.result.size = super::size(into).map_err(Error::io("measure", into))?;
    // What follows the end mark belongs to the digest too.
    io::copy(&mut tar, &mut io::sink()).map_err(broken)?;
    Ok(unpacker.result)
}

fn broken(error: io::Error) -> Error {
    Error::Archive(error.to_string())
}

struct Unpacker {
    root: Rc<OwnedFd>,
    /// Archives list a directory's content together, so the last parent is most often the next one's too.
    last_parent: Option<(PathBuf, Rc<OwnedFd>)>,
    /// Set at the end: making content in a directory changes its time.
    times: Vec<(PathBuf, TimeSpec)>,
    result: Unpacked,
}

impl Unpacker {
    fn entry<R: Read>(&mut self, mut entry: tar::Entry<'_, R>) -> Result<()> {
        let raw = entry.path_bytes().into_owned();
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let path = normalised(&raw)?;
        let attributes = attributes(&mut entry)?;
        let Some(name) = path.file_name() else {
            if kind == EntryType::Directory {
                self.result.has_root = true;
                let root = self.root.clone();
                set_attributes(&root, OsStr::new("."), &attributes, Link::No)
                    .map_err(Error::errno("set attributes of", &path))?;
                self.times.push((path, attributes.modified));
            }
            return Ok(());
        };
        let parent = self.parent(path.parent().unwrap_or(Path::new("")))?;
        if let Some(hidden) = name.as_bytes().strip_prefix(whiteout::PREFIX) {
            return self.whiteout(&parent, name, OsStr::from_bytes(hidden), &path);
        }
        // V7 archives have no type for directories, only a slash.
        let kind =
            if kind == EntryType::Regular && raw.ends_with(b"/") { EntryType::Directory } else { kind };
        let replaced = self.make_way(&parent, name, kind, &path)?;
        let in_path = |operation| Error::errno(operation, &path);
        match kind {
            EntryType::Directory => {
                match mkdirat(&*parent, name, Mode::S_IRWXU) {
                    Err(Errno::EEXIST) => {}
                    result => result.map_err(in_path("mkdir"))?,
                }
                if replaced == Replaced::Whiteout {
                    make_opaque(&parent, name).map_err(Error::io("set opaque", &path))?;
                }
                self.times.push((path.clone(), attributes.modified));
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                write_file(&parent, name, &mut entry, &path)?;
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                symlinkat(OsStr::from_bytes(&target), &*parent, name).map_err(in_path("symlink"))?;
                return set_attributes(&parent, name, &attributes, Link::Yes)
                    .map_err(in_path("set attributes of"));
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                return self.hard_link(&parent, name, &target, &path);
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let (kind, device) = match kind {
                    EntryType::Fifo => (SFlag::S_IFIFO, 0),
                    EntryType::Char => (SFlag::S_IFCHR, device(entry.header())?),
                    _ => (SFlag::S_IFBLK, device(entry.header())?),
                };
                if kind == SFlag::S_IFCHR && device == 0 {
                    return Err(Error::Archive(format!(
                        "{}: a device 0:0 would hide a file",
                        path.display()
                    )));
                }
                mknodat(&*parent, name, kind, Mode::S_IRUSR, device).map_err(in_path("mknod"))?;
            }
            other => {
                return Err(Error::Archive(format!(
                    "{}: unhandled tar header type {}",
                    path.display(),
                    other.as_byte()
                )));
            }
        }
        set_attributes(&parent, name, &attributes, Link::No).map_err(in_path("set attributes of"))
    }

    /// Opens a directory below the root, making what is missing of it.
    fn parent(&mut self, path: &Path) -> Result<Rc<OwnedFd>> {
        if path.as_os_str().is_empty() {
            return Ok(self.root.clone());
        }
        if let Some((last, fd)) = &self.last_parent
            && last == path
        {
            return Ok(fd.clone());
        }
        let fd = match self.open_dir(path) {
            Err(Errno::ENOENT) => {
                let above = self.parent(path.parent().unwrap_or(Path::new("")))?;
                let name = path.file_name().unwrap_or_default();
                match mkdirat(&*above, name, Mode::from_bits_truncate(0o755)) {
                    // A link to nowhere: opening it again says so.
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(errno) => return Err(Error::errno("mkdir", path)(errno)),
                }
                // The process's umask has no say in what is in an image.
                let exact =
                    fchmodat(&*above, name, Mode::from_bits_truncate(0o755), FchmodatFlags::FollowSymlink);
                match exact {
                    Ok(()) | Err(Errno::ENOENT) => {}
                    Err(errno) => return Err(Error::errno("chmod", path)(errno)),
                }
                self.open_dir(path)
            }
            result => result,
        };
        let fd = Rc::new(fd.map_err(|errno| match errno {
            Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP => {
                Error::Archive(format!("{} is not a directory: {}", path.display(), errno.desc()))
            }
            errno => Error::errno("open", path)(errno),
        })?);
        self.last_parent = Some((path.to_owned(), fd.clone()));
        Ok(fd)
    }

    fn open_dir(&self, path: &Path) -> nix::Result<OwnedFd> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(&*self.root, path, how)
    }

    /// Removes what an earlier entry of the same name made; directories merge.
    fn make_way(&mut self, parent: &OwnedFd, name: &OsStr, kind: EntryType, path: &Path) -> Result<Replaced> {
        let Some(found) = stat(parent, name).map_err(Error::errno("stat", path))? else {
            return Ok(Replaced::Nothing);
        };
        if file_type(&found) == SFlag::S_IFDIR && kind == EntryType::Directory {
            return Ok(Replaced::Nothing);
        }
        self.last_parent = None;
        crate::durable::remove_all(&at(parent, name))?;
        let whiteout = file_type(&found) == SFlag::S_IFCHR && found.st_rdev == 0;
        Ok(if whiteout { Replaced::Whiteout } else { Replaced::Something })
    }

    fn whiteout(&self, parent: &OwnedFd, name: &OsStr, hidden: &OsStr, path: &Path) -> Result<()> {
        if name.as_bytes() == whiteout::OPAQUE {
            return make_opaque(parent, OsStr::new(".")).map_err(Error::io("set opaque", path));
        }
        if name.as_bytes().starts_with(whiteout::AUFS) {
            return Ok(());
        }
        if matches!(hidden.as_bytes(), b"" | b"." | b"..") {
            return Err(Error::Archive(format!("invalid whiteout {}", path.display())));
        }
        // A whiteout speaks of lower layers only: what this layer itself has under that name stays.
        match stat(parent, hidden).map_err(Error::errno("stat", path))? {
            None => mknodat(parent, hidden, SFlag::S_IFCHR, Mode::empty(), makedev(0, 0))
                .map_err(Error::errno("whiteout", path)),
            Some(found) if file_type(&found) == SFlag::S_IFDIR => {
                make_opaque(parent, hidden).map_err(Error::io("set opaque", path))
            }
            Some(_) => Ok(()),
        }
    }

    fn hard_link(&mut self, parent: &OwnedFd, name: &OsStr, target: &[u8], path: &Path) -> Result<()> {
        let target = normalised(target)?;
        let missing = || {
            Error::Archive(format!(
                "{}: hard link to {}, which is not there",
                path.display(),
                target.display()
            ))
        };
        let target_name = target.file_name().ok_or_else(missing)?;
        let target_parent = self.open_dir(&Path::new(".").join(target.parent().unwrap_or(Path::new(""))));
        let target_parent = target_parent.map_err(|_| missing())?;
        match linkat(&target_parent, target_name, parent, name, LinkatFlags::empty()) {
            Err(Errno::ENOENT | Errno::EPERM) => Err(missing()),
            result => result.map_err(Error::errno("link", path)),
        }
    }

    /// Deepest first, and none of it matters enough to fail: a later entry may have replaced a directory.
    fn directory_times(&mut self) {
        for (path, time) in std::mem::take(&mut self.times).into_iter().rev() {
            let how = OpenHow::new()
                .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
                .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
            if let Ok(dir) = openat2(&*self.root, &Path::new(".").join(&path), how) {
                let _ = utimensat(&dir, ".", &time, &time, UtimensatFlags::FollowSymlink);
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replaced {
    Nothing,
    Something,
    Whiteout,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Yes,
    No,
}

fn write_file<R: Read>(
    parent: &OwnedFd,
    name: &OsStr,
    entry: &mut tar::Entry<'_, R>,
    path: &Path,
) -> Result<()> {
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd =
        openat(parent, name, flags, Mode::S_IRUSR | Mode::S_IWUSR).map_err(Error::errno("create", path))?;
    let mut file = std::fs::File::from(fd);
    let mut buffer = [0; 32 << 10];
    let mut written = 0;
    loop {
        let n = match entry.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(broken(error)),
        };
        file.write_all(&buffer[..n]).map_err(Error::io("write", path))?;
        written += n as u64;
    }
    // The tar crate takes the end of the stream for the end of the entry.
    if written != entry.size() {
        return Err(Error::Archive(format!("unexpected end of archive in {}", path.display())));
    }
    Ok(())
}

/// Owner before mode and attributes: changing it clears setuid bits and capabilities.
fn set_attributes(parent: &OwnedFd, name: &OsStr, attributes: &Attributes, link: Link) -> nix::Result<()> {
    let (uid, gid) = attributes.owner;
    fchownat(parent, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if link == Link::No {
        fchmodat(parent, name, attributes.mode, FchmodatFlags::FollowSymlink)?;
    }
    for (key, value) in &attributes.xattrs {
        match xattr::set(at(parent, name), key, value) {
            // Not every filesystem or kind of file takes every attribute; Docker goes on too.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EPERM)) => {
                tracing::debug!(?key, ?name, %error, "attribute left out");
            }
            result => result.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?,
        }
    }
    let time = &attributes.modified;
    utimensat(parent, name, time, time, UtimensatFlags::NoFollowSymlink)
}

fn make_opaque(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    xattr::set(at(parent, name), whiteout::OPAQUE_XATTR, b"y")
}

fn stat(parent: &OwnedFd, name: &OsStr) -> nix::Result<Option<FileStat>> {
    match fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn file_type(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

/// For calls that take paths only: the parent by its descriptor, the last component as it is.
fn at(parent: &OwnedFd, name: &OsStr) -> PathBuf {
    Path::new("/proc/self/fd").join(parent.as_fd().as_raw_fd().to_string()).join(name)
}

#[cfg(test)]
mod tests;
