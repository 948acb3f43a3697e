//! How our objects are marked in the kernel, so that any process knows them after any crash.

use libnetwork_model::SandboxId;
use libnetwork_plan::{Name, Ns};

/// The group of our links ("CW" and a number). Set at creation, it survives a move to another namespace.
pub(crate) const GROUP: u32 = 0x4357_0001;
/// Links that are marked for removal: still ours, should we die in between, and gone for all that anyone can tell.
pub(crate) const DOOMED: u32 = 0x4357_0002;
/// The protocol of our addresses, routes and neighbours (linux/rtnetlink.h leaves numbers from 5 on to users; none of
/// iproute2's rt_protos has this one).
pub(crate) const PROTOCOL: u8 = 202;
/// Our nftables table, in whichever family.
pub(crate) const TABLE: &str = "causeway";

/// What a link's alias says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Alias<'a> {
    pub(crate) id: &'a str,
    /// Where the far end of a veth pair was put.
    pub(crate) peer: Option<(Ns, Name)>,
}

pub(crate) fn is_ours(group: u32) -> bool {
    group == GROUP || group == DOOMED
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
