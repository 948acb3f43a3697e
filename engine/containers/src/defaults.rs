//! What a container gets where its creator says nothing: Docker's defaults, or what `daemon.json` has instead.

use std::{collections::BTreeMap, fs, path::PathBuf};

use engine_runtime::SeccompProfile;
use serde::Deserialize;

use crate::{
    config::{HostConfig, LogConfig, Ulimit},
    log_options, spec, validate,
};

/// Docker's default of `/dev/shm`, in bytes.
const SHM_SIZE: i64 = 64 << 20;
/// Docker's own names for runc, which is always there with Docker.
const RUNC: [&str; 2] = ["runc", "io.containerd.runc.v2"];

/// For all containers that do not have it their own way.
#[derive(Debug, Clone, PartialEq)]
pub struct Defaults {
    /// Run an init as PID 1.
    pub init: bool,
    /// The host's binary for it; none: whichever the host has.
    pub init_path: Option<PathBuf>,
    pub no_new_privileges: bool,
    /// Those that a container does not set itself.
    pub ulimits: Vec<Ulimit>,
    /// The driver, and its options for containers that log by this driver.
    pub log: LogConfig,
    /// Bytes of `/dev/shm`.
    pub shm_size: i64,
    /// `private` or `shareable`.
    pub ipc_mode: String,
    /// `private` or `host`; none: as Docker chooses by the host's cgroups.
    pub cgroupns_mode: Option<String>,
    /// The name of the runtime.
    pub runtime: String,
    pub seccomp: SeccompProfile,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            init: false,
            init_path: None,
            no_new_privileges: false,
            ulimits: Vec::new(),
            log: LogConfig { r#type: "json-file".into(), config: None },
            shm_size: SHM_SIZE,
            ipc_mode: "private".into(),
            cgroupns_mode: None,
            runtime: spec::DEFAULT_RUNTIME.into(),
            seccomp: SeccompProfile::Builtin,
        }
    }
}

/// What is wrong with the configuration, after the name of its key.
#[derive(Debug, thiserror::Error)]
pub enum DefaultsError {
    #[error("cannot understand it")]
    Parse(#[from] serde_json::Error),
    #[error("{key}: {problem}")]
    Value { key: &'static str, problem: String },
    #[error("{key}: cannot read {}", path.display())]
    Read {
        key: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// The keys of `daemon.json` that are about containers.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct File {
    init: bool,
    init_path: String,
    no_new_privileges: bool,
    default_ulimits: BTreeMap<String, Ulimit>,
    log_driver: String,
    log_opts: BTreeMap<String, String>,
    default_shm_size: String,
    default_ipc_mode: String,
    default_cgroupns_mode: String,
    default_runtime: String,
    seccomp_profile: String,
}

impl Defaults {
    /// From JSON under Docker's own keys. `runtimes` tells whether there is a runtime of that name. Blocking: reads the seccomp
    /// profile.
    pub fn read(text: &[u8], runtimes: impl Fn(&str) -> bool) -> Result<Self, DefaultsError> {
        let file: File = serde_json::from_slice(text)?;
        let mut defaults = Self {
            init: file.init,
            init_path: (!file.init_path.is_empty()).then(|| file.init_path.into()),
            no_new_privileges: file.no_new_privileges,
            ..Self::default()
        };
        // Docker's name of a limit is the key; what stands beside it may be left out.
        let named = |(name, limit): (String, Ulimit)| Ulimit { name, ..limit };
        defaults.ulimits = file.default_ulimits.into_iter().map(named).collect();
        validate::ulimits(&defaults.ulimits).map_err(|error| wrong("default-ulimits", error))?;
        if !file.log_driver.is_empty() {
            defaults.log.r#type = file.log_driver;
        }
        defaults.log.config = (!file.log_opts.is_empty()).then_some(file.log_opts);
        log_options::check(&defaults.log).map_err(|error| wrong("log-driver, log-opts", error))?;
        if !file.default_shm_size.is_empty() {
            let size = log_options::size(&file.default_shm_size).and_then(|size| i64::try_from(size).ok());
            let problem = || wrong("default-shm-size", format!("invalid size: '{}'", file.default_shm_size));
            defaults.shm_size = size.ok_or_else(problem)?;
        }
        if !file.default_ipc_mode.is_empty() {
            defaults.ipc_mode = file.default_ipc_mode;
        }
        defaults.cgroupns_mode = Some(file.default_cgroupns_mode).filter(|mode| !mode.is_empty());
        let known = |name: &str| name == spec::DEFAULT_RUNTIME || runtimes(name);
        match file.default_runtime.as_str() {
            "" => {}
            name if known(name) => defaults.runtime = name.to_owned(),
            name if RUNC.contains(&name) => {}
            name => {
                let problem = format!("specified default runtime '{name}' does not exist");
                return Err(wrong("default-runtime", problem));
            }
        }
        defaults.seccomp = match file.seccomp_profile.as_str() {
            "" | "builtin" => SeccompProfile::Builtin,
            "unconfined" => SeccompProfile::Unconfined,
            path => {
                let path = PathBuf::from(path);
                let read = fs::read_to_string(&path);
                let json =
                    read.map_err(|source| DefaultsError::Read { key: "seccomp-profile", path, source })?;
                SeccompProfile::Json(json)
            }
        };
        Ok(defaults)
    }

    /// Why no container will start: an init is configured and not there.
    pub fn missing_init(&self) -> Option<String> {
        let found = self.init.then(|| spec::init_binary(self.init_path.as_deref()));
        found?.err().map(|error| error.to_string())
    }

    /// Fills what the client left open.
    pub(crate) fn fill(&self, host: &mut HostConfig) {
        let log = &mut host.log_config;
        if log.r#type.is_empty() {
            log.r#type.clone_from(&self.log.r#type);
        }
        let options = log.config.get_or_insert_with(BTreeMap::new);
        if log.r#type == self.log.r#type {
            for (option, value) in self.log.config.iter().flatten() {
                options.entry(option.clone()).or_insert_with(|| value.clone());
            }
        }
        if host.ipc_mode.is_empty() {
            host.ipc_mode.clone_from(&self.ipc_mode);
        }
        if host.cgroupns_mode.is_empty() {
            let usual = || if unified_cgroups() && !host.privileged { "private" } else { "host" };
            host.cgroupns_mode = self.cgroupns_mode.as_deref().unwrap_or_else(usual).into();
        }
        if host.shm_size == 0 {
            host.shm_size = self.shm_size;
        }
        if host.runtime.is_empty() {
            host.runtime.clone_from(&self.runtime);
        }
    }

    /// A container's own limits, and those that it does not set.
    pub(crate) fn with_ulimits<'a>(
        &'a self,
        own: &'a Option<Vec<Ulimit>>,
    ) -> impl Iterator<Item = &'a Ulimit> {
        let own = own.as_deref().unwrap_or_default();
        let others = self.ulimits.iter().filter(|limit| !own.iter().any(|own| own.name == limit.name));
        own.iter().chain(others)
    }
}

/// Only cgroup v2 is mounted, neither v1 nor both.
fn unified_cgroups() -> bool {
    nix::sys::statfs::statfs("/sys/fs/cgroup")
        .is_ok_and(|stat| stat.filesystem_type() == nix::sys::statfs::CGROUP2_SUPER_MAGIC)
}

fn wrong(key: &'static str, problem: impl ToString) -> DefaultsError {
    DefaultsError::Value { key, problem: problem.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Defaults, String> {
        Defaults::read(text.as_bytes(), |name| name == "crun").map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_said_means_docker_s_defaults() {
        assert_eq!(read("{}"), Ok(Defaults::default()));
        let mut host = HostConfig::default();
        Defaults::default().fill(&mut host);
        assert_eq!((host.log_config.r#type.as_str(), host.shm_size), ("json-file", 64 << 20));
        assert_eq!((host.ipc_mode.as_str(), host.runtime.as_str()), ("private", spec::DEFAULT_RUNTIME));
    }

    #[test]
    fn a_container_s_own_settings_come_before_the_daemon_s() {
        let text = r#"{"log-driver": "local", "log-opts": {"max-size": "1m", "max-file": "2"},
            "default-ulimits": {"nofile": {"Name": "nofile", "Hard": 100, "Soft": 50}, "core": {"Hard": 0, "Soft": 0}},
            "default-shm-size": "32MiB", "default-ipc-mode": "shareable", "default-runtime": "crun"}"#;
        let defaults = read(text).unwrap();
        let mut host = HostConfig::default();
        host.log_config.config = Some(BTreeMap::from([("max-file".to_owned(), "9".to_owned())]));
        defaults.fill(&mut host);
        let options = host.log_config.config.unwrap();
        assert_eq!((options["max-size"].as_str(), options["max-file"].as_str()), ("1m", "9"));
        assert_eq!((host.log_config.r#type.as_str(), host.shm_size), ("local", 32 << 20));
        assert_eq!((host.ipc_mode.as_str(), host.runtime.as_str()), ("shareable", "crun"));
        let mut other = HostConfig::default();
        other.log_config.r#type = "json-file".into();
        defaults.fill(&mut other);
        assert_eq!(other.log_config.config, Some(BTreeMap::new()), "options of another driver");
        let own = Some(vec![Ulimit { name: "nofile".into(), hard: 7, soft: 7 }]);
        let limits: Vec<_> = defaults.with_ulimits(&own).map(|l| (l.name.as_str(), l.hard)).collect();
        assert_eq!(limits, [("nofile", 7), ("core", 0)]);
    }

    #[test]
    fn an_init_that_is_not_there_is_told_of() {
        let missing = |text: &str| read(text).unwrap().missing_init();
        assert!(missing(r#"{"init": true, "init-path": "/nonexistent"}"#).unwrap().contains("/nonexistent"));
        assert_eq!(missing(r#"{"init": true, "init-path": "/bin/sh"}"#), None);
        assert_eq!(missing(r#"{"init-path": "/nonexistent"}"#), None);
    }

    #[test]
    fn a_wrong_value_is_named() {
        for (text, says) in [
            (r#"{"log-opts": {"nosuch": "1"}}"#, "log-driver, log-opts: unknown log opt 'nosuch'"),
            (r#"{"log-opts": {"max-size": "x"}}"#, "log-driver, log-opts: invalid value for max-size"),
            (
                r#"{"default-ulimits": {"x": {"Hard": 1, "Soft": 1}}}"#,
                "default-ulimits: invalid ulimit type: x",
            ),
            (
                r#"{"default-ulimits": {"core": {"Hard": 1, "Soft": 2}}}"#,
                "default-ulimits: ulimit soft limit",
            ),
            (r#"{"default-runtime": "x"}"#, "default-runtime: specified default runtime 'x' does not exist"),
            (r#"{"default-shm-size": "x"}"#, "default-shm-size: invalid size"),
            (r#"{"seccomp-profile": "/nonexistent.json"}"#, "seccomp-profile: cannot read /nonexistent.json"),
        ] {
            let problem = read(text).unwrap_err();
            assert!(problem.starts_with(says), "{text}: {problem}");
        }
        assert_eq!(read(r#"{"default-runtime": "runc"}"#), Ok(Defaults::default()));
        assert_eq!(read(r#"{"seccomp-profile": "unconfined"}"#).unwrap().seccomp, SeccompProfile::Unconfined);
    }
}
