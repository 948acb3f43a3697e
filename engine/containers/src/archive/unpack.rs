//! A tar as files, below a directory of a container.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Component, Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat},
    sys::{
        stat::{Mode, SFlag, UtimensatFlags, fchmod, fstatat, makedev, mkdirat, mknodat, utimensat},
        time::TimeSpec,
    },
    unistd::{Gid, LinkatFlags, Uid, UnlinkatFlags, fchownat, linkat, symlinkat, unlinkat},
};
use tar::{Archive, Entry, EntryType};

use super::root::{Root, kind};

/// Why an archive was not unpacked.
#[derive(Debug)]
pub(super) enum Failure {
    /// The directory cannot be reached.
    Destination(io::Error),
    NotDirectory,
    /// A directory in the way of a file, or the other way around.
    Conflict(String),
    /// It is no archive, or a dangerous one.
    Archive(String),
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Errno> for Failure {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

/// Unpacks below `path`. `owner` replaces the archive's owners; `strict` refuses to replace a directory by a file and
/// the other way around. Blocking.
pub(super) fn unpack(
    root: &Root,
    path: &str,
    reader: impl Read + 'static,
    owner: Option<(u32, u32)>,
    strict: bool,
) -> Result<(), Failure> {
    root.directory(path).map_err(|error| match error.raw_os_error() {
        Some(nix::libc::ENOTDIR) => Failure::NotDirectory,
        _ => Failure::Destination(error),
    })?;
    let mut unpacker =
        Unpacker { root, base: path, owner, strict, directories: Vec::new(), replaced: HashSet::new() };
    let mut archive = Archive::new(plain(reader)?);
    let broken = |error: io::Error| Failure::Archive(format!("invalid tar archive: {error}"));
    for entry in archive.entries().map_err(broken)? {
        unpacker.entry(entry.map_err(broken)?)?;
    }
    unpacker.finish()
}

/// Uncompresses where the first bytes say so.
fn plain(mut reader: impl Read + 'static) -> io::Result<Box<dyn Read>> {
    let mut magic = Vec::with_capacity(4);
    (&mut reader).take(4).read_to_end(&mut magic)?;
    let whole = io::Cursor::new(magic.clone()).chain(reader);
    Ok(match magic.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(whole)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Decoder::new(whole)?),
        _ => Box::new(whole),
    })
}

struct Unpacker<'a> {
    root: &'a Root,
    base: &'a str,
    owner: Option<(u32, u32)>,
    strict: bool,
    /// Directories get their times last: what is made in them changes these.
    directories: Vec<(PathBuf, u64)>,
    replaced: HashSet<PathBuf>,
}

impl Unpacker<'_> {
    fn entry<R: Read>(&mut self, mut entry: Entry<'_, R>) -> Result<(), Failure> {
        let path = relative(&entry.path()?)?;
        let entry_kind = entry.header().entry_type();
        if matches!(entry_kind, EntryType::XGlobalHeader | EntryType::XHeader) {
            return Ok(());
        }
        let Some(name) = path.file_name().map(ToOwned::to_owned) else {
            // The destination itself: it exists, and keeps what it is.
            return Ok(());
        };
        let dir = self.parent(path.parent().unwrap_or(Path::new("")))?;
        let name = name.as_os_str();
        let directory = entry_kind.is_dir();
        if !self.make_room(&dir, name, &path, directory)? && directory {
            return self.settle(&dir, name, &entry, &path);
        }
        let mode = Mode::from_bits_truncate(0o600);
        match entry_kind {
            EntryType::Directory => mkdirat(&dir, name, Mode::from_bits_truncate(0o700))?,
            EntryType::Symlink => {
                let target =
                    entry.link_name()?.ok_or_else(|| Failure::Archive("a link without a target".into()))?;
                symlinkat(target.as_ref(), &dir, name)?;
            }
            EntryType::Link => {
                let target =
                    entry.link_name()?.ok_or_else(|| Failure::Archive("a link without a target".into()))?;
                let target = relative(&target)?;
                let Some(target_name) = target.file_name() else {
                    return Err(Failure::Archive("a link without a target".into()));
                };
                let target_dir = self.parent(target.parent().unwrap_or(Path::new("")))?;
                linkat(&target_dir, target_name, &dir, name, LinkatFlags::empty())?;
                return Ok(());
            }
            EntryType::Fifo => mknodat(&dir, name, SFlag::S_IFIFO, mode, 0)?,
            EntryType::Char | EntryType::Block => {
                let header = entry.header();
                let number = |n: Option<u32>| u64::from(n.unwrap_or(0));
                let device = makedev(number(header.device_major()?), number(header.device_minor()?));
                let node = if entry_kind == EntryType::Char { SFlag::S_IFCHR } else { SFlag::S_IFBLK };
                mknodat(&dir, name, node, mode, device)?;
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags =
                    OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let mut file = File::from(openat(&dir, name, flags, mode)?);
                io::copy(&mut entry, &mut file)?;
            }
            other => {
                return Err(Failure::Archive(format!("{}: unsupported entry {other:?}", path.display())));
            }
        }
        self.settle(&dir, name, &entry, &path)
    }

    /// The directory of an entry, made where the archive did not say it.
    fn parent(&self, path: &Path) -> Result<OwnedFd, Failure> {
        let mut inside = self.base.trim_end_matches('/').to_owned();
        let mut dir = self.root.directory(&inside).map_err(Failure::Destination)?;
        for part in path.components() {
            let Component::Normal(name) = part else { continue };
            inside.push('/');
            inside.push_str(&String::from_utf8_lossy(name.as_bytes()));
            dir = match self.root.directory(&inside) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    mkdirat(&dir, name, Mode::from_bits_truncate(0o755))?;
                    self.root.directory(&inside)?
                }
                other => other?,
            };
        }
        Ok(dir)
    }

    /// Removes what an entry replaces. False when a directory stays for a directory.
    fn make_room(
        &mut self,
        dir: &OwnedFd,
        name: &std::ffi::OsStr,
        path: &Path,
        directory: bool,
    ) -> Result<bool, Failure> {
        let stat = match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::ENOENT) => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        let is_directory = kind(&stat) == SFlag::S_IFDIR;
        if is_directory && directory {
            return Ok(false);
        }
        if self.strict && is_directory != directory && !self.replaced.contains(path) {
            let what =
                if is_directory { "directory with non-directory" } else { "non-directory with directory" };
            return Err(Failure::Conflict(format!("cannot overwrite {what}: {}", path.display())));
        }
        self.replaced.insert(path.to_owned());
        match is_directory {
            true => remove_tree(dir, name)?,
            false => unlinkat(dir, name, UnlinkatFlags::NoRemoveDir)?,
        }
        Ok(true)
    }

    /// Owner, mode and times.
    fn settle<R: Read>(
        &mut self,
        dir: &OwnedFd,
        name: &std::ffi::OsStr,
        entry: &Entry<'_, R>,
        path: &Path,
    ) -> Result<(), Failure> {
        let header = entry.header();
        let (uid, gid) = match self.owner {
            Some(owner) => owner,
            None => (header.uid()? as u32, header.gid()? as u32),
        };
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        fchownat(dir, name, owner.0, owner.1, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let entry_kind = header.entry_type();
        if !entry_kind.is_symlink() {
            let mode = Mode::from_bits_truncate(header.mode()? & 0o7777);
            if matches!(entry_kind, EntryType::Directory | EntryType::Regular | EntryType::Continuous) {
                let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                fchmod(openat(dir, name, flags, Mode::empty())?, mode)?;
            } else {
                nix::sys::stat::fchmodat(dir, name, mode, nix::sys::stat::FchmodatFlags::FollowSymlink)?;
            }
        }
        let seconds = header.mtime()?;
        match entry_kind {
            EntryType::Directory => self.directories.push((path.to_owned(), seconds)),
            _ => stamp(dir, name, seconds)?,
        }
        Ok(())
    }

    fn finish(self) -> Result<(), Failure> {
        for (path, seconds) in self.directories.iter().rev() {
            let Some(name) = path.file_name() else { continue };
            let dir = self.parent(path.parent().unwrap_or(Path::new("")))?;
            match stamp(&dir, name, *seconds) {
                // A later entry has replaced it.
                Err(Errno::ENOENT) => {}
                other => other?,
            }
        }
        Ok(())
    }
}

fn stamp(dir: &OwnedFd, name: &std::ffi::OsStr, seconds: u64) -> Result<(), Errno> {
    let time = TimeSpec::new(i64::try_from(seconds).unwrap_or_default(), 0);
    utimensat(dir, name, &time, &time, UtimensatFlags::NoFollowSymlink)
}

/// An entry's name as a path that goes down only.
fn relative(path: &Path) -> Result<PathBuf, Failure> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            Component::ParentDir => {
                return Err(Failure::Archive(format!(
                    "{:?} is outside of the archive",
                    path.display().to_string()
                )));
            }
        }
    }
    Ok(clean)
}

fn remove_tree(dir: &OwnedFd, name: &std::ffi::OsStr) -> Result<(), Failure> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = openat(dir, name, flags, Mode::empty())?;
    let mut reader = nix::dir::Dir::from_fd(fd.try_clone()?)?;
    let mut names = Vec::new();
    for entry in reader.iter() {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            names.push(std::ffi::OsStr::from_bytes(entry.file_name().to_bytes()).to_owned());
        }
    }
    for child in names {
        let stat = fstatat(fd.as_fd(), child.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        match kind(&stat) {
            SFlag::S_IFDIR => remove_tree(&fd, &child)?,
            _ => unlinkat(&fd, child.as_os_str(), UnlinkatFlags::NoRemoveDir)?,
        }
    }
    unlinkat(dir, name, UnlinkatFlags::RemoveDir)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt, os::unix::fs::symlink};

    use super::*;
    use crate::archive::pack;

    fn tar_of(path: &Path, name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let root = Root::open(path).unwrap();
        let stat = root.stat(name).unwrap();
        pack::pack(root.source(name).unwrap(), &stat.name, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_is_packed_unpacks_to_the_same() {
        let from = tempfile::tempdir().unwrap();
        let tree = from.path().join("tree");
        fs::create_dir_all(tree.join("sub")).unwrap();
        fs::write(tree.join("sub/file"), "content").unwrap();
        fs::hard_link(tree.join("sub/file"), tree.join("hard")).unwrap();
        symlink("sub/file", tree.join("soft")).unwrap();
        nix::unistd::mkfifo(&tree.join("pipe"), Mode::from_bits_truncate(0o644)).unwrap();
        std::os::unix::fs::chown(tree.join("sub/file"), Some(1234), Some(2345)).unwrap();
        let tar = tar_of(from.path(), "/tree");
        let to = tempfile::tempdir().unwrap();
        unpack(&Root::open(to.path()).unwrap(), "/", io::Cursor::new(tar), None, true).unwrap();
        let tree = to.path().join("tree");
        assert_eq!(fs::read_to_string(tree.join("sub/file")).unwrap(), "content");
        let (file, hard) =
            (fs::metadata(tree.join("sub/file")).unwrap(), fs::metadata(tree.join("hard")).unwrap());
        assert_eq!((file.uid(), file.gid(), file.ino()), (1234, 2345, hard.ino()));
        assert_eq!(fs::read_link(tree.join("soft")).unwrap(), Path::new("sub/file"));
        assert!(tree.join("pipe").symlink_metadata().is_ok());
    }

    #[test]
    fn an_archive_cannot_write_outside() {
        let to = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let root_dir = to.path().join("root");
        fs::create_dir(&root_dir).unwrap();
        symlink(outside.path(), root_dir.join("out")).unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        builder.append_data(&mut header, "out/evil", &b"x"[..]).unwrap();
        let tar = builder.into_inner().unwrap();
        let root = Root::open(&root_dir).unwrap();
        // The link leads to a place inside the root that does not exist.
        assert!(unpack(&root, "/", io::Cursor::new(tar), None, false).is_err());
        assert!(fs::read_dir(outside.path()).unwrap().next().is_none());
        assert!(relative(Path::new("../x")).is_err());
        assert_eq!(relative(Path::new("/a/./b")).unwrap(), Path::new("a/b"));
    }

    #[test]
    fn a_directory_is_not_replaced_by_a_file_when_that_was_ruled_out() {
        let from = tempfile::tempdir().unwrap();
        fs::write(from.path().join("x"), "file").unwrap();
        let tar = tar_of(from.path(), "/x");
        let to = tempfile::tempdir().unwrap();
        fs::create_dir(to.path().join("x")).unwrap();
        fs::write(to.path().join("x/inner"), "").unwrap();
        let root = Root::open(to.path()).unwrap();
        let refused = unpack(&root, "/", io::Cursor::new(tar.clone()), None, true);
        assert!(matches!(refused, Err(Failure::Conflict(_))));
        unpack(&root, "/", io::Cursor::new(tar), None, false).unwrap();
        assert_eq!(fs::read_to_string(to.path().join("x")).unwrap(), "file");
        assert!(matches!(unpack(&root, "/x", io::empty(), None, true), Err(Failure::NotDirectory)));
        assert!(matches!(unpack(&root, "/no", io::empty(), None, true), Err(Failure::Destination(_))));
    }
}
