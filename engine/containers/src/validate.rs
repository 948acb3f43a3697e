//! What of a container's description can be refused before anything is made, with Docker's words.

use std::net::IpAddr;

use crate::{
    Error, Result,
    config::{ContainerConfig, HostConfig, Resources, RestartPolicy, Ulimit},
    log_options, ports, signals,
};

/// The least memory that the kernel's own needs leave usable, in bytes.
const LEAST_MEMORY: i64 = 6 << 20;

pub(crate) fn config(config: &ContainerConfig) -> Result<()> {
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return refuse(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        ));
    }
    for entry in config.env.iter().flatten() {
        if entry.is_empty() || entry.starts_with('=') || entry.contains('\0') {
            return refuse(format!("invalid environment variable: {entry}"));
        }
    }
    if !config.stop_signal.is_empty() {
        signals::parse(&config.stop_signal)?;
    }
    ports::exposed(&config.exposed_ports)?;
    if let Some(health) = &config.healthcheck {
        // Docker's least duration is a millisecond.
        for (what, value) in [
            ("Interval", health.interval),
            ("Timeout", health.timeout),
            ("StartPeriod", health.start_period),
            ("StartInterval", health.start_interval),
        ] {
            if value != 0 && value < 1_000_000 {
                return refuse(format!("{what} in Healthcheck cannot be less than 1ms"));
            }
        }
        if health.retries < 0 {
            return refuse("Retries in Healthcheck cannot be negative");
        }
    }
    Ok(())
}

/// `runtimes` tells whether a runtime of that name exists.
pub(crate) fn host(
    host: &HostConfig,
    config: &ContainerConfig,
    runtimes: impl Fn(&str) -> bool,
) -> Result<()> {
    restart_policy(&host.restart_policy, host.auto_remove)?;
    ports::check(host)?;
    resources(&host.resources)?;
    for (list, option) in [(&host.cap_add, "CapAdd"), (&host.cap_drop, "CapDrop")] {
        for name in list.iter().flatten() {
            capability(option, name)?;
        }
    }
    for text in host.extra_hosts.iter().flatten() {
        // The docker CLI takes `=`, too, and sends this.
        match text.split_once(':') {
            Some((name, ip)) if !name.is_empty() => {
                let bare = ip.trim_start_matches('[').trim_end_matches(']');
                if ip != "host-gateway" && bare.parse::<IpAddr>().is_err() {
                    return refuse(format!("invalid IP address in add-host: {ip:?}"));
                }
            }
            _ => return refuse(format!("bad format for add-host: {text:?}")),
        }
    }
    for server in host.dns.iter().flatten() {
        if server.parse::<IpAddr>().is_err() {
            return refuse(format!("invalid IP address: {server}"));
        }
    }
    mode("IPC", &host.ipc_mode, &["", "none", "private", "shareable", "host"])?;
    mode("PID", &host.pid_mode, &["", "host"])?;
    mode("UTS", &host.uts_mode, &["", "host"])?;
    mode("cgroup namespace", &host.cgroupns_mode, &["", "private", "host"])?;
    log_options::check(&host.log_config)?;
    if !runtimes(&host.runtime) {
        return refuse(format!("unknown or invalid runtime name: {}", host.runtime));
    }
    network(host, config)?;
    if host.shm_size < 0 {
        return refuse("SHM size can not be less than 0");
    }
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return refuse(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        ));
    }
    Ok(())
}

pub(crate) fn restart_policy(policy: &RestartPolicy, auto_remove: bool) -> Result<()> {
    match policy.name.as_str() {
        "always" | "unless-stopped" | "no" => {
            if policy.maximum_retry_count != 0 {
                return refuse(
                    "invalid restart policy: maximum retry count can only be used with 'on-failure'",
                );
            }
        }
        "on-failure" if policy.maximum_retry_count < 0 => {
            return refuse("invalid restart policy: maximum retry count cannot be negative");
        }
        "" | "on-failure" => {}
        other => {
            return refuse(format!(
                "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or \
                 'unless-stopped'"
            ));
        }
    }
    if auto_remove && !matches!(policy.name.as_str(), "" | "no") {
        return refuse("can't create 'AutoRemove' container with restart policy");
    }
    Ok(())
}

pub(crate) fn resources(resources: &Resources) -> Result<()> {
    let r = resources;
    if r.memory != 0 && r.memory < LEAST_MEMORY {
        return refuse("Minimum memory limit allowed is 6MB");
    }
    if r.memory > 0 && r.memory_swap > 0 && r.memory_swap < r.memory {
        return refuse("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if r.memory == 0 && r.memory_swap > 0 {
        return refuse("You should always set the Memory limit when using Memoryswap limit, see usage");
    }
    if r.memory_reservation != 0 && r.memory_reservation < LEAST_MEMORY {
        return refuse("Minimum memory reservation allowed is 6MB");
    }
    if r.memory > 0 && r.memory_reservation > r.memory {
        return refuse("Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    if let Some(swappiness) = r.memory_swappiness
        && !(-1..=100).contains(&swappiness)
    {
        return refuse(format!("Invalid value: {swappiness}, valid memory swappiness range is 0-100"));
    }
    if r.nano_cpus > 0 && (r.cpu_period != 0 || r.cpu_quota != 0) {
        return refuse("Conflicting options: Nano CPUs and CPU Period cannot both be set");
    }
    if r.nano_cpus < 0 {
        return refuse("range of CPUs is from 0.01 to the number of CPUs");
    }
    if r.nano_cpus > 0 {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from) as i64;
        if r.nano_cpus > cpus * 1_000_000_000 {
            return refuse(format!(
                "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
            ));
        }
    }
    if r.cpu_period != 0 && !(1000..=1_000_000).contains(&r.cpu_period) {
        return refuse(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        );
    }
    if r.cpu_quota > 0 && r.cpu_quota < 1000 {
        return refuse("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    if r.blkio_weight != 0 && !(10..=1000).contains(&r.blkio_weight) {
        return refuse("Range of blkio weight is from 10 to 1000");
    }
    ulimits(r.ulimits.as_deref().unwrap_or_default())
}

pub(crate) fn ulimits(ulimits: &[Ulimit]) -> Result<()> {
    for Ulimit { name, soft, hard } in ulimits {
        if !engine_runtime::spec::ULIMITS.contains(&name.as_str()) {
            return refuse(format!("invalid ulimit type: {name}"));
        }
        if *hard != -1 && soft > hard {
            return refuse(format!(
                "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
            ));
        }
    }
    Ok(())
}

const CAPABILITIES: &[&str] = &[
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

fn capability(option: &str, name: &str) -> Result<()> {
    let upper = name.trim().to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if bare == "ALL" || CAPABILITIES.contains(&bare) {
        Ok(())
    } else {
        refuse(format!("invalid {option}: unknown capability: \"CAP_{bare}\""))
    }
}

fn mode(what: &str, value: &str, known: &[&str]) -> Result<()> {
    let of_container = value.strip_prefix("container:").is_some_and(|name| !name.is_empty());
    if known.contains(&value) || (of_container && matches!(what, "IPC" | "PID")) {
        Ok(())
    } else {
        refuse(format!("invalid {what} mode: {value}"))
    }
}

fn network(host: &HostConfig, config: &ContainerConfig) -> Result<()> {
    let mode = host.network_mode.as_str();
    if mode == "container:" {
        return refuse("invalid container format container:<name|id>");
    }
    if mode.starts_with("container:") {
        if !config.hostname.is_empty() {
            return refuse("conflicting options: hostname and the network mode");
        }
        if host.port_bindings.as_ref().is_some_and(|p| !p.is_empty()) || host.publish_all_ports {
            return refuse("conflicting options: port publishing and the container type network mode");
        }
        if host.dns.as_ref().is_some_and(|d| !d.is_empty()) {
            return refuse("conflicting options: dns and the network mode");
        }
        if host.extra_hosts.as_ref().is_some_and(|h| !h.is_empty()) {
            return refuse("conflicting options: custom host-to-IP mapping and the network mode");
        }
    }
    if host.uts_mode == "host" && !config.hostname.is_empty() && mode != "host" {
        return refuse("conflicting options: hostname and the UTS mode");
    }
    if mode.starts_with("container:") && host.links.as_ref().is_some_and(|l| !l.is_empty()) {
        return refuse(
            "conflicting options: container type network can't be used with links. This would result in undefined \
             behavior",
        );
    }
    if mode == "host" && host.links.as_ref().is_some_and(|l| !l.is_empty()) {
        return refuse(
            "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
        );
    }
    Ok(())
}

pub(crate) fn refuse<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::Invalid(message.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_refuses_is_refused_with_its_words() {
        let check = |change: fn(&mut HostConfig)| {
            let mut config = HostConfig { runtime: "r".into(), ..HostConfig::default() };
            change(&mut config);
            host(&config, &ContainerConfig::default(), |name| name == "r").map_err(|e| e.to_string())
        };
        assert_eq!(check(|_| ()), Ok(()));
        let refused = |change, text: &str| assert_eq!(check(change).unwrap_err(), text);
        refused(|h| h.cap_add = Some(vec!["foo".into()]), "invalid CapAdd: unknown capability: \"CAP_FOO\"");
        refused(|h| h.runtime = "zzz".into(), "unknown or invalid runtime name: zzz");
        refused(|h| h.ipc_mode = "foo".into(), "invalid IPC mode: foo");
        refused(|h| h.extra_hosts = Some(vec!["x".into()]), "bad format for add-host: \"x\"");
        refused(|h| h.extra_hosts = Some(vec!["x=1.2.3.4".into()]), "bad format for add-host: \"x=1.2.3.4\"");
        refused(|h| h.resources.memory = 1000, "Minimum memory limit allowed is 6MB");
        refused(
            |h| h.log_config.r#type = "foo".into(),
            "error looking up logging plugin foo: plugin \"foo\" not found",
        );
        refused(
            |h| {
                h.auto_remove = true;
                h.restart_policy.name = "always".into();
            },
            "can't create 'AutoRemove' container with restart policy",
        );
    }
}
