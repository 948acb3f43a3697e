//! What is there.

mod tables;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use libnetwork_model::SandboxId;
use libnetwork_plan::{
    Cause, KernelError, Key, Link, LinkKind, LinkRank, Name, Ns, Object, Observed, Owner, Peer, Route, Scope,
};

use crate::{
    inet::{self, FoundAddress, FoundNeighbour, FoundRoute},
    link::{self, Found},
    ownership::{DOOMED, PROTOCOL, read_alias},
    spaces::Spaces,
    sysctl,
};

pub(crate) fn observe(spaces: &mut Spaces, scope: &Scope) -> Result<Observed, KernelError> {
    let mut look = Look { spaces, links: HashMap::new(), observed: Observed::new() };
    match scope {
        Scope::All { sysctls } => look.everything(sysctls)?,
        Scope::Keys(keys) => look.keys(keys)?,
    }
    Ok(look.observed)
}

/// Links that are marked for removal are there no more.
struct Look<'a> {
    spaces: &'a mut Spaces,
    /// Links by name, as far as they were asked for; complete for the namespaces of a full look.
    links: HashMap<Ns, HashMap<Name, Option<Found>>>,
    observed: Observed,
}

impl Look<'_> {
    fn everything(&mut self, sysctls: &BTreeSet<Key>) -> Result<(), KernelError> {
        let ids = self.spaces.list().map_err(at("list", &Ns::Host))?;
        self.spaces.open_many(&ids).map_err(at("open", &Ns::Host))?;
        let sandboxes = ids.into_iter().map(Ns::Sandbox);
        let all: Vec<Ns> = std::iter::once(Ns::Host).chain(sandboxes).collect();
        for ns in &all {
            let space = self.spaces.get(ns).map_err(at("open", ns))?;
            let found = link::list(&mut space.route).map_err(at("list", ns))?;
            // Whoever looks at everything acts on what is seen: notifications that say the same are old news.
            space.links.note_all(ns, &found);
            let there = found.into_iter().filter(|link| link.group != DOOMED);
            let by_name = there.map(|link| (link.name.clone(), Some(link))).collect();
            self.links.insert(ns.clone(), by_name);
        }
        for ns in &all {
            self.inside(ns)?;
        }
        self.host_links()?;
        self.sysctls(sysctls.iter())
    }

    /// All of a namespace but its links.
    fn inside(&mut self, ns: &Ns) -> Result<(), KernelError> {
        let error = at("list", ns);
        if let Ns::Sandbox(id) = ns {
            self.namespace(id)?;
        }
        let names: HashMap<i32, (Name, bool)> = self.links[ns]
            .values()
            .flatten()
            .map(|link| (link.index, (link.name.clone(), link.is_ours(ns))))
            .collect();
        let route = &mut self.spaces.get(ns).map_err(at("open", ns))?.route;
        let addresses = inet::list_addresses(route).map_err(&error)?;
        let routes = inet::list_routes(route).map_err(&error)?;
        // Ours are in the host alone; and the kernel goes through those of all namespaces to list one's.
        let mut neighbours = Vec::new();
        if *ns == Ns::Host {
            neighbours = inet::list_neighbours(route).map_err(&error)?;
            neighbours.extend(inet::list_forwarding(route).map_err(&error)?);
        }
        let ours = |index: &i32| names.get(index).filter(|(_, ours)| *ours).map(|(name, _)| name);
        for found in &addresses {
            self.address(ns, ours(&found.index), found);
        }
        for found in &routes {
            // Routes of the host that are not ours are none of our business.
            let link = names.get(&found.index).map(|(name, ours)| (name, *ours));
            if *ns != Ns::Host || (found.protocol == PROTOCOL && link.is_some_and(|(_, ours)| ours)) {
                self.route(ns, link, found);
            }
        }
        for found in &neighbours {
            self.neighbour(ns, ours(&found.index), found);
        }
        self.rulesets(ns).map_err(error)
    }

    fn host_links(&mut self) -> Result<(), KernelError> {
        let found: Vec<Found> = self.links[&Ns::Host].values().flatten().cloned().collect();
        let names: HashMap<i32, Name> = found.iter().map(|link| (link.index, link.name.clone())).collect();
        let by_index: HashMap<i32, &Found> = found.iter().map(|link| (link.index, link)).collect();
        let far_end = |link: &Found| by_index.get(&link.other).is_some_and(|near| near.leads_to(link));
        for link in found.iter().filter(|link| !link.loopback && !far_end(link)) {
            self.link(&Ns::Host, link, names.get(&link.master).cloned())?;
        }
        Ok(())
    }

    /// Exactly these, with one question for each, or one for all that are on the same link.
    fn keys(&mut self, keys: &BTreeSet<Key>) -> Result<(), KernelError> {
        let mut by_link: BTreeMap<(&Ns, &Name), BTreeSet<&Key>> = BTreeMap::new();
        let mut routes: BTreeMap<&Ns, BTreeSet<&Key>> = BTreeMap::new();
        let mut tables: BTreeMap<&Ns, Vec<&Key>> = BTreeMap::new();
        for key in keys {
            match key {
                Key::Namespace(id) => self.namespace(id)?,
                Key::Ruleset { ns, .. } | Key::SetElement { ns, .. } => {
                    tables.entry(ns).or_default().push(key)
                }
                Key::Link { ns, name, .. } => self.link_named(ns, name)?,
                Key::Address { ns, link, .. }
                | Key::Neighbour { ns, link, .. }
                | Key::Fdb { ns, link, .. } => {
                    by_link.entry((ns, link)).or_default().insert(key);
                }
                Key::Route { ns, .. } => {
                    routes.entry(ns).or_default().insert(key);
                }
                Key::Sysctl { .. } | Key::LinkSysctl { .. } => {}
            }
        }
        for (ns, keys) in tables {
            self.tables(ns, &keys)?;
        }
        for ((ns, name), keys) in by_link {
            self.on_link(ns, name, &keys)?;
        }
        for (ns, keys) in routes {
            self.routes(ns, &keys)?;
        }
        self.sysctls(keys.iter().filter(|k| matches!(k, Key::Sysctl { .. } | Key::LinkSysctl { .. })))
    }

    fn namespace(&mut self, id: &SandboxId) -> Result<(), KernelError> {
        let ns = Ns::Sandbox(id.clone());
        if !self.spaces.exists(id).map_err(at("look at", &ns))? {
            return Ok(());
        }
        let loopback = self.find(&ns, &"lo".into())?.is_some_and(|link| link.up);
        self.observed.insert(Key::Namespace(id.clone()), (Owner::Ours, Object::Namespace { loopback }));
        Ok(())
    }

    fn link_named(&mut self, ns: &Ns, name: &Name) -> Result<(), KernelError> {
        let Some(found) = self.find(ns, name)? else { return Ok(()) };
        if *ns == Ns::Host && self.is_far_end(&found)? {
            return Ok(());
        }
        let master = self.name_of(ns, found.master)?;
        self.link(ns, &found, master)
    }

    /// Whether a link of the host's is the far end of a pair, which is known by its near end alone.
    fn is_far_end(&mut self, found: &Found) -> Result<bool, KernelError> {
        if !found.is_ours(&Ns::Host) || found.kind != "veth" || !found.alias.is_empty() {
            return Ok(false);
        }
        let route = &mut self.spaces.get(&Ns::Host).map_err(at("open", &Ns::Host))?.route;
        let key = Key::Link { rank: found.rank(), ns: Ns::Host, name: found.name.clone() };
        let near = link::by_index(route, found.other).map_err(about("look at the other end of", key))?;
        Ok(near.is_some_and(|near| near.leads_to(found)))
    }

    /// A link's name by its index; 0 is none.
    fn name_of(&mut self, ns: &Ns, index: i32) -> Result<Option<Name>, KernelError> {
        if index == 0 {
            return Ok(None);
        }
        let route = &mut self.spaces.get(ns).map_err(at("open", ns))?.route;
        Ok(link::by_index(route, index).map_err(at("look at", ns))?.map(|link| link.name))
    }

    fn link(&mut self, ns: &Ns, found: &Found, master: Option<Name>) -> Result<(), KernelError> {
        let key = Key::Link { rank: found.rank(), ns: ns.clone(), name: found.name.clone() };
        let alias = read_alias(&found.alias);
        let peer = match alias.as_ref().and_then(|alias| alias.peer.clone()) {
            Some((ns, name)) => self.peer(found, ns, &name)?,
            None => None,
        };
        let link = Link {
            kind: match found.kind.as_str() {
                "bridge" => LinkKind::Bridge,
                "veth" => LinkKind::Veth { peer },
                other => LinkKind::Other(other.into()),
            },
            id: alias.map_or("", |alias| alias.id).into(),
            mtu: found.mtu,
            mac: found.mac(),
            up: found.up,
            master,
            port: found.port,
            ipv6: found.ipv6(),
        };
        let owner = if found.is_ours(ns) { Owner::Ours } else { Owner::Foreign };
        self.observed.insert(key, (owner, Object::Link(link)));
        Ok(())
    }

    /// The far end of a pair, if it is where it was put.
    fn peer(&mut self, near: &Found, ns: Ns, name: &Name) -> Result<Option<Peer>, KernelError> {
        if let Ns::Sandbox(id) = &ns
            && !self.spaces.exists(id).map_err(at("look at", &ns))?
        {
            return Ok(None);
        }
        let far = self.find(&ns, name)?.filter(|far| far.index == near.other && far.other == near.index);
        let Some(far) = far else { return Ok(None) };
        let master = if ns == Ns::Host { self.name_of(&ns, far.master)? } else { None };
        let (mac, ipv6) = (far.mac(), far.ipv6());
        Ok(Some(Peer { ns, name: name.clone(), mtu: far.mtu, mac, up: far.up, master, ipv6 }))
    }

    /// A link by name, asked for once.
    fn find(&mut self, ns: &Ns, name: &Name) -> Result<Option<Found>, KernelError> {
        if let Some(known) = self.links.get(ns).and_then(|links| links.get(name)) {
            return Ok(known.clone());
        }
        if let Ns::Sandbox(id) = ns
            && !self.spaces.exists(id).map_err(at("look at", ns))?
        {
            return Ok(None);
        }
        let space = self.spaces.get(ns).map_err(at("open", ns))?;
        // Of which kind it is would be known by the answer.
        let key = Key::Link { rank: LinkRank::Other, ns: ns.clone(), name: name.clone() };
        let found = link::by_name(&mut space.route, name).map_err(about("look at", key))?;
        let found = found.filter(|link| link.group != DOOMED);
        self.links.entry(ns.clone()).or_default().insert(name.clone(), found.clone());
        Ok(found)
    }

    fn on_link(&mut self, ns: &Ns, name: &Name, keys: &BTreeSet<&Key>) -> Result<(), KernelError> {
        let Some(found) = self.find(ns, name)? else { return Ok(()) };
        let error = at("list", ns);
        let route = &mut self.spaces.get(ns).map_err(at("open", ns))?.route;
        let index = found.index;
        let (mut addresses, mut neighbours) = (None, Vec::new());
        for key in keys {
            match key {
                // An address cannot be asked for by itself.
                Key::Address { .. } if addresses.is_none() => {
                    addresses = Some(inet::list_addresses_of(route, index).map_err(&error)?);
                }
                Key::Neighbour { address, .. } => {
                    neighbours.extend(inet::find_neighbour(route, index, *address).map_err(&error)?);
                }
                Key::Fdb { mac, .. } => {
                    neighbours.extend(inet::find_forwarding(route, index, *mac).map_err(&error)?);
                }
                _ => {}
            }
        }
        // What came along with the answer and was not asked for is left out.
        for found in addresses.unwrap_or_default() {
            let key = Key::Address { ns: ns.clone(), link: name.clone(), address: found.address };
            if keys.contains(&key) {
                self.address(ns, Some(name), &found);
            }
        }
        for found in &neighbours {
            self.neighbour(ns, Some(name), found);
        }
        Ok(())
    }

    fn routes(&mut self, ns: &Ns, keys: &BTreeSet<&Key>) -> Result<(), KernelError> {
        if let Ns::Sandbox(id) = ns
            && !self.spaces.exists(id).map_err(at("look at", ns))?
        {
            return Ok(());
        }
        let route = &mut self.spaces.get(ns).map_err(at("open", ns))?.route;
        let wanted = |found: &FoundRoute| {
            keys.contains(&Key::Route {
                ns: ns.clone(),
                destination: found.destination,
                metric: found.metric,
            })
        };
        let found: Vec<FoundRoute> =
            inet::list_routes(route).map_err(at("list", ns))?.into_iter().filter(wanted).collect();
        for route in found {
            let socket = &mut self.spaces.get(ns).map_err(at("open", ns))?.route;
            let link = link::by_index(socket, route.index).map_err(at("look at", ns))?;
            self.route(ns, link.as_ref().map(|link| (&link.name, link.is_ours(ns))), &route);
        }
        Ok(())
    }

    fn sysctls<'k>(&mut self, keys: impl Iterator<Item = &'k Key>) -> Result<(), KernelError> {
        let mut by_ns: BTreeMap<&Ns, Vec<(&Key, &Name)>> = BTreeMap::new();
        for key in keys {
            if let Key::Sysctl { ns, name } | Key::LinkSysctl { ns, name, .. } = key {
                by_ns.entry(ns).or_default().push((key, name));
            }
        }
        for (ns, wanted) in by_ns {
            if let Ns::Sandbox(id) = ns
                && !self.spaces.exists(id).map_err(at("look at", ns))?
            {
                continue;
            }
            let names: Vec<Name> = wanted.iter().map(|(_, name)| Name::clone(name)).collect();
            let read = move || names.iter().map(|name| sysctl::read(name)).collect::<Vec<_>>();
            let values = sysctl::at(self.spaces, ns, read).map_err(at("look at", ns))?;
            for ((key, name), value) in wanted.iter().zip(values) {
                let error = |cause| KernelError { key: Some((*key).clone()), ..at("read", ns)(cause) };
                if let Some(value) = value.map_err(error)? {
                    let value = self.spaces.as_written(ns, name, value);
                    self.observed.insert((*key).clone(), (Owner::Ours, Object::Sysctl(value)));
                }
            }
        }
        Ok(())
    }

    /// Addresses that the kernel gives by itself are nobody's.
    fn address(&mut self, ns: &Ns, link: Option<&Name>, found: &FoundAddress) {
        let Some(link) = link.filter(|_| found.protocol == PROTOCOL || !found.link_local) else { return };
        let key = Key::Address { ns: ns.clone(), link: link.clone(), address: found.address };
        self.observed.insert(key, (owner(found.protocol), Object::Address));
    }

    /// By a link, of which is said whether it is ours.
    fn route(&mut self, ns: &Ns, link: Option<(&Name, bool)>, found: &FoundRoute) {
        let Some((link, ours)) = link else { return };
        let key = Key::Route { ns: ns.clone(), destination: found.destination, metric: found.metric };
        let route = Route { link: link.clone(), gateway: found.gateway, source: found.source };
        // Several may share destination and metric in IPv6; ours is the one that counts.
        let owner = if ours { owner(found.protocol) } else { Owner::Foreign };
        if owner == Owner::Ours || !self.observed.contains_key(&key) {
            self.observed.insert(key, (owner, Object::Route(route)));
        }
    }

    fn neighbour(&mut self, ns: &Ns, link: Option<&Name>, found: &FoundNeighbour) {
        let Some(link) = link.cloned() else { return };
        let ns = ns.clone();
        match found.address {
            Some(address) => {
                let object = Object::Neighbour(libnetwork_plan::Neighbour { mac: found.mac });
                self.observed.insert(Key::Neighbour { ns, link, address }, (owner(found.protocol), object));
            }
            // The kernel keeps no mark on these; static ones on our links are ours.
            None => {
                self.observed.insert(Key::Fdb { ns, link, mac: found.mac }, (Owner::Ours, Object::Fdb));
            }
        }
    }
}

fn owner(protocol: u8) -> Owner {
    if protocol == PROTOCOL { Owner::Ours } else { Owner::Foreign }
}

fn about(operation: &'static str, key: Key) -> impl FnOnce(Cause) -> KernelError {
    move |cause| KernelError { operation, namespace: key.ns().clone(), key: Some(key), cause }
}

fn at(operation: &'static str, ns: &Ns) -> impl Fn(Cause) -> KernelError + use<> {
    let namespace = ns.clone();
    move |cause| KernelError { operation, namespace: namespace.clone(), key: None, cause }
}
