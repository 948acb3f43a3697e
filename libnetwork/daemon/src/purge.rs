//! `causewayd purge`: nothing of ours is left.

use std::{fs, io, path::Path};

use libnetwork_core::{StoreError, chain};
use libnetwork_store::EmbeddedStore;

use crate::{args::Directories, boot, reserved};

#[derive(Debug, thiserror::Error)]
pub(crate) enum PurgeError {
    #[error("causewayd is running with the state directory {state}: stop it first")]
    Running { state: String },
    #[error("not everything could be removed: {}", problems.join("; "))]
    Left { problems: Vec<String> },
}

/// Removes what is ours from the network namespace of the calling thread and from both directories. What fails does not
/// keep the rest from being removed; all of it is told.
pub(crate) fn purge(directories: &Directories) -> Result<(), PurgeError> {
    let store = directories.store();
    // Held until the end, so that no causewayd starts in between. What cannot be read goes all the same.
    let lock = if store.exists() {
        match EmbeddedStore::open(&store, &directories.run_dir, &boot::id().unwrap_or_default()) {
            Err(StoreError::Locked { .. }) => {
                return Err(PurgeError::Running { state: directories.state_dir.display().to_string() });
            }
            other => other.ok(),
        }
    } else {
        None
    };
    let mut problems = Vec::new();
    if let Err(error) = ebpf_portmap::purge(&directories.bpffs()) {
        problems.push(chain(&error));
    }
    if let Err(errors) = libnetwork_kernel::purge(&directories.netns(), &directories.sysctl_record()) {
        problems.extend(errors.iter().map(|error| chain(error)));
    }
    if let Err(error) = reserved::release(directories.reserved_ports()) {
        problems.push(format!("cannot take published ports out of the host's reserved ones: {error}"));
    }
    let run = &directories.run_dir;
    for path in [run.join("intent.journal"), run.join("intent.journal.new"), directories.socket(), store] {
        if let Err(error) = remove(&path) {
            problems.push(format!("cannot remove {}: {error}", path.display()));
        }
    }
    drop(lock);
    // Other daemons may have theirs in there.
    for directory in [run, &directories.state_dir] {
        let _ = fs::remove_dir(directory);
    }
    if problems.is_empty() { Ok(()) } else { Err(PurgeError::Left { problems }) }
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
