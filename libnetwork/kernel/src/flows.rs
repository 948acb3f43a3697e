//! Connections that were led to a container by a published port (connection tracking, linux/netfilter/
//! nfnetlink_conntrack.h): they do not end by themselves when the port is taken away.

use std::{collections::HashSet, net::IpAddr};

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

/// A range of the host's ports that leads elsewhere than it did: what is tracked of it is out of date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turned {
    protocol: Protocol,
    ports: PortRange,
    /// Where it leads or led.
    container: IpAddr,
    /// It leads there from now on. Until then the host itself was meant, and a client that goes on sending would mean it for
    /// ever: where a connection leads is asked of its first packet alone. Of UDP, that is; TCP ends what nobody answers.
    begins: bool,
}

impl Turned {
    /// Of an element that says where ports lead; none of any other operation.
    pub(crate) fn by(operation: &Operation) -> Option<Self> {
        let (key, object, begins) = match operation {
            Operation::Delete { key, object } => (key, object, false),
            Operation::Create { key, object } => (key, object, true),
            Operation::Update { .. } => return None,
        };
        let (Key::SetElement { element, .. }, Object::SetElement(Some(value))) = (key, object) else {
            return None;
        };
        let container = match value {
            Value::Address(address) => *address,
            Value::AddressPort(address) => address.ip(),
            Value::Verdict(_) | Value::Mac(_) => return None,
        };
        match element.as_slice() {
            [.., Datum::Protocol(protocol), Datum::Ports(ports)] if !begins || *protocol == Protocol::Udp => {
                Some(Turned { protocol: *protocol, ports: *ports, container, begins })
            }
            _ => None,
        }
    }

    /// Whether it matters to this one what the host's own addresses are.
    pub(crate) fn begins(&self) -> bool {
        self.begins
    }

    fn concerns(&self, flow: &Flow, host: &HashSet<IpAddr>) -> bool {
        let by_it = flow.protocol == self.protocol.number() && self.ports.contains(flow.port);
        let as_it_was = match self.begins {
            true => !flow.redirected && host.contains(&flow.answers),
            false => flow.redirected && flow.answers == self.container,
        };
        by_it && as_it_was
    }
}

/// Ends the tracking of what came by these ports, of which `host` are the host's addresses: the next packet is led anew, or
/// refused.
pub(crate) fn forget(socket: &mut Socket, turned: &[Turned], host: &HashSet<IpAddr>) -> Result<(), Cause> {
    for family in [libc::AF_INET, libc::AF_INET6] {
        if !turned.iter().any(|turned| turned.container.is_ipv6() == (family == libc::AF_INET6)) {
            continue;
        }
        let list = request(GET, family, &[]);
        let found = socket.dump(list, |message| {
            let flow = read(message)?;
            turned.iter().any(|turned| turned.concerns(&flow, host)).then_some(flow.name)
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
    /// The port that the client sends to, and who answers it: the one that it sends to, or whom it was redirected to.
    port: u16,
    answers: IpAddr,
    redirected: bool,
    /// The attributes by which the kernel finds it again.
    name: Vec<u8>,
}

fn read(message: &Message<'_>) -> Option<Flow> {
    let payload = message.payload.get(NFGENMSG..)?;
    let find = |kind| attributes(payload).find(|a| a.kind() == kind);
    let status = find(STATUS)?;
    let redirected = u32::from_be_bytes(status.value().try_into().ok()?) & DST_NAT != 0;
    let original = find(TUPLE_ORIG)?;
    let protocol = inside(original.value(), TUPLE_PROTO)?;
    let reply = find(TUPLE_REPLY)?;
    let addresses = inside(reply.value(), TUPLE_IP)?;
    let answers = SOURCE.into_iter().find_map(|kind| address(inside(addresses, kind)?))?;
    let whole = |attribute: NlaBuffer<&[u8]>| {
        let length = usize::from(attribute.length()).next_multiple_of(4);
        attribute.into_inner().get(..length).map(<[u8]>::to_vec)
    };
    let name = [TUPLE_ORIG, ID, ZONE].into_iter().filter_map(|kind| whole(find(kind)?)).flatten();
    Some(Flow {
        protocol: *inside(protocol, PROTO_NUMBER)?.first()?,
        port: u16::from_be_bytes(inside(protocol, PROTO_DESTINATION)?.try_into().ok()?),
        answers,
        redirected,
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
