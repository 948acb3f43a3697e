//! Floods: flows that begin and are never confirmed, and sources that have had their share of the table.

use std::{collections::BTreeMap, path::Path};

use aya::maps::{HashMap, Map, MapData, MapError, MapInfo, PerCpuArray};
use ebpf_layouts::{Flow, FlowKey, Pressure, Source, TOWARDS, VERSION, source};
use libnetwork_core::PortError;
use libnetwork_model::Protocol;

use crate::{
    bpffs,
    error::OnError,
    figures::{self, UDP_IDLE},
    object,
    tables::Raw,
};

/// Looks after the table of flows, from time to time, beside the mapper whose maps it opened.
pub struct Watch {
    pressure: PerCpuArray<MapData, Raw<Pressure>>,
    flows: HashMap<MapData, Raw<FlowKey>, Raw<Flow>>,
    sources: HashMap<MapData, Source, u64>,
    /// How many flows there is room for on probation.
    room: u64,
    last: Pressure,
}

/// What happened since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flood {
    /// Flows that began and were not confirmed, if they were more than there is room for: the oldest of them, and of
    /// [`Flood::held_back`], made room.
    pub unconfirmed: u64,
    /// Flows of sources that had their share: they work, but make room for others.
    pub held_back: u64,
}

impl Watch {
    /// Of the mapper that is open with its pins below `bpffs`. From then on it counts.
    pub fn open(bpffs: &Path) -> Result<Self, PortError> {
        let pins = bpffs::version_dir(bpffs, VERSION).join(bpffs::MAPS);
        let open = |name: &'static str| MapData::from_pin(pins.join(name)).on("open map", name);
        let lru = |name| Ok::<_, PortError>(Map::LruHashMap(open(name)?));
        let probation =
            MapInfo::from_pin(pins.join(object::PROBATION)).on("look at map", object::PROBATION)?;
        let pressure = Map::PerCpuArray(open(object::PRESSURE)?);
        let mut watch = Self {
            pressure: PerCpuArray::try_from(pressure).on("open map", object::PRESSURE)?,
            flows: HashMap::try_from(lru(object::FLOWS)?).on("open map", object::FLOWS)?,
            sources: HashMap::try_from(lru(object::SOURCES)?).on("open map", object::SOURCES)?,
            room: u64::from(probation.max_entries() / 2),
            last: Pressure::default(),
        };
        watch.last = watch.read()?;
        Ok(watch)
    }

    /// None: there was no flood. Where flows were held back, the sources are counted again: what was forgotten or pushed
    /// out was not taken off their shares. Costs one read, and in a flood one walk through the table.
    pub fn look(&mut self) -> Result<Option<Flood>, PortError> {
        let now = self.read()?;
        let begun = now.begun.saturating_sub(self.last.begun);
        let unconfirmed = begun.saturating_sub(now.confirmed.saturating_sub(self.last.confirmed));
        let held_back = now.held_back.saturating_sub(self.last.held_back);
        self.last = now;
        if held_back > 0 {
            let now = figures::seconds().on("read", "the clock")?;
            self.count_again(now).on("count", "the flows of each source")?;
        }
        let unconfirmed = if unconfirmed > self.room { unconfirmed } else { 0 };
        let flood = Flood { unconfirmed, held_back };
        Ok((flood != Flood::default()).then_some(flood))
    }

    fn read(&self) -> Result<Pressure, PortError> {
        let each = self.pressure.get(&0, 0).on("read map", object::PRESSURE)?;
        Ok(each.iter().fold(Pressure::default(), |sum, Raw(one)| Pressure {
            begun: sum.begun + one.begun,
            confirmed: sum.confirmed + one.confirmed,
            held_back: sum.held_back + one.held_back,
        }))
    }

    /// `now`: of the clock that the programs read.
    fn count_again(&mut self, now: u32) -> Result<(), MapError> {
        let (mut counts, mut over) = (BTreeMap::<Source, u64>::new(), Vec::new());
        for entry in self.flows.iter() {
            match entry {
                Ok((Raw(key), Raw(flow))) if key.direction == TOWARDS => {
                    if key.protocol == Protocol::Udp.number() && now.saturating_sub(flow.seen) > UDP_IDLE {
                        over.push(key);
                    } else {
                        *counts.entry(source(&key.source)).or_default() += 1;
                    }
                }
                // One that goes while they are read.
                Ok(_) | Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(error),
            }
        }
        for key in over {
            match self.flows.remove(&Raw(key)) {
                Ok(()) | Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(error),
            }
        }
        let known: Vec<Source> = self.sources.keys().filter_map(Result::ok).collect();
        for source in known {
            match counts.get(&source) {
                Some(count) => self.sources.insert(source, count, 0)?,
                None => _ = self.sources.remove(&source),
            }
        }
        Ok(())
    }
}
