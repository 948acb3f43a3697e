//! A directory to a tar: a whole root filesystem, or what a container changed as a layer. The order is by name, so the
//! same content gives the same bytes.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

use super::whiteout::{self, is_opaque, is_whiteout};

/// What the tar is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Everything as it is.
    Export,
    /// overlayfs's whiteouts become `.wh.` entries.
    Layer,
}

/// Writes the content of `root` (without an entry for `root` itself) to `out`.
pub(crate) fn pack(root: &Path, style: Style, out: impl Write) -> io::Result<()> {
    let mut packer = Packer { builder: Builder::new(out), style, links: HashMap::new() };
    packer.directory(root, Path::new(""))?;
    packer.builder.into_inner()?.flush()
}

struct Packer<W: Write> {
    builder: Builder<W>,
    style: Style,
    /// Files with several names, by device and inode: the second name is a link to the first.
    links: HashMap<(u64, u64), PathBuf>,
}

impl<W: Write> Packer<W> {
    fn directory(&mut self, on_disk: &Path, in_tar: &Path) -> io::Result<()> {
        let mut names: Vec<_> =
            fs::read_dir(on_disk)?.map(|e| e.map(|e| e.file_name())).collect::<Result<_, _>>()?;
        names.sort();
        for name in names {
            let (on_disk, in_tar) = (on_disk.join(&name), in_tar.join(&name));
            match fs::symlink_metadata(&on_disk) {
                Ok(metadata) => self.thing(&on_disk, &in_tar, &metadata)?,
                // Removed while we walk: an export of a running container shows one moment or another.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn thing(&mut self, on_disk: &Path, in_tar: &Path, metadata: &Metadata) -> io::Result<()> {
        let kind = metadata.file_type();
        if self.style == Style::Layer && is_whiteout(metadata) {
            let name = [whiteout::PREFIX, in_tar.file_name().unwrap_or_default().as_bytes()].concat();
            return self.marker(&in_tar.with_file_name(OsStr::from_bytes(&name)));
        }
        let mut header = Header::new_ustar();
        header.set_mode(metadata.mode() & 0o7777);
        header.set_uid(metadata.uid().into());
        header.set_gid(metadata.gid().into());
        header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
        header.set_size(0);
        if kind.is_dir() {
            header.set_entry_type(EntryType::Directory);
            self.append(header, on_disk, &in_tar.join(""), None, io::empty())?;
            if self.style == Style::Layer && is_opaque(on_disk)? {
                self.marker(&in_tar.join(OsStr::from_bytes(whiteout::OPAQUE)))?;
            }
            return self.directory(on_disk, in_tar);
        }
        if metadata.nlink() > 1 {
            let inode = (metadata.dev(), metadata.ino());
            if let Some(first) = self.links.get(&inode).cloned() {
                header.set_entry_type(EntryType::Link);
                return self.append(header, on_disk, in_tar, Some(&first), io::empty());
            }
            self.links.insert(inode, in_tar.to_owned());
        }
        if kind.is_file() {
            header.set_entry_type(EntryType::Regular);
            header.set_size(metadata.len());
            // A file that shrinks while it is read would shift all that follows: it is filled up with zeros.
            let content = File::open(on_disk)?.chain(io::repeat(0)).take(metadata.len());
            return self.append(header, on_disk, in_tar, None, content);
        }
        if kind.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            let target = fs::read_link(on_disk)?;
            return self.append(header, on_disk, in_tar, Some(&target), io::empty());
        }
        if kind.is_char_device() || kind.is_block_device() {
            let char = kind.is_char_device();
            header.set_entry_type(if char { EntryType::Char } else { EntryType::Block });
            header.set_device_major(nix::sys::stat::major(metadata.rdev()) as u32)?;
            header.set_device_minor(nix::sys::stat::minor(metadata.rdev()) as u32)?;
        } else if kind.is_fifo() {
            header.set_entry_type(EntryType::Fifo);
        } else {
            // A socket means nothing without the process behind it.
            return Ok(());
        }
        self.append(header, on_disk, in_tar, None, io::empty())
    }

    /// An empty file whose name says it all.
    fn marker(&mut self, in_tar: &Path) -> io::Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o600);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        self.append_plain(header, in_tar, None, Vec::new(), io::empty())
    }

    fn append(
        &mut self,
        header: Header,
        on_disk: &Path,
        in_tar: &Path,
        link: Option<&Path>,
        content: impl Read,
    ) -> io::Result<()> {
        let mut extensions = Vec::new();
        if !matches!(header.entry_type(), EntryType::Link | EntryType::Symlink) {
            for name in xattr::list(on_disk)? {
                let bytes = name.as_bytes();
                if (bytes == b"security.capability" || bytes.starts_with(b"user."))
                    && let Some(value) = xattr::get(on_disk, &name)?
                    && let Ok(key) = std::str::from_utf8(bytes)
                {
                    extensions.push((format!("SCHILY.xattr.{key}"), value));
                }
            }
        }
        self.append_plain(header, in_tar, link, extensions, content)
    }

    fn append_plain(
        &mut self,
        mut header: Header,
        in_tar: &Path,
        link: Option<&Path>,
        mut extensions: Vec<(String, Vec<u8>)>,
        content: impl Read,
    ) -> io::Result<()> {
        let old = header.as_old_mut();
        if !fill(&mut old.name, in_tar.as_os_str()) {
            extensions.push(("path".to_owned(), in_tar.as_os_str().as_bytes().to_vec()));
        }
        if let Some(link) = link
            && !fill(&mut old.linkname, link.as_os_str())
        {
            extensions.push(("linkpath".to_owned(), link.as_os_str().as_bytes().to_vec()));
        }
        if !extensions.is_empty() {
            let extensions = extensions.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
            self.builder.append_pax_extensions(extensions)?;
        }
        header.set_cksum();
        self.builder.append(&header, content)
    }
}

/// Puts a name into its field, cut off if need be; false when it had to be.
fn fill(field: &mut [u8; 100], name: &OsStr) -> bool {
    let name = name.as_bytes();
    let n = name.len().min(field.len());
    field[..n].copy_from_slice(&name[..n]);
    n == name.len()
}
