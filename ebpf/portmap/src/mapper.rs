use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use aya::maps::MapInfo;
use ebpf_layouts::{Address, BESIDE, Target, VERSION};
use libnetwork_core::{
    Bridges, DeniedPort, Families, PortError, PortFigures, PortMapper, Publication, chain,
};
use libnetwork_model::{HostFacts, PublishedPort, SandboxId};

use crate::{
    bpffs,
    error::OnError,
    figures,
    host::{self, Framing, Interfaces},
    judge,
    links::{self, Links, Role},
    object::{self, OBJECT},
    probe,
    succession::Predecessor,
    tables::{self, Tables},
    uplinks::Uplink,
    wanted::{self, Wanted},
};

/// How the programs are set up; the default is what an engine wants.
#[derive(Debug, Clone)]
pub struct Options {
    /// The cgroup (v2) whose processes are led to published ports when they connect to one by an address of the host.
    /// None: the root of the hierarchy, so every process of the host namespace.
    pub cgroup: Option<PathBuf>,
    /// Confirmed flows tracked at once; the ones idle the longest make room. An eighth of them may be of one source. For
    /// all other flows there is room for half as many. About 600 bytes of kernel memory each, set aside at once. Maps
    /// that are there already keep their size.
    pub flows: u32,
    /// What the host's own filter (nftables, iptables, ufw, firewalld: its input hook) denies is denied at published ports
    /// too. False: what is published is open. Clients on the host itself are not asked about.
    pub obey_host_filter: bool,
    /// Another build of the programs than the one compiled in: a developer's.
    pub object: Option<PathBuf>,
    /// The layout whose pins and places are used, as [`ebpf_layouts::VERSION`]: a test has several of one build.
    pub layout: u32,
}

/// So many sources can fill the table of flows, not one.
const SOURCES: u32 = 8;

impl Default for Options {
    fn default() -> Self {
        Self { cgroup: None, flows: 65_536, obey_host_filter: true, object: None, layout: VERSION }
    }
}

/// Publishes ports by BPF programs, whose maps and links are pinned: they work on when this process ends.
///
/// It keeps a copy of what the maps hold, so there must be one for a directory of pins at a time; several with a
/// directory each do not disturb each other, in one network namespace or in several.
pub struct BpfPortMapper {
    tables: Tables,
    links: Links,
    interfaces: Interfaces,
    /// Every bridge that was told of and found: its index, and the host's addresses on it.
    bridges: BTreeMap<String, (u32, Vec<Address>)>,
    /// Where clients outside come in, to be asked about: none where the host's filter is not obeyed.
    asked: Vec<probe::Asker>,
    obey: bool,
    /// Uplinks that were complained of.
    unknown: BTreeSet<String>,
    /// Until it is known what all of its programs hang on.
    predecessor: Option<Predecessor>,
}

impl BpfPortMapper {
    /// Opens the mapper of the network namespace that the calling thread is in, with its pins below `bpffs`: mounts a
    /// bpffs there when there is none, takes over the maps and links that an earlier process left, and puts the programs
    /// of this build in their place without a packet or a flow lost. Where the earlier maps have another layout, their content
    /// is taken over, and theirs are the programs that see what comes by other bridges than those of published ports, until
    /// [`PortMapper::bridges`] or [`PortMapper::set`] is called. Maps of a later layout are not understood: it begins anew.
    ///
    /// Every later call must come from a thread in the same namespace. Blocking; needs root and Linux 6.6.
    pub fn open(bpffs: &Path, options: &Options) -> Result<Self, PortError> {
        bpffs::ensure(bpffs)?;
        let layout = options.layout;
        let pins = bpffs::version_dir(bpffs, layout);
        let (map_pins, link_pins) = (pins.join(bpffs::MAPS), pins.join(bpffs::LINKS));
        if !maps_are_ours(&map_pins) {
            bpffs::remove_version(bpffs, layout)?;
        }
        for dir in [&map_pins, &link_pins] {
            fs::create_dir_all(dir).on("create", dir.display())?;
        }
        let given = match &options.object {
            Some(path) => Some(fs::read(path).on("read", path.display())?),
            None => None,
        };
        let cgroup = match &options.cgroup {
            Some(path) => path.clone(),
            None => host::cgroup_root().on("find", "the cgroup2 hierarchy")?,
        };
        let cookie = host::namespace_cookie().on("identify", "the network namespace")?;
        let object = given.as_deref().unwrap_or(OBJECT);
        let predecessor = Predecessor::find(bpffs, layout, &map_pins);
        let predecessor = predecessor.filter(|found| found.is_taken_over(found.share()));
        let mut ebpf = links::load(object, &map_pins, options.flows, cookie, layout)?;
        let judge = match options.obey_host_filter {
            true => Some(judge::load(object, &ebpf)?),
            false => None,
        };
        let predecessor = predecessor.filter(|found| found.is_taken_over(found.copy()));
        let tables = Tables::open(&mut ebpf, &map_pins)?;
        let share = (options.flows / SOURCES).max(1);
        let links =
            Links::adopt(ebpf, judge.as_ref(), share, predecessor.is_some(), link_pins, layout, &cgroup)?;
        let interfaces = Interfaces::open().on("open", "a socket")?;
        let mut mapper = Self {
            tables,
            links,
            interfaces,
            bridges: BTreeMap::new(),
            asked: Vec::new(),
            obey: options.obey_host_filter,
            unknown: BTreeSet::new(),
            predecessor,
        };
        mapper.precede()?;
        // Other layouts' programs go when ours are in place.
        let kept = mapper.predecessor.as_ref().map(|predecessor| predecessor.layout);
        bpffs::remove_versions(bpffs, |version| version == layout || Some(version) == kept)?;
        Ok(mapper)
    }

    /// Puts the programs in front of the predecessor's: those that know answers first.
    fn precede(&mut self) -> Result<(), PortError> {
        let Some(predecessor) = &self.predecessor else { return Ok(()) };
        let pins = predecessor.links();
        let targets: Vec<Target> = self.tables.targets().copied().collect();
        let veths: BTreeSet<u32> = targets.iter().map(|target| target.link).collect();
        let bridges: BTreeSet<u32> = targets.iter().map(|target| target.bridge).collect();
        let ours = veths.into_iter().map(|index| (Role::Veth, index));
        for (role, index) in ours.chain(bridges.into_iter().map(|index| (Role::Bridge, index))) {
            let Some(name) = self.interfaces.name(index).on("find interface", index)? else { continue };
            // One that goes meanwhile takes its filters along.
            if let Err(error) = self.links.attach(role, index, &name) {
                tracing::debug!(link = %name, error = chain(&error), "cannot attach");
            }
        }
        self.links.precede(&pins)
    }

    /// Lets the predecessor go, now that no packet is left to it.
    fn succeed(&mut self) {
        let Some(predecessor) = self.predecessor.take() else { return };
        let ended = predecessor.end();
        self.links.relieve(predecessor.layout, |index| self.interfaces.name(index).ok().flatten());
        match ended {
            Ok(()) => {
                tracing::info!(from = predecessor.layout, "published ports taken over from an earlier layout")
            }
            Err(error) => tracing::warn!(
                layout = predecessor.layout,
                error = chain(&error),
                "what an earlier layout had could not be removed; the next start tries again"
            ),
        }
    }

    /// What cannot be found out is no reason to refuse what can be published.
    fn ask(&mut self, ranges: &[probe::Range]) -> Vec<DeniedPort> {
        probe::denied(&mut self.tables, &self.asked, ranges).unwrap_or_else(|error| {
            tracing::debug!(error = chain(&error), "cannot ask the host's firewall about published ports");
            Vec::new()
        })
    }

    fn say_unknown(&mut self, name: &str) {
        if self.unknown.insert(name.to_owned()) {
            tracing::warn!(uplink = %name, "neither Ethernet nor IP alone: published ports cannot be reached by it");
        }
    }

    fn detach(&mut self, role: Role, index: u32) -> Result<(), PortError> {
        let name = self.interfaces.name(index).on("find interface", index)?;
        self.links.detach(role, index, name.as_deref())
    }

    /// Takes the program off a bridge that no network has any more, unless a published port leads by it.
    fn leave_bridge(&mut self, index: u32) -> Result<(), PortError> {
        if self.tables.targets().any(|target| target.bridge == index) {
            return Ok(());
        }
        self.detach(Role::Bridge, index)
    }

    /// Those that the host has no more on any bridge.
    fn forget_addresses(&mut self, had: &[Address]) -> Result<(), PortError> {
        for address in had {
            let on_another = self.bridges.values().any(|(_, addresses)| addresses.contains(address));
            if !on_another && !self.tables.targets().any(|target| target.gateway == *address) {
                self.tables.remove_address(*address)?;
            }
        }
        Ok(())
    }
}

impl PortMapper for BpfPortMapper {
    fn sandboxes(&mut self) -> Result<BTreeSet<SandboxId>, PortError> {
        Ok(self.tables.sandboxes().map(|bytes| SandboxId::from_bytes(*bytes)).collect())
    }

    /// Mappings that were there stay as they are, with their flows; of one whose range changes, the flows of the ports that
    /// stay. New ones are there before old ones go, so that a port which moves is never without.
    fn set(&mut self, sandbox: &SandboxId, publication: &Publication) -> Result<Vec<DeniedPort>, PortError> {
        self.succeed();
        let sandbox = sandbox_bytes(sandbox);
        let wanted = wanted::targets(&self.interfaces, sandbox, publication)?;
        let before = self.tables.of_sandbox(&sandbox);

        for way in wanted::ways(publication) {
            for (role, name) in [(Role::Veth, &way.link), (Role::Bridge, &way.bridge)] {
                let index = self.interfaces.index(name).on("find interface", name)?;
                self.links.attach(role, index, name)?;
            }
            self.tables.add_address(host::address(way.gateway))?;
        }
        let mut held = before.clone();
        held.retain(|_, target| !target.is(BESIDE));
        let is_new = |w: &&Wanted| !held.values().any(|held| is_same_mapping(held, &w.target));
        let denied = self.ask(&wanted.iter().filter(is_new).filter_map(wanted::range).collect::<Vec<_>>());
        let inherited = |target: &Target| {
            let lineage = before.values().find(|held| leads_alike(held, target)).map_or(0, |h| h.lineage);
            Target { lineage, ..*target }
        };
        for Wanted { target, beside } in &wanted {
            let beside: Vec<Target> = beside.iter().map(inherited).collect();
            match held.iter().find(|(_, held)| is_same_mapping(held, target)).map(|(id, held)| (*id, *held)) {
                None => drop(self.tables.insert(inherited(target), &beside)?),
                Some((id, present)) => {
                    held.remove(&id);
                    let target = Target { lineage: present.lineage, ..*target };
                    if present != target {
                        self.tables.put(id, target)?;
                    }
                    self.tables.set_beside(id, &beside)?;
                }
            }
        }
        held.keys().try_for_each(|id| self.tables.remove(*id))?;
        let veths: BTreeSet<u32> = self.tables.of_sandbox(&sandbox).values().map(|t| t.link).collect();
        let veths_before: BTreeSet<u32> = before.values().map(|target| target.link).collect();
        for index in veths_before.difference(&veths) {
            self.detach(Role::Veth, *index)?;
        }
        Ok(denied)
    }

    fn denied(&mut self, ports: &[PublishedPort], families: Families) -> Vec<DeniedPort> {
        self.ask(&ports.iter().flat_map(|port| wanted::ranges_of(port, families)).collect::<Vec<_>>())
    }

    fn uplinks(&mut self, host: &HostFacts) -> Result<(), PortError> {
        let (mut uplinks, mut asked) = (BTreeSet::from([Uplink::Loopback]), Vec::new());
        for (name, uplink) in &host.uplinks {
            let (name, index) = (name.clone(), uplink.index);
            let (kind, mac) = match self.interfaces.framing(&name) {
                Ok(Framing::Ethernet(mac)) => (Uplink::Ethernet(index), mac),
                Ok(Framing::Bare) => (Uplink::Bare(index), [0; 6]),
                Ok(Framing::Other) => {
                    self.say_unknown(&name);
                    continue;
                }
                Err(error) => {
                    tracing::debug!(uplink = %name, %error, "gone before it could be looked at");
                    continue;
                }
            };
            uplinks.insert(kind);
            if self.obey {
                let known = uplink.addresses.iter().filter(|net| host::is_reachable(net.addr()));
                asked.push(probe::Uplink { name, index, mac, addresses: known.copied().collect() });
            }
        }
        // The rest is true of those that did not refuse.
        let attached = self.links.set_uplinks(&uplinks);
        self.asked = probe::Asker::follow(std::mem::take(&mut self.asked), asked);

        let mut addresses = host::addresses().on("list", "the host's addresses")?;
        let facts = host.uplinks.values().flat_map(|uplink| &uplink.addresses).map(|net| net.addr());
        addresses.extend(facts.filter(|ip| host::is_reachable(*ip)).map(host::address));
        addresses.extend(self.tables.targets().map(|target| target.gateway));
        addresses.extend(self.bridges.values().flat_map(|(_, addresses)| addresses));
        attached.and(self.tables.set_addresses(&addresses))
    }

    fn figures(
        &mut self,
        sandbox: &SandboxId,
        ports: &[PublishedPort],
    ) -> Result<Option<Vec<PortFigures>>, PortError> {
        figures::of(&self.tables, &sandbox_bytes(sandbox), ports).map(Some)
    }

    fn bridges(&mut self, bridges: &Bridges) -> Result<(), PortError> {
        let gone = self.bridges.keys().filter(|name| !bridges.contains_key(*name)).cloned().collect();
        self.change_bridges(bridges, &gone)?;
        self.succeed();
        Ok(())
    }

    fn change_bridges(&mut self, came: &Bridges, gone: &BTreeSet<String>) -> Result<(), PortError> {
        for (name, addresses) in came {
            let addresses: Vec<Address> = addresses.iter().copied().map(host::address).collect();
            addresses.iter().try_for_each(|address| self.tables.add_address(*address))?;
            let index = match self.interfaces.index(name) {
                Ok(index) => Some(index),
                Err(error) => {
                    tracing::debug!(bridge = %name, %error, "not there yet, or no longer");
                    None
                }
            };
            if let Some(index) = index {
                self.links.attach(Role::Bridge, index, name)?;
            }
            let before = match index {
                Some(index) => self.bridges.insert(name.clone(), (index, addresses)),
                None => self.bridges.remove(name),
            };
            if let Some((before, had)) = before {
                self.forget_addresses(&had)?;
                if index != Some(before) {
                    self.leave_bridge(before)?;
                }
            }
        }
        for name in gone {
            if let Some((index, had)) = self.bridges.remove(name) {
                self.forget_addresses(&had)?;
                self.leave_bridge(index)?;
            }
        }
        Ok(())
    }
}

/// Detaches and removes all that [`BpfPortMapper::open`] made below `bpffs`, unmounts it and removes the directory.
/// Does nothing where there is nothing. On bridges and veths the programs stay, without a port to lead anywhere, until
/// those go.
pub fn purge(bpffs: &Path) -> Result<(), PortError> {
    bpffs::purge(bpffs)
}

/// Whether both lead the same ports to the same place; the interfaces on the way may differ.
fn is_same_mapping(a: &Target, b: &Target) -> bool {
    let key = |t: &Target| (t.protocol, t.host, t.first, t.last, t.container_port, t.address);
    key(a) == key(b)
}

/// Whether both have ports in common, and lead them to the same place: the flows of those may go on.
fn leads_alike(a: &Target, b: &Target) -> bool {
    let key = |t: &Target| (t.protocol, t.host, t.address, t.container_port.wrapping_sub(t.first));
    key(a) == key(b) && a.first <= b.last && b.first <= a.last
}

fn sandbox_bytes(id: &SandboxId) -> tables::Sandbox {
    // An id is 64 hexadecimal digits; its type lets no other string be one.
    let digit = |at: usize| (id.as_str().as_bytes()[at] as char).to_digit(16).unwrap_or_default() as u8;
    std::array::from_fn(|i| digit(2 * i) << 4 | digit(2 * i + 1))
}

/// Whether the maps pinned there, if any, are of this layout: the version in the path is by hand, sizes are not.
fn maps_are_ours(dir: &Path) -> bool {
    object::PINNED.iter().all(|map| {
        let path = dir.join(map.name);
        !path.exists()
            || MapInfo::from_pin(&path).is_ok_and(|info| {
                (info.key_size(), info.value_size()) == (map.key, map.value)
                    && info.map_type().is_ok_and(|kind| kind == map.kind)
            })
    })
}
