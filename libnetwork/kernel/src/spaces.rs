//! The namespaces that we work in: where they are kept, and the sockets held open in them.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use libnetwork_model::SandboxId;
use libnetwork_plan::{Cause, Ns};
use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        statfs::{FsType, statfs},
    },
};

use crate::{
    link,
    netlink::{Protocol, Socket},
    thread::{Visitor, cause, open},
    watch::{self, Links},
};

/// linux/magic.h
const NSFS_MAGIC: FsType = FsType(0x6e73_6673);

/// One namespace's sockets. They keep the namespace alive, so they are closed before it is removed.
pub(crate) struct Space {
    pub(crate) route: Socket,
    /// Opened when first needed; not kept for sandboxes, where it seldom is.
    nft: Option<Socket>,
    pub(crate) watch: Socket,
    /// What was last heard of its links.
    pub(crate) links: Links,
    token: u64,
    /// Which namespace it is: another may be put under the same name.
    inode: u64,
}

pub(crate) struct Spaces {
    dir: PathBuf,
    host: Space,
    sandboxes: HashMap<SandboxId, Space>,
    pub(crate) visitor: Visitor,
    /// Watches over all the sockets that listen; what it reports is looked up here.
    epoll: Epoll,
    tokens: HashMap<u64, Ns>,
    next_token: u64,
}

const HOST: u64 = 0;
/// So many sandboxes are listened to. The kernel goes through all sockets that listen, of all namespaces, for each thing
/// that it has to say: one for each of thousands would make every change dear. What happens inside the others is found when
/// everything is looked at.
const WATCHED: usize = 256;
/// Sockets looked at in one go.
const READY: usize = 64;

impl Spaces {
    /// With the calling thread's namespace as the host's.
    pub(crate) fn open(dir: PathBuf) -> Result<Self, Cause> {
        fs::create_dir_all(&dir).map_err(cause)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(errno)?;
        let host = Space::here(0, true)?;
        listen(&epoll, &host.watch, HOST)?;
        let tokens = HashMap::from([(HOST, Ns::Host)]);
        let (sandboxes, visitor) = (HashMap::new(), Visitor::start()?);
        Ok(Spaces { dir, host, sandboxes, visitor, epoll, tokens, next_token: HOST + 1 })
    }

    /// Readable when a namespace has something to say.
    pub(crate) fn epoll(&self) -> &Epoll {
        &self.epoll
    }

    /// Lets one more socket wake us, about the host.
    pub(crate) fn listen_in_host(&mut self, socket: &Socket) -> Result<(), Cause> {
        listen(&self.epoll, socket, HOST)
    }

    /// The namespaces that have something to say. May be asked again and again until there are none.
    pub(crate) fn talking(&mut self) -> Vec<Ns> {
        let mut events = [EpollEvent::empty(); READY];
        let ready = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        let tokens = events.iter().take(ready).map(|event| event.data());
        let mut talking: Vec<Ns> = tokens.filter_map(|token| self.tokens.get(&token).cloned()).collect();
        talking.sort_unstable();
        talking.dedup();
        talking
    }

    /// One that is open.
    pub(crate) fn opened(&mut self, ns: &Ns) -> Option<&mut Space> {
        match ns {
            Ns::Host => Some(&mut self.host),
            Ns::Sandbox(id) => self.sandboxes.get_mut(id),
        }
    }

    fn adopt(&mut self, id: SandboxId, mut space: Space) -> Result<(), Cause> {
        self.forget(&id);
        space.token = self.next_token;
        self.next_token += 1;
        listen(&self.epoll, &space.watch, space.token)?;
        self.tokens.insert(space.token, Ns::Sandbox(id.clone()));
        self.sandboxes.insert(id, space);
        Ok(())
    }

    fn forget(&mut self, id: &SandboxId) {
        if let Some(space) = self.sandboxes.remove(id) {
            self.tokens.remove(&space.token);
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
            let watched = self.sandboxes.len() < WATCHED;
            let space = self.visitor.inside(open(&path)?, move || Space::here(inode, watched))??;
            self.adopt(id.clone(), space)?;
        }
        self.sandboxes.get_mut(id).ok_or(Cause::Errno(libc::ENOENT))
    }

    /// Opens many at once, in one visit that goes from one to the next. Those that cannot be opened are left out.
    pub(crate) fn open_many(&mut self, ids: &[SandboxId]) -> Result<(), Cause> {
        let missing: Vec<_> = ids.iter().filter(|id| !self.sandboxes.contains_key(*id)).cloned().collect();
        let paths: Vec<_> = missing.into_iter().map(|id| (self.path(&id), id)).collect();
        let others = self.sandboxes.len();
        let opened = self.visitor.away(move || {
            let mut opened = Vec::with_capacity(paths.len());
            for (path, id) in paths {
                let Ok(Some(inode)) = namespace_at(&path) else { continue };
                let Ok(namespace) = open(&path) else { continue };
                if nix::sched::setns(namespace, CloneFlags::CLONE_NEWNET).is_ok() {
                    let watched = others + opened.len() < WATCHED;
                    opened.push((id, Space::here(inode, watched)?));
                }
            }
            Ok(opened)
        })?;
        opened.into_iter().try_for_each(|(id, space)| self.adopt(id, space))
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
        let space = make(&self.visitor, path, self.sandboxes.len() < WATCHED)?;
        self.adopt(sandbox.clone(), space)
    }

    /// What else holds it (a process, a socket) keeps it; its name goes at once.
    pub(crate) fn remove(&mut self, sandbox: &SandboxId) -> Result<(), Cause> {
        self.forget(sandbox);
        unmount(&self.path(sandbox))
    }

    /// Closes what is not kept of a sandbox.
    pub(crate) fn tidy(&mut self, ns: &Ns) {
        if let (Ns::Sandbox(_), Some(space)) = (ns, self.opened(ns)) {
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
    fn here(inode: u64, watched: bool) -> Result<Self, Cause> {
        let groups = if watched { &watch::ROUTE_GROUPS[..] } else { &[] };
        let watch = Socket::watch(Protocol::Route, groups)?;
        let route = Socket::open(Protocol::Route)?;
        Ok(Space { route, nft: None, watch, links: Links::default(), token: HOST, inode })
    }

    /// The port that our own nftables transactions carry.
    pub(crate) fn nft_port(&self) -> Option<u32> {
        self.nft.as_ref().map(Socket::port)
    }
}

/// Wakes once for what came since it was last read, not for as long as it waits to be.
fn listen(epoll: &Epoll, socket: &Socket, token: u64) -> Result<(), Cause> {
    epoll
        .add(socket.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, token))
        .map_err(errno)
}

fn make(visitor: &Visitor, path: PathBuf, watched: bool) -> Result<Space, Cause> {
    // A file without a mount is what a crash at this very place leaves.
    fs::File::create(&path).map_err(cause)?;
    let place = path.clone();
    let made = visitor.away(move || {
        unshare(CloneFlags::CLONE_NEWNET).map_err(errno)?;
        let own = Some("/proc/thread-self/ns/net");
        mount(own, &place, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(errno)?;
        let mut space = Space::here(fs::metadata(&place).map_err(cause)?.ino(), watched)?;
        // Its rules come next.
        space.nft = Some(Socket::open(Protocol::Netfilter)?);
        let [up] = &mut space.route.request(&mut [link::loopback_up()])[..] else { return Ok(space) };
        std::mem::replace(up, Ok(())).map(|()| space)
    });
    if made.is_err() {
        let _as_it_was = unmount(&path);
    }
    made
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
