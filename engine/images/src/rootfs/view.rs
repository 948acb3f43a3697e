//! What a stack of layers shows at a path, without mounting it.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::layer::{is_opaque, is_whiteout};

/// What is at a path.
#[derive(Debug)]
pub(super) enum Seen {
    Nothing,
    /// The path leads through something that is no directory.
    NoDirectory,
    There(Metadata),
}

/// Looks `path` up in `lowers` (top first) as overlayfs would. Links are not followed.
pub(super) fn look(lowers: &[PathBuf], path: &Path) -> io::Result<Seen> {
    let mut dirs: Vec<PathBuf> = lowers.to_vec();
    let mut names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        _ => None,
    });
    let Some(mut name) = names.next() else {
        return match dirs.first() {
            Some(root) => fs::symlink_metadata(root).map(Seen::There),
            None => Ok(Seen::Nothing),
        };
    };
    loop {
        let found = step(&dirs, name)?;
        let Some((metadata, next)) = found else { return Ok(Seen::Nothing) };
        match names.next() {
            None => return Ok(Seen::There(metadata)),
            Some(_) if !metadata.is_dir() => return Ok(Seen::NoDirectory),
            Some(deeper) => (name, dirs) = (deeper, next),
        }
    }
}

/// The topmost thing of that name, and the directories that merge into it.
fn step(dirs: &[PathBuf], name: &OsStr) -> io::Result<Option<(Metadata, Vec<PathBuf>)>> {
    let mut top: Option<(Metadata, Vec<PathBuf>)> = None;
    for dir in dirs {
        let path = dir.join(name);
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if is_whiteout(&metadata) {
            break;
        }
        match &mut top {
            None if !metadata.is_dir() => return Ok(Some((metadata, Vec::new()))),
            None => top = Some((metadata, vec![path.clone()])),
            Some(_) if !metadata.is_dir() => break,
            Some((_, merged)) => merged.push(path.clone()),
        }
        if is_opaque(&path)? {
            break;
        }
    }
    Ok(top)
}
