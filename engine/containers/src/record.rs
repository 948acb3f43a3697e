//! What is kept of a container on disk.
//!
//! Two files below `STATE/engine/containers/<id>/`, each replaced atomically: `config.json` is what a person asked
//! for and is synced to the disk; `state.json` is what became of it and is not, because what it tells dies with the
//! machine anyway: a container whose state a power cut has eaten counts as one that never ran.

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
    pub(crate) config: ContainerConfig,
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
