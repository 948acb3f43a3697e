//! Whether programs on the host stand in the way of published ports. Published ports are not bound by anybody here, so
//! the kernel would not say so by itself.

use std::net::IpAddr;

use ebpf_portmap::host_port_in_use;
use libnetwork_ipam::Busy;
use libnetwork_model::{PortRange, Protocol};

use crate::sockets;

/// Up to so many ports are tried one by one; for more, the list of all sockets is cheaper.
const TRIED: u16 = 64;

/// In the namespace of the calling thread. One port is two system calls that do not wait; a range is many, or a list of all
/// sockets, and lets the tasks of this thread go on elsewhere.
pub(crate) fn busy(protocol: Protocol, ip: Option<IpAddr>, range: PortRange) -> Option<Busy> {
    match range.count() {
        1 => try_one(protocol, ip, range.first()),
        _ => tokio::task::block_in_place(|| busy_range(protocol, ip, range)),
    }
}

fn busy_range(protocol: Protocol, ip: Option<IpAddr>, range: PortRange) -> Option<Busy> {
    if range.count() <= TRIED || protocol == Protocol::Sctp {
        return (range.first()..=range.last()).find_map(|port| try_one(protocol, ip, port));
    }
    // The ends are tried all the same: an address that the host does not have is refused for any port.
    try_one(protocol, ip, range.first())
        .or_else(|| listed(protocol, range).into_iter().find_map(|port| try_one(protocol, ip, port)))
}

fn try_one(protocol: Protocol, ip: Option<IpAddr>, port: u16) -> Option<Busy> {
    match host_port_in_use(protocol, ip, port) {
        Ok(false) => None,
        Ok(true) => Some(Busy::Taken(port)),
        Err(error) => {
            let text = std::io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(0)).to_string();
            let reason = text.split(" (os error").next().unwrap_or(&text).to_lowercase();
            Some(Busy::Refused(reason))
        }
    }
}

/// The ports of the range that some socket is bound to, lowest first.
fn listed(protocol: Protocol, range: PortRange) -> Vec<u16> {
    let mut ports: Vec<u16> =
        sockets::bound(protocol).into_iter().map(|s| s.port).filter(|p| range.contains(*p)).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}
