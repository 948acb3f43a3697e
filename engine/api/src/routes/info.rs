//! `/info`.

use std::{fs, path::Path};

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use engine_containers::{Defaults, SeccompProfile};
use engine_images::ListOptions;
use jiff::Timestamp;
use libnetwork_rpc::v1;
use serde_json::{Map, Value, json};

use super::host::{self, Cgroups};
use crate::{ApiError, Engine, json::Json};

pub(super) async fn info(State(engine): State<Engine>) -> Result<Response, ApiError> {
    let counts = engine.containers.counts();
    let images = engine.images.list(ListOptions { all: true, ..ListOptions::default() }).await?.len();
    // A causewayd that is away makes a warning, not a failure: `info` is what people run when something is wrong.
    let network = engine.network.clone().get_info(v1::GetInfoRequest {}).await;
    let (network, away) = match network {
        Ok(reply) => (Some(reply.into_inner()), None),
        Err(status) => (None, Some(ApiError::network(&status).message)),
    };
    let cgroups = Cgroups::detect();
    let warnings = warnings(away);
    let settings = engine.containers.settings();
    let defaults = &settings.defaults;
    let runtimes: Map<String, Value> =
        settings.runtimes.iter().map(|(name, path)| (name.clone(), json!({"path": path}))).collect();
    Ok(Json(json!({
        "ID": identity(&engine.state_dir),
        "Containers": counts.running + counts.paused + counts.stopped,
        "ContainersRunning": counts.running,
        "ContainersPaused": counts.paused,
        "ContainersStopped": counts.stopped,
        "Images": images,
        "Driver": "overlay2",
        "DriverStatus": [
            ["Backing Filesystem", host::filesystem(&engine.state_dir)],
            ["Supports d_type", "true"],
            ["Using metacopy", "false"],
            ["Native Overlay Diff", "true"],
            ["userxattr", "false"],
        ],
        "Plugins": {
            "Volume": ["local"],
            "Network": network.as_ref().map_or_else(|| json!(["bridge", "host", "null"]), drivers),
            "Authorization": null,
            "Log": ["json-file", "local", "none"],
        },
        "MemoryLimit": cgroups.has("memory", "memory.limit_in_bytes"),
        "SwapLimit": cgroups.has("memory", "memory.memsw.limit_in_bytes"),
        "KernelMemoryTCP": !cgroups.unified && cgroups.has("memory", "memory.kmem.tcp.limit_in_bytes"),
        "CpuCfsPeriod": cgroups.has("cpu", "cpu.cfs_period_us"),
        "CpuCfsQuota": cgroups.has("cpu", "cpu.cfs_quota_us"),
        "CPUShares": cgroups.has("cpu", "cpu.shares"),
        "CPUSet": cgroups.has("cpuset", "cpuset.cpus"),
        "PidsLimit": cgroups.has("pids", "cgroup.procs"),
        "IPv4Forwarding": host::sysctl("/proc/sys/net/ipv4/ip_forward"),
        "Debug": tracing::enabled!(tracing::Level::DEBUG),
        "NFd": fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
        "OomKillDisable": !cgroups.unified && cgroups.has("memory", "memory.oom_control"),
        // Docker counts goroutines here; tasks are what comes closest.
        "NGoroutines": tokio::runtime::Handle::current().metrics().num_alive_tasks(),
        "SystemTime": Timestamp::now().to_string(),
        "LoggingDriver": defaults.log.r#type,
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": cgroups.version(),
        "NEventsListener": 0,
        "KernelVersion": host::kernel(),
        "OperatingSystem": host::os_release("PRETTY_NAME"),
        "OSVersion": host::os_release("VERSION_ID"),
        "OSType": "linux",
        "Architecture": std::env::consts::ARCH,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {
            "IndexConfigs": {
                "docker.io": {"Mirrors": [], "Name": "docker.io", "Official": true, "Secure": true},
            },
            "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"],
            "Mirrors": null,
        },
        "NCPU": host::cpus(),
        "MemTotal": host::memory(),
        "GenericResources": null,
        "DockerRootDir": engine.state_dir,
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "Name": host::hostname(),
        "Labels": labels(&settings.labels, network.as_ref()),
        "ExperimentalBuild": false,
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "Runtimes": runtimes,
        "DefaultRuntime": defaults.runtime,
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": false,
            "Error": "",
            "RemoteManagers": null,
        },
        "LiveRestoreEnabled": true,
        "Isolation": "",
        "InitBinary": defaults.init_path.as_deref().unwrap_or(Path::new("docker-init")),
        "ContainerdCommit": {"ID": ""},
        "RuncCommit": {"ID": ""},
        "InitCommit": {"ID": ""},
        "SecurityOptions": security_options(&cgroups, defaults),
        "FirewallBackend": network.as_ref().map_or(Value::Null, publishing),
        "CDISpecDirs": [],
        "Warnings": warnings,
    }))
    .into_response())
}

/// How ports are published, in the place where Docker tells its firewall backend.
fn publishing(network: &v1::Info) -> Value {
    let mut details = Vec::new();
    if !network.publish_reason.is_empty() {
        details.push(["Reason", network.publish_reason.as_str()]);
    }
    json!({"Driver": network.publish_backend, "Info": details})
}

/// The same where `docker info` shows it: the CLI prints the daemon's labels, and Docker's own place from 29 on.
fn labels(configured: &[String], network: Option<&v1::Info>) -> Vec<String> {
    let mut labels = configured.to_vec();
    let Some(network) = network else { return labels };
    labels.push(format!("causeway.ports={}", network.publish_backend));
    if !network.publish_reason.is_empty() {
        labels.push(format!("causeway.ports.reason={}", network.publish_reason));
    }
    labels
}

fn drivers(network: &v1::Info) -> Value {
    let mut names = network.drivers.clone();
    names.sort_unstable();
    json!(names)
}

fn security_options(cgroups: &Cgroups, defaults: &Defaults) -> Vec<&'static str> {
    let mut options = vec![match defaults.seccomp {
        SeccompProfile::Builtin => "name=seccomp,profile=builtin",
        SeccompProfile::Unconfined => "name=seccomp,profile=unconfined",
        SeccompProfile::Json(_) => "name=seccomp,profile=custom",
    }];
    // Containers get a cgroup namespace of their own where cgroups are unified, as in Docker.
    if cgroups.unified {
        options.push("name=cgroupns");
    }
    if defaults.no_new_privileges {
        options.push("name=no-new-privileges");
    }
    options
}

fn warnings(away: Option<String>) -> Option<Vec<String>> {
    let warnings: Vec<_> = away.into_iter().map(|message| format!("WARNING: {message}")).collect();
    (!warnings.is_empty()).then_some(warnings)
}

/// The daemon's id: made once per state directory, by the first `info`.
pub fn identity(state_dir: &Path) -> String {
    let path = state_dir.join("id");
    if let Ok(id) = fs::read_to_string(&path)
        && !id.trim().is_empty()
    {
        return id.trim().to_owned();
    }
    let id = host::line("/proc/sys/kernel/random/uuid");
    if let Err(error) = fs::write(&path, format!("{id}\n")) {
        tracing::warn!(path = %path.display(), %error, "cannot keep the daemon's id");
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_stays() {
        let dir = tempfile::tempdir().unwrap();
        let first = identity(dir.path());
        assert_eq!(first.len(), 36);
        assert_eq!(identity(dir.path()), first);
    }

    #[test]
    fn the_way_ports_are_published_is_told() {
        let info = v1::Info {
            publish_backend: "ebpf".into(),
            publish_reason: "the kernel has all it needs".into(),
            ..Default::default()
        };
        assert_eq!(
            publishing(&info).to_string(),
            r#"{"Driver":"ebpf","Info":[["Reason","the kernel has all it needs"]]}"#
        );
        assert_eq!(labels(&[], Some(&info))[0], "causeway.ports=ebpf");
    }
}
