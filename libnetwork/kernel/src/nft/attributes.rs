//! nftables' attributes, which no message type of netlink-packet's knows.

use netlink_packet_core::{NLA_F_NESTED, NLA_HEADER_SIZE, NetlinkBuffer};

use crate::netlink::{self, Request};

/// struct nlmsghdr.
const HEADER: usize = 16;

impl Request {
    /// `flags` beside NLM_F_REQUEST; `family` is struct nfgenmsg.
    pub(super) fn nft(kind: u16, flags: i32, family: [u8; 4]) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.resize(HEADER, 0);
        bytes.extend_from_slice(&family);
        let mut header = NetlinkBuffer::new(&mut bytes);
        header.set_message_type(kind);
        header.set_flags((flags | libc::NLM_F_REQUEST) as u16);
        Request { bytes }
    }

    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.start(kind, value.len());
        self.bytes.extend_from_slice(value);
        self.pad();
        self
    }

    /// As nftables has all its numbers.
    pub(super) fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// With the final zero.
    pub(super) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.start(kind, value.len() + 1);
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.pad();
        self
    }

    /// Attributes within an attribute.
    pub(super) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let at = self.bytes.len();
        self.start(kind | NLA_F_NESTED, 0);
        fill(self);
        let length = (self.bytes.len() - at) as u16;
        self.bytes[at..at + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// struct nlattr: length u16 without padding, type u16.
    fn start(&mut self, kind: u16, length: usize) {
        self.bytes.extend_from_slice(&((length + 4) as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// The attributes in a payload, by type.
pub(super) fn attributes(payload: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    netlink::attributes(payload).map(|attribute| {
        let (kind, length) = (attribute.kind(), usize::from(attribute.length()));
        (kind, &attribute.into_inner()[NLA_HEADER_SIZE..length])
    })
}

pub(super) fn bytes<const N: usize>(payload: &[u8]) -> Option<[u8; N]> {
    payload.first_chunk().copied()
}

pub(super) fn be_u32(payload: &[u8]) -> Option<u32> {
    bytes(payload).map(u32::from_be_bytes)
}

/// Up to the final zero; what is not UTF-8 is nothing of ours.
pub(super) fn text(payload: &[u8]) -> &str {
    let end = payload.iter().position(|b| *b == 0).unwrap_or(payload.len());
    std::str::from_utf8(&payload[..end]).unwrap_or_default()
}
