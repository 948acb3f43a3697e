//! Listening sockets, opened by the supervisor and kept by it: while a daemon is away, clients wait in the socket's
//! queue instead of being refused.

use std::{
    fs, io,
    net::{TcpListener, ToSocketAddrs},
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::paths::PathError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error(
        "cannot listen on {host:?}: give unix:// and an absolute path, as in unix:///run/causeway/docker.sock, or \
         tcp://ADDRESS:PORT"
    )]
    Host { host: String },
    #[error("cannot listen on tcp://{address}")]
    Tcp {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("another process already serves {}; end it, or give another socket with -H", path.display())]
    Served { path: PathBuf },
    #[error(transparent)]
    Path(#[from] PathError),
}

/// A `-H` argument in full, as Docker understands it: `unix://` alone is the usual socket, an address without a scheme
/// is TCP, and what is missing of it is localhost and `port`.
pub(crate) fn canonical(host: &str, port: u16) -> Result<String, ListenError> {
    let refuse = || ListenError::Host { host: host.to_owned() };
    if let Some(path) = host.strip_prefix("unix://") {
        let path = if path.is_empty() { "/var/run/docker.sock" } else { path };
        return if path.starts_with('/') { Ok(format!("unix://{path}")) } else { Err(refuse()) };
    }
    let address = host.strip_prefix("tcp://").unwrap_or(host);
    let bracketed = address.starts_with('[') && address.ends_with(']');
    let (name, given) = match address.rsplit_once(':') {
        Some((name, given)) if !bracketed => (name, given),
        _ => (address, ""),
    };
    let port = if given.is_empty() { port } else { given.parse().map_err(|_| refuse())? };
    let name = if name.is_empty() { "localhost" } else { name };
    let inside = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    match inside {
        Some(inside) => inside.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.bytes().all(is_name),
    }
    .then(|| format!("tcp://{name}:{port}"))
    .ok_or_else(refuse)
}

/// The socket of a `-H` argument that is in full.
pub(crate) fn host(host: &str) -> Result<OwnedFd, ListenError> {
    match host.strip_prefix("tcp://") {
        Some(address) => tcp(address),
        None => unix(Path::new(host.strip_prefix("unix://").unwrap_or(host)), 0o660),
    }
}

/// Whether who connects to it may come from another machine.
pub(crate) fn is_exposed(host: &str) -> bool {
    let Some(address) = host.strip_prefix("tcp://") else { return false };
    let mut all = address.to_socket_addrs().into_iter().flatten();
    !all.all(|address| address.ip().is_loopback())
}

fn tcp(address: &str) -> Result<OwnedFd, ListenError> {
    let failed = |source| ListenError::Tcp { address: address.to_owned(), source };
    // The standard library's has SO_REUSEADDR and close-on-exec.
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener.into())
}

/// Lets a group use the unix socket of a `-H` argument. One that does not exist is passed over, as Docker does.
pub(crate) fn give_to_group(host: &str, group: &str) -> Result<(), PathError> {
    let Some(path) = host.strip_prefix("unix://").map(Path::new) else { return Ok(()) };
    let found = match group.parse() {
        Ok(number) => Some(number),
        Err(_) => nix::unistd::Group::from_name(group).ok().flatten().map(|group| group.gid.as_raw()),
    };
    match found {
        Some(gid) => std::os::unix::fs::chown(path, None, Some(gid))
            .map_err(PathError::at("give to its group the socket", path)),
        None => Ok(()),
    }
}

/// Writes down which sockets of `-H` arguments are ours, for whoever removes them.
pub(crate) fn remember(run_dir: &Path, hosts: &[String]) -> Result<(), PathError> {
    let list = list(run_dir);
    let lines: String =
        hosts.iter().filter_map(|h| h.strip_prefix("unix://")).map(|p| format!("{p}\n")).collect();
    fs::write(&list, lines).map_err(PathError::at("write", &list))
}

/// Removes the sockets that were remembered, unless somebody serves them by now.
pub(crate) fn remove_remembered(run_dir: &Path) -> Result<(), PathError> {
    let Ok(lines) = fs::read_to_string(list(run_dir)) else { return Ok(()) };
    for path in lines.lines().map(Path::new) {
        let socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
        if socket && UnixStream::connect(path).is_err() {
            fs::remove_file(path).map_err(PathError::at("remove the socket", path))?;
        }
    }
    Ok(())
}

fn list(run_dir: &Path) -> PathBuf {
    run_dir.join("sockets")
}

/// How long a process that was killed may take to end.
const LAST_MOMENTS: Duration = Duration::from_secs(1);

pub(crate) fn unix(path: &Path, mode: u32) -> Result<OwnedFd, ListenError> {
    // One that was just killed goes on serving until the kernel has closed all that it had, BPF links before.
    let end = Instant::now() + LAST_MOMENTS;
    while UnixStream::connect(path).is_ok() {
        if Instant::now() > end {
            return Err(ListenError::Served { path: path.to_owned() });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    // Nobody listens: what is there is the leftover of a process that was killed.
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            fs::remove_file(path).map_err(PathError::at("replace the stale socket", path))?;
        }
        Ok(_) => return Err(PathError::at("listen on", path)(io::ErrorKind::AlreadyExists.into()).into()),
        Err(_) => {}
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(PathError::at("create the directory", parent))?;
    }
    let listener = UnixListener::bind(path).map_err(PathError::at("listen on", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(PathError::at("set the mode of", path))?;
    listener.set_nonblocking(true).map_err(PathError::at("listen on", path))?;
    Ok(listener.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_read_as_docker_reads_it() {
        for (given, full) in [
            ("unix:///run/x.sock", "unix:///run/x.sock"),
            ("unix://", "unix:///var/run/docker.sock"),
            ("tcp://", "tcp://localhost:2375"),
            ("tcp://:4000", "tcp://localhost:4000"),
            ("tcp://0.0.0.0", "tcp://0.0.0.0:2375"),
            ("tcp://[::1]:4000", "tcp://[::1]:4000"),
            ("tcp://[::]", "tcp://[::]:2375"),
            ("127.0.0.1:4000", "tcp://127.0.0.1:4000"),
            (":4000", "tcp://localhost:4000"),
        ] {
            assert_eq!(canonical(given, 2375).unwrap(), full, "{given}");
        }
        for wrong in
            ["unix://x", "tcp://x:y:z", "tcp://x:99999", "tcp://a b", "npipe://x", "tcp://[x]:1", "ssh://x"]
        {
            assert!(canonical(wrong, 2375).is_err(), "{wrong}");
        }
        assert!(
            is_exposed("tcp://0.0.0.0:1") && !is_exposed("tcp://127.0.0.1:1") && !is_exposed("unix:///x")
        );
    }
}
