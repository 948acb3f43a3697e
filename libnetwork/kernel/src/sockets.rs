//! Which sockets the programs of a namespace have (sock_diag(7), linux/inet_diag.h), as `ss` asks for them.
//!
//! The kernel lists only those in the states that are asked for. `/proc/net/tcp` has no such question: it walks the table
//! of all connections, which has hundreds of thousands of places on a large machine, however few listen.

use std::{io, net::IpAddr};

use libnetwork_model::Protocol as Transport;
use libnetwork_plan::Cause;
use netlink_packet_core::{NLM_F_REQUEST, NetlinkBuffer};

use crate::netlink::{Message, Protocol, Request, Socket};

/// SOCK_DIAG_BY_FAMILY
const BY_FAMILY: u16 = 20;
/// TCP_LISTEN, net/tcp_states.h
const LISTEN: u32 = 1 << 10;
/// struct nlmsghdr, struct inet_diag_req_v2 and struct inet_diag_msg.
const HEADER: usize = 16;
const QUESTION: usize = 56;
const ANSWER: usize = 72;

/// A socket that a port is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoundSocket {
    pub address: IpAddr,
    pub port: u16,
    /// By which the descriptors of its processes are known.
    pub inode: u64,
}

/// The sockets that keep others from the ports of a protocol, in the namespace of the calling thread: listening ones for
/// TCP, all for UDP. None for SCTP, which is listed by a module of its own that most kernels lack.
///
/// # Errors
/// Where the kernel has no sock_diag, or not for this protocol.
pub fn bound_sockets(protocol: Transport) -> io::Result<Vec<BoundSocket>> {
    let states = match protocol {
        Transport::Tcp => LISTEN,
        Transport::Udp => u32::MAX,
        Transport::Sctp => return Ok(Vec::new()),
    };
    let list = || -> Result<Vec<BoundSocket>, Cause> {
        let mut socket = Socket::open(Protocol::Diagnostics)?;
        let mut found = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            found.extend(socket.dump(question(family as u8, protocol.number(), states), read)?);
        }
        Ok(found)
    };
    list().map_err(|cause| match cause.errno() {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::other(cause.to_string()),
    })
}

fn question(family: u8, protocol: u8, states: u32) -> Request {
    let mut bytes = vec![0; HEADER + QUESTION];
    let mut header = NetlinkBuffer::new(&mut bytes);
    header.set_message_type(BY_FAMILY);
    header.set_flags(NLM_F_REQUEST);
    bytes[HEADER] = family;
    bytes[HEADER + 1] = protocol;
    bytes[HEADER + 4..HEADER + 8].copy_from_slice(&states.to_ne_bytes());
    Request { bytes }
}

/// struct inet_diag_msg: the family first, the local port at 4, the local address at 8, the inode last. None of a socket
/// that no descriptor leads to any more.
fn read(message: &Message<'_>) -> Option<BoundSocket> {
    let answer: &[u8; ANSWER] = message.payload.first_chunk()?;
    let address = match i32::from(answer[0]) {
        libc::AF_INET => IpAddr::from(*answer[8..].first_chunk::<4>()?),
        libc::AF_INET6 => IpAddr::from(*answer[8..].first_chunk::<16>()?),
        _ => return None,
    };
    let inode = u32::from_ne_bytes(*answer.last_chunk()?);
    Some(BoundSocket {
        address,
        port: u16::from_be_bytes(*answer[4..].first_chunk()?),
        inode: Some(inode).filter(|inode| *inode != 0)?.into(),
    })
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream, UdpSocket},
        time::{Duration, Instant},
    };

    use integration_testkit::alone;

    use super::*;

    fn here(protocol: Transport, address: &str, port: u16) -> usize {
        let address: IpAddr = address.parse().unwrap();
        let all = bound_sockets(protocol).unwrap();
        all.iter().filter(|socket| (socket.address, socket.port) == (address, port)).count()
    }

    #[test]
    fn what_listens_is_listed_and_what_is_connected_is_not() {
        alone(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let at = listener.local_addr().unwrap();
            let _client = TcpStream::connect(at).unwrap();
            let (server, _) = listener.accept().unwrap();
            assert_eq!(here(Transport::Tcp, "127.0.0.1", at.port()), 1);
            drop(listener);
            // A child that another test has just begun holds it open until it is a program of its own.
            let end = Instant::now() + Duration::from_secs(120);
            while here(Transport::Tcp, "127.0.0.1", at.port()) != 0 {
                assert!(Instant::now() < end, "what is connected is listed");
                std::thread::sleep(Duration::from_millis(1));
            }
            drop(server);
            let listener = TcpListener::bind("[::]:0").unwrap();
            assert_eq!(here(Transport::Tcp, "::", listener.local_addr().unwrap().port()), 1);
        });
    }

    #[test]
    fn of_udp_both_are_listed() {
        alone(|| {
            let bound = UdpSocket::bind("127.0.0.2:0").unwrap();
            let connected = UdpSocket::bind("[::1]:0").unwrap();
            connected.connect(connected.local_addr().unwrap()).unwrap();
            assert_eq!(here(Transport::Udp, "127.0.0.2", bound.local_addr().unwrap().port()), 1);
            assert_eq!(here(Transport::Udp, "::1", connected.local_addr().unwrap().port()), 1);
        });
    }

    #[test]
    fn more_than_one_piece_of_a_listing_holds_is_listed_whole() {
        alone(|| {
            let sockets: Vec<UdpSocket> = (0..800).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
            let all = bound_sockets(Transport::Udp).unwrap();
            for socket in sockets {
                let port = socket.local_addr().unwrap().port();
                assert!(all.iter().any(|bound| bound.port == port), "{port}");
            }
        });
    }
}
