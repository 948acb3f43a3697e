//! Whether the host's filter lets clients in by a port that is about to be published. It is asked, not read: a first packet
//! is put into the host as if an uplink had received it, before the port leads anywhere, and takes the way that a client's
//! takes. Where it leads to, there is nobody, so nothing ever answers it; what the filter itself answers (`reject`) ends
//! at the uplink's egress.

mod neighbour;
mod packet;
mod programs;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use ebpf_layouts::{ANY_IPV4, ANY_IPV6, Address, Target, is_ipv4};
use ipnet::IpNet;
use libnetwork_core::{DeniedPort, Families, PortError, chain};
use libnetwork_model::Protocol;

use crate::{
    error::OnError,
    host,
    sys::{self, Hook},
    tables::Tables,
};

/// An uplink as its neighbours see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Uplink {
    pub(crate) name: String,
    pub(crate) index: u32,
    /// Zeros where packets have no Ethernet header.
    pub(crate) mac: [u8; 6],
    pub(crate) addresses: Vec<IpNet>,
}

/// What asks at an uplink. Its programs stay loaded and attached: to take one off an interface, the kernel waits for all
/// packets that are on their way, which whoever starts a container would notice.
pub(crate) struct Asker {
    uplink: Uplink,
    /// By the host's address there.
    ways: Vec<Way>,
    /// At the uplink's egress: a way's `silence` while a question is open, `pass` otherwise.
    link: OwnedFd,
    pass: OwnedFd,
    inject: OwnedFd,
}

struct Way {
    host: IpAddr,
    /// Who seems to ask.
    client: IpAddr,
    silence: OwnedFd,
}

impl Way {
    fn open(net: IpNet) -> Result<Self, PortError> {
        let client = packet::neighbour(net);
        let silence =
            programs::load("silence", &programs::silence(client)).on("load BPF program", "silence")?;
        Ok(Self { host: net.addr(), client, silence })
    }
}

impl Asker {
    fn open(uplink: Uplink) -> Result<Self, PortError> {
        let pass = programs::load("pass", &programs::pass()).on("load BPF program", "pass")?;
        let inject = programs::load("inject", &programs::inject(uplink.index));
        let inject = inject.on("load BPF program", "inject")?;
        let link =
            sys::link_create(pass.as_fd(), Hook::Egress(uplink.index)).on("attach to", &uplink.name)?;
        let ways = uplink.addresses.iter().copied().map(Way::open).collect::<Result<_, _>>()?;
        Ok(Self { uplink, ways, link, pass, inject })
    }

    /// The same uplink with other addresses.
    fn address(&mut self, addresses: Vec<IpNet>) -> Result<(), PortError> {
        self.ways = addresses.iter().copied().map(Way::open).collect::<Result<_, _>>()?;
        self.uplink.addresses = addresses;
        Ok(())
    }

    /// One for each uplink: those that are there already stay. Where none can be had, nothing is asked.
    pub(crate) fn follow(mut askers: Vec<Self>, uplinks: Vec<Uplink>) -> Vec<Self> {
        let key = |uplink: &Uplink| (uplink.name.clone(), uplink.index, uplink.mac);
        askers.retain(|asker| uplinks.iter().any(|uplink| key(uplink) == key(&asker.uplink)));
        for uplink in uplinks {
            let name = uplink.name.clone();
            let followed = match askers.iter_mut().find(|asker| key(&asker.uplink) == key(&uplink)) {
                Some(asker) if asker.uplink == uplink => Ok(()),
                Some(asker) => asker.address(uplink.addresses),
                None => Self::open(uplink).map(|asker| askers.push(asker)),
            };
            if let Err(error) = followed {
                let error = chain(&error);
                tracing::debug!(uplink = %name, error, "cannot ask the host's firewall");
            }
        }
        askers
    }
}

/// Questions in one change for each family, at most: about the ports at the ends of its ranges.
const QUESTIONS: usize = 16;
/// The answer is there when the call that puts the packet in ends, but where the kernel hands softirqs to a thread.
const PATIENCE: Duration = Duration::from_millis(50);

/// Ports of the host that may be asked about.
pub(crate) struct Range {
    pub(crate) protocol: Protocol,
    pub(crate) host: Address,
    pub(crate) first: u16,
    pub(crate) last: u16,
}

/// Asks about the ends of the ranges that no target has yet, and says which of them are denied.
pub(crate) fn denied(
    tables: &mut Tables,
    askers: &[Asker],
    ranges: &[Range],
) -> Result<Vec<DeniedPort>, PortError> {
    let (mut left, mut denied) = ([QUESTIONS; 2], Vec::new());
    // Where two came to nothing, the others would, too; and each is waited for.
    let mut silent: BTreeMap<(u32, IpAddr), u32> = BTreeMap::new();
    for Range { protocol, host, first, last } in ranges {
        let ends = [*first, *last];
        for port in if first == last { &ends[..1] } else { &ends[..] } {
            for (asker, way) in askers.iter().flat_map(|asker| asker.ways.iter().map(move |way| (asker, way)))
            {
                let address = host::address(way.host);
                let leads = *host == any(&address) || *host == address;
                let left = &mut left[usize::from(way.host.is_ipv6())];
                let place = (asker.uplink.index, way.host);
                if !leads
                    || *left == 0
                    || silent.get(&place) >= Some(&2)
                    || is_published(tables, protocol.number(), &address, *port)
                {
                    continue;
                }
                *left -= 1;
                match is_denied(tables, asker, way, protocol.number(), *port)? {
                    Some(true) => {
                        note(&mut denied, *protocol, *port, &asker.uplink.name, way.host.is_ipv6());
                    }
                    Some(false) => {}
                    None => *silent.entry(place).or_insert(0) += 1,
                }
            }
        }
    }
    Ok(denied)
}

/// One for each port and uplink, whichever clients it is denied to.
fn note(denied: &mut Vec<DeniedPort>, protocol: Protocol, port: u16, uplink: &str, ipv6: bool) {
    let families = if ipv6 { Families::Ipv6 } else { Families::Ipv4 };
    let is_same = |d: &&mut DeniedPort| (d.protocol, d.port, d.uplink.as_str()) == (protocol, port, uplink);
    match denied.iter_mut().find(is_same) {
        Some(known) => known.families = known.families.and(families),
        None => {
            let (uplink, message) = (uplink.to_owned(), String::new());
            denied.push(DeniedPort { protocol, port, uplink, families, message });
        }
    }
}

fn any(address: &Address) -> Address {
    if is_ipv4(address) { ANY_IPV4 } else { ANY_IPV6 }
}

fn is_published(tables: &Tables, protocol: u8, address: &Address, port: u16) -> bool {
    let on = |host: &Address| *host == any(address) || host == address;
    tables.targets().any(|t| t.protocol == protocol && on(&t.host) && (t.first..=t.last).contains(&port))
}

/// None: the packet came to nothing that could be counted, as where a socket of the host has the port.
fn is_denied(
    tables: &mut Tables,
    asker: &Asker,
    way: &Way,
    protocol: u8,
    port: u16,
) -> Result<Option<bool>, PortError> {
    let Some(frame) = packet::frame(asker.uplink.mac, way.client, way.host, protocol, port) else {
        return Ok(None);
    };
    let target = Target {
        address: host::address(way.client),
        gateway: host::address(way.client),
        sandbox: [0; 32],
        host: host::address(way.host),
        // No interface has this index: what is let in ends there.
        link: 0,
        bridge: 0,
        lineage: 0,
        first: port,
        last: port,
        container_port: port,
        mac: [0; 6],
        bridge_mac: [0; 6],
        protocol,
        kind: 0,
    };
    let id = tables.insert(target, &[])?;
    let answer = ask(tables, asker, way, &frame, id);
    tables.remove(id)?;
    answer
}

fn ask(tables: &Tables, asker: &Asker, way: &Way, frame: &[u8], id: u32) -> Result<Option<bool>, PortError> {
    let Asker { uplink, link, pass, inject, .. } = asker;
    sys::link_update(link.as_fd(), way.silence.as_fd()).on("silence", &uplink.name)?;
    // Somebody else may need to know him at this moment.
    let is_asked_for = neighbour::is_asked_for(uplink.index, way.client).unwrap_or(true);
    let put = sys::test_run(inject.as_fd(), frame).on("put a packet into", &uplink.name);
    let answer = put.and_then(|()| answer(tables, id));
    // Before the silence ends: it drops the first question for the neighbour's address, and there would be more.
    if !is_asked_for && let Err(error) = neighbour::forget_unfound(uplink.index, way.client) {
        tracing::debug!(uplink = %uplink.name, %error, "cannot forget who seemed to ask");
    }
    sys::link_update(link.as_fd(), pass.as_fd()).on("end the silence of", &uplink.name)?;
    answer
}

fn answer(tables: &Tables, id: u32) -> Result<Option<bool>, PortError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let figures = tables.figures(id)?;
        match (figures.begun, figures.refused) {
            (0, 0) if Instant::now() > deadline => return Ok(None),
            (0, 0) => std::thread::sleep(Duration::from_millis(1)),
            (begun, _) => return Ok(Some(begun == 0)),
        }
    }
}
