//! The maps that say which ports are published, with a copy of what they hold: asking the kernel for each entry again
//! would make a change cost as much as there is.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuHashMap, lpm_trie::Key},
};
use ebpf_layouts::{
    Address, BESIDE, BesideKey, Figures, Flow, FlowKey, PORT_KEY_FIXED_BITS, Plain, PortKey, TOWARDS, Target,
};
use libnetwork_core::PortError;

use crate::{error::OnError, object, prefixes::prefixes};

/// A struct of ours as bytes of a map.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Raw<T>(pub(crate) T);

// SAFETY: what is `Plain` has no padding, and every bit pattern is a value of it.
unsafe impl<T: Plain + 'static> Pod for Raw<T> {}

/// A prefix of a [`PortKey`]: the key, and how many bits of its port are fixed.
type Prefix = (PortKey, u32);
pub(crate) type Sandbox = [u8; 32];

/// The pin of the one map that no program reads.
pub(crate) const NEXT_ID: &str = "NEXT_ID";

pub(crate) struct Tables {
    ports: LpmTrie<MapData, Raw<PortKey>, u32>,
    targets: HashMap<MapData, u32, Raw<Target>>,
    beside: HashMap<MapData, Raw<BesideKey>, u32>,
    addresses: HashMap<MapData, Address, u8>,
    /// One entry: the id that the next target gets. Pinned, since a flow that outlives its target must not find another
    /// one by the same id.
    next_id: Array<MapData, u32>,
    /// Those confirmed, and those on probation.
    flows: [HashMap<MapData, Raw<FlowKey>, Raw<Flow>>; 2],
    figures: PerCpuHashMap<MapData, u32, Raw<Figures>>,
    held: Held,
}

#[derive(Default)]
struct Held {
    ports: BTreeMap<Prefix, u32>,
    targets: BTreeMap<u32, Target>,
    sandboxes: BTreeMap<Sandbox, BTreeSet<u32>>,
    beside: BTreeMap<BesideKey, u32>,
    addresses: BTreeSet<Address>,
}

impl Tables {
    /// Takes the maps of a loaded object over with what they hold, and puts right what an earlier process left half
    /// done: every target has all of its ports, and there is no other port.
    pub(crate) fn open(ebpf: &mut Ebpf, pins: &Path) -> Result<Self, PortError> {
        let ports = LpmTrie::try_from(take(ebpf, object::PORTS)?).on("open map", object::PORTS)?;
        let targets = HashMap::try_from(take(ebpf, object::TARGETS)?).on("open map", object::TARGETS)?;
        let beside = HashMap::try_from(take(ebpf, object::BESIDE)?).on("open map", object::BESIDE)?;
        let addresses =
            HashMap::try_from(take(ebpf, object::ADDRESSES)?).on("open map", object::ADDRESSES)?;
        let next_id = open_next_id(&pins.join(NEXT_ID)).on("open map", "NEXT_ID")?;
        let flows = [
            HashMap::try_from(take(ebpf, object::FLOWS)?).on("open map", object::FLOWS)?,
            HashMap::try_from(take(ebpf, object::PROBATION)?).on("open map", object::PROBATION)?,
        ];
        let figures =
            PerCpuHashMap::try_from(take(ebpf, object::FIGURES)?).on("open map", object::FIGURES)?;
        let held = Held::default();
        let mut tables = Self { ports, targets, beside, addresses, next_id, flows, figures, held };
        tables.read().on("read map", "TARGETS, PORTS, BESIDE or ADDRESSES")?;
        tables.heal()?;
        Ok(tables)
    }

    fn read(&mut self) -> Result<(), MapError> {
        for entry in self.targets.iter() {
            let (id, Raw(target)) = entry?;
            self.held.targets.insert(id, target);
            self.held.sandboxes.entry(target.sandbox).or_default().insert(id);
        }
        for entry in self.ports.iter() {
            let (key, id) = entry?;
            let Raw(port) = key.data();
            self.held.ports.insert((port, key.prefix_len().saturating_sub(PORT_KEY_FIXED_BITS)), id);
        }
        for entry in self.beside.iter() {
            let (Raw(key), id) = entry?;
            self.held.beside.insert(key, id);
        }
        for address in self.addresses.keys() {
            self.held.addresses.insert(address?);
        }
        Ok(())
    }

    fn heal(&mut self) -> Result<(), PortError> {
        let there = |id: &u32| self.held.targets.contains_key(id);
        let whole = |(key, id): &(&BesideKey, &u32)| there(&key.target) && there(id);
        let torn: Vec<BesideKey> =
            self.held.beside.iter().filter(|entry| !whole(entry)).map(|(key, _)| *key).collect();
        torn.into_iter().try_for_each(|key| self.remove_beside_key(key))?;
        let led: BTreeSet<u32> = self.held.beside.values().copied().collect();
        let is_lost = |(id, target): &(&u32, &Target)| target.is(BESIDE) && !led.contains(id);
        let lost: Vec<u32> = self.held.targets.iter().filter(is_lost).map(|(id, _)| *id).collect();
        lost.into_iter().try_for_each(|id| self.remove_target(id))?;

        let mut wanted = BTreeMap::new();
        // Where two targets have a port, the later one was about to replace the earlier.
        for (id, target) in &self.held.targets {
            wanted.extend(prefixes_of(target).map(|prefix| (prefix, *id)));
        }
        let stale: Vec<Prefix> =
            self.held.ports.keys().filter(|p| !wanted.contains_key(p)).copied().collect();
        for (prefix, id) in wanted {
            self.put_port(prefix, id)?;
        }
        stale.into_iter().try_for_each(|prefix| self.remove_port(prefix))
    }

    pub(crate) fn sandboxes(&self) -> impl Iterator<Item = &Sandbox> {
        self.held.sandboxes.keys()
    }

    pub(crate) fn targets(&self) -> impl Iterator<Item = &Target> {
        self.held.targets.values()
    }

    pub(crate) fn of_sandbox(&self, sandbox: &Sandbox) -> BTreeMap<u32, Target> {
        let ids = self.held.sandboxes.get(sandbox).into_iter().flatten();
        ids.filter_map(|id| Some((*id, *self.held.targets.get(id)?))).collect()
    }

    /// Publishes a target by a new id, with those beside it. With the lineage of another it takes over the flows of those of
    /// its ports that the other has, when that one is removed; with 0 no flow leads to it yet.
    pub(crate) fn insert(&mut self, target: Target, beside: &[Target]) -> Result<u32, PortError> {
        let (id, target) = self.number(target)?;
        self.set_beside(id, beside)?;
        self.put(id, target).map(|()| id)
    }

    fn number(&mut self, mut target: Target) -> Result<(u32, Target), PortError> {
        let id = self.next_id.get(&0, 0).on("read map", "NEXT_ID")?.max(1);
        self.next_id.set(0, id.wrapping_add(1), 0).on("write map", "NEXT_ID")?;
        if target.lineage == 0 {
            target.lineage = id;
        }
        Ok((id, target))
    }

    /// Makes these the targets for clients on other networks of the sandbox, each by its address; those that were there
    /// keep their flows.
    pub(crate) fn set_beside(&mut self, id: u32, wanted: &[Target]) -> Result<(), PortError> {
        let mut had = self.beside(id);
        let mut keys = BTreeSet::new();
        for target in wanted {
            let present =
                had.iter().find(|(_, had)| had.address == target.address).map(|(id, had)| (*id, *had));
            let beside = match present {
                Some((beside, present)) => {
                    had.remove(&beside);
                    let target = Target { lineage: present.lineage, ..*target };
                    if present != target {
                        self.put(beside, target)?;
                    }
                    beside
                }
                None => {
                    let (beside, target) = self.number(*target)?;
                    self.put(beside, target)?;
                    beside
                }
            };
            for link in [target.bridge, target.link] {
                let key = BesideKey { target: id, link };
                keys.insert(key);
                if self.held.beside.get(&key) != Some(&beside) {
                    self.beside.insert(Raw(key), beside, 0).on("publish", describe(target))?;
                    self.held.beside.insert(key, beside);
                }
            }
        }
        let stale: Vec<BesideKey> = self.beside_keys(id).filter(|key| !keys.contains(key)).collect();
        stale.into_iter().try_for_each(|key| self.remove_beside_key(key))?;
        had.into_keys().try_for_each(|beside| self.remove_target(beside))
    }

    fn beside_keys(&self, id: u32) -> impl Iterator<Item = BesideKey> {
        let key = |link| BesideKey { target: id, link };
        self.held.beside.range(key(0)..=key(u32::MAX)).map(|(key, _)| *key)
    }

    /// The targets beside one.
    fn beside(&self, id: u32) -> BTreeMap<u32, Target> {
        let ids = self.beside_keys(id).filter_map(|key| self.held.beside.get(&key));
        ids.filter_map(|id| Some((*id, *self.held.targets.get(id)?))).collect()
    }

    /// Writes a target, then its ports: a port never leads to nothing.
    pub(crate) fn put(&mut self, id: u32, target: Target) -> Result<(), PortError> {
        self.targets.insert(id, Raw(target), 0).on("publish", describe(&target))?;
        self.held.targets.insert(id, target);
        self.held.sandboxes.entry(target.sandbox).or_default().insert(id);
        prefixes_of(&target).try_for_each(|prefix| self.put_port(prefix, id))
    }

    /// Withdraws a target, ports first, with those beside it. Their flows are dead from then on.
    pub(crate) fn remove(&mut self, id: u32) -> Result<(), PortError> {
        let Some(target) = self.held.targets.get(&id).copied() else { return Ok(()) };
        for prefix in prefixes_of(&target) {
            // Another target may have taken the port over.
            if self.held.ports.get(&prefix) == Some(&id) {
                self.remove_port(prefix)?;
            }
        }
        self.remove_target(id)?;
        self.set_beside(id, &[])
    }

    fn remove_beside_key(&mut self, key: BesideKey) -> Result<(), PortError> {
        absent_is_fine(self.beside.remove(&Raw(key))).on("write map", object::BESIDE)?;
        self.held.beside.remove(&key);
        Ok(())
    }

    fn remove_target(&mut self, id: u32) -> Result<(), PortError> {
        let Some(target) = self.held.targets.get(&id).copied() else { return Ok(()) };
        absent_is_fine(self.targets.remove(&id)).on("withdraw", describe(&target))?;
        absent_is_fine(self.figures.remove(&id)).on("withdraw", describe(&target))?;
        self.held.targets.remove(&id);
        if let Some(ids) = self.held.sandboxes.get_mut(&target.sandbox) {
            ids.remove(&id);
            if ids.is_empty() {
                self.held.sandboxes.remove(&target.sandbox);
            }
        }
        Ok(())
    }

    /// What went through a target, on all CPUs; nothing yet is no entry.
    pub(crate) fn figures(&self, id: u32) -> Result<Figures, PortError> {
        let each = match self.figures.get(&id, 0) {
            Err(MapError::KeyNotFound) => return Ok(Figures::default()),
            other => other.on("read map", object::FIGURES)?,
        };
        let mut all = Figures::default();
        for Raw(one) in each.iter() {
            all.packets_in += one.packets_in;
            all.bytes_in += one.bytes_in;
            all.packets_out += one.packets_out;
            all.bytes_out += one.bytes_out;
            all.begun += one.begun;
            all.refused += one.refused;
            all.no_place += one.no_place;
        }
        Ok(all)
    }

    /// Calls for each flow that is there, once. Looks at all of them, so it is for people's questions alone.
    pub(crate) fn each_flow(&self, mut call: impl FnMut(&FlowKey, &Flow)) -> Result<(), PortError> {
        for entry in self.flows.iter().flat_map(HashMap::iter) {
            match entry {
                Ok((Raw(key), Raw(flow))) if key.direction == TOWARDS => call(&key, &flow),
                // One that goes while they are read.
                Ok(_) | Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(error).on("read map", object::FLOWS),
            }
        }
        Ok(())
    }

    fn put_port(&mut self, prefix: Prefix, id: u32) -> Result<(), PortError> {
        if self.held.ports.get(&prefix) != Some(&id) {
            self.ports.insert(&trie_key(prefix), id, 0).on("publish", Port(prefix))?;
            self.held.ports.insert(prefix, id);
        }
        Ok(())
    }

    fn remove_port(&mut self, prefix: Prefix) -> Result<(), PortError> {
        absent_is_fine(self.ports.remove(&trie_key(prefix))).on("withdraw", Port(prefix))?;
        self.held.ports.remove(&prefix);
        Ok(())
    }

    pub(crate) fn add_address(&mut self, address: Address) -> Result<(), PortError> {
        if !self.held.addresses.contains(&address) {
            self.addresses.insert(address, 1, 0).on("write map", object::ADDRESSES)?;
            self.held.addresses.insert(address);
        }
        Ok(())
    }

    pub(crate) fn set_addresses(&mut self, addresses: &BTreeSet<Address>) -> Result<(), PortError> {
        addresses.iter().try_for_each(|address| self.add_address(*address))?;
        let gone: Vec<Address> = self.held.addresses.difference(addresses).copied().collect();
        gone.into_iter().try_for_each(|address| self.remove_address(address))
    }

    pub(crate) fn remove_address(&mut self, address: Address) -> Result<(), PortError> {
        absent_is_fine(self.addresses.remove(&address)).on("write map", object::ADDRESSES)?;
        self.held.addresses.remove(&address);
        Ok(())
    }
}

/// Empties the ports of maps that are going to be unpinned, for the programs that still have them. Maps of a layout that
/// this build does not know are left as they are.
pub(crate) fn withdraw_all(pins: &Path) {
    let Ok(map) = MapData::from_pin(pins.join(object::PORTS)).map(Map::LpmTrie) else { return };
    if let Ok(mut ports) = LpmTrie::<_, Raw<PortKey>, u32>::try_from(map) {
        let keys: Vec<_> = ports.keys().filter_map(Result::ok).collect();
        for key in keys {
            // One that is left leads nowhere when the targets are gone.
            let _ = ports.remove(&key);
        }
    }
    let Ok(map) = MapData::from_pin(pins.join(object::TARGETS)).map(Map::HashMap) else { return };
    if let Ok(mut targets) = HashMap::<_, u32, Raw<Target>>::try_from(map) {
        let ids: Vec<_> = targets.keys().filter_map(Result::ok).collect();
        for id in ids {
            let _ = targets.remove(&id);
        }
    }
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, PortError> {
    ebpf.take_map(name).ok_or(MapError::InvalidName { name: name.to_owned() }).on("open map", name)
}

/// aya's object has no such map, since no program reads it.
pub(crate) fn open_next_id(path: &Path) -> Result<Array<MapData, u32>, MapError> {
    if path.exists() {
        return Array::try_from(Map::Array(MapData::from_pin(path)?));
    }
    let map = Array::<MapData, u32>::create(1, 0)?;
    map.pin(path).map_err(|error| MapError::PinError { name: Some("NEXT_ID".into()), error })?;
    Array::try_from(Map::Array(MapData::from_pin(path)?))
}

fn trie_key((key, bits): Prefix) -> Key<Raw<PortKey>> {
    Key::new(PORT_KEY_FIXED_BITS + bits, Raw(key))
}

fn prefixes_of(target: &Target) -> impl Iterator<Item = Prefix> + use<> {
    let (protocol, address) = (target.protocol, target.host);
    // Those beside others are found by them.
    let ports = (!target.is(BESIDE)).then(|| prefixes(target.first, target.last));
    ports
        .into_iter()
        .flatten()
        .map(move |(port, bits)| (PortKey { protocol, zero: 0, address, port: port.to_be_bytes() }, bits))
}

fn absent_is_fine(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}

struct Port(Prefix);

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (key, bits) = self.0;
        write!(f, "port {}/{bits}, protocol {}", u16::from_be_bytes(key.port), key.protocol)
    }
}

pub(crate) fn describe(target: &Target) -> String {
    format!("ports {}-{}, protocol {}", target.first, target.last, target.protocol)
}
