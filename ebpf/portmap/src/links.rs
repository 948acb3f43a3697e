//! Where the programs are attached. Every link is pinned, under a name that says what it is attached to, so that it
//! outlives this process and the next one finds it.

use std::{
    collections::BTreeSet,
    fmt, fs,
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfLoader,
    programs::{CgroupSockAddr, Program, ProgramError, SchedClassifier},
};
use libnetwork_core::PortError;

use crate::{
    error::OnError,
    object::{self, SOCKET_HOOKS},
    sys::{self, Hook},
};

/// What an interface is to published ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Clients from outside arrive on it.
    Uplink,
    /// Containers reach the host by it.
    Bridge,
    /// The host's end of a publishing container's veth pair.
    Veth,
}

impl Role {
    const ALL: [(Role, &'static str); 3] =
        [(Role::Uplink, "uplink"), (Role::Bridge, "bridge"), (Role::Veth, "veth")];

    fn program(self) -> &'static str {
        match self {
            Role::Uplink | Role::Bridge => object::TOWARDS,
            Role::Veth => object::BACK,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Role::ALL.iter().find(|(role, _)| role == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

/// An interface in a role, by index: the kernel gives an index to one interface only. Written `uplink-2`, which is also
/// its pin's name (bpffs refuses dots, which names of interfaces may have).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub role: Role,
    pub index: u32,
}

impl Place {
    fn parse(name: &str) -> Option<Self> {
        let (role, index) = name.split_once('-')?;
        let (role, _) = *Role::ALL.iter().find(|(_, name)| *name == role)?;
        Some(Self { role, index: index.parse().ok()? })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.role, self.index)
    }
}

pub(crate) struct Links {
    /// Holds the programs open, for the links to come.
    ebpf: Ebpf,
    pins: PathBuf,
    places: BTreeSet<Place>,
}

/// Loads the object with its maps pinned in `maps`, or found there.
pub(crate) fn load(object: &[u8], maps: &Path, flows: u32, cookie: u64) -> Result<Ebpf, PortError> {
    let mut loader = EbpfLoader::new();
    for map in &object::PINNED {
        loader.map_pin_path(map.name, maps.join(map.name));
    }
    // Two entries a flow; of the closed ones, those of the last quarter that closed.
    loader.map_max_entries(object::FLOWS, flows.saturating_mul(2).max(2));
    loader.map_max_entries(object::CLOSED, (flows / 2).max(2));
    loader.override_global("HOST_COOKIE", &cookie, true);
    let mut ebpf = loader.load(object).on("load", "the BPF object")?;
    for (name, program) in ebpf.programs_mut() {
        match program {
            Program::SchedClassifier(program) => program.load(),
            Program::CgroupSockAddr(program) => program.load(),
            _ => Err(ProgramError::UnexpectedProgramType),
        }
        .on("load BPF program", name)?;
    }
    Ok(ebpf)
}

impl Links {
    /// Gives the links that are pinned in `pins` the programs of `ebpf`, each in one step, and attaches what of the
    /// cgroup's hooks is missing. Pins whose interface is gone are removed.
    pub(crate) fn adopt(ebpf: Ebpf, pins: PathBuf, cgroup: &Path) -> Result<Self, PortError> {
        let mut links = Self { ebpf, pins, places: BTreeSet::new() };
        let cgroup_fd = File::open(cgroup).on("open cgroup", cgroup.display())?;
        for (hook, attach_type) in SOCKET_HOOKS {
            if !links.update(hook, hook)? {
                links.create(hook, Hook::Cgroup(cgroup_fd.as_fd(), attach_type), hook)?;
            }
        }
        for entry in fs::read_dir(&links.pins).on("list", links.pins.display())? {
            let entry = entry.on("list", links.pins.display())?;
            let Some(place) = entry.file_name().to_str().and_then(Place::parse) else { continue };
            if links.update(&place.to_string(), place.role.program())? {
                links.places.insert(place);
            }
        }
        Ok(links)
    }

    pub(crate) fn attach(&mut self, place: Place) -> Result<(), PortError> {
        if !self.places.contains(&place) {
            self.create(place.role.program(), Hook::Ingress(place.index), &place.to_string())?;
            self.places.insert(place);
        }
        Ok(())
    }

    pub(crate) fn detach(&mut self, place: Place) -> Result<(), PortError> {
        if self.places.contains(&place) {
            let path = self.pins.join(place.to_string());
            remove_pin(&path).on("detach", place)?;
            self.places.remove(&place);
        }
        Ok(())
    }

    /// Makes the places of a role exactly these. Interfaces that vanished meanwhile are left out.
    pub(crate) fn only(&mut self, role: Role, indices: &BTreeSet<u32>) -> Result<(), PortError> {
        for index in indices {
            let place = Place { role, index: *index };
            match self.attach(place) {
                Err(error) if is_gone(&error) => {
                    tracing::debug!(%place, "gone before it could be attached to")
                }
                other => other?,
            }
        }
        let places = self.places.iter().filter(|p| p.role == role && !indices.contains(&p.index));
        for place in places.copied().collect::<Vec<_>>() {
            self.detach(place)?;
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
        let place = Place::parse(name);
        if let Some(place) = place
            && sys::link_interface(link.as_fd()).on("look at link", name)? != place.index
        {
            remove_pin(&path).on("detach", name)?;
            return Ok(false);
        }
        match sys::link_update(link.as_fd(), self.program(program)?) {
            Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {
                remove_pin(&path).on("detach", name)?;
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

fn remove_pin(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn is_gone(error: &PortError) -> bool {
    let errno = error.source.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
    matches!(errno, Some(libc::ENODEV | libc::ENXIO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_back_from_its_name() {
        for (role, _) in Role::ALL {
            let place = Place { role, index: 17 };
            assert_eq!(Place::parse(&place.to_string()), Some(place));
        }
        assert_eq!(Place::parse("connect4"), None);
        assert_eq!(Place::parse("uplink-x"), None);
    }
}
