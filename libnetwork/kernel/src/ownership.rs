//! How our objects are marked in the kernel, so that any process knows them after any crash.

use libnetwork_model::SandboxId;
use libnetwork_plan::{Family, Name, Ns, Table};

/// The group of our links in the host ("CW" and a number).
pub(crate) const GROUP: u32 = 0x4357_0001;
/// Links that are marked for removal: still ours, should we die in between, and gone for all that anyone can tell.
pub(crate) const DOOMED: u32 = 0x4357_0002;
/// The group of those in sandboxes, which have no alias. Another one, since a container may be the host of a Causeway of its
/// own: what this one has there is not ours, and what we gave the container is not that one's.
pub(crate) const INSIDE: u32 = 0x4357_0003;
/// The protocol of our addresses, routes and neighbours (linux/rtnetlink.h leaves numbers from 5 on to users; none of
/// iproute2's rt_protos has this one).
pub(crate) const PROTOCOL: u8 = 202;
/// Our nftables tables.
pub(crate) const TABLE: &str = "causeway";

/// What a link's alias says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Alias<'a> {
    pub(crate) id: &'a str,
    /// Where the far end of a veth pair was put.
    pub(crate) peer: Option<(Ns, Name)>,
}

/// The group of our links there.
pub(crate) fn group_in(ns: &Ns) -> u32 {
    match ns {
        Ns::Host => GROUP,
        Ns::Sandbox(_) => INSIDE,
    }
}

/// The tables that are ours there: the host's and a sandbox's differ by family, for the same reason as the groups.
pub(crate) fn tables(ns: &Ns) -> impl Iterator<Item = Table> {
    let families: &[Family] = match ns {
        Ns::Host => &[Family::Inet, Family::Bridge],
        Ns::Sandbox(_) => &[Family::Ipv4],
    };
    families.iter().map(|family| Table { family: *family, name: TABLE.into() })
}

/// `causeway:bridge:ID`, `causeway:veth:ID:SANDBOX:NAME`: at most 171 bytes of the 255 that an alias takes (IFALIASZ).
pub(crate) fn alias(kind: &str, id: &str, peer: Option<(&Ns, &Name)>) -> String {
    match peer {
        None => format!("causeway:{kind}:{id}"),
        Some((Ns::Host, name)) => format!("causeway:{kind}:{id}::{name}"),
        Some((Ns::Sandbox(sandbox), name)) => format!("causeway:{kind}:{id}:{sandbox}:{name}"),
    }
}

pub(crate) fn read_alias(text: &str) -> Option<Alias<'_>> {
    let mut parts = text.splitn(5, ':');
    let ("causeway", _kind) = (parts.next()?, parts.next()?) else { return None };
    let id = parts.next()?;
    let peer = match (parts.next(), parts.next()) {
        (Some(""), Some(name)) => Some((Ns::Host, name.into())),
        (Some(sandbox), Some(name)) => Some((Ns::Sandbox(sandbox.parse::<SandboxId>().ok()?), name.into())),
        _ => None,
    };
    Some(Alias { id, peer })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_says_where_the_far_end_was_put() {
        let ns = Ns::Sandbox(SandboxId::from_bytes([9; 32]));
        let id = "e".repeat(64);
        for peer in [None, Some((ns, Name::from("eth0"))), Some((Ns::Host, Name::from("x")))] {
            let text = alias("veth", &id, peer.as_ref().map(|(ns, name)| (ns, name)));
            assert!(text.len() < 256);
            assert_eq!(read_alias(&text), Some(Alias { id: &id, peer }));
        }
    }

    #[test]
    fn what_others_write_is_no_alias_of_ours() {
        for text in ["", "uplink", "causeway", "causeway:veth", "docker:veth:x"] {
            assert_eq!(read_alias(text), None, "{text}");
        }
    }
}
