//! The sockets: handed in by who starts us, or made here.

use std::{
    fs, io,
    os::{
        fd::{FromRawFd, OwnedFd},
        unix::{
            fs::PermissionsExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::Path,
};

use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname};

/// What sd_listen_fds(3) hands over.
#[derive(Default)]
pub(crate) struct Inherited {
    /// The first one that listens on a path.
    listener: Option<OwnedFd>,
    /// What an earlier causewayd gave to the descriptor store, with its name there.
    pub(crate) kept: Vec<(String, OwnedFd)>,
}

/// To be called once and before any thread is started: it takes what the environment says of open descriptors.
pub(crate) fn inherited() -> io::Result<Inherited> {
    let mut found = Inherited::default();
    for (fd, name) in sd_notify::listen_fds_with_names()? {
        // SAFETY: who set LISTEN_PID to our own pid has put it there for us, and nobody else here takes it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let address = getsockname::<SockaddrStorage>(fd).ok();
        if address.and_then(|a| a.family()) != Some(AddressFamily::Unix) {
            found.kept.push((name, socket));
        } else if found.listener.is_none() {
            found.listener = Some(socket);
        }
    }
    Ok(found)
}

/// The listening socket: the inherited one, else a fresh one at `path`, for root alone. A stale socket there is
/// replaced; one that somebody listens on is an error.
pub(crate) fn listen(inherited: &mut Inherited, path: &Path) -> io::Result<UnixListener> {
    let listener = match inherited.listener.take() {
        Some(descriptor) => UnixListener::from(descriptor),
        None => bind(path)?,
    };
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    if UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another causewayd listens there"));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Bound under another name until it is ours alone, so that there is no moment in which others may connect.
    let fresh = path.with_extension("sock.new");
    let _ = fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600))?;
    fs::rename(&fresh, path)?;
    Ok(listener)
}
