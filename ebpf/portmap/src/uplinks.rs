//! Where clients come in by links that are not ours, and how what is attached there is pinned.

use std::{collections::BTreeSet, fs, io, path::Path};

use libnetwork_core::PortError;

use crate::{error::OnError, object, sys::Hook};

/// Where packets of clients come in that are not on a link of our own: an uplink, by its index and whether its packets have an
/// Ethernet header, or the loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Uplink {
    Ethernet(u32),
    Bare(u32),
    Loopback,
}

/// The pins of an uplink's links, by interface index: the kernel gives an index to one interface only, and bpffs refuses
/// dots, which names of interfaces may have.
const ETHERNET: [&str; 2] = ["egress-", "uplink-"];
const BARE: [&str; 2] = ["bare-egress-", "bare-uplink-"];
const LOOPBACK: &str = "loopback";
/// LOOPBACK_IFINDEX, in every network namespace.
const LOOPBACK_LINK: u32 = 1;

/// A pin, the program, the hook.
pub(crate) type Side = (String, &'static str, Hook<'static>);

impl Uplink {
    /// All that is attached, but for the last, and the last: by its pin the uplink is known to be attached to.
    pub(crate) fn sides(self) -> (Option<Side>, Side) {
        let sides = |index: u32, [egress, ingress]: [&str; 2], sent, towards| {
            let egress = (format!("{egress}{index}"), sent, Hook::Egress(index));
            (Some(egress), (format!("{ingress}{index}"), towards, Hook::Ingress(index)))
        };
        match self {
            Self::Ethernet(index) => sides(index, ETHERNET, object::SENT, object::TOWARDS),
            Self::Bare(index) => sides(index, BARE, object::SENT_BARE, object::TOWARDS_BARE),
            Self::Loopback => (None, (LOOPBACK.into(), object::LOCAL, Hook::Egress(LOOPBACK_LINK))),
        }
    }

    pub(crate) fn all_sides(self) -> impl Iterator<Item = Side> {
        let (first, last) = self.sides();
        first.into_iter().chain([last])
    }

    /// By the pin of its last side.
    fn pinned(name: &str) -> Option<Self> {
        let index = |pins: [&str; 2]| name.strip_prefix(pins[1])?.parse().ok();
        let uplink = index(ETHERNET).map(Self::Ethernet).or_else(|| index(BARE).map(Self::Bare));
        uplink.or_else(|| (name == LOOPBACK).then_some(Self::Loopback))
    }
}

/// Of a program that is loaded with the first uplink that needs it.
pub(crate) fn is_bare(program: &str) -> bool {
    [object::TOWARDS_BARE, object::SENT_BARE].contains(&program)
}

/// The uplinks that are pinned in a directory.
pub(crate) fn pinned_in(pins: &Path) -> Result<BTreeSet<Uplink>, PortError> {
    let entries = match fs::read_dir(pins) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        other => other.on("list", pins.display())?,
    };
    let mut uplinks = BTreeSet::new();
    for entry in entries {
        let name = entry.on("list", pins.display())?.file_name();
        uplinks.extend(name.to_str().and_then(Uplink::pinned));
    }
    Ok(uplinks)
}
