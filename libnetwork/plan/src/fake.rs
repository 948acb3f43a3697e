//! A kernel that lives in memory, keeps state, and refuses what the kernel refuses. It knows nothing of the planner and
//! takes none of its rules from it, so that a test of the planner against it means something.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use libnetwork_model::{MacAddress, SandboxId};

use crate::{
    BridgePort, Cause, Datum, Ipv6, KernelError, Key, Link, LinkKind, LinkRank, Name, Ns, Object, Observed,
    Operation, Owner, Peer, Route, Scope, Table,
};

// asm-generic/errno-base.h and errno.h
pub const ENOENT: i32 = 2;
pub const EACCES: i32 = 13;
pub const EEXIST: i32 = 17;
pub const ENODEV: i32 = 19;
pub const EINVAL: i32 = 22;
pub const ENETDOWN: i32 = 100;
pub const ENETUNREACH: i32 = 101;

/// Decides whether the n-th operation since the start fails, and with which errno.
pub type Fault = Box<dyn FnMut(usize, &Operation) -> Option<i32> + Send>;

/// The state, and what to fail.
#[derive(Default)]
pub struct FakeKernel {
    objects: BTreeMap<Key, (Owner, Object)>,
    fault: Option<Fault>,
    /// Operations tried so far, refused ones included.
    pub tried: usize,
    made_macs: u32,
}

impl FakeKernel {
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on, operations fail as this says, leaving the state as it was. None: as the kernel itself would.
    pub fn inject(&mut self, fault: Option<Fault>) {
        self.fault = fault;
    }

    /// Everything that is, sysctls included.
    pub fn objects(&self) -> &BTreeMap<Key, (Owner, Object)> {
        &self.objects
    }

    /// Someone else makes something.
    pub fn put_foreign(&mut self, key: Key, object: Object) -> Result<(), i32> {
        self.create(&key, &object)?;
        self.objects.insert(key, (Owner::Foreign, object));
        Ok(())
    }

    /// Someone removes something, ours or not.
    pub fn vanish(&mut self, key: &Key) -> Result<(), i32> {
        self.delete(key)
    }

    /// Someone takes a link down: its routes go.
    pub fn take_down(&mut self, key: &Key) {
        let Some((_, Object::Link(link))) = self.objects.get_mut(key) else { return };
        link.up = false;
        let (Key::Link { ns, name, .. }, link) = (key, link.clone()) else { return };
        let ends = ends(ns, name, &link);
        self.objects.retain(|key, (_, object)| match (key, object) {
            (Key::Route { ns, .. }, Object::Route(route)) => {
                !ends.contains(&(ns.clone(), route.link.clone()))
            }
            _ => true,
        });
    }

    pub fn observe(&self, scope: &Scope) -> Observed {
        let is_sysctl = |key: &Key| matches!(key, Key::Sysctl { .. } | Key::LinkSysctl { .. });
        match scope {
            Scope::All { sysctls } => {
                let listed = self.objects.iter().filter(|(key, _)| !is_sysctl(key));
                let mut seen: Observed = listed.map(|(k, v)| (k.clone(), v.clone())).collect();
                seen.extend(sysctls.iter().flat_map(|key| self.look(key)));
                seen
            }
            Scope::Keys(keys) => keys.iter().flat_map(|key| self.look(key)).collect(),
        }
    }

    /// One result per operation. What needs something that failed in the same batch is not tried.
    pub fn apply(&mut self, operations: &[Operation]) -> Vec<Result<(), KernelError>> {
        operations.iter().map(|operation| self.apply_one(operation)).collect()
    }

    fn apply_one(&mut self, operation: &Operation) -> Result<(), KernelError> {
        let number = self.tried;
        self.tried += 1;
        let injected = self.fault.as_mut().and_then(|fault| fault(number, operation));
        let done = match (injected, operation) {
            (Some(errno), _) => Err(errno),
            (None, Operation::Create { key, object }) => self.create(key, object),
            (None, Operation::Update { key, object, .. }) => self.update(key, object),
            (None, Operation::Delete { key, .. }) => self.delete(key),
        };
        done.map_err(|errno| KernelError {
            operation: operation.verb(),
            namespace: operation.key().ns().clone(),
            key: Some(operation.key().clone()),
            cause: Cause::Errno(errno),
        })
    }

    /// What is under a key: a setting that nobody wrote is 0, a link is found by its name whatever kind it is.
    fn look(&self, key: &Key) -> Option<(Key, (Owner, Object))> {
        let unwritten = || (Owner::Ours, Object::Sysctl("0".into()));
        match key {
            Key::Link { ns, name, .. } => self
                .link(ns, name)
                .map(|(key, link)| (key.clone(), (self.objects[key].0, Object::Link(link.clone())))),
            Key::Sysctl { ns, .. } if !self.has_namespace(ns) => None,
            Key::LinkSysctl { ns, link, .. } if self.end(ns, link).is_none() => None,
            Key::Sysctl { .. } | Key::LinkSysctl { .. } => {
                Some((key.clone(), self.objects.get(key).cloned().unwrap_or_else(unwritten)))
            }
            _ => self.objects.get(key).map(|found| (key.clone(), found.clone())),
        }
    }

    fn create(&mut self, key: &Key, object: &Object) -> Result<(), i32> {
        let replaces = matches!(
            key,
            Key::Sysctl { .. } | Key::LinkSysctl { .. } | Key::Neighbour { .. } | Key::Fdb { .. }
        );
        if !replaces && self.objects.contains_key(key) {
            return Err(EEXIST);
        }
        self.check(key, object)?;
        if let (Key::Link { ns, name, .. }, Object::Link(link)) = (key, object)
            && ends(ns, name, link).iter().any(|(ns, name)| self.end(ns, name).is_some())
        {
            return Err(EEXIST);
        }
        let object = self.with_macs(object.clone());
        self.objects.insert(key.clone(), (Owner::Ours, object));
        Ok(())
    }

    fn update(&mut self, key: &Key, object: &Object) -> Result<(), i32> {
        if matches!(key, Key::Sysctl { .. } | Key::LinkSysctl { .. }) {
            return self.create(key, object);
        }
        let Some((_, have)) = self.objects.get(key) else { return Err(ENOENT) };
        if let (Object::Link(want), Object::Link(have)) = (object, have)
            && peer(want).map(|p| (&p.ns, &p.name)) != peer(have).map(|p| (&p.ns, &p.name))
        {
            return Err(EINVAL);
        }
        if let (Object::SetElement(_), _) = (object, have) {
            return Err(EEXIST);
        }
        self.check(key, object)?;
        if let Key::Ruleset { ns, table } = key {
            self.empty_table(&ns.clone(), &table.clone());
        }
        let object = self.with_macs(object.clone());
        self.objects.insert(key.clone(), (Owner::Ours, object));
        Ok(())
    }

    /// What the kernel demands of the rest of the world before it makes something so.
    fn check(&self, key: &Key, object: &Object) -> Result<(), i32> {
        if !self.has_namespace(key.ns()) {
            return Err(ENOENT);
        }
        match (key, object) {
            (Key::Link { rank, ns, .. }, Object::Link(link)) => self.check_link(*rank, ns, link),
            (Key::SetElement { ns, table, set, element }, Object::SetElement(value)) => {
                let found = self.objects.get(&Key::Ruleset { ns: ns.clone(), table: table.clone() });
                let Some((_, Object::Ruleset(ruleset))) = found else { return Err(ENOENT) };
                let set = ruleset.sets.iter().find(|s| s.name == *set).ok_or(ENOENT)?;
                let data = value.as_ref().map(crate::Value::map_type);
                let fits = set.key.len() == element.len() && set.data == data;
                fits.then_some(()).ok_or(EINVAL)?;
                let other = |key: &Key| match key {
                    Key::SetElement { ns: n, table: t, set: s, element: other } => {
                        (n, t, s) == (ns, table, &set.name) && other != element && overlap(other, element)
                    }
                    _ => false,
                };
                let taken = set.ranges && self.objects.keys().any(other);
                (!taken).then_some(()).ok_or(EEXIST)
            }
            (Key::Address { ns, link, address }, _) => {
                let (_, ipv6) = self.end(ns, link).ok_or(ENODEV)?;
                let off = matches!(address, IpNet::V6(_)) && ipv6 == Ipv6::Off;
                (!off).then_some(()).ok_or(EACCES)
            }
            (Key::Route { ns, .. }, Object::Route(route)) => self.check_route(ns, route),
            (
                Key::LinkSysctl { ns, link, .. }
                | Key::Neighbour { ns, link, .. }
                | Key::Fdb { ns, link, .. },
                _,
            ) => self.end(ns, link).map(|_| ()).ok_or(ENODEV),
            _ => Ok(()),
        }
    }

    fn check_link(&self, rank: LinkRank, ns: &Ns, link: &Link) -> Result<(), i32> {
        let fits = match (&link.kind, rank) {
            (LinkKind::Bridge, LinkRank::Bridge) | (LinkKind::Other(_), LinkRank::Other) => true,
            (LinkKind::Veth { peer: Some(peer) }, LinkRank::Veth) => {
                if !self.has_namespace(&peer.ns) {
                    return Err(ENOENT);
                }
                self.check_master(&peer.ns, peer.master.as_ref())?;
                true
            }
            _ => false,
        };
        if !fits {
            return Err(EINVAL);
        }
        self.check_master(ns, link.master.as_ref())
    }

    fn check_master(&self, ns: &Ns, master: Option<&Name>) -> Result<(), i32> {
        match master {
            None => Ok(()),
            Some(master) => match self.link(ns, master) {
                Some((_, Link { kind: LinkKind::Bridge, .. })) => Ok(()),
                Some(_) => Err(EINVAL),
                None => Err(ENODEV),
            },
        }
    }

    fn check_route(&self, ns: &Ns, route: &Route) -> Result<(), i32> {
        let (up, _) = self.end(ns, &route.link).ok_or(ENODEV)?;
        if !up {
            return Err(ENETDOWN);
        }
        let Some(gateway) = route.gateway else { return Ok(()) };
        let reachable = self.objects.keys().any(|key| match key {
            Key::Address { ns: n, link, address } => {
                n == ns && *link == route.link && address.contains(&gateway)
            }
            _ => false,
        });
        reachable.then_some(()).ok_or(ENETUNREACH)
    }

    fn delete(&mut self, key: &Key) -> Result<(), i32> {
        let missing = if matches!(key, Key::Link { .. }) { ENODEV } else { ENOENT };
        let (_, object) = self.objects.remove(key).ok_or(missing)?;
        match (key, &object) {
            (Key::Namespace(id), _) => self.end_namespace(id),
            (Key::Ruleset { ns, table }, _) => self.empty_table(ns, table),
            (Key::Link { ns, name, .. }, Object::Link(link)) => self.unplug(ns, name, link),
            (Key::Address { ns, address, .. }, _) => {
                let (ns, source) = (ns.clone(), address.addr());
                self.objects.retain(|key, (_, object)| match object {
                    Object::Route(route) => *key.ns() != ns || route.source != Some(source),
                    _ => true,
                });
            }
            _ => {}
        }
        Ok(())
    }

    fn end_namespace(&mut self, id: &SandboxId) {
        let ns = Ns::Sandbox(id.clone());
        self.objects.retain(|key, _| *key.ns() != ns);
        let leads_in =
            |object: &Object| matches!(object, Object::Link(link) if peer(link).is_some_and(|p| p.ns == ns));
        let pairs: Vec<Key> =
            self.objects.iter().filter(|(_, (_, o))| leads_in(o)).map(|(key, _)| key.clone()).collect();
        for key in pairs {
            let _gone = self.delete(&key);
        }
    }

    fn empty_table(&mut self, ns: &Ns, table: &Table) {
        self.objects.retain(
            |key, _| !matches!(key, Key::SetElement { ns: n, table: t, .. } if n == ns && t == table),
        );
    }

    fn unplug(&mut self, ns: &Ns, name: &Name, link: &Link) {
        let ends = ends(ns, name, link);
        let on = |ns: &Ns, link: &Name| ends.iter().any(|(n, l)| n == ns && l == link);
        self.objects.retain(|key, (_, object)| match (key, object) {
            (Key::Route { ns, .. }, Object::Route(route)) => !on(ns, &route.link),
            (
                Key::Address { ns, link, .. }
                | Key::LinkSysctl { ns, link, .. }
                | Key::Neighbour { ns, link, .. }
                | Key::Fdb { ns, link, .. },
                _,
            ) => !on(ns, link),
            _ => true,
        });
        for (key, (_, object)) in &mut self.objects {
            let (Key::Link { ns: n, .. }, Object::Link(port)) = (key, object) else { continue };
            if n == ns && port.master.as_ref() == Some(name) {
                port.master = None;
                port.port = BridgePort::default();
            }
            if let LinkKind::Veth { peer: Some(far) } = &mut port.kind
                && far.ns == *ns
                && far.master.as_ref() == Some(name)
            {
                far.master = None;
            }
        }
    }

    fn has_namespace(&self, ns: &Ns) -> bool {
        match ns {
            Ns::Host => true,
            Ns::Sandbox(id) => self.objects.contains_key(&Key::Namespace(id.clone())),
        }
    }

    /// A link named by its own end.
    fn link(&self, ns: &Ns, name: &Name) -> Option<(&Key, &Link)> {
        [LinkRank::Bridge, LinkRank::Veth, LinkRank::Other].into_iter().find_map(|rank| {
            let key = Key::Link { rank, ns: ns.clone(), name: name.clone() };
            match self.objects.get_key_value(&key) {
                Some((key, (_, Object::Link(link)))) => Some((key, link)),
                _ => None,
            }
        })
    }

    /// Whether a link's end, the far ones included, is up, and its IPv6.
    fn end(&self, ns: &Ns, name: &Name) -> Option<(bool, Ipv6)> {
        if let Some((_, link)) = self.link(ns, name) {
            return Some((link.up, link.ipv6));
        }
        self.objects.values().find_map(|(_, object)| match object {
            Object::Link(link) => {
                peer(link).filter(|p| p.ns == *ns && p.name == *name).map(|p| (p.up && link.up, p.ipv6))
            }
            _ => None,
        })
    }

    /// The kernel gives every link an Ethernet address.
    fn with_macs(&mut self, mut object: Object) -> Object {
        if let Object::Link(link) = &mut object {
            self.give_mac(&mut link.mac);
            if let LinkKind::Veth { peer: Some(peer) } = &mut link.kind {
                self.give_mac(&mut peer.mac);
            }
        }
        object
    }

    fn give_mac(&mut self, mac: &mut Option<MacAddress>) {
        if mac.is_none() {
            self.made_macs += 1;
            let [a, b, c, d] = self.made_macs.to_be_bytes();
            *mac = Some(MacAddress([0x06, 0, a, b, c, d]));
        }
    }
}

fn peer(link: &Link) -> Option<&Peer> {
    match &link.kind {
        LinkKind::Veth { peer } => peer.as_ref(),
        _ => None,
    }
}

/// Whether a packet could be in both of two keys of a set of ranges.
fn overlap(a: &[Datum], b: &[Datum]) -> bool {
    a.iter().zip(b).all(|pair| match pair {
        (Datum::Ports(a), Datum::Ports(b)) => a.overlaps(*b),
        (a, b) => a == b,
    })
}

fn ends(ns: &Ns, name: &Name, link: &Link) -> BTreeSet<(Ns, Name)> {
    let far = peer(link).map(|peer| (peer.ns.clone(), peer.name.clone()));
    far.into_iter().chain([(ns.clone(), name.clone())]).collect()
}
