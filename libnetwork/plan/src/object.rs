use std::{net::IpAddr, sync::Arc};

use libnetwork_model::{MacAddress, SandboxId};

use crate::{Key, Name, Ns, Ruleset, Table, Value};

/// What a [`Key`] names: all that the planner compares.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// A namespace, and whether its loopback is up.
    Namespace {
        loopback: bool,
    },
    /// The value, without the newline.
    Sysctl(Name),
    Ruleset(Arc<Ruleset>),
    /// A set's element carries nothing, a map's element what it leads to.
    SetElement(Option<Value>),
    Link(Link),
    /// An address carries nothing but its key.
    Address,
    Route(Route),
    Neighbour(Neighbour),
    /// A static forwarding entry carries nothing but its key.
    Fdb,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub kind: LinkKind,
    /// Whose it is: a network's or an endpoint's id. Written into the link's alias.
    pub id: Name,
    /// In bytes.
    pub mtu: u32,
    /// None: whichever the kernel chose.
    pub mac: Option<MacAddress>,
    pub up: bool,
    /// The bridge that it is a port of.
    pub master: Option<Name>,
    /// As what kind of port.
    pub port: BridgePort,
    pub ipv6: Ipv6,
}

/// How a bridge treats one of its ports. The default is the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct BridgePort {
    /// Frames reach the bridge itself and ports that are not isolated, no other isolated port.
    pub isolated: bool,
    /// Frames to an Ethernet address that the bridge does not know do not leave here.
    pub known_only: bool,
    /// Frames may leave where they came in.
    pub hairpin: bool,
    /// Frames to the addresses that are for bridges themselves (01:80:c2:00:00:00 to 0f, IEEE 802.1D) go the way of all
    /// others, and so by the rules for those: the kernel would learn their source, and give them to the host, before.
    pub forwards_reserved: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkKind {
    Bridge,
    /// A pair: this end, and its peer. An observed pair whose peer is not where it was put has none.
    Veth {
        peer: Option<Peer>,
    },
    /// A kind that we do not make, by the kernel's name for it.
    Other(Name),
}

/// The far end of a veth pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub ns: Ns,
    pub name: Name,
    pub mtu: u32,
    pub mac: Option<MacAddress>,
    pub up: bool,
    /// The bridge that it is a port of. What a container does with its own end is not looked at.
    pub master: Option<Name>,
    pub ipv6: Ipv6,
}

/// How a link takes part in IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipv6 {
    /// Not at all (`disable_ipv6` 1).
    Off,
    /// With a link-local address and what it is given; no router advertisement is believed (`accept_ra` 0), and no
    /// address waits for duplicate detection (`accept_dad` 0): leases are unique by construction.
    Static,
    /// As the kernel or someone else set it.
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub link: Name,
    /// None: the destination is on the link itself.
    pub gateway: Option<IpAddr>,
    /// The address that packets leave with, when it is not for the kernel to choose.
    pub source: Option<IpAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    pub mac: MacAddress,
}

/// What one object needs of another. An object whose thing is not there cannot be; one whose thing goes, goes with it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Thing {
    Namespace(SandboxId),
    Link(Ns, Name),
    /// A link's being a port of its bridge.
    Port(Ns, Name),
    /// A link's taking part in IPv4 (false) or IPv6: the kernel forgets its neighbours when it goes down, or loses its last
    /// address.
    Family(Ns, Name, bool),
    Table(Ns, Table),
}

impl Object {
    /// Whether what is there does for what should be. A MAC that nobody asked for may be any, and so may an IPv6 mode.
    pub fn is_met_by(&self, observed: &Object) -> bool {
        match (self, observed) {
            (Object::Link(want), Object::Link(have)) => want.is_met_by(have),
            _ => self == observed,
        }
    }

    /// Whether `observed` can become this without being removed first.
    pub(crate) fn can_follow(&self, observed: &Object) -> bool {
        match (self, observed) {
            // What an element leads to is part of it: nftables refuses another one for the same key.
            (Object::SetElement(_), _) => false,
            (Object::Link(want), Object::Link(have)) => match (&want.kind, &have.kind) {
                (LinkKind::Veth { peer: Some(want) }, LinkKind::Veth { peer: Some(have) }) => {
                    want.ns == have.ns && want.name == have.name
                }
                (LinkKind::Veth { peer: Some(_) }, _) => false,
                (want, have) => want == have,
            },
            _ => true,
        }
    }

    /// What comes into being with this object.
    pub fn provides(&self, key: &Key) -> Vec<Thing> {
        match (key, self) {
            (Key::Namespace(id), _) => vec![Thing::Namespace(id.clone())],
            (Key::Ruleset { ns, table }, _) => vec![Thing::Table(ns.clone(), table.clone())],
            (Key::Link { ns, name, .. }, object) => {
                let mut things = vec![Thing::Link(ns.clone(), name.clone())];
                let Object::Link(link) = object else { return things };
                things.extend(link.master.iter().map(|_| Thing::Port(ns.clone(), name.clone())));
                if let LinkKind::Veth { peer: Some(peer) } = &link.kind {
                    things.push(Thing::Link(peer.ns.clone(), peer.name.clone()));
                }
                things
            }
            (Key::Address { ns, link, address }, _) => {
                vec![Thing::Family(ns.clone(), link.clone(), address.addr().is_ipv6())]
            }
            _ => Vec::new(),
        }
    }

    /// What is lost of a link's when it becomes this in place, and comes into being anew.
    pub(crate) fn renews(&self, key: &Key, observed: &Object) -> Vec<Thing> {
        let (Key::Link { ns, name, .. }, Object::Link(want), Object::Link(have)) = (key, self, observed)
        else {
            return Vec::new();
        };
        let mut things = Vec::new();
        if want.master != have.master {
            things.push(Thing::Port(ns.clone(), name.clone()));
        }
        if want.up != have.up {
            things.extend([false, true].map(|ipv6| Thing::Family(ns.clone(), name.clone(), ipv6)));
        }
        things
    }

    /// What must be there for this object to be made.
    pub fn requires(&self, key: &Key) -> Vec<Thing> {
        let mut things = self.hangs_on(key);
        if let (Key::Link { ns, .. }, Object::Link(link)) = (key, self) {
            if let Some(master) = &link.master {
                things.push(Thing::Link(ns.clone(), master.clone()));
            }
            if let LinkKind::Veth { peer: Some(peer) } = &link.kind {
                if let Ns::Sandbox(id) = &peer.ns {
                    things.push(Thing::Namespace(id.clone()));
                }
                things.extend(peer.master.iter().map(|master| Thing::Link(peer.ns.clone(), master.clone())));
            }
        }
        things
    }

    /// What takes this object with it when it goes. A bridge leaves its ports, and a namespace takes the veth pairs that
    /// lead into it only when the kernel finds the time: neither counts.
    pub(crate) fn hangs_on(&self, key: &Key) -> Vec<Thing> {
        let on = |ns: &Ns, link: &Name| Thing::Link(ns.clone(), link.clone());
        let mut things = Vec::with_capacity(3);
        if let Ns::Sandbox(id) = key.ns() {
            things.push(Thing::Namespace(id.clone()));
        }
        match (key, self) {
            (Key::SetElement { ns, table, .. }, _) => things.push(Thing::Table(ns.clone(), table.clone())),
            (
                Key::Address { ns, link, .. }
                | Key::LinkSysctl { ns, link, .. }
                | Key::Neighbour { ns, link, .. }
                | Key::Fdb { ns, link, .. },
                _,
            ) => {
                things.push(on(ns, link));
                match key {
                    Key::Fdb { .. } => things.push(Thing::Port(ns.clone(), link.clone())),
                    Key::Neighbour { address, .. } => {
                        things.push(Thing::Family(ns.clone(), link.clone(), address.is_ipv6()));
                    }
                    _ => {}
                }
            }
            (Key::Route { ns, .. }, Object::Route(route)) => things.push(on(ns, &route.link)),
            _ => {}
        }
        things
    }
}

impl Link {
    fn is_met_by(&self, have: &Link) -> bool {
        let kind = match (&self.kind, &have.kind) {
            (LinkKind::Veth { peer: Some(want) }, LinkKind::Veth { peer: Some(have) }) => {
                want.is_met_by(have)
            }
            (want, have) => want == have,
        };
        kind && self.id == have.id
            && self.mtu == have.mtu
            && self.mac.is_none_or(|mac| have.mac == Some(mac))
            && self.up == have.up
            && self.master == have.master
            && self.port == have.port
            && self.ipv6.is_met_by(have.ipv6)
    }
}

impl Peer {
    fn is_met_by(&self, have: &Peer) -> bool {
        self.ns == have.ns
            && self.name == have.name
            && self.mtu == have.mtu
            && self.mac.is_none_or(|mac| have.mac == Some(mac))
            && self.up == have.up
            && self.master == have.master
            && self.ipv6.is_met_by(have.ipv6)
    }
}

impl Ipv6 {
    fn is_met_by(self, have: Ipv6) -> bool {
        self == Ipv6::Other || self == have
    }
}
