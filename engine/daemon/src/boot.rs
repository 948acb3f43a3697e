//! Which boot of the machine this is.

use std::{fs, io, path::Path};

/// Whether the machine has booted since an engine last started with this state directory; remembers this boot.
/// The first engine of all starts nothing either way.
pub(crate) fn is_fresh(engine_dir: &Path) -> io::Result<bool> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let path = engine_dir.join("boot_id");
    let fresh = fs::read_to_string(&path).map_or(true, |known| known != boot);
    if fresh {
        let temporary = engine_dir.join("boot_id.new");
        fs::write(&temporary, boot)?;
        fs::rename(temporary, path)?;
    }
    Ok(fresh)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_is_fresh_once() {
        let dir = tempfile::tempdir().unwrap();
        assert!(is_fresh(dir.path()).unwrap());
        assert!(!is_fresh(dir.path()).unwrap());
        fs::write(dir.path().join("boot_id"), "another").unwrap();
        assert!(is_fresh(dir.path()).unwrap());
    }
}
