//! The packet by which is asked.

use std::net::IpAddr;

use ipnet::IpNet;
use libnetwork_model::Protocol;

/// Above the ports that the kernel picks (net.ipv4.ip_local_port_range).
const CLIENT_PORT: u16 = 65_001;

/// The last address of the host's network there, or the one before it: where routes are checked (rp_filter), a neighbour's
/// is one that comes by this uplink.
pub(super) fn neighbour(net: IpNet) -> IpAddr {
    let before = |address: IpAddr, by: u128| match address {
        IpAddr::V4(ip) => IpAddr::V4((u32::from(ip) - by as u32).into()),
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) - by).into()),
    };
    // Of IPv4 the very last is everybody's, where there are more than two.
    let is_everybodys = net.addr().is_ipv4() && net.max_prefix_len() - net.prefix_len() > 1;
    let last = before(net.broadcast(), u128::from(is_everybodys));
    if last == net.addr() { before(last, 1) } else { last }
}

/// An Ethernet frame with the first packet of a flow; none for a transport of which none is made here.
pub(super) fn frame(mac: [u8; 6], client: IpAddr, host: IpAddr, protocol: u8, port: u16) -> Option<Vec<u8>> {
    let mut transport = [CLIENT_PORT.to_be_bytes(), port.to_be_bytes()].concat();
    let sum_at = if protocol == Protocol::Tcp.number() {
        // Sequence number, no acknowledgement; five words, SYN, a window; no checksum yet, nothing urgent.
        transport.extend([0xca, 0x57, 0, 0, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
        16
    } else if protocol == Protocol::Udp.number() {
        transport.extend([0, 8, 0, 0]);
        6
    } else {
        return None;
    };
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let addresses = [octets(client), octets(host)].concat();
    let length = transport.len() as u8;
    let sum = checksum(&[&addresses[..], &[0, protocol, 0, length], &transport].concat());
    transport[sum_at..sum_at + 2].copy_from_slice(&sum);
    let (kind, header) = if host.is_ipv4() {
        let mut header = vec![0x45, 0, 0, 20 + length, 0, 0, 0x40, 0, 64, protocol, 0, 0];
        header.extend(&addresses);
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum);
        ([0x08, 0x00], header)
    } else {
        ([0x86, 0xdd], [&[0x60, 0, 0, 0, 0, length, protocol, 64], &addresses[..]].concat())
    };
    let ethernet = [&mac[..], &[0x02, 0xca, 0x57, 0, 0, 1], &kind].concat();
    Some([ethernet, header, transport].concat())
}

/// RFC 1071. All ones where the sum is zero, which UDP asks for and the others take.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words =
        bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = ((folded & 0xffff) + (folded >> 16)) as u16;
    let sum = if folded == 0xffff { 0xffff } else { !folded };
    sum.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_seems_to_ask_is_on_the_hosts_network_and_not_the_host() {
        let asks = |net: &str| neighbour(net.parse().unwrap()).to_string();
        assert_eq!(asks("192.0.2.1/24"), "192.0.2.254");
        assert_eq!(asks("192.0.2.254/24"), "192.0.2.253");
        assert_eq!(asks("192.0.2.0/31"), "192.0.2.1");
        assert_eq!(asks("192.0.2.1/31"), "192.0.2.0");
        assert_eq!(asks("192.0.2.1/32"), "192.0.2.0");
        assert_eq!(asks("2001:db8::1/64"), "2001:db8::ffff:ffff:ffff:ffff");
        assert_eq!(asks("2001:db8::1/127"), "2001:db8::");
        assert_eq!(asks("2001:db8::1/128"), "2001:db8::");
    }
}
