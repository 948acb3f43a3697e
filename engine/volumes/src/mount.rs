//! What the driver options `type`, `o` and `device` ask for: a mount on the volume's directory.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount as sys_mount, umount2};

use crate::error::{Error, Result};

/// Docker's words for the options of `local`.
const KNOWN: [&str; 4] = ["type", "o", "device", "size"];

/// Refuses options that no mount could be made of.
pub(crate) fn validate(name: &str, options: &BTreeMap<String, String>) -> Result<()> {
    let invalid = |reason: String| Error::InvalidOption { name: name.to_owned(), reason };
    if let Some(unknown) = options.keys().find(|key| !KNOWN.contains(&key.as_str())) {
        return Err(invalid(format!("invalid option: {unknown:?}")));
    }
    if options.contains_key("size") {
        return Err(invalid("quota size requested but no quota support".to_owned()));
    }
    for (key, wanted) in [("o", "device"), ("o", "type"), ("type", "device"), ("device", "type")] {
        // A bind has no type worth naming, and Docker's `type=none` is optional there.
        let bind = split(options.get("o").map_or("", String::as_str)).0.contains(MsFlags::MS_BIND);
        if options.contains_key(key) && !options.contains_key(wanted) && !(bind && wanted == "type") {
            return Err(invalid(format!("missing required option: {wanted:?}")));
        }
    }
    Ok(())
}

/// Mounts on `at`, unless something is mounted there.
pub(crate) fn mount(options: &BTreeMap<String, String>, at: &Path) -> Result<()> {
    if is_mounted(at)? {
        return Ok(());
    }
    let option = |key: &str| options.get(key).map_or("", String::as_str);
    let (device, kind) = (option("device"), option("type"));
    let (flags, mut data) = split(option("o"));
    let refused = |data: &str, source: io::Error| Error::Mount {
        mountpoint: at.display().to_string(),
        device: device.to_owned(),
        flags: format!("{:#x}", flags.bits()),
        data: data.to_owned(),
        source,
    };
    if matches!(kind, "nfs" | "nfs4" | "cifs") {
        // The kernel wants an address; mount.nfs(8) is what looks names up otherwise.
        data = resolved(&data).map_err(|error| refused(&data, error))?;
    }
    let none = |text| if str::is_empty(text) { None } else { Some(text) };
    let result = sys_mount(none(device), at, none(kind), flags, none(data.as_str()));
    result.map_err(|errno| refused(&data, errno.into()))?;
    // Flags of a bind are ignored until it is mounted again.
    let extra = flags.difference(MsFlags::MS_BIND | MsFlags::MS_REC);
    if flags.contains(MsFlags::MS_BIND) && !extra.is_empty() {
        let again = extra | MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
        if let Err(errno) = sys_mount(None::<&str>, at, None::<&str>, again, None::<&str>) {
            unmount(at)?;
            return Err(refused(&data, errno.into()));
        }
    }
    Ok(())
}

/// Unmounts what is on `at`, lazily where it is busy. Nothing there: fine.
pub(crate) fn unmount(at: &Path) -> Result<()> {
    loop {
        match umount2(at, MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::EBUSY) => {
                let lazily = umount2(at, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
                lazily.map_err(|errno| Error::io("unmount", at)(errno.into()))?;
            }
            // Not a mount, or not there.
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(Error::io("unmount", at)(errno.into())),
        }
    }
}

/// By the kernel's table: a bind from the same filesystem does not show in device numbers.
fn is_mounted(at: &Path) -> Result<bool> {
    const TABLE: &str = "/proc/thread-self/mountinfo";
    let own = fs::metadata(at).map_err(Error::io("stat", at))?;
    let parent = fs::metadata(at.parent().unwrap_or(Path::new("/"))).map_err(Error::io("stat", at))?;
    if own.dev() != parent.dev() {
        return Ok(true);
    }
    let at = fs::canonicalize(at).map_err(Error::io("resolve", at))?;
    let table = fs::read_to_string(TABLE).map_err(Error::io("read", TABLE))?;
    Ok(table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .any(|point| Path::new(&unescaped(point)) == at))
}

/// mountinfo writes blanks and backslashes as three octal digits.
fn unescaped(text: &str) -> String {
    let mut out = text.to_owned();
    for (code, character) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        out = out.replace(code, character);
    }
    out
}

/// mount(8)'s options as flags, and what is left for the filesystem.
fn split(options: &str) -> (MsFlags, String) {
    let mut flags = MsFlags::empty();
    let mut data = Vec::new();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "bind" => flags |= MsFlags::MS_BIND,
            "rbind" => flags |= MsFlags::MS_BIND | MsFlags::MS_REC,
            "ro" => flags |= MsFlags::MS_RDONLY,
            "rw" => flags -= MsFlags::MS_RDONLY,
            "nosuid" => flags |= MsFlags::MS_NOSUID,
            "suid" => flags -= MsFlags::MS_NOSUID,
            "nodev" => flags |= MsFlags::MS_NODEV,
            "dev" => flags -= MsFlags::MS_NODEV,
            "noexec" => flags |= MsFlags::MS_NOEXEC,
            "exec" => flags -= MsFlags::MS_NOEXEC,
            "sync" => flags |= MsFlags::MS_SYNCHRONOUS,
            "async" => flags -= MsFlags::MS_SYNCHRONOUS,
            "dirsync" => flags |= MsFlags::MS_DIRSYNC,
            "noatime" => flags |= MsFlags::MS_NOATIME,
            "atime" => flags -= MsFlags::MS_NOATIME,
            "nodiratime" => flags |= MsFlags::MS_NODIRATIME,
            "relatime" => flags |= MsFlags::MS_RELATIME,
            "strictatime" => flags |= MsFlags::MS_STRICTATIME,
            "defaults" => {}
            other => data.push(other),
        }
    }
    (flags, data.join(","))
}

/// `addr=NAME` as `addr=ADDRESS`.
fn resolved(data: &str) -> io::Result<String> {
    let mut out = Vec::new();
    for option in data.split(',') {
        match option.strip_prefix("addr=") {
            Some(name) if name.parse::<IpAddr>().is_err() => {
                let address = (name, 0).to_socket_addrs()?.next();
                let address = address.ok_or_else(|| io::Error::other(format!("{name} has no address")))?;
                out.push(format!("addr={}", address.ip()));
            }
            _ => out.push(option.to_owned()),
        }
    }
    Ok(out.join(","))
}
