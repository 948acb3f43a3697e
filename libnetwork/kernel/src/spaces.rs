//! The namespaces that we work in: where they are kept, and the sockets held open in them.

use std::{
    collections::HashMap,
    fs,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use libnetwork_model::SandboxId;
use libnetwork_plan::{Cause, Name, Ns};
use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::statfs::{FsType, statfs},
};

use crate::{
    link,
    netlink::{Protocol, Socket},
    nsid::{self, Nsid, Numbers},
    thread::{Visitor, cause, open},
    watch::Links,
};

/// linux/magic.h
const NSFS_MAGIC: FsType = FsType(0x6e73_6673);

/// One namespace's sockets. They keep the namespace alive, so they are closed before it is removed.
pub(crate) struct Space {
    pub(crate) route: Socket,
    /// Opened when first needed; not kept for sandboxes, where it seldom is.
    nft: Option<Socket>,
    /// What was last heard of its links.
    pub(crate) links: Links,
    /// The settings that read as another text than was written: by name, what was written and what it reads as.
    readings: HashMap<Name, (Name, Name)>,
    /// What the host's namespace calls it.
    nsid: Option<Nsid>,
    /// Which namespace it is: another may be put under the same name.
    inode: u64,
}

pub(crate) struct Spaces {
    dir: PathBuf,
    host: Space,
    sandboxes: HashMap<SandboxId, Space>,
    pub(crate) visitor: Visitor,
    /// The open sandboxes by their number in the host's namespace.
    names: HashMap<Nsid, SandboxId>,
    numbers: Numbers,
}

/// Namespaces that are opened together: each costs a file for that long.
const TOGETHER: usize = 256;

impl Spaces {
    /// With the calling thread's namespace as the host's.
    pub(crate) fn open(dir: PathBuf) -> Result<Self, Cause> {
        fs::create_dir_all(&dir).map_err(cause)?;
        let mut host = Space::here(0)?;
        host.nsid = nsid::own(&mut host.route)?;
        let numbers = Numbers::open(&mut host.route)?;
        let (sandboxes, names) = (HashMap::new(), HashMap::new());
        Ok(Spaces { dir, host, sandboxes, visitor: Visitor::start()?, names, numbers })
    }

    /// Who a notification is about; none when that is nobody of ours.
    pub(crate) fn named(&mut self, nsid: Option<Nsid>) -> Option<(Ns, &mut Space)> {
        if nsid.is_none() || nsid == self.host.nsid {
            return Some((Ns::Host, &mut self.host));
        }
        let id = self.names.get(&nsid?)?;
        Some((Ns::Sandbox(id.clone()), self.sandboxes.get_mut(id)?))
    }

    /// Keeps the sockets of sandboxes, and hears from now on what happens in them.
    fn adopt(&mut self, opened: Vec<(SandboxId, OwnedFd, Space)>) -> Result<(), Cause> {
        let namespaces: Vec<&OwnedFd> = opened.iter().map(|(_, namespace, _)| namespace).collect();
        let nsids = self.numbers.assign(&mut self.host.route, &namespaces)?;
        for ((id, _, space), nsid) in opened.into_iter().zip(nsids) {
            self.forget(&id);
            self.names.extend(nsid.map(|nsid| (nsid, id.clone())));
            self.sandboxes.insert(id, Space { nsid, ..space });
        }
        Ok(())
    }

    fn forget(&mut self, id: &SandboxId) {
        if let Some(Space { nsid: Some(nsid), .. }) = self.sandboxes.remove(id) {
            self.names.remove(&nsid);
        }
    }

    pub(crate) fn host(&mut self) -> &mut Space {
        &mut self.host
    }

    pub(crate) fn path(&self, sandbox: &SandboxId) -> PathBuf {
        self.dir.join(sandbox.as_str())
    }

    /// The sockets of a namespace, opened when they are not.
    pub(crate) fn get(&mut self, ns: &Ns) -> Result<&mut Space, Cause> {
        let Ns::Sandbox(id) = ns else { return Ok(&mut self.host) };
        if !self.sandboxes.contains_key(id) {
            let path = self.path(id);
            let inode = namespace_at(&path)?.ok_or(Cause::Errno(libc::ENOENT))?;
            let namespace = open(&path)?;
            let inside = namespace.try_clone().map_err(cause)?;
            let space = self.visitor.inside(inside, move || Space::here(inode))??;
            self.adopt(vec![(id.clone(), namespace, space)])?;
        }
        self.sandboxes.get_mut(id).ok_or(Cause::Errno(libc::ENOENT))
    }

    /// Opens many at once, in visits that go from one to the next. Those that cannot be opened are left out.
    pub(crate) fn open_many(&mut self, ids: &[SandboxId]) -> Result<(), Cause> {
        let missing: Vec<_> = ids.iter().filter(|id| !self.sandboxes.contains_key(*id)).cloned().collect();
        for ids in missing.chunks(TOGETHER) {
            let paths: Vec<_> = ids.iter().map(|id| (self.path(id), id.clone())).collect();
            let opened = self.visitor.away(move || {
                let mut opened = Vec::with_capacity(paths.len());
                for (path, id) in paths {
                    let Ok(Some(inode)) = namespace_at(&path) else { continue };
                    let Ok(namespace) = open(&path) else { continue };
                    if nix::sched::setns(&namespace, CloneFlags::CLONE_NEWNET).is_ok() {
                        opened.push((id, namespace, Space::here(inode)?));
                    }
                }
                Ok(opened)
            })?;
            self.adopt(opened)?;
        }
        Ok(())
    }

    /// Whether the namespace is there. Sockets of one that was replaced behind our back are closed, and a file that nothing
    /// is mounted on is swept away: who died, or was refused, between the one and the other left it.
    pub(crate) fn exists(&mut self, sandbox: &SandboxId) -> Result<bool, Cause> {
        let path = self.path(sandbox);
        let inode = namespace_at(&path)?;
        if inode.is_none() {
            // Mostly there is none. One that stays is met again by the next look.
            let _as_it_was = fs::remove_file(&path);
        }
        if self.sandboxes.get(sandbox).is_some_and(|space| Some(space.inode) != inode) {
            self.forget(sandbox);
        }
        Ok(inode.is_some())
    }

    /// The sandboxes whose namespaces are kept.
    pub(crate) fn list(&mut self) -> Result<Vec<SandboxId>, Cause> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(cause)? {
            let name = entry.map_err(cause)?.file_name();
            let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            if self.exists(&id)? {
                found.push(id);
            }
        }
        Ok(found)
    }

    /// Makes a namespace with its loopback up.
    pub(crate) fn create(&mut self, sandbox: &SandboxId) -> Result<(), Cause> {
        let path = self.path(sandbox);
        if namespace_at(&path)?.is_some() {
            return Err(Cause::Errno(libc::EEXIST));
        }
        let made = make(&self.visitor, &path);
        let kept = made.and_then(|(namespace, space)| self.adopt(vec![(sandbox.clone(), namespace, space)]));
        if kept.is_err() {
            let _as_it_was = unmount(&path);
        }
        kept
    }

    /// What else holds it (a process, a socket) keeps it; its name goes at once.
    pub(crate) fn remove(&mut self, sandbox: &SandboxId) -> Result<(), Cause> {
        self.forget(sandbox);
        unmount(&self.path(sandbox))
    }

    /// Notes what a setting of a sandbox reads as since this was written; none: the same.
    pub(crate) fn note_reading(
        &mut self,
        sandbox: &SandboxId,
        name: &Name,
        written: &Name,
        reading: Option<Name>,
    ) {
        let Some(space) = self.sandboxes.get_mut(sandbox) else { return };
        match reading {
            Some(reading) => drop(space.readings.insert(name.clone(), (written.clone(), reading))),
            None => drop(space.readings.remove(name)),
        }
    }

    /// A setting as it was written, where that is what this reading means.
    pub(crate) fn as_written(&self, ns: &Ns, name: &Name, reading: Name) -> Name {
        let space = if let Ns::Sandbox(id) = ns { self.sandboxes.get(id) } else { None };
        match space.and_then(|space| space.readings.get(name)) {
            Some((written, known)) if *known == reading => written.clone(),
            _ => reading,
        }
    }

    /// Closes what is not kept of a sandbox.
    pub(crate) fn tidy(&mut self, ns: &Ns) {
        if let Ns::Sandbox(id) = ns
            && let Some(space) = self.sandboxes.get_mut(id)
        {
            space.nft = None;
        }
    }

    /// The socket for nftables in a namespace.
    pub(crate) fn nft(&mut self, ns: &Ns) -> Result<&mut Socket, Cause> {
        let path = match ns {
            Ns::Host => None,
            Ns::Sandbox(id) => Some(self.path(id)),
        };
        if self.get(ns)?.nft.is_none() {
            let socket = match path {
                None => Socket::open(Protocol::Netfilter)?,
                Some(path) => self.visitor.inside(open(&path)?, || Socket::open(Protocol::Netfilter))??,
            };
            self.get(ns)?.nft = Some(socket);
        }
        self.get(ns)?.nft.as_mut().ok_or(Cause::Errno(libc::ENOENT))
    }
}

impl Space {
    /// In the namespace of the calling thread.
    fn here(inode: u64) -> Result<Self, Cause> {
        let route = Socket::open(Protocol::Route)?;
        let (links, readings) = (Links::default(), HashMap::new());
        Ok(Space { route, nft: None, links, readings, nsid: None, inode })
    }

    /// The port that our own nftables transactions carry.
    pub(crate) fn nft_port(&self) -> Option<u32> {
        self.nft.as_ref().map(Socket::port)
    }
}

fn make(visitor: &Visitor, path: &Path) -> Result<(OwnedFd, Space), Cause> {
    // A file without a mount is what a crash at this very place leaves.
    fs::File::create(path).map_err(cause)?;
    let place = path.to_owned();
    visitor.away(move || {
        unshare(CloneFlags::CLONE_NEWNET).map_err(errno)?;
        let own = Some("/proc/thread-self/ns/net");
        mount(own, &place, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(errno)?;
        let namespace = open(&place)?;
        let mut space = Space::here(fs::metadata(&place).map_err(cause)?.ino())?;
        // Its rules come next.
        space.nft = Some(Socket::open(Protocol::Netfilter)?);
        let [up] = &mut space.route.request(&mut [link::loopback_up()])[..] else {
            return Ok((namespace, space));
        };
        std::mem::replace(up, Ok(())).map(|()| (namespace, space))
    })
}

/// The inode of the namespace that is mounted on a path; none when there is no file, or one that nothing is mounted on.
fn namespace_at(path: &Path) -> Result<Option<u64>, Cause> {
    match statfs(path) {
        Ok(found) if found.filesystem_type() == NSFS_MAGIC => {
            fs::metadata(path).map(|m| Some(m.ino())).map_err(cause)
        }
        Ok(_) | Err(Errno::ENOENT) => Ok(None),
        Err(e) => Err(errno(e)),
    }
}

/// Removes a namespace's name, however often something is mounted on it.
pub(crate) fn unmount(path: &Path) -> Result<(), Cause> {
    loop {
        match umount2(path, MntFlags::MNT_DETACH) {
            Ok(()) => {}
            Err(Errno::EINVAL) => break,
            Err(Errno::ENOENT) => return Ok(()),
            Err(e) => return Err(errno(e)),
        }
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(cause(error)),
        _ => Ok(()),
    }
}

fn errno(errno: Errno) -> Cause {
    Cause::Errno(errno as i32)
}
