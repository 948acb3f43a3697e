//! Driving an OCI runtime's binary (runc, crun, runsc) by the command line that they share, in a helper.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use engine_protocol::{Failure, FailureCause, layout};
use serde::Deserialize;

use crate::{
    helper::{Report, Reporter},
    stdio::ProcessEnds,
};

/// The file that the runtime logs to, in the bundle.
const LOG: &str = "runtime.log";

/// `create` for the bundle in the current directory.
pub(crate) fn create(binary: &Path, id: &str, ends: Option<ProcessEnds>, console: &str, reporter: Reporter) {
    let mut command = command(binary);
    command.args(["create", "--bundle", ".", "--pid-file", "init.pid"]);
    if ends.is_none() {
        command.args(["--console-socket", console]);
    }
    command.arg(id);
    with_streams(&mut command, ends);
    run_for_pid(command, "init.pid", "", reporter);
}

/// `start`.
pub(crate) fn start(binary: &Path, id: &str, reporter: Reporter) {
    let mut command = command(binary);
    command.args(["start", id]);
    match run(command) {
        Ok(()) => reporter.send(&Report::Done),
        Err(failure) => reporter.send(&Report::Failed(failure)),
    }
}

/// `exec`: `key` tells the files of this exec from those of another.
pub(crate) fn exec(
    binary: &Path,
    id: &str,
    key: u32,
    process: &str,
    ends: Option<ProcessEnds>,
    console: &str,
    reporter: Reporter,
) {
    let (spec, pid_file) = (format!("exec-{key}.json"), format!("exec-{key}.pid"));
    if let Err(error) = fs::write(&spec, process) {
        return reporter.fail(FailureCause::Runtime, format!("write {spec}: {error}"));
    }
    let mut command = command(binary);
    command.args(["exec", "--detach", "--process", &spec, "--pid-file", &pid_file]);
    if ends.is_none() {
        command.args(["--console-socket", console]);
    }
    command.arg(id);
    with_streams(&mut command, ends);
    run_for_pid(command, &pid_file, "exec failed: ", reporter);
    let _ = fs::remove_file(&spec);
    let _ = fs::remove_file(&pid_file);
}

/// `delete`, by force.
pub(crate) fn delete(binary: &Path, id: &str, reporter: Reporter) {
    let mut command = command(binary);
    command.args(["delete", "--force", id]);
    match run(command) {
        Ok(()) => reporter.send(&Report::Done),
        Err(failure) => reporter.send(&Report::Failed(failure)),
    }
}

fn command(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    command.args(["--root", layout::RUNTIME_ROOT, "--log", LOG, "--log-format", "json"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Runtimes look for helpers of their own.
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

fn with_streams(command: &mut Command, ends: Option<ProcessEnds>) {
    if let Some(ends) = ends {
        command.stdin(ends.stdin).stdout(ends.stdout).stderr(ends.stderr);
    }
}

fn run_for_pid(command: Command, pid_file: &str, prefix: &str, reporter: Reporter) {
    if let Err(failure) = run(command) {
        let message = format!("{prefix}{}", failure.message);
        return reporter.send(&Report::Failed(Failure { message, ..failure }));
    }
    let pid = fs::read_to_string(pid_file).ok().and_then(|text| text.trim().parse().ok());
    match pid {
        Some(pid) => reporter.send(&Report::Pid(pid)),
        None => {
            reporter.fail(FailureCause::Runtime, format!("the runtime wrote no process id to {pid_file}"))
        }
    }
}

fn run(mut command: Command) -> Result<(), Failure> {
    let _ = fs::remove_file(LOG);
    let runtime = |message: String| Failure { cause: FailureCause::Runtime, message };
    let status = command
        .status()
        .map_err(|error| runtime(format!("execute {}: {error}", command.get_program().to_string_lossy())))?;
    if status.success() {
        return Ok(());
    }
    let message =
        last_error().unwrap_or_else(|| format!("{}: {status}", command.get_program().to_string_lossy()));
    Err(Failure { cause: cause(&message), message })
}

/// The last error in the runtime's log.
fn last_error() -> Option<String> {
    #[derive(Deserialize)]
    struct Line {
        level: String,
        msg: String,
    }
    let text = fs::read_to_string(LOG).ok()?;
    let lines = text.lines().rev().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    lines.into_iter().find(|line| line.level == "error").map(|line| line.msg)
}

/// A foreign runtime says why in words only, in those of Go's `exec.LookPath` that all of them keep to.
fn cause(message: &str) -> FailureCause {
    if message.contains("executable file not found")
        || message.contains("stat ") && message.contains("no such file")
    {
        FailureCause::ProgramNotFound
    } else if message.contains("exec: ")
        && (message.contains("permission denied") || message.contains("is a directory"))
    {
        FailureCause::ProgramNotExecutable
    } else {
        FailureCause::Runtime
    }
}
