//! Files as a tar.

use std::{
    collections::HashMap,
    ffi::{CStr, CString, OsStr},
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use nix::{
    dir::Dir,
    fcntl::{AtFlags, OFlag, openat, readlinkat},
    sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, major, minor},
};
use tar::{Builder, EntryType, Header};

use super::root::{Source, kind};

/// Writes the source under this name. Sockets are left out: a tar cannot hold them.
pub(super) fn pack(source: Source, name: &str, writer: &mut impl Write) -> io::Result<()> {
    let mut packer = Packer { builder: Builder::new(writer), seen: HashMap::new() };
    match source {
        Source::Entry { dir, name: entry } => {
            let entry = CString::new(entry)?;
            packer.entry(dir.as_fd(), &entry, Path::new(name))?;
        }
        Source::Directory(dir) => {
            let stat = fstat(&dir)?;
            // An archive's own root is written relative, whatever it is called.
            let name = if name == "/" { "." } else { name };
            packer.directory(dir, &stat, Path::new(name))?;
        }
    }
    packer.builder.into_inner()?.flush()
}

struct Packer<'a, W: Write> {
    builder: Builder<&'a mut W>,
    /// Files with several links, by device and inode, to the name under which each is in the archive.
    seen: HashMap<(u64, u64), PathBuf>,
}

impl<W: Write> Packer<'_, W> {
    fn directory(&mut self, dir: OwnedFd, stat: &FileStat, path: &Path) -> io::Result<()> {
        let mut name = path.as_os_str().to_owned();
        name.push("/");
        let mut header = header(stat, EntryType::Directory);
        self.builder.append_data(&mut header, PathBuf::from(name), io::empty())?;
        let mut reader = Dir::from_fd(dir.try_clone()?)?;
        let mut names: Vec<CString> = Vec::new();
        for entry in reader.iter() {
            let entry = entry?;
            if entry.file_name() != c"." && entry.file_name() != c".." {
                names.push(entry.file_name().to_owned());
            }
        }
        names.sort();
        for name in names {
            let child = path.join(OsStr::from_bytes(name.to_bytes()));
            match self.entry(dir.as_fd(), &name, &child) {
                // Removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn entry(&mut self, dir: BorrowedFd<'_>, name: &CStr, path: &Path) -> io::Result<()> {
        let stat = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let open = |flags: OFlag| {
            Ok::<_, io::Error>(openat(
                dir,
                name,
                flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
                Mode::empty(),
            )?)
        };
        match kind(&stat) {
            SFlag::S_IFDIR => {
                let fd = open(OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
                self.directory(fd, &stat, path)
            }
            SFlag::S_IFLNK => {
                let target = readlinkat(dir, name)?;
                self.builder.append_link(&mut header(&stat, EntryType::Symlink), path, Path::new(&target))
            }
            SFlag::S_IFREG => {
                if stat.st_nlink > 1 {
                    let key = (stat.st_dev, stat.st_ino);
                    if let Some(first) = self.seen.get(&key) {
                        return self.builder.append_link(&mut header(&stat, EntryType::Link), path, first);
                    }
                    self.seen.insert(key, path.to_owned());
                }
                let file = File::from(open(OFlag::O_RDONLY)?);
                let mut header = header(&stat, EntryType::Regular);
                let size = file.metadata()?.len();
                header.set_size(size);
                // A file that is written meanwhile must not spoil what follows: neither more nor less than was promised.
                let exact = io::Read::take(io::Read::chain(file, io::repeat(0)), size);
                self.builder.append_data(&mut header, path, exact)
            }
            kind @ (SFlag::S_IFCHR | SFlag::S_IFBLK | SFlag::S_IFIFO) => {
                let entry = match kind {
                    SFlag::S_IFCHR => EntryType::Char,
                    SFlag::S_IFBLK => EntryType::Block,
                    _ => EntryType::Fifo,
                };
                let mut header = header(&stat, entry);
                header.set_device_major(major(stat.st_rdev) as u32)?;
                header.set_device_minor(minor(stat.st_rdev) as u32)?;
                self.builder.append_data(&mut header, path, io::empty())
            }
            _ => Ok(()),
        }
    }
}

fn header(stat: &FileStat, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(stat.st_uid.into());
    header.set_gid(stat.st_gid.into());
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or_default());
    header.set_size(0);
    header
}
