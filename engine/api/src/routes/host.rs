//! What this machine is, as the kernel's files tell it. A file that is missing gives an empty answer: none of this is
//! worth failing `docker info` for.

use std::{fs, path::Path, thread};

/// `6.18.44`
pub(super) fn kernel() -> String {
    line("/proc/sys/kernel/osrelease")
}

pub(super) fn hostname() -> String {
    line("/proc/sys/kernel/hostname")
}

/// The first line of a file.
pub(super) fn line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().lines().next().unwrap_or_default().to_owned()
}

/// The architecture in Go's words, as images name it.
pub(super) fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// A field of os-release(5).
pub(super) fn os_release(field: &str) -> String {
    let text = fs::read_to_string("/etc/os-release").or_else(|_| fs::read_to_string("/usr/lib/os-release"));
    field_of(&text.unwrap_or_default(), field)
}

fn field_of(text: &str, field: &str) -> String {
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix('='));
    value.unwrap_or_default().trim().trim_matches(['"', '\'']).to_owned()
}

/// CPUs that this process may run on.
pub(super) fn cpus() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Bytes of memory.
pub(super) fn memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    kib.and_then(|n| n.trim().parse::<u64>().ok()).unwrap_or(0) << 10
}

/// The filesystem that holds a directory, in Docker's words (`extfs` for ext2 to ext4).
pub(super) fn filesystem(path: &Path) -> String {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    match mounted_on(&mounts, &path) {
        Some("ext2" | "ext3" | "ext4") => "extfs".to_owned(),
        Some(kind) => kind.to_owned(),
        None => "<unknown>".to_owned(),
    }
}

/// The type of the deepest mount above `path`, the last one where several are stacked (proc_pid_mountinfo(5)).
fn mounted_on<'a>(mountinfo: &'a str, path: &Path) -> Option<&'a str> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (place, kind) = line.split_once(" - ")?;
            let point = Path::new(place.split(' ').nth(4)?);
            path.starts_with(point).then(|| (point.components().count(), kind.split(' ').next()))
        })
        .max_by_key(|(depth, _)| *depth)?
        .1
}

/// Whether a sysctl is not 0.
pub(super) fn sysctl(path: &str) -> bool {
    !matches!(line(path).as_str(), "" | "0")
}

/// How the kernel's cgroups are set up, and which limits can be had.
#[derive(Debug)]
pub(super) struct Cgroups {
    /// Controllers are on v2 hierarchies alone.
    pub(super) unified: bool,
}

impl Cgroups {
    pub(super) fn detect() -> Self {
        Self { unified: Path::new("/sys/fs/cgroup/cgroup.controllers").exists() }
    }

    /// Docker's `CgroupVersion`.
    pub(super) fn version(&self) -> &'static str {
        if self.unified { "2" } else { "1" }
    }

    /// Whether a controller is there; `v1_file` is the file that v1 has when the limit is supported.
    pub(super) fn has(&self, controller: &str, v1_file: &str) -> bool {
        if self.unified {
            return line("/sys/fs/cgroup/cgroup.controllers").split(' ').any(|name| name == controller);
        }
        Path::new("/sys/fs/cgroup").join(controller).join(v1_file).exists()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_mount_counts_and_of_those_the_last() {
        let text = "1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 0:5 / /var/lib rw shared:1 - tmpfs tmpfs rw\n\
                    3 1 0:6 / /var/lib rw - xfs /dev/sdb rw\n4 1 0:7 / /var/library rw - proc proc rw\n";
        assert_eq!(mounted_on(text, Path::new("/var/lib/x")), Some("xfs"));
        assert_eq!(mounted_on(text, Path::new("/home")), Some("ext4"));
    }

    #[test]
    fn fields_lose_their_quotes() {
        let text = "NAME=\"Debian GNU/Linux\"\nVERSION_ID='12'\nID=debian\n";
        assert_eq!(field_of(text, "NAME"), "Debian GNU/Linux");
        assert_eq!(field_of(text, "VERSION_ID"), "12");
        assert_eq!(field_of(text, "VERSION"), "");
    }

    #[test]
    fn this_machine_has_figures() {
        assert!(memory() > 0 && cpus() > 0 && !kernel().is_empty());
    }
}
