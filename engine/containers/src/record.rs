//! What is kept of a container on disk.
//!
//! Two files below `STATE/engine/containers/<id>/`, each replaced atomically: `config.json` is what a person asked
//! for and is synced to the disk; `state.json` is what became of it and is not, because what it tells dies with the
//! machine anyway: a container whose state a power cut has eaten counts as one that never ran.
//!
//! `config.json` has Docker's names and shapes, but for ranges of ports: `"8000..8999/tcp": [{"HostPort": "80.."}]` are a
//! thousand bindings, of which Docker's JSON has each.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use engine_images::Digest;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    Error, Result,
    config::{ContainerConfig, EndpointSettings, HostConfig, Mount, MountPoint, Status},
    moment::Moment,
};

pub(crate) const CONFIG: &str = "config.json";
pub(crate) const STATE: &str = "state.json";

/// What a person asked for, with Docker's defaults and the image's filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Config {
    /// Counts the changes of this record, from 1.
    pub(crate) revision: u64,
    pub(crate) id: String,
    /// Without a slash.
    pub(crate) name: String,
    pub(crate) created: Moment,
    pub(crate) image: Digest,
    /// What the daemon had for containers that say nothing of it, when this one was made.
    #[serde(default)]
    pub(crate) no_new_privileges: bool,
    #[serde(with = "folded")]
    pub(crate) config: ContainerConfig,
    #[serde(with = "folded")]
    pub(crate) host: HostConfig,
    /// By network name; what is asked for, not what a running container got.
    pub(crate) networks: BTreeMap<String, EndpointSettings>,
    pub(crate) mounts: Vec<MountRecord>,
}

/// A mount, settled when the container is created.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct MountRecord {
    pub(crate) point: MountPoint,
    /// A volume that goes with the container (`rm -v`, `--rm`).
    pub(crate) anonymous: bool,
    /// What `--mount` said, where it was used.
    pub(crate) spec: Option<Mount>,
    /// Do not copy the image's content into a fresh volume.
    pub(crate) no_copy: bool,
    /// Make the source when it is missing (`-v`).
    pub(crate) make_source: bool,
}

/// What became of the container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RunState {
    pub(crate) status: Status,
    pub(crate) pid: i32,
    pub(crate) exit_code: i32,
    pub(crate) error: String,
    pub(crate) oom_killed: bool,
    pub(crate) started_at: Moment,
    pub(crate) finished_at: Moment,
    /// How often the restart policy started it since a person did.
    pub(crate) restart_count: i64,
    /// A person stopped it: `unless-stopped` leaves it alone then, and so does every other policy until the next boot.
    pub(crate) stopped_by_user: bool,
    /// The addresses that it had last, by network name: those that it gets again after a reboot.
    pub(crate) addresses: BTreeMap<String, Addresses>,
}

/// Of one endpoint, without prefix lengths; empty where it had none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Addresses {
    pub(crate) ipv4: String,
    pub(crate) ipv6: String,
}

impl RunState {
    /// Docker counts a paused or restarting container as running.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.status, Status::Running | Status::Paused | Status::Restarting)
    }

    /// A process of the container exists.
    pub(crate) fn has_process(&self) -> bool {
        matches!(self.status, Status::Running | Status::Paused)
    }
}

/// Ranges of ports as one entry each, where Docker's JSON has one for every port. What was written port by port is read too.
mod folded {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::config::{ContainerConfig, HostConfig, PortBindings, PortSet};

    pub(super) trait Fold: Clone {
        fn folded(self) -> Self;
        fn unfolded(self) -> Self;
    }

    impl Fold for ContainerConfig {
        fn folded(self) -> Self {
            Self { exposed_ports: self.exposed_ports.map(PortSet::folded), ..self }
        }

        fn unfolded(self) -> Self {
            Self { exposed_ports: self.exposed_ports.map(PortSet::unfolded), ..self }
        }
    }

    impl Fold for HostConfig {
        fn folded(self) -> Self {
            Self { port_bindings: self.port_bindings.map(PortBindings::folded), ..self }
        }

        fn unfolded(self) -> Self {
            Self { port_bindings: self.port_bindings.map(PortBindings::unfolded), ..self }
        }
    }

    pub(super) fn serialize<T, S>(value: &T, serializer: S) -> Result<S::Ok, S::Error>
    where
        T: Fold + Serialize,
        S: Serializer,
    {
        value.clone().folded().serialize(serializer)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: Fold + Deserialize<'de>,
        D: Deserializer<'de>,
    {
        T::deserialize(deserializer).map(T::unfolded)
    }
}

/// Replaces `dir/name` by this value. With `durable` it is on the disk when this returns. Blocking.
pub(crate) fn write<T: Serialize>(dir: &Path, name: &str, value: &T, durable: bool) -> Result<()> {
    stage(dir, name, value, durable)?.commit()
}

/// A record that is written and not yet in the place of the one before.
pub(crate) struct Staged {
    temporary: PathBuf,
    path: PathBuf,
    durable: bool,
}

/// Writes this value beside `dir/name`. Whoever needs no more than one disk's time for this and for something else does the
/// two at once, and commits when the other has come out well. Blocking.
pub(crate) fn stage<T: Serialize>(dir: &Path, name: &str, value: &T, durable: bool) -> Result<Staged> {
    let staged = Staged { temporary: dir.join(format!(".{name}.tmp")), path: dir.join(name), durable };
    let result = (|| -> io::Result<()> {
        let json = serde_json::to_vec(value).map_err(io::Error::other)?;
        let mut file = fs::File::create(&staged.temporary)?;
        file.write_all(&json)?;
        if durable { file.sync_data() } else { Ok(()) }
    })();
    result.map_err(Error::io("write", &staged.path))?;
    Ok(staged)
}

impl Staged {
    /// Puts it in place. Blocking.
    pub(crate) fn commit(self) -> Result<()> {
        let result = (|| -> io::Result<()> {
            fs::rename(&self.temporary, &self.path)?;
            match self.path.parent().filter(|_| self.durable) {
                Some(dir) => fs::File::open(dir)?.sync_all(),
                None => Ok(()),
            }
        })();
        result.map_err(Error::io("write", self.path))
    }
}

/// Reads `dir/name`; none when it is not there. Blocking.
pub(crate) fn read<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<Option<T>> {
    let path = dir.join(name);
    match fs::read(&path) {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Some(value)),
            Err(source) => Err(Error::Corrupt { path, source }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { operation: "read", path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{PortBinding, PortMap};

    fn config(config: ContainerConfig, host: HostConfig) -> Config {
        Config {
            revision: 1,
            id: "a".repeat(64),
            name: "web".to_owned(),
            created: Moment::now(),
            image: format!("sha256:{}", "b".repeat(64)).parse().unwrap(),
            no_new_privileges: false,
            config,
            host,
            networks: BTreeMap::new(),
            mounts: Vec::new(),
        }
    }

    /// A record as it was written before ranges were: port by port.
    fn port_by_port(config: &Config) -> serde_json::Value {
        let mut json = serde_json::to_value(config).unwrap();
        json["config"] = serde_json::to_value(&config.config).unwrap();
        json["host"] = serde_json::to_value(&config.host).unwrap();
        json
    }

    #[test]
    fn a_range_of_ports_is_one_entry_on_the_disk_and_one_port_by_port_is_still_read() {
        let binding = |n: u16| PortBinding { host_ip: String::new(), host_port: (n + 1000).to_string() };
        let bindings = |ports: std::ops::Range<u16>| -> PortMap {
            ports.map(|n| (format!("{n}/tcp"), Some(vec![binding(n)]))).collect()
        };
        let of = |ports: std::ops::Range<u16>| {
            let exposed: Vec<String> = ports.clone().map(|n| format!("{n}/tcp")).collect();
            let exposed_ports = Some(exposed.iter().map(String::as_str).collect());
            let config = ContainerConfig { exposed_ports, ..ContainerConfig::default() };
            let port_bindings = Some(bindings(ports).into());
            super::tests::config(config, HostConfig { port_bindings, ..HostConfig::default() })
        };
        let (one, many) = (of(9000..9001), of(9000..10_000));
        let old = port_by_port(&many);
        assert_eq!(old["host"]["PortBindings"]["9999/tcp"][0]["HostPort"], "10999");
        assert_eq!(serde_json::from_value::<Config>(old).unwrap(), many);
        assert_eq!(port_by_port(&one), serde_json::to_value(&one).unwrap());
        let text = serde_json::to_string(&many).unwrap();
        assert!(text.len() < serde_json::to_string(&one).unwrap().len() + 50, "{text}");
        assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), many);
    }

    #[test]
    fn a_record_survives_the_disk_and_a_torn_write_does_not_replace_it() {
        let dir = tempfile::tempdir().unwrap();
        let state = RunState { status: Status::Exited, exit_code: 3, ..RunState::default() };
        write(dir.path(), STATE, &state, false).unwrap();
        fs::write(dir.path().join(".state.json.tmp"), "{\"status\":").unwrap();
        assert_eq!(read::<RunState>(dir.path(), STATE).unwrap(), Some(state));
        assert_eq!(read::<RunState>(dir.path(), CONFIG).unwrap(), None);
        fs::write(dir.path().join(STATE), "{").unwrap();
        assert!(matches!(read::<RunState>(dir.path(), STATE), Err(Error::Corrupt { .. })));
    }
}
