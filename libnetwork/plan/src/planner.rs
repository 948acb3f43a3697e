use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Datum, Desired, Key, Link, LinkKind, LinkRank, Name, Ns, Object, Observed, Operation, Owner, Plan, Thing,
};

/// How much of the world to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everything of ours and every foreign link of the host; and of what cannot be listed (sysctls) exactly these.
    /// Made by [`Scope::all`].
    All { sysctls: BTreeSet<Key> },
    /// Exactly these objects, so that a change costs in proportion to itself. A namespace is named together with the
    /// links that lead into it.
    Keys(BTreeSet<Key>),
}

impl Scope {
    /// Everything, with the sysctls that are desired.
    pub fn all(desired: &Desired) -> Scope {
        let sysctl = |k: &&Key| matches!(k, Key::Sysctl { .. } | Key::LinkSysctl { .. });
        Scope::All { sysctls: desired.keys().filter(sysctl).cloned().collect() }
    }
}

/// The operations that make `observed` into `desired`, within `scope`.
///
/// `observed` must be what an observation of the same scope gave. `desired` may be more than the scope: what hangs on a
/// link, table or namespace that has to be made again is made again with it, in scope or not.
pub fn plan(desired: &Desired, observed: &Observed, scope: &Scope) -> Plan {
    let mut pass = Pass::new(desired, observed);
    let keys: Vec<&Key> = match scope {
        Scope::All { .. } => {
            let mut keys: Vec<&Key> = desired.keys().chain(observed.keys()).collect();
            keys.sort_unstable();
            keys.dedup();
            keys
        }
        Scope::Keys(keys) => keys.iter().collect(),
    };
    keys.iter().for_each(|key| pass.find_foreign(key));
    keys.iter().for_each(|key| pass.visit(key));
    if let Scope::Keys(_) = scope {
        pass.pull_dependents();
    }
    pass.finish()
}

/// What has been decided, visiting keys in order: what a thing provides is always visited before what hangs on it.
struct Pass<'a> {
    desired: &'a Desired,
    observed: &'a Observed,
    delete: BTreeMap<&'a Key, &'a Object>,
    put: BTreeMap<&'a Key, Operation>,
    foreign: Vec<(Key, Object)>,
    /// Goes away, be it for good or to be made again.
    gone: BTreeSet<Thing>,
    /// Is made, so that nothing hangs on it yet.
    fresh: BTreeSet<Thing>,
    /// Is someone else's, or hangs on what is: not to be touched. With the key that someone else has.
    blocked: BTreeMap<Thing, &'a Key>,
    held_back: Vec<(Key, Key)>,
}

impl<'a> Pass<'a> {
    fn new(desired: &'a Desired, observed: &'a Observed) -> Self {
        Pass {
            desired,
            observed,
            delete: BTreeMap::new(),
            put: BTreeMap::new(),
            foreign: Vec::new(),
            gone: BTreeSet::new(),
            fresh: BTreeSet::new(),
            blocked: BTreeMap::new(),
            held_back: Vec::new(),
        }
    }

    /// What someone else has under a key that we want is known before anything is decided: rules come before the links
    /// that they name, and must not catch a link that is not ours.
    fn find_foreign(&mut self, key: &Key) {
        let Some((key, want)) = self.desired.get_key_value(key) else { return };
        if let Some((_, have)) = self.foreign_at(key) {
            self.blocked.extend(want.provides(key).into_iter().map(|thing| (thing, key)));
            // By the key that is wanted: a link that is in the way of another kind's is known by that one's owner.
            self.foreign.push((key.clone(), have.clone()));
        }
    }

    fn visit(&mut self, key: &Key) {
        let mut desired = self.desired.get_key_value(key);
        if let Some((key, want)) = desired
            && let Some(by) = self.blocked_by(key, want)
        {
            self.blocked.extend(want.provides(key).into_iter().map(|thing| (thing, by)));
            if key != by {
                self.held_back.push((key.clone(), by.clone()));
            }
            desired = None;
        }
        match (desired, self.observed.get_key_value(key)) {
            (_, Some((_, (Owner::Foreign, _)))) | (None, None) => {}
            (None, Some((key, (Owner::Ours, have)))) => self.remove(key, have),
            (Some((key, want)), None) => self.make(key, want),
            (Some((key, want)), Some((_, (Owner::Ours, have)))) => self.compare(key, want, have),
        }
    }

    fn compare(&mut self, key: &'a Key, want: &'a Object, have: &'a Object) {
        if self.is_gone(key, have) {
            return self.make(key, want);
        }
        if want.is_met_by(have) {
            return;
        }
        if !want.can_follow(have) {
            self.delete.insert(key, have);
            self.gone.extend(have.provides(key));
            return self.make(key, want);
        }
        // The adapter changes a table by making it again in one transaction, which empties its sets.
        if matches!(key, Key::Ruleset { .. }) {
            self.gone.extend(have.provides(key));
            self.fresh.extend(want.provides(key));
        }
        let renewed = want.renews(key, have);
        self.gone.extend(renewed.iter().cloned());
        self.fresh.extend(renewed);
        let update = Operation::Update { key: key.clone(), from: have.clone(), object: want.clone() };
        self.put.insert(key, update);
    }

    fn make(&mut self, key: &'a Key, want: &'a Object) {
        self.fresh.extend(want.provides(key));
        self.put.insert(key, Operation::Create { key: key.clone(), object: want.clone() });
    }

    fn remove(&mut self, key: &'a Key, have: &'a Object) {
        // Settings of the host are shared with it: nobody knows who else relies on them.
        if matches!(key, Key::Sysctl { .. } | Key::LinkSysctl { .. }) {
            return;
        }
        // A link that is taken down with an address has the kernel look through all of the host's routes for those by it
        // (fib_disable_ip, net/ipv4/fib_frontend.c); an address that goes first takes its own along.
        let dear = matches!(key, Key::Address { ns: Ns::Host, .. });
        if dear || !self.goes_along(key, have) {
            self.delete.insert(key, have);
        }
        self.gone.extend(have.provides(key));
    }

    /// Someone else's object under a key; a link is in the way of every link of its name, whatever kind it is.
    fn foreign_at(&self, key: &Key) -> Option<(&'a Key, &'a Object)> {
        let foreign = |key: &Key| {
            let (key, (owner, have)) = self.observed.get_key_value(key)?;
            (*owner == Owner::Foreign).then_some((key, have))
        };
        let Key::Link { ns, name, .. } = key else { return foreign(key) };
        [LinkRank::Bridge, LinkRank::Veth, LinkRank::Other]
            .into_iter()
            .find_map(|rank| foreign(&Key::Link { rank, ns: ns.clone(), name: name.clone() }))
    }

    /// Whether it goes with something else for certain. A neighbour does not with one address of several, and an object that
    /// is deleted before what it hangs on changes is never missing.
    fn goes_along(&self, key: &Key, have: &Object) -> bool {
        let certain = |thing: &Thing| !matches!(thing, Thing::Port(..) | Thing::Family(..));
        have.hangs_on(key).iter().any(|thing| certain(thing) && self.gone.contains(thing))
    }

    /// Whether it may be gone by the time that it is wanted.
    fn is_gone(&self, key: &Key, have: &Object) -> bool {
        !self.gone.is_empty() && have.hangs_on(key).iter().any(|thing| self.gone.contains(thing))
    }

    /// The key that someone else has, where that keeps us from this object.
    fn blocked_by(&self, key: &Key, want: &Object) -> Option<&'a Key> {
        if self.blocked.is_empty() {
            return None;
        }
        let blocked = |thing: &Thing| self.blocked.get(thing).copied();
        let by_name = match key {
            Key::SetElement { ns, element, .. } => element.iter().find_map(|datum| match datum {
                Datum::Ifname(name) => blocked(&Thing::Link(ns.clone(), name.clone())),
                _ => None,
            }),
            Key::Link { ns, name, .. } => blocked(&Thing::Link(ns.clone(), name.clone())),
            _ => None,
        };
        by_name.or_else(|| want.requires(key).iter().find_map(blocked))
    }

    /// What hangs on a thing that is made cannot be there, looked at or not.
    fn pull_dependents(&mut self) {
        let desired = self.desired;
        for thing in std::mem::take(&mut self.fresh) {
            for (key, want) in dependents(desired, &thing) {
                if !self.put.contains_key(key) && self.blocked_by(key, want).is_none() {
                    self.put.insert(key, Operation::Create { key: key.clone(), object: want.clone() });
                }
            }
        }
    }

    fn finish(self) -> Plan {
        let deletions = self
            .delete
            .into_iter()
            .rev()
            .map(|(key, object)| Operation::Delete { key: key.clone(), object: object.clone() });
        let mut puts: Vec<Operation> = self.put.into_values().collect();
        let places: Vec<usize> = (0..puts.len()).filter(|n| leads_into(&puts[*n]).is_some()).collect();
        let mut pairs: Vec<Operation> = places.iter().map(|n| puts[*n].clone()).collect();
        pairs.sort_by(|a, b| leads_into(a).cmp(&leads_into(b)));
        for (place, pair) in places.into_iter().zip(pairs) {
            puts[place] = pair;
        }
        Plan { operations: deletions.chain(puts).collect(), foreign: self.foreign, blocked: self.held_back }
    }
}

/// Where a pair that is made ends, in the order of names there: the kernel numbers a namespace's links as they are made, and
/// many programs take the one with the lowest number for the first, as `eth0` should be.
fn leads_into(operation: &Operation) -> Option<(&Ns, usize, &Name)> {
    match operation {
        Operation::Create {
            object: Object::Link(Link { kind: LinkKind::Veth { peer: Some(peer) }, .. }),
            ..
        } => Some((&peer.ns, peer.name.len(), &peer.name)),
        _ => None,
    }
}

/// The desired objects that hang on a thing. Links are not among them: those that lead into a namespace are in its scope.
fn dependents<'a>(desired: &'a Desired, thing: &Thing) -> Vec<(&'a Key, &'a Object)> {
    let mut found = Vec::new();
    let mut range = |from: Key, belongs: &dyn Fn(&Key) -> bool| {
        let kind = std::mem::discriminant(&from);
        let same = |key: &&Key| std::mem::discriminant(*key) == kind && belongs(key);
        found.extend(desired.range(from..).take_while(|(key, _)| same(key)));
    };
    match thing {
        Thing::Namespace(id) => {
            let ns = Ns::Sandbox(id.clone());
            let inside = |key: &Key| *key.ns() == ns;
            for from in lowest::in_namespace(&ns) {
                range(from, &inside);
            }
        }
        Thing::Table(ns, table) => {
            let from = lowest::element(ns, table);
            range(
                from,
                &|key| matches!(key, Key::SetElement { ns: n, table: t, .. } if n == ns && t == table),
            );
        }
        Thing::Port(ns, name) => {
            let [.., from] = lowest::on_link(ns, name);
            range(from, &|key| matches!(key, Key::Fdb { ns: n, link, .. } if n == ns && link == name));
        }
        Thing::Family(ns, name, ipv6) => {
            let [_, _, from, _] = lowest::on_link(ns, name);
            let of = |key: &Key| matches!(key, Key::Neighbour { ns: n, link, .. } if n == ns && link == name);
            range(from, &of);
            let same =
                |key: &Key| matches!(key, Key::Neighbour { address, .. } if address.is_ipv6() == *ipv6);
            found.retain(|(key, _)| same(key));
        }
        Thing::Link(ns, name) => {
            for from in lowest::on_link(ns, name) {
                range(from, &|key| match key {
                    Key::LinkSysctl { ns: n, link, .. }
                    | Key::Address { ns: n, link, .. }
                    | Key::Neighbour { ns: n, link, .. }
                    | Key::Fdb { ns: n, link, .. } => n == ns && link == name,
                    _ => false,
                });
            }
            let routes = desired
                .range(lowest::route(ns)..)
                .take_while(|(key, _)| matches!(key, Key::Route { ns: n, .. } if n == ns))
                .filter(|(_, object)| matches!(object, Object::Route(route) if route.link == *name));
            found.extend(routes);
        }
    }
    found
}

/// The lowest keys of each kind, to start ranges at.
mod lowest {
    use std::net::{IpAddr, Ipv4Addr};

    use ipnet::{IpNet, Ipv4Net};
    use libnetwork_model::MacAddress;

    use crate::{Family, Key, Name, Ns, Table};

    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    const MAC: MacAddress = MacAddress([0; 6]);

    fn net() -> IpNet {
        IpNet::V4(Ipv4Net::default())
    }

    pub(super) fn element(ns: &Ns, table: &Table) -> Key {
        Key::SetElement { ns: ns.clone(), table: table.clone(), set: "".into(), element: Vec::new() }
    }

    pub(super) fn route(ns: &Ns) -> Key {
        Key::Route { ns: ns.clone(), destination: net(), metric: 0 }
    }

    pub(super) fn on_link(ns: &Ns, link: &Name) -> [Key; 4] {
        let (ns, link) = (|| ns.clone(), || link.clone());
        [
            Key::LinkSysctl { ns: ns(), link: link(), name: "".into() },
            Key::Address { ns: ns(), link: link(), address: net() },
            Key::Neighbour { ns: ns(), link: link(), address: ADDRESS },
            Key::Fdb { ns: ns(), link: link(), mac: MAC },
        ]
    }

    /// The kinds that can be in a namespace before any link is.
    pub(super) fn in_namespace(ns: &Ns) -> [Key; 3] {
        let table = Table { family: Family::Inet, name: "".into() };
        [
            Key::Sysctl { ns: ns.clone(), name: "".into() },
            Key::Ruleset { ns: ns.clone(), table: table.clone() },
            element(ns, &table),
        ]
    }
}
