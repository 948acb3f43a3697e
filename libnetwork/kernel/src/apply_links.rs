//! Making, changing and removing links.

use std::{
    collections::HashMap,
    os::fd::{AsFd, OwnedFd},
};

use libnetwork_plan::{
    BridgePort, Cause, Ipv6, Key, Link, LinkKind, LinkRank, Name, Ns, Object, Operation, Peer,
};

use crate::{apply::Work, link, netlink::Request, ownership::DOOMED, sysctl, thread::open};

impl Work<'_> {
    /// New ones are made down and in one go; then all get their settings, and then are up.
    pub(crate) fn make_links(&mut self, places: &[usize]) {
        let mut made = Vec::new();
        let mut requests: HashMap<&Ns, (Vec<usize>, Vec<Request>)> = HashMap::new();
        // Open until the requests that name them are sent.
        let mut namespaces: HashMap<Ns, OwnedFd> = HashMap::new();
        for place in places {
            let Some((ns, name, object)) = wanted(&self.operations[*place]) else { continue };
            if let Operation::Create { .. } = &self.operations[*place] {
                match self.creation(ns, name, object, &mut namespaces) {
                    Ok(request) => {
                        let (places, list) = requests.entry(ns).or_default();
                        places.push(*place);
                        list.push(request);
                    }
                    Err(cause) => {
                        self.fail(*place, cause);
                        continue;
                    }
                }
            }
            made.push(*place);
        }
        for (ns, (places, mut list)) in requests {
            self.send_creations(ns, &places, &mut list);
        }
        made.retain(|place| !self.has_failed(*place));
        self.set_modes(&made);
        made.retain(|place| !self.has_failed(*place));
        self.shape(&made);
    }

    /// A name may still be that of a link which is marked for removal.
    fn send_creations(&mut self, ns: &Ns, places: &[usize], requests: &mut [Request]) {
        let results = self.request(ns, requests);
        let taken = |result: &Result<(), Cause>| {
            result.as_ref().is_err_and(|cause| cause.errno() == Some(libc::EEXIST))
        };
        if results.iter().any(taken) {
            // If this fails, so does the second attempt, and that is what is told.
            let _told_below = self.one(ns, link::delete_group(DOOMED));
        }
        for (place, (result, request)) in places.iter().zip(results.into_iter().zip(requests)) {
            let result = if taken(&result) { self.one(ns, request.clone()) } else { result };
            let result = if taken(&result) { Err(self.name_taken(*place)) } else { result };
            self.record(*place, result);
        }
    }

    /// Which of a new link's names is someone else's: its own, or its far end's, which a container's root may have given
    /// to a link of his own.
    fn name_taken(&mut self, place: usize) -> Cause {
        let operation = &self.operations[place];
        if let Some((ns, name, object)) = wanted(operation)
            && let Some(far) = peer(object)
            && matches!(self.index(ns, name), Ok(None))
        {
            let (ns, name) = (far.ns.clone(), far.name.clone());
            return Cause::Foreign(Box::new(Key::Link { rank: LinkRank::Other, ns, name }));
        }
        Cause::Foreign(Box::new(operation.key().clone()))
    }

    fn creation(
        &mut self,
        ns: &Ns,
        name: &Name,
        object: &Link,
        namespaces: &mut HashMap<Ns, OwnedFd>,
    ) -> Result<Request, Cause> {
        let master = self.master(ns, object.master.as_ref())?;
        let peer_ns = match peer(object) {
            Some(Peer { ns: far @ Ns::Sandbox(id), .. }) => {
                if !namespaces.contains_key(far) {
                    namespaces.insert(far.clone(), open(&self.spaces.path(id))?);
                }
                namespaces.get(far)
            }
            _ => None,
        };
        Ok(link::create(name, object, master, peer_ns.map(|fd| fd.as_fd())))
    }

    fn master(&mut self, ns: &Ns, master: Option<&Name>) -> Result<Option<i32>, Cause> {
        let Some(master) = master else { return Ok(None) };
        self.index(ns, master)?.map(Some).ok_or(Cause::Errno(libc::ENODEV))
    }

    /// IPv6 settings of both ends, before they are up and begin to act on them.
    fn set_modes(&mut self, places: &[usize]) {
        let mut by_ns: HashMap<&Ns, Vec<(usize, &Name, Ipv6)>> = HashMap::new();
        for place in places {
            let Some((ns, name, object)) = wanted(&self.operations[*place]) else { continue };
            let before = previous(&self.operations[*place]);
            if before.is_none_or(|before| before.ipv6 != object.ipv6) {
                by_ns.entry(ns).or_default().push((*place, name, object.ipv6));
            }
            if let Some(far) = peer(object)
                && before.and_then(peer).is_none_or(|before| before.ipv6 != far.ipv6)
            {
                by_ns.entry(&far.ns).or_default().push((*place, &far.name, far.ipv6));
            }
        }
        for (ns, modes) in by_ns {
            let wanted: Vec<(Name, Ipv6)> =
                modes.iter().map(|(_, name, mode)| (Name::clone(name), *mode)).collect();
            let write = move || wanted.iter().map(|(name, mode)| set_mode(name, *mode)).collect();
            let results: Vec<_> = match sysctl::at(self.spaces, ns, write) {
                Ok(results) => results,
                Err(cause) => vec![Err(cause); modes.len()],
            };
            for ((place, ..), result) in modes.iter().zip(results) {
                self.record(*place, result);
            }
        }
    }

    /// All that can be changed in place; a link that was just made has most of it from its making.
    fn shape(&mut self, places: &[usize]) {
        let mut by_ns: HashMap<&Ns, (Vec<usize>, Vec<Request>)> = HashMap::new();
        let mut far_ends: HashMap<&Ns, (Vec<usize>, Vec<Request>)> = HashMap::new();
        for place in places {
            let Some((ns, name, object)) = wanted(&self.operations[*place]) else { continue };
            let before = previous(&self.operations[*place]);
            let (places, requests) = by_ns.entry(ns).or_default();
            let earlier = requests.len();
            if before.is_some() || object.kind == LinkKind::Bridge {
                match self.master(ns, object.master.as_ref()) {
                    Ok(master) => requests.push(link::reshape(name, before, object, master.unwrap_or(0))),
                    Err(cause) => {
                        self.fail(*place, cause);
                        continue;
                    }
                }
            }
            // A port starts out apart from nobody and open to all, also in another bridge.
            let same = before.filter(|b| b.master == object.master);
            let settings = same.map_or(BridgePort::default(), |before| before.port);
            let port = Some(object.port).filter(|port| object.master.is_some() && *port != settings);
            requests.push(link::mark(name, object, port));
            places.extend(std::iter::repeat_n(*place, requests.len() - earlier));
            if let Some(far) = peer(object).filter(|far| before.and_then(peer) != Some(far)) {
                match self.master(&far.ns, far.master.as_ref()) {
                    Ok(master) => {
                        let (places, requests) = far_ends.entry(&far.ns).or_default();
                        places.push(*place);
                        requests.push(link::reshape_peer(far, master));
                    }
                    Err(cause) => self.fail(*place, cause),
                }
            }
        }
        for (ns, (places, mut requests)) in by_ns.into_iter().chain(far_ends) {
            self.send(ns, &places, &mut requests);
        }
    }

    /// Links of the host are marked for removal and taken down, with what is at their far ends: for all that anyone can
    /// tell they are gone. The rest is the reaper's, for it takes long.
    pub(crate) fn remove_links(&mut self, places: &[usize]) {
        let mut doomed: HashMap<&Ns, (Vec<usize>, Vec<Request>)> = HashMap::new();
        let mut far_ends: HashMap<&Ns, Vec<Request>> = HashMap::new();
        for place in places {
            let operation = &self.operations[*place];
            let (Key::Link { ns, name, .. }, Operation::Delete { object, .. }) = (operation.key(), operation)
            else {
                continue;
            };
            let (places, requests) = doomed.entry(ns).or_default();
            places.push(*place);
            // Nobody reaps in sandboxes, and nothing that we make is there alone.
            requests.push(if *ns == Ns::Host { link::doom(name) } else { link::delete(name) });
            self.reap |= *ns == Ns::Host;
            if let Object::Link(link) = object
                && let Some(far) = peer(link).filter(|far| !self.leaving.contains(&far.ns))
            {
                far_ends.entry(&far.ns).or_default().push(link::doom(&far.name));
            }
        }
        for (ns, (places, mut requests)) in doomed {
            self.send(ns, &places, &mut requests);
        }
        for (ns, mut requests) in far_ends {
            // Whoever gave it another name keeps it for the moment that it has left.
            let _cut_off_by_the_near_end = self.request(ns, &mut requests);
        }
        self.forget_indexes();
    }
}

fn set_mode(name: &str, mode: Ipv6) -> Result<(), Cause> {
    for (setting, value) in link::ipv6_settings(name, mode) {
        match sysctl::write(&setting, value) {
            // A kernel or a link without IPv6 has it off.
            Err(Cause::Errno(libc::ENOENT)) if mode == Ipv6::Off => {}
            result => result?,
        }
    }
    Ok(())
}

fn wanted(operation: &Operation) -> Option<(&Ns, &Name, &Link)> {
    match operation {
        Operation::Create { key: Key::Link { ns, name, .. }, object: Object::Link(link) }
        | Operation::Update { key: Key::Link { ns, name, .. }, object: Object::Link(link), .. } => {
            Some((ns, name, link))
        }
        _ => None,
    }
}

/// None for a link that is made.
fn previous(operation: &Operation) -> Option<&Link> {
    match operation {
        Operation::Update { from: Object::Link(link), .. } => Some(link),
        _ => None,
    }
}

fn peer(link: &Link) -> Option<&Peer> {
    match &link.kind {
        LinkKind::Veth { peer } => peer.as_ref(),
        _ => None,
    }
}
