//! Which sockets the programs of the host have, and which program has one.

use std::{
    fmt, fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::MetadataExt,
};

use libnetwork_kernel::{BoundSocket, bound_sockets};
use libnetwork_model::Protocol;

/// A program of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// The first 15 bytes of its name, as the kernel keeps it.
    pub(crate) name: String,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} of the host (pid {})", self.name, self.pid)
    }
}

/// The sockets that keep others from the ports of a protocol, in the namespace of the calling thread: listening ones
/// for TCP, all for UDP. None for SCTP, whose sockets are listed nowhere that tells their owner.
pub(crate) fn bound(protocol: Protocol) -> Vec<BoundSocket> {
    // A kernel may have been built without it.
    bound_sockets(protocol).unwrap_or_else(|_| listed(protocol))
}

/// The same by /proc, which every kernel has and which takes a hundred times as long.
fn listed(protocol: Protocol) -> Vec<BoundSocket> {
    let files: &[&str] = match protocol {
        Protocol::Tcp => &["tcp", "tcp6"],
        Protocol::Udp => &["udp", "udp6"],
        Protocol::Sctp => &[],
    };
    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
        found.extend(text.lines().skip(1).filter_map(|line| parse(line, protocol == Protocol::Tcp)));
    }
    found
}

/// A line of /proc/net/tcp and its like (Documentation/networking/proc_net_tcp.rst in the kernel): the second column is
/// the local address, the fourth the state, the tenth the inode.
fn parse(line: &str, listening: bool) -> Option<BoundSocket> {
    const LISTEN: &str = "0A";
    let columns: Vec<&str> = line.split_ascii_whitespace().collect();
    if listening && *columns.get(3)? != LISTEN {
        return None;
    }
    let (address, port) = columns.get(1)?.rsplit_once(':')?;
    // Words of 32 bits, each as the machine reads it from memory.
    let words = address.as_bytes().chunks(8).map(|word| {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        Some(word.to_ne_bytes())
    });
    let bytes: Vec<u8> = words.collect::<Option<Vec<_>>>()?.concat();
    let address = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(four) => IpAddr::from(four),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?),
    };
    Some(BoundSocket {
        address,
        port: u16::from_str_radix(port, 16).ok()?,
        inode: columns.get(9)?.parse().ok().filter(|inode| *inode != 0)?,
    })
}

/// The process that keeps a port of an address (none: of every address) from being bound; none when it is not to be
/// found, because it has just ended or is in another pid namespace. Blocking: looks at the descriptors of every process.
pub(crate) fn holder(protocol: Protocol, address: Option<IpAddr>, port: u16) -> Option<Process> {
    let inodes: Vec<u64> = bound(protocol)
        .into_iter()
        .filter(|socket| socket.port == port && covers(socket.address, address))
        .map(|socket| socket.inode)
        .collect();
    if inodes.is_empty() {
        return None;
    }
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let mut descriptors = fs::read_dir(entry.path().join("fd")).ok()?.flatten();
        let has = descriptors.any(|descriptor| {
            // Following the link gives the socket itself, whose inode is the one in the list; its text is a
            // "socket:[INODE]" that would have to be parsed.
            fs::metadata(descriptor.path()).is_ok_and(|socket| inodes.contains(&socket.ino()))
        });
        if !has {
            return None;
        }
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        Some(Process { pid, name: name.trim_end().to_owned() })
    })
}

/// Whether a socket on `bound` is in the way of one on `asked`. One on `::` may serve IPv4 too.
fn covers(bound: IpAddr, asked: Option<IpAddr>) -> bool {
    let any6 = bound == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let any4 = bound == IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    match asked {
        None => true,
        Some(asked) if asked.is_unspecified() => bound.is_ipv4() == asked.is_ipv4() || any6,
        Some(asked) => bound.to_canonical() == asked || any6 || (any4 && asked.is_ipv4()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use integration_testkit::alone;

    use super::*;

    #[test]
    fn the_process_that_listens_is_named() {
        alone(|| {
            let own = std::process::id();
            let pid = |protocol, address, port| holder(protocol, address, port).map(|p| p.pid);
            let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = tcp.local_addr().unwrap().port();
            let of = |all: Vec<BoundSocket>| all.into_iter().find(|s| s.port == port && s.address.is_ipv4());
            assert!(of(bound(Protocol::Tcp)).is_some());
            assert_eq!(of(bound(Protocol::Tcp)), of(listed(Protocol::Tcp)));
            assert_eq!(pid(Protocol::Tcp, None, port), Some(own));
            assert_eq!(pid(Protocol::Tcp, "127.0.0.1".parse().ok(), port), Some(own));
            assert_eq!(pid(Protocol::Tcp, "127.0.0.2".parse().ok(), port), None);
            let udp = UdpSocket::bind("[::]:0").unwrap();
            let port = udp.local_addr().unwrap().port();
            assert_eq!(pid(Protocol::Udp, "127.0.0.1".parse().ok(), port), Some(own));
            // By either way, for a kernel may have one only.
            for all in [bound(Protocol::Udp), listed(Protocol::Udp)] {
                assert!(all.iter().any(|s| s.port == port && s.address == Ipv6Addr::UNSPECIFIED));
            }
            drop(udp);
            assert_eq!(pid(Protocol::Udp, None, port), None);
        });
    }
}
