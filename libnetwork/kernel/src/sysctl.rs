//! Settings below /proc/sys/net. They are those of the namespace of the thread that reads or writes.

use std::{
    fs, io,
    os::fd::AsFd,
    path::{Component, Path, PathBuf},
};

use libnetwork_plan::{Cause, Name, Ns};

use crate::{
    spaces::Spaces,
    thread::{cause, inside, open},
};

const ALL_IPV6_FORWARDING: &str = "net/ipv6/conf/all/forwarding";

/// Runs `work` where the settings are those of `ns`.
pub(crate) fn at<T: Send>(spaces: &Spaces, ns: &Ns, work: impl FnOnce() -> T + Send) -> Result<T, Cause> {
    match ns {
        // The thread that talks to the kernel never leaves the host.
        Ns::Host => Ok(work()),
        Ns::Sandbox(id) => inside(open(&spaces.path(id))?.as_fd(), work),
    }
}

/// None when there is no such setting.
pub(crate) fn read(name: &str) -> Result<Option<Name>, Cause> {
    match fs::read_to_string(path(name)?) {
        Ok(value) => Ok(Some(value.trim_end().into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cause(error)),
    }
}

pub(crate) fn write(name: &str, value: &str) -> Result<(), Cause> {
    if name == ALL_IPV6_FORWARDING && value == "1" {
        keep_autoconfiguration()?;
    }
    fs::write(path(name)?, value).map_err(cause)
}

/// A host that forwards stops believing its own router (accept_ra 1) and loses its default route some minutes later,
/// unless told to believe all the same (2). See Documentation/networking/ip-sysctl.rst.
fn keep_autoconfiguration() -> Result<(), Cause> {
    for entry in fs::read_dir("/proc/sys/net/ipv6/conf").map_err(cause)? {
        let setting = entry.map_err(cause)?.path().join("accept_ra");
        let is_one = |path: &PathBuf| fs::read_to_string(path).is_ok_and(|value| value.trim_end() == "1");
        let shared =
            |path: &PathBuf| path.parent().is_some_and(|p| p.ends_with("all") || p.ends_with("default"));
        if !shared(&setting) && is_one(&setting) {
            // A link may go while we look.
            let _gone = fs::write(&setting, "2");
        }
    }
    Ok(())
}

/// Names never lead out of /proc/sys/net.
fn path(name: &str) -> Result<PathBuf, Cause> {
    let name = Path::new(name);
    let plain = name.starts_with("net") && name.components().all(|c| matches!(c, Component::Normal(_)));
    if plain { Ok(Path::new("/proc/sys").join(name)) } else { Err(Cause::Errno(libc::EINVAL)) }
}
