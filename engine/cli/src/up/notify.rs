//! The receiving half of sd_notify(3), so that a daemon says the same to us as it says to systemd.

use std::{
    fs,
    io::ErrorKind,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixDatagram,
    },
    path::{Path, PathBuf},
};

use crate::paths::PathError;

/// The socket that one daemon's NOTIFY_SOCKET names. Removed with its value.
pub(crate) struct Notifications {
    path: PathBuf,
    socket: UnixDatagram,
}

impl Notifications {
    pub(crate) fn open(path: PathBuf) -> Result<Self, PathError> {
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(PathError::at("replace the stale socket", &path)(error));
        }
        let socket = UnixDatagram::bind(&path).map_err(PathError::at("open the socket", &path))?;
        socket.set_nonblocking(true).map_err(PathError::at("open the socket", &path))?;
        Ok(Self { path, socket })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what has come; true when `READY=1` was in it.
    pub(crate) fn ready(&self) -> bool {
        let mut buffer = [0; 4096];
        let mut ready = false;
        while let Ok(length) = self.socket.recv(&mut buffer) {
            ready |= buffer[..length].split(|&b| b == b'\n').any(|line| line == b"READY=1");
        }
        ready
    }
}

impl AsFd for Notifications {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Notifications {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
