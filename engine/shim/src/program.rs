//! Finding and executing the program that a container or an exec runs.

use std::{ffi::CString, fs, io, os::unix::fs::PermissionsExt, path::Path, rc::Rc};

use engine_protocol::{Failure, FailureCause};
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use nix::libc;
use oci_spec::runtime::{Process, Spec};

use crate::{
    confine::Confinement,
    helper::{Report, Reporter},
};

/// What the exit code of a container is whose program the kernel refused to execute, as runc has it.
const EXEC_REFUSED: i32 = 255;

/// Where a container's program is looked for when its environment has no PATH, as runc does.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// libcontainer's hook for what runs at last in the container. It reports by itself, since what libcontainer makes
/// of an error is a text.
#[derive(Clone)]
pub(crate) struct ProgramExecutor {
    pub(crate) reporter: Reporter,
    /// libcontainer is told to confine nothing, so that it is done here.
    pub(crate) confinement: Rc<Confinement>,
}

impl Executor for ProgramExecutor {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let process = spec.process().as_ref().ok_or_else(|| {
            ExecutorValidationError::ArgValidationError("the spec has no process".to_owned())
        })?;
        // Only so confined does it see what it may execute.
        let confined =
            self.confinement.apply().map_err(|message| Failure { cause: FailureCause::Runtime, message });
        confined.and_then(|()| find(process)).map(drop).map_err(|failure| {
            let message = failure.message.clone();
            self.reporter.send(&Report::Failed(failure));
            ExecutorValidationError::ArgValidationError(message)
        })
    }

    /// The environment is handed to the program in the order that the spec has it, so none is set here.
    fn setup_envs(&self, _: std::collections::HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        match spec.process() {
            Some(process) => execute(process),
            None => Err(ExecutorError::InvalidArg),
        }
    }
}

/// Replaces this process by the program. When the kernel refuses, says so where the user looks, and exits.
pub(crate) fn execute(process: &Process) -> ! {
    let code = match find(process) {
        Ok(path) => {
            let error = replace(process, &path);
            eprintln!("exec {path}: {}", text(&error));
            EXEC_REFUSED
        }
        Err(failure) => {
            eprintln!("{}", failure.message);
            EXEC_REFUSED
        }
    };
    // SAFETY: ends the process without running what belongs to the shim.
    unsafe { libc::_exit(code) }
}

fn replace(process: &Process, path: &str) -> io::Error {
    let strings = |list: &Option<Vec<String>>| -> Vec<CString> {
        // A NUL cannot be in what was parsed as an argument: the engine refuses it.
        list.iter().flatten().filter_map(|text| CString::new(text.as_str()).ok()).collect()
    };
    let Ok(path) = CString::new(path) else { return io::ErrorKind::InvalidInput.into() };
    let (arguments, environment) = (strings(process.args()), strings(process.env()));
    // Rust ignores SIGPIPE, and what is ignored stays so.
    // SAFETY: sets a disposition without a handler.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    match nix::unistd::execve(&path, &arguments, &environment) {
        Ok(never) => match never {},
        Err(error) => error.into(),
    }
}

/// Finds the program as the process's user sees it, by the rules and with the words of Go's `exec.LookPath`, which
/// the docker CLI reads.
pub(crate) fn find(process: &Process) -> Result<String, Failure> {
    let arguments = process.args().as_deref().unwrap_or_default();
    let Some(name) = arguments.first() else {
        return Err(failure(FailureCause::Invalid, "no command specified".to_owned()));
    };
    if name.contains('/') {
        return match executable(Path::new(name)) {
            Ok(()) => Ok(name.clone()),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Err(failure(
                FailureCause::ProgramNotFound,
                format!("exec: {name:?}: stat {name}: no such file or directory"),
            )),
            Err(error) => {
                Err(failure(FailureCause::ProgramNotExecutable, format!("exec: {name:?}: {}", text(&error))))
            }
        };
    }
    let environment = process.env().as_deref().unwrap_or_default();
    let path = environment.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let mut refused = None;
    for directory in path.split(':') {
        let candidate = Path::new(if directory.is_empty() { "." } else { directory }).join(name);
        match executable(&candidate) {
            Ok(()) => return Ok(candidate.to_string_lossy().into_owned()),
            Err(error) if error.raw_os_error() == Some(libc::EACCES) => refused = Some(error),
            Err(_) => {}
        }
    }
    Err(match refused {
        Some(error) if !name.is_empty() => {
            failure(FailureCause::ProgramNotExecutable, format!("exec: {name:?}: {}", text(&error)))
        }
        _ => failure(
            FailureCause::ProgramNotFound,
            format!("exec: {name:?}: executable file not found in $PATH"),
        ),
    })
}

fn executable(path: &Path) -> io::Result<()> {
    let found = fs::metadata(path)?;
    if found.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    if found.permissions().mode() & 0o111 == 0 {
        return Err(io::Error::from_raw_os_error(libc::EACCES));
    }
    // The mode alone does not say whether this user may, nor whether the mount lets anybody.
    match nix::unistd::access(path, nix::unistd::AccessFlags::X_OK) {
        Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn failure(cause: FailureCause, message: String) -> Failure {
    Failure {
        cause,
        message: format!("unable to start container process: error during container init: {message}"),
    }
}

/// The kernel's words, in lower case and without the number that Rust appends, as Go writes them.
fn text(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_lowercase(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::ProcessBuilder;

    use super::*;

    fn process(program: &str, path: &str) -> Process {
        ProcessBuilder::default()
            .args(vec![program.to_owned()])
            .env(vec![format!("PATH={path}")])
            .build()
            .unwrap()
    }

    #[test]
    fn a_missing_program_is_told_from_one_that_may_not_run() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap();
        fs::write(directory.path().join("plain"), "").unwrap();
        let found = find(&process("nothing", path)).unwrap_err();
        assert_eq!(found.cause, FailureCause::ProgramNotFound);
        assert!(
            found.message.ends_with("exec: \"nothing\": executable file not found in $PATH"),
            "{}",
            found.message
        );
        let found = find(&process("plain", path)).unwrap_err();
        assert_eq!(found.cause, FailureCause::ProgramNotExecutable);
        assert!(found.message.ends_with("exec: \"plain\": permission denied"), "{}", found.message);
        let found = find(&process("/no/such", path)).unwrap_err();
        assert!(found.message.ends_with("exec: \"/no/such\": stat /no/such: no such file or directory"));
        let found = find(&process(path, path)).unwrap_err();
        assert!(found.message.ends_with(": is a directory"), "{}", found.message);
        assert_eq!(find(&process("sh", "/nowhere:/bin")).unwrap(), "/bin/sh");
    }
}
