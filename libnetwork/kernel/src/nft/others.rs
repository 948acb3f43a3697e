//! What others have in nftables.

use nftnl_sys as sys;

use super::library;
use crate::{
    netlink::{Protocol, Socket},
    ownership::TABLE,
};

/// A chain that judges packets for the host itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputChain {
    /// As nft(8) writes it: `ip`, `ip6`, `inet`.
    pub family: &'static str,
    pub table: String,
    pub name: String,
    /// Whether it drops what none of its rules is about.
    pub drops: bool,
}

/// The base chains at the input hook that are not ours, in the namespace of the calling thread. Of those of a module of
/// iptables' own (iptables-legacy), nftables knows nothing.
///
/// # Errors
/// The kernel's, as where it has no nftables.
pub fn input_chains() -> Result<Vec<InputChain>, libnetwork_plan::Cause> {
    let mut socket = Socket::open(Protocol::Netfilter)?;
    let question = library::Chain::new().request(libc::NFT_MSG_GETCHAIN, 0, libc::AF_UNSPEC as u8);
    socket.dump(question, |message| {
        let found = library::Chain::read(message)?;
        let family = match found.get_number(sys::NFTNL_CHAIN_FAMILY)? as i32 {
            libc::NFPROTO_IPV4 => "ip",
            libc::NFPROTO_IPV6 => "ip6",
            libc::NFPROTO_INET => "inet",
            _ => return None,
        };
        let table = found.get_text(sys::NFTNL_CHAIN_TABLE)?;
        let judges = found.get_text(sys::NFTNL_CHAIN_TYPE)? == "filter"
            && found.get_number(sys::NFTNL_CHAIN_HOOKNUM)? == libc::NF_INET_LOCAL_IN as u32;
        (judges && table != TABLE).then(|| InputChain {
            family,
            table: table.to_owned(),
            name: found.get_text(sys::NFTNL_CHAIN_NAME).unwrap_or_default().to_owned(),
            drops: found.get_number(sys::NFTNL_CHAIN_POLICY) == Some(libc::NF_DROP as u32),
        })
    })
}
