//! The program at the end of the host's input hooks, by which the host's filter is obeyed. aya has no word for programs
//! of netfilter, so this one is put together and loaded here.

use std::{
    collections::HashSet,
    fs, io, mem,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
};

use aya::{
    Ebpf,
    maps::{Map, MapData},
};
use aya_obj::Object;
use libnetwork_core::PortError;

use crate::{
    error::OnError,
    sys::{self, Hook},
};

const PROGRAM: &str = "judge";
const INPUT: &str = "the host's input hook";

/// A link for each family: the kernel has none for both.
const LINKS: [(&str, u32); 2] =
    [("judge4", libc::NFPROTO_IPV4 as u32), ("judge6", libc::NFPROTO_IPV6 as u32)];

/// The last place before connection tracking confirms what it saw (NF_IP_PRI_CONNTRACK_CONFIRM), so behind every filter.
/// There is one BPF program at a place: those of another instance, or of the process before, have the places above.
const LAST: i32 = i32::MAX - 1;
const PLACES: i32 = 16;

/// Attaches this build's program, then lets go of the one that an earlier process attached: no packet meets neither.
/// (The kernel cannot change the program of such a link.)
pub(crate) fn attach(program: &OwnedFd, pins: &Path) -> Result<(), PortError> {
    for (pin, family) in LINKS {
        let link = link(program, family).on("attach to", INPUT)?;
        let (new, path) = (pins.join(format!("{pin}-new")), pins.join(pin));
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).on("unpin", new.display())?,
            _ => {}
        }
        sys::pin(link.as_fd(), &new).on("pin", new.display())?;
        fs::rename(&new, &path).on("pin", path.display())?;
    }
    Ok(())
}

pub(crate) fn detach(pins: &Path) -> Result<(), PortError> {
    for (pin, _) in LINKS {
        match fs::remove_file(pins.join(pin)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).on("detach", pin)?,
            _ => {}
        }
    }
    Ok(())
}

fn link(program: &OwnedFd, family: u32) -> io::Result<OwnedFd> {
    let mut taken = None;
    for priority in (LAST - PLACES..=LAST).rev() {
        match sys::link_create(program.as_fd(), Hook::Input { family, priority }) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => taken = Some(error),
            other => return other,
        }
    }
    Err(taken.unwrap_or_else(|| io::Error::from_raw_os_error(libc::EBUSY)))
}

/// Loads the program with the maps that aya made for the others, before any of them is taken out.
pub(crate) fn load(bytes: &[u8], ebpf: &Ebpf) -> Result<OwnedFd, PortError> {
    let mut object = Object::parse(bytes).on("read", "the BPF object")?;
    let absent = || io::Error::from(io::ErrorKind::NotFound);
    let key = object.programs.get(PROGRAM).ok_or_else(absent).on("find BPF program", PROGRAM)?.function_key();
    object.programs.retain(|name, _| name == PROGRAM);
    let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    let maps = mem::take(&mut object.maps);
    let known = maps.iter().filter_map(|(name, map)| {
        let fd = data(ebpf.map(name)?)?.fd().as_fd().as_raw_fd();
        Some((name.as_str(), fd, map))
    });
    object.relocate_maps(known, &sections).on("relocate BPF program", PROGRAM)?;
    object.relocate_calls(&sections).on("relocate BPF program", PROGRAM)?;
    let function = object.functions.get(&key).ok_or_else(absent).on("find BPF program", PROGRAM)?;
    sys::load_netfilter(PROGRAM, &function.instructions, &object.license).on("load BPF program", PROGRAM)
}

fn data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data) | Map::HashMap(data) | Map::LruHashMap(data) | Map::LpmTrie(data) => Some(data),
        Map::PerCpuArray(data) | Map::PerCpuHashMap(data) => Some(data),
        _ => None,
    }
}
