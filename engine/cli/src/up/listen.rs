//! Listening sockets, opened by the supervisor and kept by it: while a daemon is away, clients wait in the socket's
//! queue instead of being refused.

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{
            fs::PermissionsExt,
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

pub(crate) fn unix(path: &Path, mode: u32) -> Result<OwnedFd, ListenError> {
    if UnixStream::connect(path).is_ok() {
        return Err(ListenError::Served { path: path.to_owned() });
    }
    // Nobody listens: what is there is the leftover of a process that was killed.
    match fs::symlink_metadata(path) {
        Ok(found) if std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) => {
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
