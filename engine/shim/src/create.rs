//! Creating the container by libcontainer, in a helper.

use std::{
    error::Error,
    fs::{self, File},
    io::BufReader,
    os::fd::OwnedFd,
    path::Path,
    rc::Rc,
};

use engine_protocol::{FailureCause, cgroup::Hierarchies, layout};
use libcontainer::{container::builder::ContainerBuilder, syscall::syscall::SyscallType};
use serde_json::{Value, json};

use crate::{
    confine::Confinement,
    devices,
    helper::{Report, Reporter},
    program::ProgramExecutor,
    stdio::ProcessEnds,
};

/// Where the bundle is that libcontainer gets, in the shim's directory.
const BUNDLE: &str = "bundle";

/// Creates the container of the bundle in the current directory. `ends` is none for a terminal, whose master goes
/// to the socket at `console`.
pub(crate) fn create(
    id: &str,
    root: &str,
    ends: Option<ProcessEnds>,
    console: &str,
    cache: Option<&Path>,
    reporter: Reporter,
) {
    match build(id, root, ends, console, cache, reporter) {
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
    cache: Option<&Path>,
    reporter: Reporter,
) -> Result<i32, Box<dyn Error>> {
    let confinement = Rc::new(prepare(cache)?);
    let here = std::env::current_dir()?;
    let mut builder = ContainerBuilder::new(id.to_owned(), SyscallType::Linux)
        .with_root_path(here.join(root))?
        .with_executor(ProgramExecutor { reporter, confinement });
    match ends {
        Some(ends) => {
            let [stdin, stdout, stderr]: [OwnedFd; 3] = [ends.stdin, ends.stdout, ends.stderr];
            builder = builder.with_stdin(stdin).with_stdout(stdout).with_stderr(stderr);
        }
        None => builder = builder.with_console_socket(Some(here.join(console))),
    }
    let container = builder.as_init(here.join(BUNDLE)).with_systemd(false).with_detach(true).build()?;
    container.pid().map(|pid| pid.as_raw()).ok_or_else(|| "the container has no process".into())
}

/// Writes the bundle for libcontainer, whose process keeps all capabilities and gets no seccomp filter, and returns
/// what it is to be confined by instead, at the last step that libcontainer leaves to us.
fn prepare(cache: Option<&Path>) -> Result<Confinement, Box<dyn Error>> {
    let mut spec: Value = serde_json::from_reader(BufReader::new(File::open(layout::SPEC)?))?;
    let profile = spec.pointer_mut("/linux/seccomp").map(Value::take).filter(|profile| !profile.is_null());
    let profile = profile.map(serde_json::from_value).transpose()?;
    let own = spec.pointer_mut("/process/capabilities").map(Value::take).filter(|sets| !sets.is_null());
    let all: Vec<String> = caps::read(None, caps::CapSet::Bounding)?
        .into_iter()
        .map(|capability| capability.to_string())
        .collect();
    spec["process"]["capabilities"] =
        json!({ "bounding": all, "effective": all, "permitted": all, "inheritable": [], "ambient": [] });
    if let Some(linux) = spec["linux"].as_object_mut() {
        linux.remove("seccomp");
    }
    restrict_devices(&spec)?;
    fs::create_dir_all(BUNDLE)?;
    fs::write(Path::new(BUNDLE).join("config.json"), serde_json::to_vec(&spec)?)?;
    let capabilities = own.map(serde_json::from_value).transpose()?;
    Ok(Confinement::prepare(profile.as_ref(), capabilities, cache)?)
}

/// Before anybody is in the group.
fn restrict_devices(spec: &Value) -> Result<(), Box<dyn Error>> {
    let hierarchies = Hierarchies::detect()?;
    let path = spec.pointer("/linux/cgroupsPath").and_then(Value::as_str);
    let rules = spec.pointer("/linux/resources/devices").cloned();
    if let (true, Some(path), Some(rules)) = (hierarchies.is_unified(), path, rules)
        && let Some(group) = hierarchies.group(path).unified()
    {
        let rules: Vec<devices::Rule> = serde_json::from_value(rules)?;
        devices::restrict(&group, &rules).map_err(|error| format!("restrict devices: {error}"))?;
    }
    Ok(())
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
