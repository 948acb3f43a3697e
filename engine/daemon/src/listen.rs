//! The sockets: handed in by who starts us, or made here.

use std::{
    env, fs, io,
    os::{
        fd::{AsFd, FromRawFd, OwnedFd, RawFd},
        unix::{
            fs::{FileTypeExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

use engine_api::{Listener, Tls};
use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname},
};

/// The first descriptor that sd_listen_fds(3) hands over.
const FIRST: RawFd = 3;
/// Docker's: root, and whoever root puts in the socket's group.
const MODE: u32 = 0o660;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error(
        "cannot listen on {host:?}: give unix:// and an absolute path, as in unix:///run/causeway/docker.sock"
    )]
    NotUnix { host: String },
    #[error("another process already serves {}", path.display())]
    Served { path: PathBuf },
    #[error("give -H unix://PATH, or hand sockets in (LISTEN_FDS)")]
    None,
    #[error("cannot listen on {what}")]
    Io {
        what: String,
        #[source]
        source: io::Error,
    },
}

/// A bound socket that is not in the runtime yet.
#[derive(Debug)]
pub(crate) struct Bound(OwnedFd);

impl Bound {
    /// Must be called inside a tokio runtime. `tls`: for a TCP socket.
    pub(crate) fn listener(self, tls: Option<&Tls>) -> Result<Listener, ListenError> {
        let failed = |source| ListenError::Io { what: "an inherited socket".into(), source };
        let address = getsockname::<SockaddrStorage>(std::os::fd::AsRawFd::as_raw_fd(&self.0))
            .map_err(|error| failed(error.into()))?;
        if address.family() == Some(AddressFamily::Unix) {
            let listener = UnixListener::from(self.0);
            listener.set_nonblocking(true).map_err(failed)?;
            Ok(Listener::Unix(tokio::net::UnixListener::from_std(listener).map_err(failed)?))
        } else {
            let listener = std::net::TcpListener::from(self.0);
            listener.set_nonblocking(true).map_err(failed)?;
            let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
            Ok(match tls {
                Some(tls) => Listener::Tls(listener, tls.clone()),
                None => Listener::Tcp(listener),
            })
        }
    }
}

/// The sockets of the LISTEN_FDS protocol when there are any, else fresh ones at the hosts. A stale socket is replaced;
/// one that somebody listens on is an error.
///
/// To be called once and before any thread is started: it reads what the environment says of open descriptors.
pub(crate) fn listen(hosts: &[String]) -> Result<Vec<Bound>, ListenError> {
    let inherited = inherited();
    if !inherited.is_empty() {
        return Ok(inherited);
    }
    if hosts.is_empty() {
        return Err(ListenError::None);
    }
    hosts.iter().map(|host| bind(host)).collect()
}

fn inherited() -> Vec<Bound> {
    let number = |name: &str| env::var(name).ok()?.parse::<u32>().ok();
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Vec::new();
    }
    let count = number("LISTEN_FDS").and_then(|count| RawFd::try_from(count).ok()).unwrap_or(0);
    let take = |raw| {
        // SAFETY: who set LISTEN_PID to our own pid has put descriptors there for us, and nobody else here takes them.
        let descriptor = unsafe { OwnedFd::from_raw_fd(raw) };
        fcntl(descriptor.as_fd(), FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).ok()?;
        Some(Bound(descriptor))
    };
    (FIRST..FIRST.saturating_add(count)).filter_map(take).collect()
}

fn bind(host: &str) -> Result<Bound, ListenError> {
    let path = match host.strip_prefix("unix://").map(Path::new) {
        Some(path) if path.is_absolute() => path,
        _ => return Err(ListenError::NotUnix { host: host.to_owned() }),
    };
    if UnixStream::connect(path).is_ok() {
        return Err(ListenError::Served { path: path.to_owned() });
    }
    let failed = |source| ListenError::Io { what: path.display().to_string(), source };
    match fs::symlink_metadata(path) {
        // The leftover of a process that was killed.
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path).map_err(failed)?,
        Ok(_) => return Err(failed(io::ErrorKind::AlreadyExists.into())),
        Err(_) => {}
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(MODE)).map_err(failed)?;
    Ok(Bound(listener.into()))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_stale_socket_is_replaced_and_a_served_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let host = format!("unix://{}/sub/e.sock", dir.path().display());
        let hosts = [host.clone()];
        let first = listen(&hosts).unwrap();
        assert_eq!(fs::metadata(dir.path().join("sub/e.sock")).unwrap().permissions().mode() & 0o777, MODE);
        assert!(matches!(listen(&hosts), Err(ListenError::Served { .. })));
        drop(first);
        // A child that another test starts has the socket, too, until it is another program.
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Err(error) = listen(&hosts) {
            assert!(matches!(error, ListenError::Served { .. }) && Instant::now() < deadline, "{error}");
            std::thread::sleep(Duration::from_millis(1));
        }
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(listen(&[format!("unix://{}/file", dir.path().display())]).is_err());
        assert!(matches!(listen(&["tcp://0.0.0.0:1".into()]), Err(ListenError::NotUnix { .. })));
        assert!(matches!(listen(&[]), Err(ListenError::None)));
    }
}
