//! Making a shim: its directory, and the process.

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::DirBuilderExt},
    },
    path::{Path, PathBuf},
    process::Stdio,
};

use engine_protocol::{OciRuntime, ShimConfig, layout};
use nix::{errno::Errno, libc};

use crate::{ContainerSpec, IoConfig, RuntimeError, purge, spec};

/// The shim's program, as it is executed.
///
/// A container whose program is a script with `#!/proc/self/exe` makes the kernel execute the shim's file inside the
/// container, and from there could write to it, on the host (CVE-2019-5736). So the shim runs from a read-only
/// mount of the file that is in no mount namespace.
#[derive(Debug)]
pub(super) struct Program {
    path: PathBuf,
    mount: Option<OwnedFd>,
}

impl Program {
    pub(super) fn open(path: &Path) -> Result<Self, RuntimeError> {
        if !path.is_file() {
            return Err(RuntimeError::io("find the shim's program", path)(io::ErrorKind::NotFound.into()));
        }
        let mount = match detached_readonly(path) {
            Ok(mount) => Some(mount),
            Err(error) => {
                tracing::warn!(%error, "the shim's program is not protected from being written by its container");
                None
            }
        };
        Ok(Self { path: path.to_owned(), mount })
    }

    /// Runs it for the directory; it returns when the shim listens.
    pub(super) async fn spawn(&self, id: &str, directory: &Path) -> Result<(), RuntimeError> {
        let program = match &self.mount {
            Some(mount) => PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd())),
            None => self.path.clone(),
        };
        let failed = |detail: String| RuntimeError::Shim { id: id.to_owned(), detail };
        let mut command = tokio::process::Command::new(program);
        // What is in the engine's environment is not the container's business.
        command.arg(directory).env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // What `ps` shows: the path by which it is executed tells a person nothing.
        command.arg0(&self.path);
        let output = command.output().await.map_err(|error| failed(error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(failed(if said.trim().is_empty() { output.status.to_string() } else { said.trim().to_owned() }))
    }
}

fn detached_readonly(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: the path is a C string; the call returns a descriptor that nobody else owns.
    let fd =
        Errno::result(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })?;
    // SAFETY: as above.
    let mount = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let attributes =
        libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the kernel reads an empty path and the attributes, which outlive the call.
    Errno::result(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &attributes,
            size_of::<libc::mount_attr>(),
        )
    })?;
    Ok(mount)
}

/// Writes the bundle and the shim's configuration into a directory that must not exist yet. Blocking.
pub(super) fn write_bundle(
    directory: &Path,
    id: &str,
    cgroup: &str,
    container: &ContainerSpec,
    stdio: &IoConfig,
    runtime: OciRuntime,
) -> Result<(), RuntimeError> {
    let translated = spec::translate(container, cgroup)?;
    let config = ShimConfig {
        id: id.to_owned(),
        cgroup: cgroup.to_owned(),
        runtime,
        stdin: stdio.stdin,
        terminal: container.tty.then_some(stdio.terminal_size),
        log: stdio.log.clone(),
        seccomp_cache: directory.parent().and_then(Path::parent).map(purge::seccomp_cache),
        uid: translated.uid,
        private_pids: translated.private_pids,
    };
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(RuntimeError::Exists(id.to_owned()));
        }
        made => made.map_err(RuntimeError::io("make directory", directory))?,
    }
    let write = || -> io::Result<()> {
        fs::write(directory.join(layout::SPEC), serde_json::to_vec(&translated.spec)?)?;
        fs::write(directory.join(layout::CONFIG), serde_json::to_vec(&config)?)
    };
    write().map_err(|error| {
        let _ = fs::remove_dir_all(directory);
        RuntimeError::io("write the bundle", directory)(error)
    })
}
