//! What is asked of the calling thread's network namespace, and of the machine.

use std::{
    collections::BTreeSet,
    fs, io, mem,
    net::IpAddr,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use ebpf_layouts::{Address, mapped};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

pub(crate) fn address(ip: IpAddr) -> Address {
    match ip {
        IpAddr::V4(ip) => mapped(ip.octets()),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// The addresses that a client elsewhere may know the host by: all of them but loopback's and those of one link alone.
pub(crate) fn addresses() -> io::Result<BTreeSet<Address>> {
    let mut found = BTreeSet::new();
    for interface in nix::ifaddrs::getifaddrs()? {
        let Some(storage) = interface.address else { continue };
        let v4 = storage.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        let v6 = storage.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip()));
        found.extend(v4.or(v6).filter(|ip| is_reachable(*ip)).map(address));
    }
    Ok(found)
}

pub(crate) fn is_reachable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_unspecified(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unspecified() && !ip.is_unicast_link_local(),
    }
}

/// What the kernel calls the namespace: unique for as long as the machine runs.
pub(crate) fn namespace_cookie() -> io::Result<u64> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let (mut cookie, mut length) = (0u64, size_of::<u64>() as libc::socklen_t);
    // SAFETY: the option's value is a u64, and there is room for one.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(cookie) }
}

/// linux/if_arp.h
const ARPHRD_RAWIP: u16 = 519;

/// asm-generic/socket.h; libc does not have it for every target.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// Where the cgroup2 hierarchy is mounted from its root: /sys/fs/cgroup, or /sys/fs/cgroup/unified beside version 1.
pub(crate) fn cgroup_root() -> io::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    cgroup_root_of(&mounts)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no cgroup2 hierarchy is mounted"))
}

fn cgroup_root_of(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        // proc(5): id, parent, device, root, mount point, options, optional fields, a dash, type, source, options.
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (filesystem.split(' ').next()? == "cgroup2" && root == "/").then(|| unescape(point))
    })
}

/// mountinfo writes a space, a tab, a newline and a backslash as a backslash and three octal digits.
fn unescape(field: &str) -> PathBuf {
    let mut text = String::new();
    let mut rest = field;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        match rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                text.push(char::from(byte));
                rest = &rest[at + 4..];
            }
            None => {
                text.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    text.push_str(rest);
    Path::new(&text).to_owned()
}

/// What is in front of IP in the packets of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// With the interface's address.
    Ethernet([u8; 6]),
    /// Nothing: tun, WireGuard, IP in IP, PPP.
    Bare,
    /// Something that the programs do not know. (GRE and SIT leave the outer header of the tunnel in front.)
    Other,
}

/// Looks interfaces up by their name.
pub(crate) struct Interfaces {
    socket: OwnedFd,
}

impl Interfaces {
    pub(crate) fn open() -> io::Result<Self> {
        let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        Ok(Self { socket })
    }

    pub(crate) fn index(&self, name: &str) -> io::Result<u32> {
        let request = self.ask(name, libc::SIOCGIFINDEX)?;
        // SAFETY: SIOCGIFINDEX fills in this member, an integer.
        Ok(unsafe { request.ifr_ifru.ifru_ifindex } as u32)
    }

    /// None: there is no such interface.
    pub(crate) fn name(&self, index: u32) -> io::Result<Option<String>> {
        // nix::net::if_::if_indextoname takes the null pointer that means an error for success.
        // SAFETY: integers and a union of them, for which zeros are a value.
        let mut request: libc::ifreq = unsafe { mem::zeroed() };
        request.ifr_ifru.ifru_ifindex = index as libc::c_int;
        match self.call(&mut request, libc::SIOCGIFNAME) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENXIO)) => Ok(None),
            Err(error) => Err(error),
            Ok(()) => {
                let bytes = request.ifr_name.map(|byte| byte as u8);
                Ok(Some(String::from_utf8_lossy(bytes.split(|b| *b == 0).next().unwrap_or(&[])).into_owned()))
            }
        }
    }

    pub(crate) fn framing(&self, name: &str) -> io::Result<Framing> {
        let request = self.ask(name, libc::SIOCGIFHWADDR)?;
        // SAFETY: SIOCGIFHWADDR fills in this member, of integers.
        let address = unsafe { request.ifr_ifru.ifru_hwaddr };
        let bytes = std::array::from_fn(|i| address.sa_data[i] as u8);
        Ok(match address.sa_family {
            libc::ARPHRD_ETHER => Framing::Ethernet(bytes),
            libc::ARPHRD_NONE
            | libc::ARPHRD_TUNNEL
            | libc::ARPHRD_TUNNEL6
            | libc::ARPHRD_PPP
            | ARPHRD_RAWIP => Framing::Bare,
            _ => Framing::Other,
        })
    }

    fn ask(&self, name: &str, what: libc::c_ulong) -> io::Result<libc::ifreq> {
        // SAFETY: integers and a union of them, for which zeros are a value.
        let mut request: libc::ifreq = unsafe { mem::zeroed() };
        // The last byte stays 0.
        if name.len() >= request.ifr_name.len() {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        self.call(&mut request, what)?;
        Ok(request)
    }

    fn call(&self, request: &mut libc::ifreq, what: libc::c_ulong) -> io::Result<()> {
        // SAFETY: the requests that are made here take and fill in an ifreq.
        let result = unsafe { libc::ioctl(self.socket.as_raw_fd(), what as _, std::ptr::from_mut(request)) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroup_hierarchy_is_found_alone_and_beside_version_1() {
        let unified = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(cgroup_root_of(unified).unwrap(), Path::new("/sys/fs/cgroup"));
        let hybrid = "31 25 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      32 25 0:28 /elsewhere /mnt rw - cgroup2 cgroup2 rw\n\
                      33 25 0:28 / /sys/fs/cgroup/uni\\040fied rw - cgroup2 cgroup2 rw";
        assert_eq!(cgroup_root_of(hybrid).unwrap(), Path::new("/sys/fs/cgroup/uni fied"));
        assert_eq!(cgroup_root_of("1 1 0:1 / / rw - ext4 /dev/vda rw"), None);
    }

    #[test]
    fn a_name_that_no_interface_can_have_is_not_found() {
        let interfaces = Interfaces::open().unwrap();
        let lo = interfaces.index("lo").unwrap();
        assert_eq!(interfaces.name(lo).unwrap().as_deref(), Some("lo"));
        assert_eq!(interfaces.name(1 << 30).unwrap(), None);
        assert_eq!(interfaces.framing("lo").unwrap(), Framing::Other);
        let error = interfaces.index(&"x".repeat(40)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }
}
