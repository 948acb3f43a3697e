//! The process of a container, and those executed in it later.

use std::collections::BTreeSet;

use engine_protocol::TerminalSize;
use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use super::{ContainerSpec, ExecSpec, Ulimit, capabilities, rootfs, user};
use crate::RuntimeError;

/// Docker's PATH where the image has none.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The OCI spec's `process` of a container, and the user id.
pub(super) fn container_process(
    container: &ContainerSpec,
    capabilities: &BTreeSet<String>,
) -> Result<(Value, u32), RuntimeError> {
    if container.args.is_empty() {
        return Err(RuntimeError::InvalidSpec("no command specified".to_owned()));
    }
    let passwd = rootfs::read(&container.rootfs, "/etc/passwd")?;
    let group = rootfs::read(&container.rootfs, "/etc/group")?;
    let user = user::resolve(&container.user, &passwd, &group, &container.groups)?;
    let cwd = if container.cwd.is_empty() { "/" } else { &container.cwd };
    if !cwd.starts_with('/') {
        return Err(RuntimeError::InvalidSpec(format!(
            "the working directory '{cwd}' is invalid, it needs to be an \
                                                     absolute path"
        )));
    }
    rootfs::make_directory(&container.rootfs, cwd)?;
    let mut args = container.args.clone();
    if container.init.is_some() {
        args.splice(0..0, [super::INIT_PATH.to_owned(), "--".to_owned()]);
    }
    let mut env = vec![PATH.to_owned()];
    if !container.hostname.is_empty() {
        env.push(format!("HOSTNAME={}", container.hostname));
    }
    if container.tty {
        env.push("TERM=xterm".to_owned());
    }
    merge(&mut env, &container.env);
    add_home(&mut env, &user.home);
    let mut process = json!({
        "terminal": container.tty,
        "args": args,
        "env": env,
        "cwd": cwd,
        "user": { "uid": user.uid, "gid": user.gid, "additionalGids": user.groups, "umask": 0o022 },
        "capabilities": capability_sets(user.uid, capabilities),
        "oomScoreAdj": container.oom_score_adj.unwrap_or(0),
        "rlimits": limits(&container.ulimits)?,
    });
    // Absent rather than false: libcontainer loads the seccomp filter late, when it lacks the capability for that,
    // where the field is there at all.
    if container.no_new_privileges {
        process["noNewPrivileges"] = true.into();
    }
    if let Some(profile) = &container.apparmor
        && !container.privileged
        && std::path::Path::new("/sys/kernel/security/apparmor").exists()
    {
        process["apparmorProfile"] = profile.as_str().into();
    }
    Ok((process, user.uid))
}

/// The `process` of an exec in the container of `spec`, as JSON, and the user id. `terminal` is its first size.
pub(crate) fn exec_process(
    spec: &Spec,
    exec: &ExecSpec,
    terminal: Option<TerminalSize>,
) -> Result<(String, u32), RuntimeError> {
    let broken = || RuntimeError::InvalidSpec("the container's spec has no process".to_owned());
    let own = spec.process().as_ref().ok_or_else(broken)?;
    let rootfs_path = spec.root().as_ref().ok_or_else(broken)?.path().clone();
    if exec.args.is_empty() {
        return Err(RuntimeError::InvalidSpec("No exec command specified".to_owned()));
    }
    let mut process =
        serde_json::to_value(own).map_err(|error| RuntimeError::InvalidSpec(error.to_string()))?;
    let uid = if exec.user.is_empty() {
        own.user().uid()
    } else {
        let passwd = rootfs::read(&rootfs_path, "/etc/passwd")?;
        let group = rootfs::read(&rootfs_path, "/etc/group")?;
        let user = user::resolve(&exec.user, &passwd, &group, &[])?;
        process["user"] =
            json!({ "uid": user.uid, "gid": user.gid, "additionalGids": user.groups, "umask": 0o022 });
        user.uid
    };
    let mut env = exec.env.clone();
    if !env.iter().any(|entry| entry.starts_with("PATH=")) {
        env.insert(0, PATH.to_owned());
    }
    if exec.tty && !env.iter().any(|entry| entry.starts_with("TERM=")) {
        env.push("TERM=xterm".to_owned());
    }
    if !env.iter().any(|entry| entry.starts_with("HOME=") && entry.len() > 5) {
        let passwd = rootfs::read(&rootfs_path, "/etc/passwd")?;
        let home = user::resolve(&uid.to_string(), &passwd, "", &[])?.home;
        add_home(&mut env, &home);
    }
    process["args"] = json!(exec.args);
    process["env"] = json!(env);
    process["terminal"] = exec.tty.into();
    match (process.as_object_mut(), terminal) {
        (Some(_), Some(size)) => {
            process["consoleSize"] = json!({ "height": size.rows, "width": size.columns })
        }
        (Some(object), None) => drop(object.remove("consoleSize")),
        (None, _) => {}
    }
    if !exec.cwd.is_empty() {
        process["cwd"] = exec.cwd.as_str().into();
    }
    let given: BTreeSet<String> = if exec.privileged {
        capabilities::all()
    } else {
        let bounding = own.capabilities().as_ref().and_then(|sets| sets.bounding().as_ref());
        let held: Vec<String> = bounding.into_iter().flatten().map(|cap| format!("CAP_{cap}")).collect();
        held.into_iter().map(|name| name.replace("CAP_CAP_", "CAP_")).collect()
    };
    process["capabilities"] = capability_sets(uid, &given);
    Ok((process.to_string(), uid))
}

/// Who is not root gets what execve would leave anyway: nothing but the bounds.
fn capability_sets(uid: u32, capabilities: &BTreeSet<String>) -> Value {
    let held: Vec<&String> = if uid == 0 { capabilities.iter().collect() } else { Vec::new() };
    json!({
        "bounding": capabilities, "effective": held, "permitted": held, "inheritable": [], "ambient": [],
    })
}

/// Puts `more` behind `env`; an entry replaces one of the same name in its place. An entry without `=` removes.
fn merge(env: &mut Vec<String>, more: &[String]) {
    for entry in more {
        let name = entry.split('=').next().unwrap_or_default();
        let found = env.iter().position(|have| have.split('=').next() == Some(name));
        match (found, entry.contains('=')) {
            (Some(index), true) => env[index] = entry.clone(),
            (Some(index), false) => drop(env.remove(index)),
            (None, true) => env.push(entry.clone()),
            (None, false) => {}
        }
    }
}

/// Where there is no home, or an empty one, as the OCI runtime of Docker does.
fn add_home(env: &mut Vec<String>, home: &str) {
    if !env.iter().any(|entry| entry.starts_with("HOME=") && entry.len() > 5) {
        env.retain(|entry| entry != "HOME=");
        env.push(format!("HOME={home}"));
    }
}

/// The names of limits: the kernel's (getrlimit(2)).
pub const ULIMITS: &[&str] = &[
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

fn limits(ulimits: &[Ulimit]) -> Result<Vec<Value>, RuntimeError> {
    let amount = |value: i64| if value < 0 { u64::MAX } else { value as u64 };
    let limits = ulimits.iter().map(|limit| {
        if !ULIMITS.contains(&limit.name.as_str()) {
            return Err(RuntimeError::InvalidSpec(format!("invalid ulimit type: {}", limit.name)));
        }
        let kind = format!("RLIMIT_{}", limit.name.to_ascii_uppercase());
        Ok(json!({ "type": kind, "soft": amount(limit.soft), "hard": amount(limit.hard) }))
    });
    limits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_replaces_another_in_its_place_or_removes_it() {
        let mut env = vec!["A=1".to_owned(), "B=2".to_owned()];
        merge(&mut env, &["A=3".to_owned(), "C=".to_owned(), "B".to_owned(), "D".to_owned()]);
        assert_eq!(env, ["A=3", "C="]);
        add_home(&mut env, "/root");
        assert_eq!(env, ["A=3", "C=", "HOME=/root"]);
    }
}
