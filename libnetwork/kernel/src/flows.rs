//! Connections that were led to a container by a published port (connection tracking, linux/netfilter/
//! nfnetlink_conntrack.h): they do not end by themselves when the port is taken away.

use std::net::IpAddr;

use libnetwork_model::{PortRange, Protocol};
use libnetwork_plan::{Cause, Datum, Key, Object, Operation, Value};
use netlink_packet_core::{NLA_HEADER_SIZE, NLM_F_REQUEST, NetlinkBuffer, NlaBuffer};

use crate::netlink::{Message, Request, Socket, attributes};

const SUBSYSTEM: u16 = (libc::NFNL_SUBSYS_CTNETLINK as u16) << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;

/// struct nlmsghdr and struct nfgenmsg.
const HEADER: usize = 16;
const NFGENMSG: usize = 4;

/// CTA_*
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const ID: u16 = 12;
const ZONE: u16 = 18;
/// CTA_TUPLE_IP and CTA_TUPLE_PROTO, and what they have inside.
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const SOURCE: [u16; 2] = [1, 3];
const PROTO_NUMBER: u16 = 1;
const PROTO_DESTINATION: u16 = 3;
/// IPS_DST_NAT
const DST_NAT: u32 = 1 << 5;

/// A range of the host's ports that leads nowhere any more, and where it led.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone {
    protocol: Protocol,
    ports: PortRange,
    to: IpAddr,
}

impl Gone {
    /// Of the removal of an element that says where ports lead; none of any other operation.
    pub(crate) fn by(operation: &Operation) -> Option<Self> {
        let Operation::Delete {
            key: Key::SetElement { element, .. },
            object: Object::SetElement(Some(value)),
        } = operation
        else {
            return None;
        };
        let to = match value {
            Value::Address(address) => *address,
            Value::AddressPort(address) => address.ip(),
            Value::Verdict(_) | Value::Mac(_) => return None,
        };
        match element.as_slice() {
            [.., Datum::Protocol(protocol), Datum::Ports(ports)] => {
                Some(Gone { protocol: *protocol, ports: *ports, to })
            }
            _ => None,
        }
    }

    fn led(&self, flow: &Flow) -> bool {
        flow.protocol == self.protocol.number() && flow.to == self.to && self.ports.contains(flow.port)
    }
}

/// Ends the tracking of what came by these ports: the next packet is led anew, or refused.
pub(crate) fn forget(socket: &mut Socket, gone: &[Gone]) -> Result<(), Cause> {
    for family in [libc::AF_INET, libc::AF_INET6] {
        if !gone.iter().any(|gone| gone.to.is_ipv6() == (family == libc::AF_INET6)) {
            continue;
        }
        let list = request(GET, family, &[]);
        let found = socket.dump(list, |message| {
            let flow = read(message)?;
            gone.iter().any(|gone| gone.led(&flow)).then_some(flow.name)
        })?;
        let mut removals: Vec<Request> = found.iter().map(|name| request(DELETE, family, name)).collect();
        for result in socket.request(&mut removals) {
            match result {
                // It ended meanwhile.
                Err(cause) if cause.errno() != Some(libc::ENOENT) => return Err(cause),
                _ => {}
            }
        }
    }
    Ok(())
}

struct Flow {
    protocol: u8,
    /// The port that the client sends to, and who answers it.
    port: u16,
    to: IpAddr,
    /// The attributes by which the kernel finds it again.
    name: Vec<u8>,
}

/// None for what was not redirected.
fn read(message: &Message<'_>) -> Option<Flow> {
    let payload = message.payload.get(NFGENMSG..)?;
    let find = |kind| attributes(payload).find(|a| a.kind() == kind);
    let status = find(STATUS)?;
    if u32::from_be_bytes(status.value().try_into().ok()?) & DST_NAT == 0 {
        return None;
    }
    let original = find(TUPLE_ORIG)?;
    let protocol = inside(original.value(), TUPLE_PROTO)?;
    let reply = find(TUPLE_REPLY)?;
    let addresses = inside(reply.value(), TUPLE_IP)?;
    let to = SOURCE.into_iter().find_map(|kind| address(inside(addresses, kind)?))?;
    let whole = |attribute: NlaBuffer<&[u8]>| {
        let length = usize::from(attribute.length()).next_multiple_of(4);
        attribute.into_inner().get(..length).map(<[u8]>::to_vec)
    };
    let name = [TUPLE_ORIG, ID, ZONE].into_iter().filter_map(|kind| whole(find(kind)?)).flatten();
    Some(Flow {
        protocol: *inside(protocol, PROTO_NUMBER)?.first()?,
        port: u16::from_be_bytes(inside(protocol, PROTO_DESTINATION)?.try_into().ok()?),
        to,
        name: name.collect(),
    })
}

fn inside(payload: &[u8], kind: u16) -> Option<&[u8]> {
    let attribute = attributes(payload).find(|attribute| attribute.kind() == kind)?;
    let length = usize::from(attribute.length());
    attribute.into_inner().get(NLA_HEADER_SIZE..length)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    v4.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}

fn request(kind: u16, family: i32, attributes: &[u8]) -> Request {
    let mut bytes = vec![0; HEADER + NFGENMSG];
    bytes[HEADER] = family as u8;
    let mut header = NetlinkBuffer::new(&mut bytes);
    header.set_message_type(kind);
    header.set_flags(NLM_F_REQUEST);
    bytes.extend_from_slice(attributes);
    Request { bytes }
}
