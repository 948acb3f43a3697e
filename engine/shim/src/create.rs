//! Creating the container by libcontainer, in a helper.

use std::{error::Error, os::fd::OwnedFd, path::Path};

use engine_protocol::FailureCause;
use libcontainer::{container::builder::ContainerBuilder, syscall::syscall::SyscallType};

use crate::{
    helper::{Report, Reporter},
    program::ProgramExecutor,
    stdio::ProcessEnds,
};

/// Creates the container of the bundle in the current directory. `ends` is none for a terminal, whose master goes
/// to the socket at `console`.
pub(crate) fn create(id: &str, root: &str, ends: Option<ProcessEnds>, console: &str, reporter: Reporter) {
    match build(id, root, ends, console, reporter) {
        Ok(pid) => reporter.send(&Report::Pid(pid)),
        Err(error) => {
            // Where the program was the cause, the executor has reported that before; the first report counts.
            reporter.fail(FailureCause::Runtime, chain(error.as_ref()));
        }
    }
}

fn build(
    id: &str,
    root: &str,
    ends: Option<ProcessEnds>,
    console: &str,
    reporter: Reporter,
) -> Result<i32, Box<dyn Error>> {
    let bundle = std::env::current_dir()?;
    let mut builder = ContainerBuilder::new(id.to_owned(), SyscallType::Linux)
        .with_root_path(bundle.join(root))?
        .with_executor(ProgramExecutor(reporter));
    match ends {
        Some(ends) => {
            let [stdin, stdout, stderr]: [OwnedFd; 3] = [ends.stdin, ends.stdout, ends.stderr];
            builder = builder.with_stdin(stdin).with_stdout(stdout).with_stderr(stderr);
        }
        None => builder = builder.with_console_socket(Some(bundle.join(console))),
    }
    let container = builder.as_init(&bundle).with_systemd(false).with_detach(true).build()?;
    container.pid().map(|pid| pid.as_raw()).ok_or_else(|| "the container has no process".into())
}

/// Lets the container's process go on, which waits at a socket that libcontainer made.
pub(crate) fn let_go(id: &str, root: &str) -> std::io::Result<()> {
    use std::io::Write;
    // Relative to the bundle, since the absolute path may be longer than an address can be.
    let path = Path::new(root).join(id).join("notify.sock");
    std::os::unix::net::UnixStream::connect(path)?.write_all(b"start container")
}

/// An error with all its causes, each once.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
