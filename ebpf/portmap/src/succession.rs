//! From maps of an earlier layout to those of this one, without a packet or a flow lost.
//!
//! What is in the earlier maps is copied, and each program of this build attached in front of the one that is there: it takes
//! what it knows, and leaves the rest (what began between the copy and that moment) to the other. When it is in front
//! everywhere, nothing begins in the earlier maps any more; what they have beyond the copy is copied too, and they go.

use std::{
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use aya::maps::{MapInfo, MapType};
use ebpf_layouts::EXTENDED_SINCE;
use libnetwork_core::{PortError, chain};

use crate::{bpffs, error::OnError, links, object, sys, tables};

/// Without ports: a port comes when all is there that it leads to.
const RANGES: [&str; 4] = [object::TARGETS, object::BESIDE, object::ADDRESSES, object::PORTS];
/// In the order that a flow goes through them: one that moves on meanwhile is found where it went.
const FLOWS: [&str; 6] =
    [object::PROBATION, object::FLOWS, object::CLOSED, object::SOURCES, object::FRAGMENTS, object::SENT_MAP];
/// The hooks by which entries come into `SOCKETS`.
const LEADING: [&str; 4] = ["connect4", "connect6", "sendmsg4", "sendmsg6"];
/// Numbers by which both layouts count on together: no id of a target is given out again, since flows are told apart by it, and
/// no port while containers remember it, whichever layout's programs gave it.
const COUNTERS: [&str; 2] = [tables::NEXT_ID, object::LAST_SPARE];

/// What another layout's programs have, and go on with until this build's are in front of them.
pub(crate) struct Predecessor {
    pub layout: u32,
    bpffs: PathBuf,
    /// Of this build.
    maps: PathBuf,
}

impl Predecessor {
    /// The latest layout before this one, if what it has can be understood.
    pub(crate) fn find(bpffs: &Path, layout: u32, maps: &Path) -> Option<Self> {
        let earlier = (EXTENDED_SINCE..layout).rev().find(|earlier| {
            bpffs::version_dir(bpffs, *earlier).join(bpffs::MAPS).join(object::TARGETS).exists()
        })?;
        Some(Self { layout: earlier, bpffs: bpffs.to_owned(), maps: maps.to_owned() })
    }

    pub(crate) fn links(&self) -> PathBuf {
        bpffs::version_dir(&self.bpffs, self.layout).join(bpffs::LINKS)
    }

    /// Whether that was done; says why, where it was not.
    pub(crate) fn is_taken_over(&self, done: Result<(), PortError>) -> bool {
        if let Err(error) = &done {
            let error = chain(error);
            tracing::warn!(layout = self.layout, error, "published ports begin anew: cannot take over");
        }
        done.is_ok()
    }

    /// Pins the counters where this build looks for its own: before it does.
    pub(crate) fn share(&self) -> Result<(), PortError> {
        for name in COUNTERS {
            let (earlier, ours) = (self.earlier(name), self.maps.join(name));
            if !earlier.exists() || ours.exists() {
                continue;
            }
            let shape = MapInfo::from_pin(&earlier).on("look at map", name)?;
            let is_number = shape.map_type().is_ok_and(|kind| kind == MapType::Array)
                && (shape.key_size(), shape.value_size()) == (4, 4);
            if !is_number {
                return Err(io::Error::other("it is no counter")).on("take over map", name);
            }
            let map = sys::open_pin(&earlier).on("open map", name)?;
            sys::pin(map.as_fd(), &ours).on("pin map", name)?;
        }
        Ok(())
    }

    /// Copies all that this build's maps do not have.
    pub(crate) fn copy(&self) -> Result<(), PortError> {
        self.copy_each(&RANGES)?;
        self.copy_each(&[object::FIGURES])?;
        self.copy_flows()
    }

    fn copy_flows(&self) -> Result<(), PortError> {
        self.copy_each(&FLOWS)?;
        self.copy_each(&[object::SOCKETS])
    }

    /// For when this build's programs are in front everywhere.
    pub(crate) fn end(&self) -> Result<(), PortError> {
        // Processes are led by this build from here on, and answered by either: no socket is without.
        links::detach(&self.links(), &LEADING)?;
        self.copy_flows()?;
        bpffs::remove_version(&self.bpffs, self.layout)
    }

    fn copy_each(&self, names: &[&'static str]) -> Result<(), PortError> {
        for name in names.iter().copied() {
            let (from, to) = (self.earlier(name), self.maps.join(name));
            if from.exists() {
                copy(&from, &to).on("copy map", name)?;
            }
        }
        Ok(())
    }

    fn earlier(&self, map: &str) -> PathBuf {
        bpffs::version_dir(&self.bpffs, self.layout).join(bpffs::MAPS).join(map)
    }
}

/// Adds the entries of one map to another, whose values may be longer. Entries may come and go meanwhile.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let [old, new] = [from, to].map(|pin| MapInfo::from_pin(pin).map_err(io::Error::other));
    let (old, new) = (old?, new?);
    let kinds = [old.map_type(), new.map_type()].map(|kind| kind.map_err(io::Error::other));
    let [kind, new_kind] = kinds;
    let kind = kind?;
    if kind != new_kind? || old.key_size() != new.key_size() {
        return Err(io::Error::other("its keys are of another kind"));
    }
    let each = if kind == MapType::PerCpuHash { cpus()? } else { 1 };
    let per_cpu = kind == MapType::PerCpuHash;
    let (old_size, new_size) = (slot(old.value_size(), per_cpu), slot(new.value_size(), per_cpu));
    let (from, to) = (sys::open_pin(from)?, sys::open_pin(to)?);
    let mut key = vec![0; old.key_size() as usize];
    let mut next = key.clone();
    let mut value = vec![0; old_size * each];
    let mut more = sys::map_next_key(from.as_fd(), None, &mut next)?;
    // A key that goes while it is the last one sends the walk back to the beginning.
    let mut left = 4 * u64::from(old.max_entries());
    while more && left > 0 {
        std::mem::swap(&mut key, &mut next);
        if sys::map_lookup(from.as_fd(), &key, &mut value)? {
            sys::map_add(to.as_fd(), &key, &extended(&value, old_size, new_size))?;
        }
        more = sys::map_next_key(from.as_fd(), Some(&key), &mut next)?;
        left -= 1;
    }
    Ok(())
}

/// Bytes that a value takes: of a map for each CPU, one of several.
fn slot(size: u32, per_cpu: bool) -> usize {
    let size = size as usize;
    if per_cpu { size.next_multiple_of(8) } else { size }
}

fn cpus() -> io::Result<usize> {
    aya::util::nr_cpus().map_err(|(_, error)| error)
}

/// Each value with zeros at its end.
fn extended(values: &[u8], from: usize, to: usize) -> Vec<u8> {
    let fit = from.min(to);
    values
        .chunks(from)
        .flat_map(|value| value[..fit].iter().copied().chain(std::iter::repeat_n(0, to - fit)))
        .collect()
}

#[cfg(test)]
mod tests {
    use aya::maps::{Array, HashMap, Map, MapData, PerCpuHashMap, PerCpuValues};

    use super::*;

    /// A bpffs of its own, which goes with it.
    struct Pins(tempfile::TempDir);

    impl Pins {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            bpffs::ensure(&dir.path().join("bpf")).unwrap();
            Self(dir)
        }

        fn at(&self, name: &str) -> PathBuf {
            self.0.path().join("bpf").join(name)
        }

        /// What is copied to.
        fn map(&self, kind: fn(MapData) -> Map) -> Map {
            kind(MapData::from_pin(self.at("new")).unwrap())
        }
    }

    impl Drop for Pins {
        fn drop(&mut self) {
            let _ = bpffs::purge(&self.0.path().join("bpf"));
        }
    }

    #[test]
    fn longer_values_end_in_zeros_and_what_is_there_stays() {
        let pins = Pins::new();
        let mut old = HashMap::<MapData, u32, [u8; 4]>::create(8, 0).unwrap();
        let mut new = HashMap::<MapData, u32, [u8; 6]>::create(8, 0).unwrap();
        for key in 1..=5 {
            old.insert(key, [key as u8; 4], 0).unwrap();
        }
        new.insert(3, [9; 6], 0).unwrap();
        old.pin(pins.at("old")).unwrap();
        new.pin(pins.at("new")).unwrap();
        let new = HashMap::<_, u32, [u8; 6]>::try_from(pins.map(Map::HashMap)).unwrap();
        for _ in 0..2 {
            copy(&pins.at("old"), &pins.at("new")).unwrap();
            assert_eq!(new.keys().count(), 5);
            assert_eq!(new.get(&2, 0).unwrap(), [2, 2, 2, 2, 0, 0]);
            assert_eq!(new.get(&3, 0).unwrap(), [9; 6]);
        }
    }

    #[test]
    fn figures_of_each_cpu_are_copied() {
        let pins = Pins::new();
        let mut old = PerCpuHashMap::<MapData, u32, u32>::create(8, 0).unwrap();
        let new = PerCpuHashMap::<MapData, u32, [u64; 2]>::create(8, 0).unwrap();
        let figures: Vec<u32> = (1..).take(cpus().unwrap()).collect();
        old.insert(7, PerCpuValues::try_from(figures.clone()).unwrap(), 0).unwrap();
        old.pin(pins.at("old")).unwrap();
        new.pin(pins.at("new")).unwrap();
        let new = PerCpuHashMap::<_, u32, [u64; 2]>::try_from(pins.map(Map::PerCpuHashMap)).unwrap();
        copy(&pins.at("old"), &pins.at("new")).unwrap();
        let copied: Vec<[u64; 2]> = new.get(&7, 0).unwrap().iter().copied().collect();
        assert_eq!(copied, figures.iter().map(|n| [u64::from(*n), 0]).collect::<Vec<_>>());
    }

    #[test]
    fn both_layouts_count_on_by_one_counter() {
        let pins = Pins::new();
        let bpffs = pins.0.path().join("bpf");
        let [earlier, ours] = [1, 2].map(|layout| bpffs::version_dir(&bpffs, layout).join(bpffs::MAPS));
        for maps in [&earlier, &ours] {
            std::fs::create_dir_all(maps).unwrap();
        }
        let counter = |maps: &Path| {
            let map = Map::Array(MapData::from_pin(maps.join(object::LAST_SPARE)).unwrap());
            Array::<_, u32>::try_from(map).unwrap()
        };
        Array::<MapData, u32>::create(1, 0).unwrap().pin(earlier.join(object::LAST_SPARE)).unwrap();
        let predecessor = Predecessor { layout: 1, bpffs, maps: ours.clone() };
        predecessor.share().unwrap();
        // What the predecessor's programs give afterwards is told, too; and a start that was cut off shares once more.
        counter(&earlier).set(0, 8, 0).unwrap();
        predecessor.share().unwrap();
        assert_eq!(counter(&ours).get(&0, 0).unwrap(), 8);
        assert!(!ours.join(tables::NEXT_ID).exists(), "there was none");
    }

    #[test]
    fn keys_of_another_size_are_refused() {
        let pins = Pins::new();
        HashMap::<MapData, u32, u32>::create(8, 0).unwrap().pin(pins.at("old")).unwrap();
        HashMap::<MapData, u64, u32>::create(8, 0).unwrap().pin(pins.at("new")).unwrap();
        assert!(copy(&pins.at("old"), &pins.at("new")).is_err());
    }
}
