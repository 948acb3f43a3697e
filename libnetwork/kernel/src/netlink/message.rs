use netlink_packet_core::{NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage};
use netlink_packet_route::RouteNetlinkMessage;

/// One netlink message, whole but for its sequence number.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) bytes: Vec<u8>,
}

impl Request {
    /// `flags` beside NLM_F_REQUEST.
    pub(crate) fn new(message: RouteNetlinkMessage, flags: u16) -> Self {
        let mut header = NetlinkHeader::default();
        header.flags = flags | NLM_F_REQUEST;
        let mut message = NetlinkMessage::new(header, message.into());
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        Request { bytes }
    }

    pub(crate) fn add_flags(&mut self, flags: u16) {
        let mut header = NetlinkBuffer::new(&mut self.bytes);
        header.set_flags(header.flags() | flags);
    }

    /// The finished message.
    pub(crate) fn seal(&mut self, sequence: u32) -> &[u8] {
        let length = self.bytes.len() as u32;
        let mut header = NetlinkBuffer::new(&mut self.bytes);
        header.set_length(length);
        header.set_sequence_number(sequence);
        &self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
}
