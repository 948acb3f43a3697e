//! How a layer says that something below it is gone: in a tar by names (OCI image spec, "Whiteouts"), on disk as
//! overlayfs reads it (kernel documentation, overlayfs, "whiteouts and opaque directories").

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// In a tar: `.wh.NAME` hides NAME.
pub(super) const PREFIX: &[u8] = b".wh.";
/// In a tar: hides all that lower layers have in this directory.
pub(super) const OPAQUE: &[u8] = b".wh..wh..opq";
/// In a tar: bookkeeping of aufs, which means nothing here.
pub(super) const AUFS: &[u8] = b".wh..wh.";
/// On disk: a directory that hides those below has this attribute, with the value `y`.
pub(super) const OPAQUE_XATTR: &str = "trusted.overlay.opaque";
/// overlayfs's own attributes: what an archive says here must never reach a mount.
pub(super) const OVERLAY_XATTRS: &str = "trusted.overlay.";

/// A character device 0:0 is overlayfs's whiteout.
pub(crate) fn is_whiteout(metadata: &Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

/// Whether a directory hides those below it.
pub(crate) fn is_opaque(directory: &Path) -> io::Result<bool> {
    Ok(xattr::get(directory, OPAQUE_XATTR)?.as_deref() == Some(b"y"))
}
