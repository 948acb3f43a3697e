//! What a container should be, and its translation to the OCI runtime spec with Docker's defaults.

mod capabilities;
mod container;
mod mounts;
mod process;
mod resources;
mod rootfs;
mod seccomp;
mod user;

use engine_protocol::cgroup::Hierarchies;
use oci_spec::runtime::Spec;
use serde_json::{Value, json};

pub use container::*;
pub use process::ULIMITS;
pub(crate) use process::exec_process;

use crate::RuntimeError;

/// Where `--init`'s binary is inside.
const INIT_PATH: &str = "/sbin/docker-init";

/// What a container must not see of the kernel, by Docker's list.
const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What a container must not write, by Docker's list.
const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What Docker masks in a container that is not privileged, as `docker inspect` shows it.
pub fn default_masked_paths() -> Vec<String> {
    MASKED_PATHS.iter().map(|path| (*path).to_owned()).collect()
}

/// What Docker makes read-only in a container that is not privileged, as `docker inspect` shows it.
pub fn default_readonly_paths() -> Vec<String> {
    READONLY_PATHS.iter().map(|path| (*path).to_owned()).collect()
}

/// A spec, and what the shim needs to know of it.
pub(crate) struct Translated {
    pub(crate) spec: Spec,
    pub(crate) uid: u32,
    pub(crate) private_pids: bool,
}

/// Translates for the cgroup `cgroup` (`/<parent>/<id>`). Reads the rootfs, makes the working directory in it where
/// it is absent, and looks at the host's devices.
pub(crate) fn translate(container: &ContainerSpec, cgroup: &str) -> Result<Translated, RuntimeError> {
    let hierarchies =
        Hierarchies::detect().map_err(RuntimeError::io("find the cgroups at", "/sys/fs/cgroup"))?;
    let capabilities = capabilities::resolve(container.privileged, &container.cap_add, &container.cap_drop)?;
    let (process, uid) = process::container_process(container, &capabilities)?;
    let namespaces = namespaces(container, hierarchies.is_unified());
    let mut linux = json!({
        "namespaces": namespaces,
        "cgroupsPath": cgroup,
        "resources": resources::resources(container)?,
        "devices": resources::devices(container)?,
        "sysctl": sysctls(container),
        "maskedPaths": paths(container, &container.masked_paths, default_masked_paths),
        "readonlyPaths": paths(container, &container.readonly_paths, default_readonly_paths),
    });
    if let Some(propagation) = mounts::root_propagation(container) {
        linux["rootfsPropagation"] = propagation.into();
    }
    if let Some(seccomp) = seccomp(container, &capabilities)? {
        linux["seccomp"] = seccomp;
    }
    let mut spec = json!({
        "ociVersion": "1.2.0",
        "process": process,
        "root": { "path": container.rootfs, "readonly": container.readonly_rootfs },
        "mounts": mounts::mounts(container),
        "annotations": container.annotations,
        "linux": linux,
    });
    // A name can only be set in a namespace of one's own.
    if container.uts == NamespaceMode::Private {
        if !container.hostname.is_empty() {
            spec["hostname"] = container.hostname.as_str().into();
        }
        if !container.domainname.is_empty() {
            spec["domainname"] = container.domainname.as_str().into();
        }
    }
    let spec = serde_json::from_value(spec).map_err(|error| RuntimeError::InvalidSpec(error.to_string()))?;
    let private_pids = container.pid == NamespaceMode::Private;
    Ok(Translated { spec, uid, private_pids })
}

fn paths(
    container: &ContainerSpec,
    given: &Option<Vec<String>>,
    default: fn() -> Vec<String>,
) -> Vec<String> {
    match given {
        Some(paths) => paths.clone(),
        None if container.privileged => Vec::new(),
        None => default(),
    }
}

fn namespaces(container: &ContainerSpec, unified: bool) -> Vec<Value> {
    let mut out = vec![json!({ "type": "mount" })];
    for (mode, kind, file) in
        [(&container.pid, "pid", "pid"), (&container.ipc, "ipc", "ipc"), (&container.uts, "uts", "uts")]
    {
        match mode {
            NamespaceMode::Private => out.push(json!({ "type": kind })),
            NamespaceMode::Host => {}
            NamespaceMode::OfProcess(pid) => {
                out.push(json!({ "type": kind, "path": format!("/proc/{pid}/ns/{file}") }));
            }
        }
    }
    match &container.network {
        NetworkNamespace::Host => {}
        NetworkNamespace::Path(path) => out.push(json!({ "type": "network", "path": path })),
        NetworkNamespace::Fresh => out.push(json!({ "type": "network" })),
    }
    if mounts::private_cgroup(container.cgroup_mode, unified) {
        out.push(json!({ "type": "cgroup" }));
    }
    out
}

fn sysctls(container: &ContainerSpec) -> Value {
    let mut out = container.sysctls.clone();
    if container.network != NetworkNamespace::Host {
        // In a network of its own anybody may ping and use any port, as in Docker.
        out.entry("net.ipv4.ip_unprivileged_port_start".to_owned()).or_insert_with(|| "0".to_owned());
        out.entry("net.ipv4.ping_group_range".to_owned()).or_insert_with(|| "0 2147483647".to_owned());
    }
    json!(out)
}

fn seccomp(
    container: &ContainerSpec,
    capabilities: &std::collections::BTreeSet<String>,
) -> Result<Option<Value>, RuntimeError> {
    let json = match &container.seccomp {
        _ if container.privileged => return Ok(None),
        SeccompProfile::Unconfined => return Ok(None),
        SeccompProfile::Builtin => None,
        SeccompProfile::Json(json) => Some(json.as_str()),
    };
    let release = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    let circumstances = seccomp::Circumstances {
        capabilities,
        architecture: seccomp::architecture(),
        kernel: seccomp::version(&release.unwrap_or_default()),
    };
    seccomp::translate(json, &circumstances).map(Some)
}
