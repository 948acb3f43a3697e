//! The container as the engine describes it: plain data, in Docker's words.

use std::{collections::BTreeMap, path::PathBuf};

use engine_protocol::{LogFile, Stdin, TerminalSize};

/// All that decides how a container runs. `..Default::default()` is what `docker run` without options means.
#[derive(Debug, Clone, Default)]
pub struct ContainerSpec {
    /// The program and its arguments: entrypoint and command together. Must not be empty.
    pub args: Vec<String>,
    /// `NAME=value`, complete but for what Docker adds: PATH when absent, HOSTNAME, TERM with a terminal, HOME.
    pub env: Vec<String>,
    /// Absolute path inside the container; empty means `/`. Created in the rootfs when absent, as Docker does.
    pub cwd: String,
    /// `uid[:gid]` or `name[:group]`, resolved against the rootfs' `/etc/passwd` and `/etc/group`; empty is root.
    pub user: String,
    /// Additional groups by name or number (`--group-add`).
    pub groups: Vec<String>,
    pub hostname: String,
    pub domainname: String,
    /// The mounted root filesystem, an absolute path.
    pub rootfs: PathBuf,
    pub readonly_rootfs: bool,
    /// Mounts on top of Docker's defaults, in order; one on a default's path replaces it.
    pub mounts: Vec<MountSpec>,
    pub network: NetworkNamespace,
    pub pid: NamespaceMode,
    pub ipc: NamespaceMode,
    pub uts: NamespaceMode,
    pub cgroup_mode: CgroupMode,
    /// All capabilities, all devices, nothing masked, no seccomp.
    pub privileged: bool,
    /// Names with or without `CAP_`, any case, or `ALL`.
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    pub seccomp: SeccompProfile,
    pub no_new_privileges: bool,
    /// Ignored where the kernel has no AppArmor.
    pub apparmor: Option<String>,
    /// None: Docker's default list.
    pub masked_paths: Option<Vec<String>>,
    /// None: Docker's default list.
    pub readonly_paths: Option<Vec<String>>,
    pub devices: Vec<DeviceSpec>,
    /// `type major:minor access`, e.g. `c 10:229 rwm` (`--device-cgroup-rule`).
    pub device_cgroup_rules: Vec<String>,
    pub ulimits: Vec<Ulimit>,
    pub sysctls: BTreeMap<String, String>,
    pub resources: Resources,
    /// Size of `/dev/shm` in bytes; 0 means Docker's 64 MiB.
    pub shm_size: u64,
    /// -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// Run an init as PID 1 that forwards signals and reaps (`--init`): the path of its binary on the host.
    pub init: Option<PathBuf>,
    /// Allocate a terminal.
    pub tty: bool,
    pub annotations: BTreeMap<String, String>,
    /// The name of a configured runtime; none means the builtin one (libcontainer).
    pub runtime: Option<String>,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountSpec {
    /// Absolute path inside the container.
    pub destination: String,
    pub kind: MountKind,
    pub readonly: bool,
    /// Further options as mount(8) names them, e.g. `nosuid`, `noexec`, `size=64m`, `mode=1777`.
    pub options: Vec<String>,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// A file or directory of the host, a volume's directory among them.
    Bind {
        source: PathBuf,
        propagation: Propagation,
        /// Without what is mounted below the source.
        non_recursive: bool,
    },
    /// A fresh filesystem in memory.
    Tmpfs,
}

/// A bind mount's propagation. Docker's default is `rprivate`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Propagation {
    Private,
    #[default]
    RPrivate,
    Shared,
    RShared,
    Slave,
    RSlave,
}

/// The network namespace to be in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NetworkNamespace {
    /// The one that the shim, thus the engine, runs in.
    #[default]
    Host,
    /// Join this one: a bind-mounted namespace.
    Path(PathBuf),
    /// A fresh one that nobody configures.
    Fresh,
}

/// A PID, IPC or UTS namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NamespaceMode {
    #[default]
    Private,
    Host,
    /// The namespace of another container's process, by process id.
    OfProcess(i32),
}

/// `--cgroupns`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CgroupMode {
    /// Docker's default: private with cgroup v2 alone, the host's otherwise.
    #[default]
    Default,
    Private,
    Host,
}

/// The system calls that are let through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SeccompProfile {
    /// Docker's default profile.
    #[default]
    Builtin,
    Unconfined,
    /// A profile in Docker's JSON format.
    Json(String),
}

/// `--device`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceSpec {
    pub path_on_host: PathBuf,
    pub path_in_container: String,
    /// A subset of `rwm`.
    pub permissions: String,
}

/// `--ulimit`; -1 is unlimited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ulimit {
    /// Lower case without `RLIMIT_`, e.g. `nofile`.
    pub name: String,
    pub soft: i64,
    pub hard: i64,
}

/// Limits, in Docker's units. None leaves the kernel's default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// Bytes.
    pub memory: Option<i64>,
    /// Bytes, memory and swap together; -1 is unlimited swap.
    pub memory_swap: Option<i64>,
    /// Bytes.
    pub memory_reservation: Option<i64>,
    /// 0 to 100.
    pub memory_swappiness: Option<u64>,
    pub oom_kill_disable: Option<bool>,
    /// Relative weight, 1024 being one share.
    pub cpu_shares: Option<u64>,
    /// Microseconds of CPU in each period.
    pub cpu_quota: Option<i64>,
    /// Microseconds.
    pub cpu_period: Option<u64>,
    /// e.g. `0-2,7`.
    pub cpuset_cpus: Option<String>,
    pub cpuset_mems: Option<String>,
    /// How many tasks; -1 is unlimited.
    pub pids_limit: Option<i64>,
    /// 10 to 1000.
    pub blkio_weight: Option<u16>,
    /// Bytes a second by device path.
    pub blkio_read_bps: Vec<(PathBuf, u64)>,
    pub blkio_write_bps: Vec<(PathBuf, u64)>,
    /// Operations a second by device path.
    pub blkio_read_iops: Vec<(PathBuf, u64)>,
    pub blkio_write_iops: Vec<(PathBuf, u64)>,
}

/// A process to run in a running container.
#[derive(Debug, Clone, Default)]
pub struct ExecSpec {
    pub args: Vec<String>,
    /// Complete: the container's environment with the exec's on top.
    pub env: Vec<String>,
    /// Empty means the container's.
    pub cwd: String,
    /// As in [`ContainerSpec::user`]; empty means the container's.
    pub user: String,
    pub tty: bool,
    pub terminal_size: Option<TerminalSize>,
    pub privileged: bool,
    /// Keep standard input open.
    pub stdin: bool,
}

/// What becomes of a container's stdio.
#[derive(Debug, Clone)]
pub struct IoConfig {
    pub stdin: Stdin,
    /// The terminal's first size, where [`ContainerSpec::tty`] asks for one.
    pub terminal_size: TerminalSize,
    /// Where the shim writes the log; none keeps no log.
    pub log: Option<LogFile>,
}

impl Default for IoConfig {
    fn default() -> Self {
        Self { stdin: Stdin::Closed, terminal_size: TerminalSize { rows: 24, columns: 80 }, log: None }
    }
}
