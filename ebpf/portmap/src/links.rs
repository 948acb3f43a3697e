//! Where the programs are attached: by pinned links to the cgroup and to uplinks, by filters to links of our own. Both
//! outlive this process.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    thread,
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, MapError},
    programs::{CgroupSockAddr, Program, ProgramError, SchedClassifier},
};
use ebpf_layouts::{FILTER, OBEY, OPEN, PROBE, SHARE, SUCCEEDING};
use libnetwork_core::PortError;

use crate::{
    error::OnError,
    filters, host_port, judge, kernel_types,
    object::{self, SOCKET_HOOKS},
    sys::{self, Hook},
    uplinks::{self, Side, Uplink},
};

/// What a link of our own is to published ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Containers reach the host by it.
    Bridge,
    /// The host's end of a publishing container's veth pair.
    Veth,
}

impl Role {
    fn program(self) -> &'static str {
        match self {
            Role::Bridge => object::TOWARDS,
            Role::Veth => object::BACK,
        }
    }
}

pub(crate) struct Links {
    /// Holds the programs open, for what is to be attached yet.
    ebpf: Ebpf,
    pins: PathBuf,
    layout: u32,
    uplinks: BTreeSet<Uplink>,
    /// The links of our own, by index, that have this process's program.
    ours: BTreeSet<(Role, u32)>,
}

/// Loads the object with its maps pinned in `maps`, or found there. `flows`: see [`crate::Options`].
pub(crate) fn load(
    object: &[u8],
    maps: &Path,
    flows: u32,
    cookie: u64,
    layout: u32,
) -> Result<Ebpf, PortError> {
    let mut loader = EbpfLoader::new();
    for map in &object::PINNED {
        loader.map_pin_path(map.name, maps.join(map.name));
    }
    // Two entries a flow; on probation half as many; of the closed ones, those of the last quarter that closed.
    loader.map_max_entries(object::FLOWS, flows.saturating_mul(2).max(2));
    loader.map_max_entries(object::PROBATION, flows.max(2));
    loader.map_max_entries(object::CLOSED, (flows / 2).max(2));
    let skb_data = kernel_types::member_offset("sk_buff", "data").on("look at", "the kernel's types")?;
    loader.override_global("HOST_COOKIE", &cookie, true);
    loader.override_global("SKB_DATA", &skb_data, true);
    let generation = layout as u8;
    loader.override_global("GENERATION", &generation, true);
    let mut ebpf = loader.load(object).on("load", "the BPF object")?;
    // The verifier takes tens of milliseconds with each that sees packets, and looks at them side by side.
    thread::scope(|scope| {
        let each =
            ebpf.programs_mut().map(|(name, program)| (name, scope.spawn(move || verify(name, program))));
        let all: Vec<_> = each.collect();
        all.into_iter().try_for_each(|(name, loading)| {
            let loaded = loading.join().unwrap_or(Err(ProgramError::UnexpectedProgramType));
            loaded.on("load BPF program", name)
        })
    })?;
    drop(loader);
    // The loader read all of the kernel's type information, whether or not the object needs it; the allocator would
    // keep what it took for that.
    #[cfg(target_env = "gnu")]
    // SAFETY: no requirements.
    unsafe {
        libc::malloc_trim(0)
    };
    Ok(ebpf)
}

fn verify(name: &str, program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::SchedClassifier(_) if uplinks::is_bare(name) => Ok(()),
        Program::SchedClassifier(program) => unless_interrupted(|| program.load()),
        // `judge`, which is none.
        Program::SocketFilter(_) => Ok(()),
        Program::CgroupSockAddr(program) => unless_interrupted(|| program.load()),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

fn unless_interrupted(load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    let is_interruption = |error: &ProgramError| matches!(error, ProgramError::LoadError { io_error, .. } if sys::is_interruption(io_error));
    sys::unless_interrupted(load, is_interruption)
}

impl Links {
    /// With `judge` published ports obey the host's filter; without, they are open. One source has at most `share` flows
    /// that others cannot push out.
    ///
    /// Gives the links that are pinned in `pins` the programs of `ebpf`, each in one step, and attaches what of the
    /// cgroup's hooks is missing. Pins whose interface is gone are removed. Filters keep their programs until
    /// [`Links::attach`] is called; those use the same maps.
    pub(crate) fn adopt(
        mut ebpf: Ebpf,
        judge: Option<&OwnedFd>,
        share: u32,
        succeeding: bool,
        pins: PathBuf,
        layout: u32,
        cgroup: &Path,
    ) -> Result<Self, PortError> {
        // The programs ask the filter only while there is one who hears the answer.
        if let Some(judge) = judge {
            judge::attach(judge, &pins)?;
        }
        let filter = if judge.is_some() { OBEY } else { OPEN };
        let settings =
            [(SHARE, share), (PROBE, host_port::mark()), (SUCCEEDING, succeeding.into()), (FILTER, filter)];
        set(&mut ebpf, &settings).on("write map", object::SETTINGS)?;
        if judge.is_none() {
            judge::detach(&pins)?;
        }
        let mut links = Self { ebpf, pins, layout, uplinks: BTreeSet::new(), ours: BTreeSet::new() };
        let cgroup_fd = File::open(cgroup).on("open cgroup", cgroup.display())?;
        for (hook, attach_type) in SOCKET_HOOKS {
            if !links.update(hook, hook)? {
                links.create(hook, Hook::Cgroup(cgroup_fd.as_fd(), attach_type), hook)?;
            }
        }
        for uplink in uplinks::pinned_in(&links.pins)? {
            links.prepare(uplink)?;
            let (first, (last, program, _)) = uplink.sides();
            if !links.update(&last, program)? {
                if let Some((name, ..)) = first {
                    detach_pin(&links.pins.join(&name)).on("detach", &name)?;
                }
                continue;
            }
            if let Some((name, program, hook)) = first
                && !links.update(&name, program)?
            {
                links.create(program, hook, &name)?;
            }
            links.uplinks.insert(uplink);
        }
        Ok(links)
    }

    /// Attaches to the uplinks that the links in `pins`, of another layout, are attached to: in front of those.
    pub(crate) fn precede(&mut self, pins: &Path) -> Result<(), PortError> {
        for uplink in uplinks::pinned_in(pins)?.difference(&self.uplinks.clone()) {
            match self.precede_at(pins, *uplink) {
                Err(error) if is_gone(&error) => {
                    tracing::debug!(?uplink, "gone before it was attached to")
                }
                other => _ = other.map(|()| self.uplinks.insert(*uplink))?,
            }
        }
        Ok(())
    }

    fn precede_at(&mut self, pins: &Path, uplink: Uplink) -> Result<(), PortError> {
        self.prepare(uplink)?;
        for (name, program, hook) in uplink.all_sides() {
            // Of an attempt that was cut off.
            detach_pin(&self.pins.join(&name)).on("detach", &name)?;
            let before = sys::open_pin(&pins.join(&name)).on("open link", &name)?;
            let link = sys::link_create_before(self.program(program)?, hook, before.as_fd());
            sys::pin(link.on("attach", &name)?.as_fd(), &self.pins.join(&name)).on("pin", &name)?;
        }
        Ok(())
    }

    /// Takes the filters of another layout off the links of our own that have this process's.
    pub(crate) fn relieve(&mut self, layout: u32, name: impl Fn(u32) -> Option<String>) {
        for name in self.ours.iter().filter_map(|(_, index)| name(*index)) {
            if let Err(error) = filters::detach(&name, filters::priority(layout)) {
                tracing::warn!(link = %name, layout, %error, "a filter of an earlier layout stays, without ports");
            }
        }
        if let Err(error) = set(&mut self.ebpf, &[(SUCCEEDING, 0)]) {
            tracing::warn!(%error, "first packets of flows go past programs that others have behind these");
        }
    }

    /// Puts the role's program on a link of our own, once.
    pub(crate) fn attach(&mut self, role: Role, index: u32, name: &str) -> Result<(), PortError> {
        if self.ours.contains(&(role, index)) {
            return Ok(());
        }
        let program = role.program();
        match self.ebpf.program_mut(program) {
            Some(Program::SchedClassifier(program)) => {
                filters::attach(program, name, index, filters::priority(self.layout))
            }
            _ => Err(ProgramError::UnexpectedProgramType),
        }
        .on("attach to", name)?;
        self.ours.insert((role, index));
        Ok(())
    }

    /// Takes the program off a link of our own. Nothing is done when the link is gone (no name).
    pub(crate) fn detach(&mut self, role: Role, index: u32, name: Option<&str>) -> Result<(), PortError> {
        if let Some(name) = name {
            filters::detach(name, filters::priority(self.layout)).on("detach from", name)?;
        }
        self.ours.remove(&(role, index));
        Ok(())
    }

    /// Makes these the uplinks. Interfaces that vanished meanwhile are left out. One that refuses stops no other; the error is
    /// the first that did.
    pub(crate) fn set_uplinks(&mut self, uplinks: &BTreeSet<Uplink>) -> Result<(), PortError> {
        let mut result = Ok(());
        for uplink in uplinks.difference(&self.uplinks.clone()) {
            match self.attach_uplink(*uplink) {
                Ok(()) => _ = self.uplinks.insert(*uplink),
                Err(error) if is_gone(&error) => {
                    tracing::debug!(?uplink, "gone before it was attached to")
                }
                Err(error) => result = result.and(Err(error)),
            }
        }
        for uplink in self.uplinks.difference(uplinks).copied().collect::<Vec<_>>() {
            let detach = |(name, ..): Side| detach_pin(&self.pins.join(&name)).on("detach", name);
            match uplink.all_sides().try_for_each(detach) {
                Ok(()) => _ = self.uplinks.remove(&uplink),
                Err(error) => result = result.and(Err(error)),
            }
        }
        result
    }

    /// Anew where an attempt was cut off.
    fn attach_uplink(&mut self, uplink: Uplink) -> Result<(), PortError> {
        self.prepare(uplink)?;
        for (name, program, hook) in uplink.all_sides() {
            detach_pin(&self.pins.join(&name)).on("detach", &name)?;
            self.create(program, hook, &name)?;
        }
        Ok(())
    }

    /// Loads the uplink's programs where they are not.
    fn prepare(&mut self, uplink: Uplink) -> Result<(), PortError> {
        for (_, name, _) in uplink.all_sides() {
            if let Some(Program::SchedClassifier(program)) = self.ebpf.program_mut(name)
                && program.fd().is_err()
            {
                unless_interrupted(|| program.load()).on("load BPF program", name)?;
            }
        }
        Ok(())
    }

    /// False when nothing is pinned by that name, or when what it was attached to is gone; the pin is removed then.
    fn update(&self, name: &str, program: &'static str) -> Result<bool, PortError> {
        let path = self.pins.join(name);
        let link = match sys::open_pin(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other.on("open link", name)?,
        };
        match sys::link_update(link.as_fd(), self.program(program)?) {
            Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {
                fs::remove_file(&path).on("detach", name)?;
                Ok(false)
            }
            other => other.on("replace the program of", name).map(|()| true),
        }
    }

    /// A link that this process dies in between of is not pinned, and so goes with it.
    fn create(&self, program: &'static str, hook: Hook<'_>, name: &str) -> Result<(), PortError> {
        let link = sys::link_create(self.program(program)?, hook).on("attach", name)?;
        sys::pin(link.as_fd(), &self.pins.join(name)).on("pin", name)
    }

    fn program(&self, name: &'static str) -> Result<BorrowedFd<'_>, PortError> {
        let program = self.ebpf.program(name).ok_or(ProgramError::UnexpectedProgramType);
        let fd = program.and_then(|program| match program {
            Program::SchedClassifier(program) => SchedClassifier::fd(program),
            Program::CgroupSockAddr(program) => CgroupSockAddr::fd(program),
            _ => Err(ProgramError::UnexpectedProgramType),
        });
        Ok(fd.on("find BPF program", name)?.as_fd())
    }
}

/// What the programs look at, by the entry's number. The last one takes effect on what is open.
fn set(ebpf: &mut Ebpf, settings: &[(u32, u32)]) -> Result<(), MapError> {
    let map =
        ebpf.map_mut(object::SETTINGS).ok_or(MapError::InvalidName { name: object::SETTINGS.into() })?;
    let mut map = Array::<_, u32>::try_from(map)?;
    settings.iter().try_for_each(|(entry, value)| map.set(*entry, value, 0))
}

/// Takes some of what is pinned in a directory of links off.
pub(crate) fn detach(pins: &Path, names: &[&str]) -> Result<(), PortError> {
    names.iter().try_for_each(|name| detach_pin(&pins.join(name)).on("detach", name))
}

/// Takes off what is pinned in a directory of links.
pub(crate) fn detach_all(pins: &Path) -> Result<(), PortError> {
    let entries = match fs::read_dir(pins) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.on("list", pins.display())?,
    };
    for entry in entries {
        let path = entry.on("list", pins.display())?.path();
        detach_pin(&path).on("detach", path.display())?;
    }
    Ok(())
}

fn detach_pin(path: &Path) -> io::Result<()> {
    match sys::open_pin(path).and_then(|link| sys::link_detach(link.as_fd())) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        // What it was attached to is gone.
        // Netfilter's cannot be detached: they go with the pin.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOLINK | libc::EOPNOTSUPP)) => {}
        other => other?,
    }
    fs::remove_file(path)
}

fn is_gone(error: &PortError) -> bool {
    let errno = error.source.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
    matches!(errno, Some(libc::ENODEV | libc::ENXIO))
}
