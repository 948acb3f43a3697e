//! The receiving half of sd_notify(3), so that a daemon says the same to us as it says to systemd; and the descriptor
//! store behind it: what a daemon gives us to keep is handed back to it when it is started again.

use std::{
    collections::BTreeMap,
    fs,
    io::{ErrorKind, IoSliceMut},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::net::UnixDatagram,
    },
    path::{Path, PathBuf},
};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use crate::paths::PathError;

/// The descriptors that a daemon may have kept. They are named in one environment variable (LISTEN_FDNAMES), and the
/// kernel takes 128 KiB of each (execve(2)): room for this many names of ten bytes. causewayd gives two for a sandbox.
/// The same number stands in packaging/systemd/causewayd.service.
const MOST_KEPT: usize = 12_000;
/// The longest name taken: [`MOST_KEPT`] of them have to fit.
const LONGEST_NAME: usize = 9;
/// The descriptors that one message may carry.
const PER_MESSAGE: usize = 16;

/// The socket that one daemon's NOTIFY_SOCKET names. Removed with its value.
pub(crate) struct Notifications {
    path: PathBuf,
    socket: UnixDatagram,
    /// By FDNAME; several may share one.
    kept: BTreeMap<String, Vec<OwnedFd>>,
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
        Ok(Self { path, socket, kept: BTreeMap::new() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Does what the messages that have come say; true when `READY=1` was in one.
    pub(crate) fn read(&mut self) -> bool {
        let mut ready = false;
        while let Some((text, descriptors)) = self.receive() {
            ready |= self.obey(&text, descriptors);
        }
        ready
    }

    /// What is kept for the daemon, with the names that it gave.
    pub(crate) fn kept(&self) -> impl Iterator<Item = (&str, RawFd)> {
        self.kept.iter().flat_map(|(name, all)| all.iter().map(move |fd| (name.as_str(), fd.as_raw_fd())))
    }

    fn receive(&self) -> Option<(String, Vec<OwnedFd>)> {
        let mut buffer = [0; 4096];
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let mut space = nix::cmsg_space!([RawFd; PER_MESSAGE]);
        let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, Some(&mut space), flags).ok()?;
        let length = message.bytes;
        let mut descriptors = Vec::new();
        for control in message.cmsgs().into_iter().flatten() {
            if let ControlMessageOwned::ScmRights(received) = control {
                // SAFETY: the kernel has just installed these in this process, and nobody else knows them.
                descriptors.extend(received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        Some((String::from_utf8_lossy(&buffer[..length]).into_owned(), descriptors))
    }

    /// sd_notify(3), of which it takes READY, FDSTORE, FDSTOREREMOVE and FDNAME.
    fn obey(&mut self, text: &str, descriptors: Vec<OwnedFd>) -> bool {
        let says = |what: &str| text.lines().any(|line| line == what);
        let name = text.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or("stored");
        let is_name = name.len() <= LONGEST_NAME && name.bytes().all(|b| b.is_ascii_graphic() && b != b':');
        if says("FDSTOREREMOVE=1") {
            self.kept.remove(name);
        } else if says("FDSTORE=1") && is_name {
            let count: usize = self.kept.values().map(Vec::len).sum();
            if count + descriptors.len() <= MOST_KEPT {
                self.kept.entry(name.to_owned()).or_default().extend(descriptors);
            } else {
                eprintln!(
                    "causeway: {MOST_KEPT} descriptors are kept already: {name} would not survive a restart"
                );
            }
        }
        says("READY=1")
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

#[cfg(test)]
mod tests {
    use std::{fs::File, io::IoSlice};

    use nix::sys::socket::{ControlMessage, UnixAddr, sendmsg};

    use super::*;

    fn say(to: &Notifications, text: &str, descriptors: &[RawFd]) {
        let from = UnixDatagram::unbound().unwrap();
        let rights = [ControlMessage::ScmRights(descriptors)];
        let control = if descriptors.is_empty() { &[][..] } else { &rights };
        let address = UnixAddr::new(to.path()).unwrap();
        let parts = [IoSlice::new(text.as_bytes())];
        sendmsg(from.as_raw_fd(), &parts, control, MsgFlags::empty(), Some(&address)).unwrap();
    }

    #[test]
    fn what_is_given_to_keep_is_kept_until_it_is_taken_back() {
        let directory = tempfile::tempdir().unwrap();
        let mut notifications = Notifications::open(directory.path().join("notify")).unwrap();
        let file = File::open("/dev/null").unwrap();
        let fd = file.as_raw_fd();
        say(&notifications, "FDSTORE=1\nFDNAME=n1\nFDPOLL=0", &[fd, fd]);
        say(&notifications, "FDSTORE=1\nFDNAME=n2\n", &[fd]);
        say(&notifications, "FDSTORE=1\nFDNAME=no:colon\n", &[fd]);
        assert!(!notifications.read());
        assert_eq!(notifications.kept().map(|(name, _)| name).collect::<Vec<_>>(), ["n1", "n1", "n2"]);
        say(&notifications, "FDSTOREREMOVE=1\nFDNAME=n1\n", &[]);
        say(&notifications, "READY=1", &[]);
        assert!(notifications.read());
        assert_eq!(notifications.kept().map(|(name, _)| name).collect::<Vec<_>>(), ["n2"]);
    }
}
