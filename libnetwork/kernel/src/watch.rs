//! Telling what changed behind our back from what we did ourselves.
//!
//! Notifications of what an operation did are in the sockets by the time that it has been answered, so they are read right
//! after it and weighed against what it touched. What comes later is weighed against what is known of each link: a
//! notification that says nothing that matters (a carrier that came, a counter) is none.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use libnetwork_model::SandboxId;
use libnetwork_plan::{Drift, Drifted, Key, LinkKind, Name, Ns, Object, Operation, Thing};

use crate::{
    inet, link,
    netlink::{Message, Socket, drain},
    nft,
    ownership::{DOOMED, PROTOCOL},
    spaces::Spaces,
    sysctl,
};

/// RTNLGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE, IPV4_NETCONF, IPV6_NETCONF (linux/rtnetlink.h).
pub(crate) const ROUTE_GROUPS: [u32; 7] = [1, 5, 7, 9, 11, 24, 25];

/// What was last heard of a link.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    name: Name,
    print: u64,
    ours: bool,
    /// Of a pair with both ends in the host.
    far_end: Option<Name>,
    /// On its way out: what is on it goes with it.
    doomed: bool,
}

/// The links of one namespace, by index.
#[derive(Debug, Default)]
pub(crate) struct Links(HashMap<i32, Known>);

impl Links {
    /// Takes note of a link. True when it is not as it was.
    pub(crate) fn note(&mut self, ns: &Ns, found: &link::Found) -> bool {
        let mut hasher = DefaultHasher::new();
        found.hash(&mut hasher);
        let known = Known {
            name: found.name.clone(),
            print: hasher.finish(),
            ours: found.is_ours(ns),
            far_end: found.far_end_in_host(),
            doomed: found.group == DOOMED,
        };
        let print = known.print;
        self.0.insert(found.index, known).is_none_or(|before| before.print != print)
    }

    /// Takes note of all links: those that are not among them are gone.
    pub(crate) fn note_all(&mut self, ns: &Ns, found: &[link::Found]) {
        self.0.clear();
        for link in found {
            self.note(ns, link);
        }
    }

    /// Whether a link of the host's is the far end of another.
    fn is_far_end(&self, found: &link::Found) -> bool {
        self.0.get(&found.other).is_some_and(|near| near.far_end.as_ref() == Some(&found.name))
    }

    fn ours(&self, index: i32) -> bool {
        self.0.get(&index).is_some_and(|known| known.ours)
    }
}

/// What an application of operations accounts for.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    keys: HashSet<Key>,
    /// Ends of links that were changed in any way.
    changed: HashSet<(Ns, Name)>,
    /// Ends of links that were made or removed, with all that is on them.
    remade: HashSet<(Ns, Name)>,
    namespaces: HashSet<SandboxId>,
}

impl Expected {
    pub(crate) fn of(operations: &[Operation]) -> Self {
        let mut expected = Expected::default();
        for operation in operations {
            let (Operation::Create { key, object }
            | Operation::Update { key, object, .. }
            | Operation::Delete { key, object }) = operation;
            expected.keys.insert(key.clone());
            let whole = !matches!(operation, Operation::Update { .. });
            for thing in object.provides(key) {
                match thing {
                    Thing::Link(ns, name) => {
                        if whole {
                            expected.remade.insert((ns.clone(), name.clone()));
                        }
                        expected.changed.insert((ns, name));
                    }
                    Thing::Namespace(id) => {
                        expected.namespaces.insert(id);
                    }
                    Thing::Port(..) | Thing::Family(..) | Thing::Table(..) => {}
                }
            }
            // A port that comes and goes is heard of at its bridge as well.
            if let (Key::Link { ns, .. }, Object::Link(link)) = (key, object) {
                expected.changed.extend(link.master.clone().map(|master| (ns.clone(), master)));
                if let LinkKind::Veth { peer: Some(peer) } = &link.kind {
                    expected.changed.extend(peer.master.clone().map(|master| (peer.ns.clone(), master)));
                }
            }
        }
        expected
    }

    fn link(&self, ns: &Ns, name: &Name) -> bool {
        self.inside(ns) || self.changed.contains(&(ns.clone(), name.clone()))
    }

    fn on_link(&self, key: &Key, ns: &Ns, link: Option<&Name>) -> bool {
        let remade = |link: &Name| self.remade.contains(&(ns.clone(), link.clone()));
        self.inside(ns) || self.keys.contains(key) || link.is_some_and(remade)
    }

    fn inside(&self, ns: &Ns) -> bool {
        matches!(ns, Ns::Sandbox(id) if self.namespaces.contains(id))
    }
}

/// What has been noticed and not yet been told.
#[derive(Debug, Default)]
pub(crate) struct Noticed {
    keys: BTreeSet<Key>,
    all: bool,
    lost: bool,
    host: bool,
    /// Indexes, in the host, of veth pairs whose far ends changed.
    pairs: Vec<i32>,
}

impl Noticed {
    /// The host's own network is not as it was.
    pub(crate) fn host_changed(&mut self) {
        self.host = true;
    }

    /// What there is to tell, which is then told; to be asked until there is nothing. What was heard of is told by itself: it
    /// is repaired at once, though something else was lost.
    pub(crate) fn take(&mut self) -> Option<Drift> {
        let keys = std::mem::take(&mut self.keys);
        let (all, lost) = (std::mem::take(&mut self.all), std::mem::take(&mut self.lost));
        let host = std::mem::take(&mut self.host);
        let what = match (all, lost) {
            (true, _) => Drifted::All,
            (false, true) if keys.is_empty() => Drifted::Lost,
            (false, _) => {
                self.lost = lost;
                Drifted::Keys(keys)
            }
        };
        let nothing = matches!(&what, Drifted::Keys(keys) if keys.is_empty()) && !host;
        (!nothing).then_some(Drift { what, host })
    }

    /// Reads what waits of links, addresses and routes.
    pub(crate) fn read(
        &mut self,
        socket: &mut Socket,
        spaces: &mut Spaces,
        expected: &Expected,
        buffer: &mut Vec<u8>,
    ) {
        self.lost |= drain(|| {
            socket.poll(buffer, |nsid, message| {
                if let Some((ns, space)) = spaces.named(nsid) {
                    self.notice(&ns, &mut space.links, expected, message);
                }
            })
        });
    }

    /// Reads what waits of nftables.
    pub(crate) fn read_nft(
        &mut self,
        socket: &mut Socket,
        spaces: &mut Spaces,
        expected: &Expected,
        buffer: &mut Vec<u8>,
    ) {
        self.lost |= drain(|| {
            socket.poll(buffer, |nsid, message| {
                let Some((ns, space)) = spaces.named(nsid) else { return };
                let Some(table) = nft::loser(&ns, message) else { return };
                if ns == Ns::Host {
                    // A table that is made again starts out empty, and not everyone who would make it knows all that was
                    // in it. What carries our own port is our doing.
                    self.all |= Some(message.port) != space.nft_port();
                    return;
                }
                let key = Key::Ruleset { ns, table };
                if !expected.inside(key.ns()) && !expected.keys.contains(&key) {
                    self.keys.insert(key);
                }
            })
        });
    }

    /// The host's ends of the pairs whose far ends changed.
    pub(crate) fn resolve_pairs(&mut self, host: &Links) {
        for index in std::mem::take(&mut self.pairs) {
            if let Some(known) = host.0.get(&index) {
                self.keys.insert(link_key(libnetwork_plan::LinkRank::Veth, &Ns::Host, &known.name));
            }
        }
    }

    fn notice(&mut self, ns: &Ns, links: &mut Links, expected: &Expected, message: &Message<'_>) {
        match message.kind {
            libc::RTM_NEWLINK => {
                if let Some(found) = link::read(message)
                    && links.note(ns, &found)
                {
                    self.link(ns, links, expected, &found);
                }
            }
            libc::RTM_DELLINK => {
                if let Some(found) = link::read(message) {
                    links.0.remove(&found.index);
                    self.link(ns, links, expected, &found);
                }
            }
            libc::RTM_NEWADDR | libc::RTM_DELADDR => self.address(ns, links, expected, message),
            sysctl::RTM_NEWNETCONF if *ns == Ns::Host => {
                let name = sysctl::forwarding_ended(message);
                self.keys.extend(name.map(|name| Key::Sysctl { ns: Ns::Host, name: name.into() }));
            }
            libc::RTM_NEWROUTE | libc::RTM_DELROUTE => self.route(ns, links, expected, message),
            _ => {}
        }
    }

    fn link(&mut self, ns: &Ns, links: &Links, expected: &Expected, found: &link::Found) {
        // One that is on its way out is no loss.
        if expected.link(ns, &found.name) || found.group == DOOMED {
            return;
        }
        if !found.is_ours(ns) {
            self.host |= *ns == Ns::Host;
            // It may have been in the place of a network's bridge: their names are people's choice.
            if *ns == Ns::Host && !links.0.contains_key(&found.index) {
                self.keys.insert(link_key(libnetwork_plan::LinkRank::Bridge, ns, &found.name));
            }
            return;
        }
        let inside = matches!(ns, Ns::Sandbox(_));
        if inside || links.is_far_end(found) {
            self.pairs.push(found.other);
        } else {
            self.keys.insert(link_key(found.rank(), ns, &found.name));
        }
        if inside {
            // A link that goes down loses its IPv4 routes without a word.
            self.keys.extend(default_routes(ns));
        }
    }

    fn address(&mut self, ns: &Ns, links: &Links, expected: &Expected, message: &Message<'_>) {
        let Some(found) = inet::read_address(message) else { return };
        if !links.ours(found.index) {
            self.host |= *ns == Ns::Host;
            return;
        }
        // Somebody else's that goes may have been in the place of ours; what the kernel gives by itself is not.
        if message.kind == libc::RTM_NEWADDR || (found.protocol != PROTOCOL && found.link_local) {
            return;
        }
        let Some(known) = links.0.get(&found.index).filter(|known| !known.doomed) else { return };
        let key = Key::Address { ns: ns.clone(), link: known.name.clone(), address: found.address };
        if !expected.on_link(&key, ns, Some(&known.name)) {
            self.keys.insert(key);
            // With a link's last IPv4 address its routes go without a word.
            if let Ns::Sandbox(_) = ns {
                self.keys.extend(default_routes(ns));
            }
        }
    }

    fn route(&mut self, ns: &Ns, links: &Links, expected: &Expected, message: &Message<'_>) {
        let Some(found) = inet::read_route(message) else { return };
        let added = message.kind == libc::RTM_NEWROUTE;
        let replaced = added && i32::from(message.flags) & libc::NLM_F_REPLACE != 0;
        let ours = found.protocol == PROTOCOL && links.ours(found.index);
        self.host |= !ours && *ns == Ns::Host && !links.ours(found.index);
        if found.table != u32::from(libc::RT_TABLE_MAIN) {
            return;
        }
        // Somebody else's that comes in the place of ours, or goes from there: we have none but default routes of sandboxes.
        let in_our_place = *ns != Ns::Host && found.destination.prefix_len() == 0;
        if (ours && !added) || (!ours && in_our_place && (replaced || !added)) {
            let key = Key::Route { ns: ns.clone(), destination: found.destination, metric: found.metric };
            let known = links.0.get(&found.index);
            let doomed = known.is_some_and(|known| known.doomed);
            if !doomed && !expected.on_link(&key, ns, known.map(|known| &known.name)) {
                self.keys.insert(key);
            }
        }
    }
}

fn link_key(rank: libnetwork_plan::LinkRank, ns: &Ns, name: &Name) -> Key {
    Key::Link { rank, ns: ns.clone(), name: name.clone() }
}

/// As [`libnetwork_plan::sandbox_objects`] makes them.
fn default_routes(ns: &Ns) -> [Key; 2] {
    let route = |destination, metric| Key::Route { ns: ns.clone(), destination, metric };
    [route(ipnet::Ipv4Net::default().into(), 0), route(ipnet::Ipv6Net::default().into(), 1024)]
}
