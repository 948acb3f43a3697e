//! From Docker's words to the runtime's: a container's record, its mounts and its sandbox as one specification.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use engine_runtime::{
    CgroupMode, ContainerSpec, DeviceSpec, IoConfig, LogFile, MountKind, MountSpec, NamespaceMode,
    NetworkNamespace, Propagation, Resources, Runtime, SeccompProfile, Stdin, TerminalSize, Ulimit,
};

use crate::{
    Error, Result,
    config::{self, HostConfig, Mount},
    files, log_options,
    record::{Config, MountRecord},
    service::Inner,
};

/// What `HostConfig.Runtime` is called when nobody chose: libcontainer, inside the shim.
pub const DEFAULT_RUNTIME: &str = "libcontainer";

/// Of Docker's driver `local`, which bounds its logs by itself: bytes of a file, and how many there are.
const LOCAL_SIZE: u64 = 20 << 20;
const LOCAL_FILES: u32 = 5;

/// Whether `--runtime` may name it.
pub(crate) fn knows_runtime(runtime: &Runtime, name: &str) -> bool {
    name == DEFAULT_RUNTIME || runtime.knows(name)
}

/// The container's log file, wherever its driver keeps one.
pub(crate) fn log_path(dir: &Path, id: &str) -> PathBuf {
    dir.join(format!("{id}-json.log"))
}

/// What becomes of the container's stdio.
pub(crate) fn io_config(dir: &Path, config: &Config) -> IoConfig {
    let options = |name: &str| config.host.log_config.config.as_ref().and_then(|options| options.get(name));
    let stdin = match (config.config.open_stdin, config.config.stdin_once) {
        (false, _) => Stdin::Closed,
        (true, true) => Stdin::Once,
        (true, false) => Stdin::Open,
    };
    let terminal_size = match config.host.console_size {
        [0, _] | [_, 0] => IoConfig::default().terminal_size,
        [rows, columns] => TerminalSize { rows, columns },
    };
    let (size, files) = match config.host.log_config.r#type.as_str() {
        driver if driver == "local" || log_options::sends_away(driver) => (Some(LOCAL_SIZE), LOCAL_FILES),
        _ => (None, 1),
    };
    let log = (config.host.log_config.r#type != "none").then(|| LogFile {
        path: log_path(dir, &config.id),
        max_size: options("max-size").and_then(|text| log_options::size(text)).or(size),
        max_files: options("max-file").and_then(|text| text.parse().ok()).unwrap_or(files),
    });
    IoConfig { stdin, terminal_size, log }
}

impl Inner {
    /// The whole specification. `mounts` are the container's own, resolved to the host's directories.
    pub(crate) async fn spec(
        self: &Arc<Self>,
        config: &Config,
        dir: &Path,
        rootfs: PathBuf,
        mounts: Vec<MountSpec>,
        network: NetworkNamespace,
    ) -> Result<ContainerSpec> {
        let (own, host) = (&config.config, &config.host);
        let mut all = self.etc_mounts(config, dir, &mounts)?;
        for (path, options) in host.tmpfs.iter().flatten() {
            all.push(tmpfs(path, options));
        }
        all.extend(mounts);
        // What is mounted below another mount has to come after it.
        all.sort_by_key(|mount| mount.destination.matches('/').count());
        let security = security(
            host.security_opt.as_deref().unwrap_or_default(),
            Security {
                seccomp: self.settings().defaults.seccomp.clone(),
                no_new_privileges: config.no_new_privileges,
                apparmor: None,
            },
        )?;
        if host.resources.device_requests.as_ref().is_some_and(|requests| !requests.is_empty()) {
            return Err(Error::Unimplemented(
                "could not select device driver \"\": device requests (--gpus) are not supported".into(),
            ));
        }
        let words = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
        Ok(ContainerSpec {
            args: own.entrypoint.iter().chain(&own.cmd).flatten().cloned().collect(),
            env: self.environment(config),
            cwd: own.working_dir.clone(),
            user: own.user.clone(),
            groups: words(&host.group_add),
            hostname: own.hostname.clone(),
            domainname: own.domainname.clone(),
            rootfs,
            readonly_rootfs: host.readonly_rootfs,
            mounts: all,
            network,
            pid: self.namespace(&host.pid_mode, "PID")?,
            ipc: self.namespace(&host.ipc_mode, "IPC")?,
            uts: self.namespace(&host.uts_mode, "UTS")?,
            cgroup_mode: match host.cgroupns_mode.as_str() {
                "private" => CgroupMode::Private,
                "host" => CgroupMode::Host,
                _ => CgroupMode::Default,
            },
            privileged: host.privileged,
            cap_add: words(&host.cap_add),
            cap_drop: words(&host.cap_drop),
            seccomp: security.seccomp,
            no_new_privileges: security.no_new_privileges,
            apparmor: security.apparmor,
            masked_paths: host.masked_paths.clone(),
            readonly_paths: host.readonly_paths.clone(),
            devices: devices(host),
            device_cgroup_rules: words(&host.resources.device_cgroup_rules),
            ulimits: self
                .settings()
                .defaults
                .with_ulimits(&host.resources.ulimits)
                .map(|u| Ulimit { name: u.name.clone(), soft: u.soft, hard: u.hard })
                .collect(),
            sysctls: host.sysctls.clone().unwrap_or_default(),
            resources: resources(&host.resources),
            shm_size: host.shm_size.max(0) as u64,
            oom_score_adj: (host.oom_score_adj != 0).then_some(host.oom_score_adj),
            init: self.init(host)?,
            tty: own.tty,
            annotations: host.annotations.clone().unwrap_or_default(),
            runtime: (host.runtime != DEFAULT_RUNTIME).then(|| host.runtime.clone()),
        })
    }

    /// The init of a container that has processes of its own to be the first of.
    fn init(&self, host: &HostConfig) -> Result<Option<PathBuf>> {
        let settings = self.settings();
        let defaults = &settings.defaults;
        let others = host.pid_mode == "host" || host.pid_mode.starts_with("container:");
        if others || !host.init.unwrap_or(defaults.init) {
            return Ok(None);
        }
        init_binary(defaults.init_path.as_deref()).map(Some)
    }

    /// The three files, unless a person mounts something in their place.
    fn etc_mounts(&self, config: &Config, dir: &Path, mounts: &[MountSpec]) -> Result<Vec<MountSpec>> {
        let dir = match config.host.network_mode.strip_prefix("container:") {
            // They belong to the namespace, thus to the container that owns it.
            Some(other) => self.find(other)?.dir.clone(),
            None => dir.to_owned(),
        };
        let wanted = [
            ("/etc/resolv.conf", files::RESOLV),
            ("/etc/hostname", files::HOSTNAME),
            ("/etc/hosts", files::HOSTS),
        ];
        let bind = |(destination, name): (&str, &str)| MountSpec {
            destination: destination.to_owned(),
            kind: MountKind::Bind {
                source: dir.join(name),
                propagation: Propagation::RPrivate,
                non_recursive: false,
            },
            readonly: config.host.readonly_rootfs,
            options: Vec::new(),
        };
        Ok(wanted
            .into_iter()
            .filter(|(path, _)| !mounts.iter().any(|m| m.destination == *path))
            .map(bind)
            .collect())
    }

    /// What its processes find in their environment, beside what every container's have.
    pub(crate) fn environment(&self, config: &Config) -> Vec<String> {
        // `NAME` alone takes a variable away, as in Docker.
        let env = config.config.env.iter().flatten();
        let own = env.filter(|entry| entry.contains('=')).cloned();
        self.link_environment(config).into_iter().chain(own).collect()
    }

    fn namespace(&self, mode: &str, what: &str) -> Result<NamespaceMode> {
        if mode == "host" {
            return Ok(NamespaceMode::Host);
        }
        let Some(other) = mode.strip_prefix("container:") else { return Ok(NamespaceMode::Private) };
        let other = self.find(other)?;
        other.read(|live| match live.state.has_process() {
            true => Ok(NamespaceMode::OfProcess(live.state.pid)),
            false => {
                Err(Error::Conflict(format!("cannot join {what} of a non running container: {}", other.id)))
            }
        })
    }
}

/// Where the runtime finds a mount's content. `source` is the volume's directory for a volume.
pub(crate) fn mount_spec(mount: &MountRecord, source: PathBuf) -> MountSpec {
    let options = mount.spec.as_ref();
    let kind = match mount.point.r#type.as_str() {
        "tmpfs" => MountKind::Tmpfs,
        _ => MountKind::Bind {
            source,
            propagation: match mount.point.propagation.as_str() {
                "private" => Propagation::Private,
                "shared" => Propagation::Shared,
                "rshared" => Propagation::RShared,
                "slave" => Propagation::Slave,
                "rslave" => Propagation::RSlave,
                _ => Propagation::RPrivate,
            },
            non_recursive: options.and_then(|o| o.bind_options.as_ref()).is_some_and(|o| o.non_recursive),
        },
    };
    MountSpec {
        destination: mount.point.destination.clone(),
        kind,
        readonly: !mount.point.rw,
        options: options.map(tmpfs_options).unwrap_or_default(),
    }
}

fn tmpfs_options(mount: &Mount) -> Vec<String> {
    if mount.r#type != "tmpfs" {
        return Vec::new();
    }
    let mut options = vec!["noexec".to_owned(), "nosuid".to_owned(), "nodev".to_owned()];
    if let Some(tmpfs) = &mount.tmpfs_options {
        if tmpfs.size_bytes > 0 {
            options.push(format!("size={}", tmpfs.size_bytes));
        }
        if let Some(mode) = tmpfs.mode {
            options.push(format!("mode={mode:o}"));
        }
        options.extend(tmpfs.options.iter().flatten().map(|words| words.join("=")));
    }
    options
}

/// `--tmpfs path:options`.
fn tmpfs(path: &str, options: &str) -> MountSpec {
    let asked = options.split(',').filter(|word| !word.is_empty());
    let readonly = asked.clone().any(|word| word == "ro");
    let mut words: Vec<String> = ["noexec", "nosuid", "nodev"].iter().map(|w| (*w).to_owned()).collect();
    for word in asked.filter(|word| !matches!(*word, "ro" | "rw")) {
        // `exec` takes `noexec` back.
        words.retain(|known| known.strip_prefix("no") != Some(word));
        if !words.iter().any(|known| known == word) {
            words.push(word.to_owned());
        }
    }
    MountSpec { destination: crate::mounts::clean(path), kind: MountKind::Tmpfs, readonly, options: words }
}

/// Refuses what `--security-opt` cannot be.
pub(crate) fn check_security(host: &HostConfig) -> Result<()> {
    security(host.security_opt.as_deref().unwrap_or_default(), Security::default()).map(drop)
}

#[derive(Default)]
struct Security {
    seccomp: SeccompProfile,
    no_new_privileges: bool,
    apparmor: Option<String>,
}

/// `--security-opt`, over what holds without it. The CLI has replaced a profile's path by its content.
fn security(options: &[String], mut security: Security) -> Result<Security> {
    for option in options {
        let (name, value) = option.split_once('=').or_else(|| option.split_once(':')).unwrap_or((option, ""));
        match (name, value) {
            ("no-new-privileges", "" | "true") => security.no_new_privileges = true,
            ("no-new-privileges", "false") => security.no_new_privileges = false,
            ("seccomp", "unconfined") => security.seccomp = SeccompProfile::Unconfined,
            ("seccomp", "builtin") => security.seccomp = SeccompProfile::Builtin,
            ("seccomp", json) => security.seccomp = SeccompProfile::Json(json.to_owned()),
            ("apparmor", profile) => security.apparmor = Some(profile.to_owned()),
            // There is no SELinux here to label for.
            ("label" | "disable" | "systempaths" | "writable-cgroups", _) => {}
            _ => return Err(Error::Invalid(format!("invalid --security-opt 1: {option:?}"))),
        }
    }
    Ok(security)
}

fn devices(host: &HostConfig) -> Vec<DeviceSpec> {
    let devices = host.resources.devices.iter().flatten().map(|device| DeviceSpec {
        path_on_host: PathBuf::from(&device.path_on_host),
        path_in_container: match device.path_in_container.is_empty() {
            true => device.path_on_host.clone(),
            false => device.path_in_container.clone(),
        },
        permissions: match device.cgroup_permissions.is_empty() {
            true => "rwm".to_owned(),
            false => device.cgroup_permissions.clone(),
        },
    });
    devices.collect()
}

/// The limits; zero, in Docker's words, is none.
pub(crate) fn resources(r: &config::Resources) -> Resources {
    let some = |value: i64| (value != 0).then_some(value);
    let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
    let throttles = |list: &Option<Vec<config::ThrottleDevice>>| {
        list.iter().flatten().map(|t| (PathBuf::from(&t.path), t.rate)).collect()
    };
    // --cpus is a quota in a period of 100 ms.
    let (quota, period) = match r.nano_cpus {
        0 => (some(r.cpu_quota), some(r.cpu_period)),
        nanos => (Some(nanos / 10_000), Some(100_000)),
    };
    Resources {
        memory: some(r.memory),
        memory_swap: some(r.memory_swap),
        memory_reservation: some(r.memory_reservation),
        memory_swappiness: r.memory_swappiness.and_then(|value| u64::try_from(value).ok()),
        oom_kill_disable: r.oom_kill_disable.filter(|disable| *disable),
        cpu_shares: some(r.cpu_shares).and_then(|value| u64::try_from(value).ok()),
        cpu_quota: quota,
        cpu_period: period.and_then(|value| u64::try_from(value).ok()),
        cpuset_cpus: text(&r.cpuset_cpus),
        cpuset_mems: text(&r.cpuset_mems),
        pids_limit: r.pids_limit.filter(|limit| *limit != 0),
        blkio_weight: (r.blkio_weight != 0).then_some(r.blkio_weight),
        blkio_read_bps: throttles(&r.blkio_device_read_bps),
        blkio_write_bps: throttles(&r.blkio_device_write_bps),
        blkio_read_iops: throttles(&r.blkio_device_read_iops),
        blkio_write_iops: throttles(&r.blkio_device_write_iops),
    }
}

/// The init that was configured, or whichever small one the host has.
pub(crate) fn init_binary(configured: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = configured {
        return match path.is_file() {
            true => Ok(path.to_owned()),
            false => {
                Err(Error::Invalid(format!("exec: {path:?}: no such file (it is the daemon's init-path)")))
            }
        };
    }
    let candidates = ["docker-init", "tini-static", "tini", "catatonit", "dumb-init"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .flat_map(|dir| candidates.map(|name| dir.join(name)))
        .chain(["/usr/libexec/podman/catatonit", "/usr/libexec/docker/docker-init"].map(PathBuf::from))
        .find(|path| path.is_file());
    found.ok_or_else(|| {
        Error::Invalid(format!(
            "exec: \"docker-init\": executable file not found in $PATH (nor any of {}): install one of them",
            candidates.join(", ")
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_become_a_quota() {
        let limits = resources(&config::Resources { nano_cpus: 1_500_000_000, ..Default::default() });
        assert_eq!((limits.cpu_quota, limits.cpu_period), (Some(150_000), Some(100_000)));
        assert_eq!(resources(&config::Resources::default()), Resources::default());
    }

    #[test]
    fn a_tmpfs_is_careful_unless_told_otherwise() {
        let mount = tmpfs("/run/", "exec,size=64m,ro");
        assert_eq!(mount.destination, "/run");
        assert!(mount.readonly);
        assert_eq!(mount.options, ["nosuid", "nodev", "exec", "size=64m"]);
    }

    #[test]
    fn security_options_are_understood() {
        let options =
            ["no-new-privileges".to_owned(), "seccomp=unconfined".to_owned(), "apparmor:x".to_owned()];
        let security = security(&options, Security::default()).unwrap();
        assert!(security.no_new_privileges);
        assert_eq!(security.seccomp, SeccompProfile::Unconfined);
        assert_eq!(security.apparmor.as_deref(), Some("x"));
        assert!(super::security(&["nonsense".to_owned()], Security::default()).is_err());
    }
}
