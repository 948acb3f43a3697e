//! Listening sockets, opened by the supervisor and kept by it: while a daemon is away, clients wait in the socket's
//! queue instead of being refused.

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

use crate::paths::PathError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error(
        "cannot listen on {host:?}: give unix:// and an absolute path, as in unix:///run/causeway/docker.sock"
    )]
    NotUnix { host: String },
    #[error("another process already serves {}; end it, or give another socket with -H", path.display())]
    Served { path: PathBuf },
    #[error(transparent)]
    Path(#[from] PathError),
}

/// The socket of a `-H` argument; the Docker CLI's notation.
pub(crate) fn host(host: &str) -> Result<OwnedFd, ListenError> {
    match host.strip_prefix("unix://").map(Path::new) {
        Some(path) if path.is_absolute() => unix(path, 0o660),
        _ => Err(ListenError::NotUnix { host: host.to_owned() }),
    }
}

/// Lets a group use the socket of a `-H` argument. One that does not exist is passed over, as Docker does.
pub(crate) fn give_to_group(host: &str, group: &str) -> Result<(), PathError> {
    let path = Path::new(host.strip_prefix("unix://").unwrap_or(host));
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

pub(crate) fn unix(path: &Path, mode: u32) -> Result<OwnedFd, ListenError> {
    if UnixStream::connect(path).is_ok() {
        return Err(ListenError::Served { path: path.to_owned() });
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
