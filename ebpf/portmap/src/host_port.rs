//! Host ports that processes of the host have.

use std::{
    hash::{BuildHasher, RandomState},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsRawFd,
    sync::LazyLock,
};

use libnetwork_model::Protocol;
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, listen, setsockopt,
        socket, sockopt,
    },
};

/// Whether a process of the host already has the port, found by trying to take it in the calling thread's network
/// namespace. Ports that this process's own mappers publish count as free; those of another engine are in use. `None` asks for every address of both families. False when the family or the protocol does not exist
/// here: nobody can have the port then. Other refusals are errors, EADDRNOTAVAIL for an address that the host does not
/// have among them.
///
/// The answer is of this moment: nothing keeps a process from taking the port before it is published.
pub fn host_port_in_use(protocol: Protocol, ip: Option<IpAddr>, port: u16) -> io::Result<bool> {
    let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    for ip in ip.as_ref().map_or(&any[..], std::slice::from_ref) {
        match take(protocol, SocketAddr::new(*ip, port)) {
            Ok(()) => {}
            Err(Errno::EADDRINUSE) => return Ok(true),
            // No such family or protocol; or, asked for every address, a family that is switched off.
            Err(Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT | Errno::ESOCKTNOSUPPORT) => {}
            Err(Errno::EADDRNOTAVAIL) if ip.is_unspecified() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

fn take(protocol: Protocol, address: SocketAddr) -> Result<(), Errno> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let (kind, number) = match protocol {
        Protocol::Tcp => (SockType::Stream, Some(SockProtocol::Tcp)),
        Protocol::Udp => (SockType::Datagram, Some(SockProtocol::Udp)),
        Protocol::Sctp => (SockType::SeqPacket, Some(SockProtocol::Sctp)),
    };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, number)?;
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    let connected = protocol != Protocol::Udp;
    if connected {
        // What closed connections leave behind (TIME_WAIT) has no process.
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    }
    setsockopt(&socket, sockopt::Mark, &mark())?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    // With SO_REUSEADDR it is the second to listen that is refused.
    if connected { listen(&socket, Backlog::new(1)?) } else { Ok(()) }
}

/// Of sockets that the programs let be bound to a published port: another number in each process, so that one engine
/// is refused what another has published.
pub(crate) fn mark() -> u32 {
    static MARK: LazyLock<u32> = LazyLock::new(|| RandomState::new().hash_one(std::process::id()) as u32 | 1);
    *MARK
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use integration_testkit::alone;

    use super::*;

    #[test]
    fn a_port_that_a_process_has_is_in_use_and_free_when_it_is_closed() {
        alone(|| {
            let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
            let listener = TcpListener::bind((localhost, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            for ip in [None, Some(localhost), Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED))] {
                assert!(host_port_in_use(Protocol::Tcp, ip, port).unwrap(), "{ip:?}");
            }
            assert!(!host_port_in_use(Protocol::Tcp, Some("127.0.0.2".parse().unwrap()), port).unwrap());
            drop(listener);
            assert!(!host_port_in_use(Protocol::Tcp, Some(localhost), port).unwrap());

            let socket = UdpSocket::bind((localhost, 0)).unwrap();
            let port = socket.local_addr().unwrap().port();
            assert!(host_port_in_use(Protocol::Udp, Some(localhost), port).unwrap());
            assert!(host_port_in_use(Protocol::Sctp, Some(localhost), port).is_ok());
        });
    }

    #[test]
    fn an_address_that_the_host_does_not_have_is_an_error() {
        alone(|| {
            let error = host_port_in_use(Protocol::Tcp, Some("192.0.2.1".parse().unwrap()), 80).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL));
        });
    }
}
