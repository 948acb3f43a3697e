//! Who reads a root filesystem holds its directory, wherever that is moved meanwhile; it is deleted when nobody does.
//!
//! The holds are locks of flock(2), on the directory itself: they end with the process at the latest.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

use crate::error::{Error, Result};

/// Holds the root filesystem at `dir` against deletion until dropped.
pub(super) fn hold(dir: &Path) -> Result<File> {
    let directory = File::open(dir).map_err(Error::io("open", dir))?;
    directory.lock_shared().map_err(Error::io("lock", dir))?;
    Ok(directory)
}

/// Whether somebody does. Of a directory that can be found no more, nobody can begin to.
pub(super) fn is_held(dir: &Path) -> Result<bool> {
    let directory = match File::open(dir) {
        Ok(directory) => directory,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Error::io("open", dir)(error)),
    };
    match directory.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(Error::io("lock", dir)(error)),
    }
}
