//! A root filesystem as one tar.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::{lease, mount};
use crate::archive::ArchiveStream;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::layer::{Style, pack};
use crate::options::Rootfs;

impl Core {
    /// Opens what will be exported. A container that starts, stops or is removed meanwhile changes nothing about what is
    /// read: that is a mount of our own, of directories that stay until it ends.
    pub(crate) fn export(self: &Arc<Self>, container_id: &str) -> Result<ArchiveStream> {
        let dir = self.rootfs_dir(container_id)?;
        if !dir.exists() {
            return Err(Error::NoSuchRootfs(container_id.to_owned()));
        }
        let held = lease::hold(&dir)?;
        let rootfs = self.rootfs(container_id)?;
        self.unmounting.wait(container_id);
        let mounted = match self.bind(&rootfs)? {
            Some(mounted) => mounted,
            None => self.mount_read_only(&rootfs)?,
        };
        let core = Arc::clone(self);
        Ok(ArchiveStream::produce(move |out| {
            let result = pack(mounted.path(), Style::Export, out);
            drop(mounted);
            drop(held);
            // It may have been removed, and left to us.
            core.sweep();
            result
        }))
    }

    /// The container's mount, shown once more; `None` if there is none.
    fn bind(&self, rootfs: &Rootfs) -> Result<Option<mount::Mounted>> {
        if !mount::is_mounted(&rootfs.merged)? {
            return Ok(None);
        }
        let workspace = self.workspace()?;
        let at = workspace.path().join("merged");
        fs::create_dir(&at).map_err(Error::io("create directory", &at))?;
        if mount::bind(&rootfs.merged, &at).is_err() {
            return Ok(None);
        }
        let mounted = mount::Mounted::new(at, workspace);
        // It may have been unmounted just before: then this is a bind of the bare directory.
        let device = |path: &Path| fs::metadata(path).map(|m| m.dev()).map_err(Error::io("stat", path));
        Ok((device(mounted.path())? != device(&rootfs.upper)?).then_some(mounted))
    }

    fn mount_read_only(&self, rootfs: &Rootfs) -> Result<mount::Mounted> {
        let workspace = self.workspace()?;
        let at = workspace.path().join("merged");
        fs::create_dir(&at).map_err(Error::io("create directory", &at))?;
        let mut names = self.short_names(&rootfs.lower)?;
        // Relative to the links' directory like the others: the upper one is linked beside the mount.
        let link = workspace.path().join("upper");
        std::os::unix::fs::symlink(&rootfs.upper, &link).map_err(Error::io("link", &link))?;
        let tmp = workspace.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        names.insert(0, format!("../tmp/{tmp}/upper"));
        mount::overlay(&self.images.join("l"), &names, None, &at)?;
        Ok(mount::Mounted::new(at, workspace))
    }
}
