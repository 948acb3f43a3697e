//! Short names for layers' directories: `l/<first digits of the id>`, links to them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::core::Core;
use crate::error::{Error, Result};

/// Digits of a short name: with [`crate::core::MAX_LAYERS`] of them, all fit the page of mount options with room for
/// the paths of the upper and work directories (126 names of 9 bytes are 1,134 of 4,096).
const SHORT: usize = 8;

impl Core {
    /// A name relative to `l/` for each of these directories, all below the store (`layers/<hex>/diff` and the like).
    pub(super) fn short_names(&self, dirs: &[PathBuf]) -> Result<Vec<String>> {
        dirs.iter().map(|dir| self.short_name(dir)).collect()
    }

    fn short_name(&self, dir: &Path) -> Result<String> {
        let relative = dir.strip_prefix(&self.images).unwrap_or(dir);
        let target = Path::new("..").join(relative);
        let kind =
            relative.components().next().and_then(|kind| kind.as_os_str().to_str()).unwrap_or_default();
        let id = dir.parent().and_then(Path::file_name).and_then(|id| id.to_str()).unwrap_or_default();
        // Layers and init layers are named by digests of different things, but may be the same one.
        let name = if kind == "init" { format!("i{id}") } else { id.to_owned() };
        for length in SHORT..=name.len() {
            let short = &name[..length];
            let link = self.images.join("l").join(short);
            match std::os::unix::fs::symlink(&target, &link) {
                Ok(()) => return Ok(short.to_owned()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if fs::read_link(&link).is_ok_and(|found| found == target) {
                        return Ok(short.to_owned());
                    }
                }
                Err(error) => return Err(Error::io("link", link)(error)),
            }
        }
        Err(Error::io("link", dir)(io::Error::from(io::ErrorKind::AlreadyExists)))
    }
}
