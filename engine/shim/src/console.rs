//! Receiving a terminal's master from the process that made it.

use std::{
    fs, io,
    io::IoSliceMut,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::PathBuf,
};

use nix::{
    cmsg_space,
    errno::Errno,
    sys::socket::{ControlMessageOwned, MsgFlags, recvmsg},
};

/// Where the master will arrive.
pub(crate) enum Console {
    /// An OCI runtime connects to it by its path.
    Listener(UnixListener, PathBuf),
    /// The other end of a socket that the process inherited.
    Socket(UnixStream),
}

impl Console {
    /// Listens at `name` in the current directory.
    pub(crate) fn listen(name: &str) -> io::Result<Self> {
        let _ = fs::remove_file(name);
        let listener = UnixListener::bind(name)?;
        listener.set_nonblocking(true)?;
        Ok(Self::Listener(listener, name.into()))
    }

    /// Ours, and the one to hand on.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        Ok((Self::Socket(ours), theirs.into()))
    }

    /// Takes the master, which must have been sent by now.
    pub(crate) fn take_master(self) -> io::Result<OwnedFd> {
        let stream = match self {
            Self::Listener(listener, path) => {
                let accepted = listener.accept();
                let _ = fs::remove_file(path);
                let stream = accepted?.0;
                stream.set_nonblocking(true)?;
                stream
            }
            Self::Socket(stream) => stream,
        };
        let mut name = [0; 4096];
        let mut iov = [IoSliceMut::new(&mut name)];
        let mut space = cmsg_space!([i32; 1]);
        let message = loop {
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            match recvmsg::<()>(stream.as_raw_fd(), &mut iov, Some(&mut space), flags) {
                Err(Errno::EINTR) => {}
                other => break other?,
            }
        };
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(fds) = control
                && let Some(&fd) = fds.first()
            {
                // SAFETY: the kernel has just made it for us.
                return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "no terminal came with the message"))
    }
}
