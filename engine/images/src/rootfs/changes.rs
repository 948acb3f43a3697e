//! `docker diff`: what the upper directory adds to, changes in and hides from the layers below it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::view::{Seen, look};
use crate::layer::{is_opaque, is_whiteout};
use crate::wire::{Change, ChangeKind};

/// The changes, by path. As in Docker 28, a directory is changed when its mode or owner is, or anything below it; that
/// files came and went again, or its time, is no change.
pub(super) fn changes(upper: &Path, lowers: &[PathBuf]) -> io::Result<Vec<Change>> {
    let mut walk = Walk { lowers, changed: Vec::new(), touched: BTreeSet::new() };
    walk.directory(upper, Path::new("/"))?;
    walk.changed.sort_by(|a, b| a.0.cmp(&b.0));
    Ok((walk.changed.into_iter())
        .map(|(path, kind)| Change { path: path.to_string_lossy().into_owned(), kind })
        .collect())
}

struct Walk<'a> {
    lowers: &'a [PathBuf],
    changed: Vec<(PathBuf, ChangeKind)>,
    /// Directories that are listed already.
    touched: BTreeSet<PathBuf>,
}

impl Walk<'_> {
    fn directory(&mut self, on_disk: &Path, path: &Path) -> io::Result<()> {
        for entry in fs::read_dir(on_disk)? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                // A running container may have removed it just then.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            self.thing(&entry.path(), &path.join(entry.file_name()), &metadata)?;
        }
        Ok(())
    }

    fn thing(&mut self, on_disk: &Path, path: &Path, metadata: &fs::Metadata) -> io::Result<()> {
        let below = match look(self.lowers, path)? {
            Seen::There(below) => Some(below),
            _ => None,
        };
        if is_whiteout(metadata) {
            // What was made and removed again leaves a whiteout of nothing.
            if below.is_some() {
                self.add(path, ChangeKind::Deleted);
            }
            return Ok(());
        }
        match &below {
            None => self.add(path, ChangeKind::Added),
            // Copied up on the way to something below it, and not changed itself.
            Some(below) if below.is_dir() && metadata.is_dir() && alike(below, metadata) => {}
            Some(_) => self.add(path, ChangeKind::Modified),
        }
        if !metadata.is_dir() {
            return Ok(());
        }
        if below.is_some_and(|below| below.is_dir()) && is_opaque(on_disk)? {
            self.hidden(on_disk, path)?;
        }
        self.directory(on_disk, path)
    }

    /// What an opaque directory hides, unless it has that name again.
    fn hidden(&mut self, on_disk: &Path, path: &Path) -> io::Result<()> {
        let mut names = BTreeSet::new();
        for lower in self.lowers {
            let Ok(entries) = fs::read_dir(lower.join(path.strip_prefix("/").unwrap_or(path))) else {
                continue;
            };
            for entry in entries {
                names.insert(entry?.file_name());
            }
        }
        for name in names {
            let gone = fs::symlink_metadata(on_disk.join(&name)).is_err();
            if gone && matches!(look(self.lowers, &path.join(&name))?, Seen::There(_)) {
                self.add(&path.join(&name), ChangeKind::Deleted);
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &Path, kind: ChangeKind) {
        let above = path.ancestors().skip(1).take_while(|above| *above != Path::new("/"));
        for above in above {
            if self.touched.insert(above.to_owned()) {
                self.changed.push((above.to_owned(), ChangeKind::Modified));
            }
        }
        if self.touched.insert(path.to_owned()) {
            self.changed.push((path.to_owned(), kind));
        }
    }
}

fn alike(a: &fs::Metadata, b: &fs::Metadata) -> bool {
    a.mode() == b.mode() && (a.uid(), a.gid()) == (b.uid(), b.gid())
}
