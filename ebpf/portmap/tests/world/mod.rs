//! A host in a network namespace of its own, with an uplink to an outside client, two bridges, and containers on them:
//!
//! ```text
//! outside 192.0.2.2 ── 192.0.2.1 host 10.1.0.1 br-1 ┬ a 10.1.0.2 (publishes)
//!                                                   └ b 10.1.0.3
//!                                     10.2.0.1 br-2 ── c 10.2.0.2
//! ```
//! and the same in IPv6 (2001:db8::, fd00:1::, fd00:2::). The networks are isolated from each other as an engine does it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic)]

use std::{
    fs::{self, File},
    net::IpAddr,
    os::fd::AsRawFd,
    path::PathBuf,
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use ebpf_layouts::VERSION;
use ebpf_portmap::{BpfPortMapper, Options, purge};
use integration_testkit::apart;
use libnetwork_core::{Bridges, PortMapper, PortMapping, PortTarget, Publication};
use libnetwork_model::{HostFacts, PortRange, Protocol, PublishedPort, SandboxId, Uplink};
use nix::sched::{CloneFlags, setns};

pub mod packets;
pub mod random;
pub mod runner;
pub mod talk;
pub mod tun;

pub const A_MAC: &str = "02:42:0a:01:00:02";

pub struct World {
    name: String,
    dir: tempfile::TempDir,
    mapper: Option<BpfPortMapper>,
    /// For the next mapper: whether the host's filter is obeyed.
    pub obey: bool,
    /// How many flows it has room for.
    pub flows: u32,
    /// Which layout it says its maps have.
    pub layout: u32,
}

static WORLDS: AtomicU32 = AtomicU32::new(0);

impl World {
    pub fn new() -> Self {
        let name = format!("pm{}-{}", std::process::id(), WORLDS.fetch_add(1, Ordering::Relaxed));
        let world = Self {
            name,
            dir: tempfile::tempdir().unwrap(),
            mapper: None,
            obey: true,
            flows: 4096,
            layout: VERSION,
        };
        for place in ["host", "outside", "a", "b", "c"] {
            ip(&["netns", "add", &world.namespace(place)]);
            world.ip(place, "link set lo up");
        }
        world.forward("host");
        for (bridge, net) in [("br-000000000001", 1), ("br-000000000002", 2)] {
            world.ip("host", &format!("link add {bridge} type bridge"));
            world.ip("host", &format!("link set {bridge} up"));
            world.ip("host", &format!("address add 10.{net}.0.1/24 dev {bridge}"));
            world.ip("host", &format!("address add fd00:{net}::1/64 dev {bridge} nodad"));
        }
        world.join("outside", "up0", "02:42:c0:00:02:02");
        world.ip("host", "address add 192.0.2.1/24 dev up0");
        world.ip("host", "address add 2001:db8::1/64 dev up0 nodad");
        world.ip("outside", "address add 192.0.2.2/24 dev eth0");
        world.ip("outside", "address add 2001:db8::2/64 dev eth0 nodad");
        world.join_a();
        world.join_container("b", "cwb", 1, 3);
        world.join_container("c", "cwc", 2, 2);
        world.isolate();
        world
    }

    /// With the mapper open, told of uplinks and bridges, and nothing published.
    pub fn open() -> Self {
        let mut world = Self::new();
        world.reopen();
        world
    }

    /// Ends the mapper, as a killed process would, and opens another in its place.
    pub fn reopen(&mut self) {
        self.mapper = None;
        let pins = self.pins();
        // The object that `ebpf/check-object` built afresh, if it says so.
        let object = std::env::var_os("CAUSEWAY_BPF_OBJECT").map(Into::into);
        let (flows, layout, obey_host_filter) = (self.flows, self.layout, self.obey);
        let options = Options { flows, layout, object, obey_host_filter, cgroup: None };
        let mapper =
            self.inside("host", || BpfPortMapper::open(&pins, &options).unwrap_or_else(|e| panic!("{e:?}")));
        self.mapper = Some(mapper);
        let bridges = both_bridges();
        self.tell_uplinks();
        self.mapper(|m| m.bridges(&bridges).unwrap());
    }

    /// Ends the mapper, as a killed process would.
    pub fn close(&mut self) {
        self.mapper = None;
    }

    pub fn pins(&self) -> PathBuf {
        self.dir.path().join("bpf")
    }

    /// Of the host: its uplink, and the tunnel where there is one.
    pub fn facts(&self) -> HostFacts {
        let uplink = |name: &str, addresses: [&str; 2]| {
            let index = self.inside("host", || nix::net::if_::if_nametoindex(name).ok())?;
            let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
            Some((name.to_owned(), Uplink { index, mtu: 1500, addresses }))
        };
        let uplinks = [
            uplink("up0", ["192.0.2.1/24", "2001:db8::1/64"]),
            uplink(tun::LINK, ["198.51.100.1/24", "2001:db8:51::1/64"]),
        ];
        HostFacts { uplinks: uplinks.into_iter().flatten().collect(), ..HostFacts::default() }
    }

    /// Tells the mapper what there is of uplinks now.
    pub fn tell_uplinks(&mut self) {
        let facts = self.facts();
        self.mapper(|m| m.uplinks(&facts).unwrap());
    }

    /// Calls the open mapper in the host's namespace.
    pub fn mapper<T: Send>(&mut self, call: impl FnOnce(&mut BpfPortMapper) -> T + Send) -> T {
        let mut mapper = self.mapper.take().expect("the mapper is open");
        let (mapper, result) = self.inside("host", move || {
            let result = call(&mut mapper);
            (mapper, result)
        });
        self.mapper = Some(mapper);
        result
    }

    /// Publishes ports of container a.
    pub fn publish(&mut self, mappings: &[PortMapping]) {
        let wanted = publication(mappings);
        self.mapper(|m| m.set(&sandbox(), &wanted).unwrap_or_else(|e| panic!("{e:?}")));
    }

    pub fn inside<T: Send>(&self, place: &str, call: impl FnOnce() -> T + Send) -> T {
        let namespace = self.file(place);
        thread::scope(|scope| {
            let run = move || {
                setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
                call()
            };
            scope.spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs on, in a thread of its own, until the process ends or the call returns.
    pub fn spawn<T: Send + 'static>(
        &self,
        place: &str,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let namespace = self.file(place);
        thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            call()
        })
    }

    pub fn ip(&self, place: &str, arguments: &str) {
        let namespace = self.namespace(place);
        ip(&["-n", &namespace].into_iter().chain(arguments.split(' ')).collect::<Vec<_>>());
    }

    fn file(&self, place: &str) -> File {
        File::open(self.namespace_path(place)).unwrap()
    }

    fn namespace_path(&self, place: &str) -> String {
        format!("/run/netns/{}", self.namespace(place))
    }

    fn namespace(&self, place: &str) -> String {
        format!("{}-{place}", self.name)
    }

    /// Connects container a to its network: with its first veth pair, or another.
    pub fn join_a(&self) {
        self.join_container("a", "cwa", 1, 2);
    }

    fn join_container(&self, place: &str, link: &str, net: u8, number: u8) {
        self.join(place, link, &format!("02:42:0a:0{net}:00:0{number}"));
        self.ip("host", &format!("link set {link} master br-00000000000{net}"));
        self.ip(place, &format!("address add 10.{net}.0.{number}/24 dev eth0"));
        self.ip(place, &format!("address add fd00:{net}::{number}/64 dev eth0 nodad"));
        self.ip(place, &format!("route add default via 10.{net}.0.1"));
        self.ip(place, &format!("-6 route add default via fd00:{net}::1"));
    }

    /// Makes the interface sum its packets itself, and check the sums of those that arrive.
    pub fn without_checksum_offload(&self, place: &str, link: &str) {
        const SIOCETHTOOL: libc::c_ulong = 0x8946;
        const ETHTOOL_SRXCSUM: u32 = 0x15;
        const ETHTOOL_STXCSUM: u32 = 0x17;
        self.inside(place, || {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            for command in [ETHTOOL_STXCSUM, ETHTOOL_SRXCSUM] {
                let mut value = [command, 0];
                // SAFETY: zeros are an ifreq; the request reads the two words that ifru_data points to.
                unsafe {
                    let mut request: libc::ifreq = std::mem::zeroed();
                    for (to, from) in request.ifr_name.iter_mut().zip(link.bytes()) {
                        *to = from as libc::c_char;
                    }
                    request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
                    let result = libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request);
                    // A bridge's receiving side has no such switch.
                    let done = result == 0 || command == ETHTOOL_SRXCSUM;
                    assert!(done, "{link}: {}", std::io::Error::last_os_error());
                }
            }
        });
    }

    /// A veth pair between the host and a place, where its end is called eth0.
    fn join(&self, place: &str, link: &str, mac: &str) {
        let namespace = self.namespace(place);
        self.ip("host", &format!("link add {link} type veth peer name eth0 address {mac} netns {namespace}"));
        self.ip("host", &format!("link set {link} up"));
        self.ip(place, "link set eth0 up");
    }

    /// Another veth pair, between two places.
    pub fn link(&self, (place, link): (&str, &str), (other, peer): (&str, &str)) {
        let namespace = self.namespace(other);
        self.ip(place, &format!("link add {link} type veth peer name {peer} netns {namespace}"));
        self.ip(place, &format!("link set {link} up"));
        self.ip(other, &format!("link set {peer} up"));
    }

    /// Makes a router of a place.
    pub fn forward(&self, place: &str) {
        self.inside(place, || {
            fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        });
    }

    fn isolate(&self) {
        // By pairs of bridges: where br_netfilter is loaded, frames within one pass here too.
        let rules = "table inet isolation {\n chain forward {\n type filter hook forward priority 0\n\
                     iifname br-000000000001 oifname br-000000000002 drop\n\
                     iifname br-000000000002 oifname br-000000000001 drop\n\
                     iifname up0 oifname \"br-*\" drop\n }\n }\n";
        self.nft(rules);
    }

    /// Rules of the host's, in nft's language.
    pub fn nft(&self, rules: &str) {
        self.nft_in("host", rules);
    }

    pub fn nft_in(&self, place: &str, rules: &str) {
        let path = self.dir.path().join("rules");
        fs::write(&path, rules).unwrap();
        self.program(place, "nft", &["-f", path.to_str().unwrap()]);
    }

    /// What a program says that has to succeed.
    pub fn program(&self, place: &str, program: &str, arguments: &[&str]) -> String {
        let output = run(Some(self.namespace_path(place).into()), program, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?} in {place}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.mapper = None;
        let purged = purge(&self.pins());
        for place in ["host", "outside", "a", "b", "c"] {
            let name = self.namespace(place);
            // A panic here would be one too many where the test has failed.
            let _ = apart(None, || Command::new("ip").args(["netns", "delete"]).arg(name).output()).wait();
        }
        if !thread::panicking() {
            purged.unwrap();
        }
    }
}

fn run(namespace: Option<PathBuf>, program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments);
    apart(namespace, move || command.output().unwrap()).join()
}

fn ip(arguments: &[&str]) {
    let output = run(None, "ip", arguments);
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The bridges of a world, with the host's addresses on them.
pub fn both_bridges() -> Bridges {
    let bridge = |name: &str, addresses: [&str; 2]| {
        (name.to_owned(), addresses.iter().map(|address| address.parse().unwrap()).collect())
    };
    Bridges::from([
        bridge("br-000000000001", ["10.1.0.1", "fd00:1::1"]),
        bridge("br-000000000002", ["10.2.0.1", "fd00:2::1"]),
    ])
}

pub fn sandbox() -> SandboxId {
    SandboxId::from_bytes([0xa5; 32])
}

/// Ports of container a, on both families.
pub fn mapping(protocol: Protocol, host_ip: Option<&str>, first: u16, last: u16, to: u16) -> PortMapping {
    let target = |address: &str, gateway: &str| PortTarget {
        address: address.parse().unwrap(),
        link: "cwa".into(),
        mac: A_MAC.parse().unwrap(),
        bridge: "br-000000000001".into(),
        gateway: gateway.parse().unwrap(),
        apart: false,
    };
    PortMapping {
        port: PublishedPort {
            protocol,
            host_ip: host_ip.map(|ip| ip.parse::<IpAddr>().unwrap()),
            host_ports: PortRange::new(first, last).unwrap(),
            container_port: to,
            routed: false,
        },
        ipv4: Some(target("10.1.0.2", "10.1.0.1")),
        ipv6: Some(target("fd00:1::2", "fd00:1::1")),
    }
}

/// Of a container that is on no other network.
pub fn publication(mappings: &[PortMapping]) -> Publication {
    Publication { mappings: mappings.to_vec(), beside: Vec::new() }
}

/// TCP and UDP port 8080 of every host address to port 80.
pub fn web() -> Vec<PortMapping> {
    vec![mapping(Protocol::Tcp, None, 8080, 8080, 80), mapping(Protocol::Udp, None, 8080, 8080, 80)]
}

/// Of an interface in the calling thread's namespace.
pub fn hardware_address(interface: &str) -> [u8; 6] {
    let addresses = nix::ifaddrs::getifaddrs().unwrap().filter(|found| found.interface_name == interface);
    addresses.filter_map(|found| found.address?.as_link_addr()?.addr()).next().unwrap()
}

/// Sends a frame as it is, from the calling thread's namespace.
pub fn send_frame(interface: &str, frame: &[u8]) {
    send_frames(interface, [frame]);
}

/// The same of many, by one socket: to close one takes the kernel long.
pub fn send_frames(interface: &str, frames: impl IntoIterator<Item = impl AsRef<[u8]>>) {
    use std::os::fd::{FromRawFd, OwnedFd};
    // SAFETY: plain calls; the descriptor is checked, and the address is whole.
    unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        let socket = OwnedFd::from_raw_fd(fd);
        let mut to: libc::sockaddr_ll = std::mem::zeroed();
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_ifindex = nix::net::if_::if_nametoindex(interface).unwrap() as i32;
        let size = size_of_val(&to) as libc::socklen_t;
        for frame in frames {
            let frame = frame.as_ref();
            let sent = libc::sendto(
                socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const to).cast(),
                size,
            );
            assert_eq!(sent, frame.len() as isize, "{}", std::io::Error::last_os_error());
        }
    }
}
