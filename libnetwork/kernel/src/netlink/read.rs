//! What the kernel says, one message and one attribute at a time.

use netlink_packet_core::{NetlinkBuffer, NlaBuffer, NlasIterator};

/// A message received: its type, its flags, and what follows its header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    /// Who asked for what it notifies of; 0 for the kernel itself.
    pub(crate) port: u32,
    pub(crate) payload: &'a [u8],
    /// The header and the payload.
    pub(crate) bytes: &'a [u8],
}

/// What lies in a buffer as the kernel filled it.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let buffer = NetlinkBuffer::new_checked(bytes).ok()?;
        let length = buffer.length() as usize;
        let message = Message {
            kind: buffer.message_type(),
            flags: buffer.flags(),
            sequence: buffer.sequence_number(),
            port: buffer.port_number(),
            payload: buffer.payload(),
            bytes: &bytes[..length],
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes in a payload. They are decoded one by one: a whole message of netlink-packet-route's is refused for one
/// attribute that it finds odd, and a link must not vanish for what a newer kernel says of it.
pub(crate) fn attributes(payload: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(payload).map_while(Result::ok)
}
