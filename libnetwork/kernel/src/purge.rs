//! Leaving nothing behind.

use std::{fs, path::Path};

use libnetwork_plan::{Cause, KernelError, Key, Ns};

use crate::{
    apply::gone_is_gone,
    before::Before,
    link,
    netlink::{Protocol, Socket},
    nft,
    ownership::{DOOMED, GROUP, tables},
    spaces::unmount,
    thread::cause,
};

/// Removes all that is ours from the network namespace of the calling thread, and all sandboxes' namespaces: our tables,
/// our links, the mounts below `netns_dir` and the directory. Settings of the host (forwarding) that still have the value
/// that we gave them get back the one that `sysctl_record` remembers. Blocking; needs no daemon, and none may be running.
///
/// Goes on after a failure, and returns all of them.
pub fn purge(netns_dir: &Path, sysctl_record: &Path) -> Result<(), Vec<KernelError>> {
    let mut errors = Vec::new();
    let mut check = |operation, key: Option<Key>, result: Result<(), Cause>| {
        errors.extend(result.err().map(|cause| KernelError { operation, namespace: Ns::Host, key, cause }));
    };
    for table in tables(&Ns::Host) {
        let key = Key::Ruleset { ns: Ns::Host, table: table.clone() };
        let removed =
            Socket::open(Protocol::Netfilter).and_then(|mut socket| nft::delete_table(&mut socket, &table));
        check("delete", Some(key), removed);
    }
    check("delete", None, remove_links());
    check("delete", None, remove_namespaces(netns_dir));
    check("restore", None, Before::new(sysctl_record.to_owned()).restore());
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn remove_links() -> Result<(), Cause> {
    let mut socket = Socket::open(Protocol::Route)?;
    for group in [GROUP, DOOMED] {
        socket.request(&mut [link::delete_group(group)]).remove(0).or_else(gone_is_gone)?;
    }
    Ok(())
}

fn remove_namespaces(dir: &Path) -> Result<(), Cause> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(cause(error)),
    };
    for entry in entries {
        unmount(&entry.map_err(cause)?.path())?;
    }
    fs::remove_dir(dir).map_err(cause)
}
