//! The files that `up` and `down` share below the run directory, and the binaries beside this one.

use std::{
    env, fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// An operation on a path that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}", path.display())]
pub(crate) struct PathError {
    pub(crate) operation: &'static str,
    pub(crate) path: PathBuf,
    #[source]
    pub(crate) source: io::Error,
}

impl PathError {
    pub(crate) fn at(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PathError {
        let path = path.to_owned();
        move |source| PathError { operation, path, source }
    }
}

/// The supervisor's pid, held locked (flock) for as long as it lives.
pub(crate) fn pid_file(run_dir: &Path) -> PathBuf {
    run_dir.join("up.pid")
}

pub(crate) fn network_socket(run_dir: &Path) -> PathBuf {
    run_dir.join("causewayd.sock")
}

pub(crate) fn docker_socket(run_dir: &Path) -> PathBuf {
    run_dir.join("docker.sock")
}

/// Creates a directory that only root may enter, and returns its absolute path without symbolic links.
pub(crate) fn make_private(directory: &Path) -> Result<PathBuf, PathError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(directory)
        .map_err(PathError::at("create the directory", directory))?;
    directory.canonicalize().map_err(PathError::at("resolve the directory", directory))
}

/// A binary of ours: the one beside this executable.
pub(crate) fn sibling(name: &str) -> Result<PathBuf, PathError> {
    let own = env::current_exe().map_err(PathError::at("find the executable of", Path::new("causeway")))?;
    let path = own.with_file_name(name);
    path.metadata().map_err(PathError::at("find the program", &path))?;
    Ok(path)
}
