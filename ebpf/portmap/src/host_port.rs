use std::{io, net::IpAddr};

use libnetwork_model::Protocol;

/// Whether a process of the host already has the port, found by trying to bind it in the calling thread's network
/// namespace. `None` asks for both families. A port that the kernel refuses for another reason is an error.
pub fn host_port_in_use(_protocol: Protocol, _ip: Option<IpAddr>, _port: u16) -> io::Result<bool> {
    todo!()
}
