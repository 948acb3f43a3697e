//! The socket: handed in by who starts us, or made here.

use std::{
    env, fs, io,
    os::{
        fd::{FromRawFd, OwnedFd, RawFd},
        unix::{
            fs::PermissionsExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::Path,
};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// The first descriptor that sd_listen_fds(3) hands over.
const FIRST: RawFd = 3;

/// The listening socket: the one of the LISTEN_FDS protocol when there is one, else a fresh one at `path`, for root
/// alone. A stale socket there is replaced; one that somebody listens on is an error.
///
/// To be called once and before any thread is started: it reads what the environment says of open descriptors.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    let listener = match inherited() {
        Some(descriptor) => UnixListener::from(descriptor),
        None => bind(path)?,
    };
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn inherited() -> Option<OwnedFd> {
    let number = |name: &str| env::var(name).ok()?.parse::<u32>().ok();
    if number("LISTEN_PID")? != std::process::id() || number("LISTEN_FDS")? == 0 {
        return None;
    }
    // SAFETY: who set LISTEN_PID to our own pid has put a descriptor there for us, and nobody else here takes it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(FIRST) };
    fcntl(&descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).ok()?;
    Some(descriptor)
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
