//! Whether the host's filter lets clients in by a port that is about to be published. It is asked, not read: a first packet
//! is put into the host as if an uplink had received it, before the port leads anywhere, and takes the way that a client's
//! takes. Where it leads to, there is nobody, so nothing ever answers it; what the filter itself answers (`reject`) ends
//! at the uplink's egress.

use std::{
    net::Ipv4Addr,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use aya_obj::generated::{bpf_attach_type, bpf_insn, bpf_prog_type};
use ebpf_layouts::{ANY_IPV4, Address, Target, mapped};
use libnetwork_core::{DeniedPort, PortError, chain};
use libnetwork_model::Protocol;

use crate::{
    error::OnError,
    sys::{self, Hook},
    tables::Tables,
};

/// An uplink as its neighbours see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Uplink {
    pub(crate) name: String,
    pub(crate) index: u32,
    pub(crate) mac: [u8; 6],
    pub(crate) address: Ipv4Addr,
    pub(crate) prefix: u8,
}

/// What asks at an uplink. Its programs stay loaded and attached: to take one off an interface, the kernel waits for all
/// packets that are on their way, which whoever starts a container would notice.
pub(crate) struct Asker {
    uplink: Uplink,
    /// Who seems to ask.
    client: Ipv4Addr,
    /// At the uplink's egress: `silence` while a question is open, `pass` otherwise.
    link: OwnedFd,
    pass: OwnedFd,
    silence: OwnedFd,
    inject: OwnedFd,
}

impl Asker {
    fn open(uplink: Uplink) -> Result<Self, PortError> {
        let client = neighbour(&uplink);
        let pass = load("pass", &pass()).on("load BPF program", "pass")?;
        let silence = load("silence", &silence(client)).on("load BPF program", "silence")?;
        let inject = load("inject", &inject(uplink.index)).on("load BPF program", "inject")?;
        let link =
            sys::link_create(pass.as_fd(), Hook::Egress(uplink.index)).on("attach to", &uplink.name)?;
        Ok(Self { uplink, client, link, pass, silence, inject })
    }

    /// One for each uplink: those that are there already stay. Where none can be had, nothing is asked.
    pub(crate) fn follow(mut askers: Vec<Self>, uplinks: Vec<Uplink>) -> Vec<Self> {
        askers.retain(|asker| uplinks.contains(&asker.uplink));
        for uplink in uplinks {
            if askers.iter().any(|asker| asker.uplink == uplink) {
                continue;
            }
            let name = uplink.name.clone();
            match Self::open(uplink) {
                Ok(asker) => askers.push(asker),
                Err(error) => {
                    let error = chain(&error);
                    tracing::debug!(uplink = %name, error, "cannot ask the host's firewall");
                }
            }
        }
        askers
    }
}

/// Ports asked about in one change, at most: those at the ends of its ranges.
const PROBES: usize = 16;
/// The answer is there when the call that puts the packet in ends, but where the kernel hands softirqs to a thread.
const PATIENCE: Duration = Duration::from_millis(50);
/// Above the ports that the kernel picks (net.ipv4.ip_local_port_range).
const CLIENT_PORT: u16 = 65_001;

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
    let (mut asked, mut denied) = (0, Vec::new());
    for Range { protocol, host, first, last } in ranges {
        let ends = [*first, *last];
        for port in if first == last { &ends[..1] } else { &ends[..] } {
            for asker in askers {
                let uplink = &asker.uplink;
                let address = mapped(uplink.address.octets());
                let way = *host == ANY_IPV4 || *host == address;
                if !way || asked == PROBES || is_published(tables, protocol.number(), &address, *port) {
                    continue;
                }
                asked += 1;
                if is_denied(tables, asker, protocol.number(), *port)? == Some(true) {
                    denied.push(DeniedPort { protocol: *protocol, port: *port, uplink: uplink.name.clone() });
                }
            }
        }
    }
    Ok(denied)
}

fn is_published(tables: &Tables, protocol: u8, address: &Address, port: u16) -> bool {
    let on = |host: &Address| *host == ANY_IPV4 || host == address;
    tables.targets().any(|t| t.protocol == protocol && on(&t.host) && (t.first..=t.last).contains(&port))
}

/// None: the packet came to nothing that could be counted, as where a socket of the host has the port.
fn is_denied(tables: &mut Tables, asker: &Asker, protocol: u8, port: u16) -> Result<Option<bool>, PortError> {
    let Asker { uplink, client, .. } = asker;
    let Some(frame) = frame(uplink, *client, protocol, port) else { return Ok(None) };
    let target = Target {
        address: mapped(client.octets()),
        gateway: mapped(client.octets()),
        sandbox: [0; 32],
        host: mapped(uplink.address.octets()),
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
        beside: 0,
    };
    let id = tables.insert(target, &[])?;
    let answer = ask(tables, asker, &frame, id);
    tables.remove(id)?;
    answer
}

fn ask(tables: &Tables, asker: &Asker, frame: &[u8], id: u32) -> Result<Option<bool>, PortError> {
    let Asker { uplink, link, pass, silence, inject, .. } = asker;
    sys::link_update(link.as_fd(), silence.as_fd()).on("silence", &uplink.name)?;
    let put = sys::test_run(inject.as_fd(), frame).on("put a packet into", &uplink.name);
    let answer = put.and_then(|()| answer(tables, id));
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

/// The last address of the uplink's network, or the one before it: where routes are checked (rp_filter), a neighbour's is
/// one that comes by this uplink.
fn neighbour(uplink: &Uplink) -> Ipv4Addr {
    let hosts = u32::MAX.checked_shr(u32::from(uplink.prefix)).unwrap_or(0);
    let last = u32::from(uplink.address) | hosts;
    let last = if hosts > 1 { last - 1 } else { last };
    let other = if last == u32::from(uplink.address) { last - 1 } else { last };
    other.into()
}

/// An Ethernet frame with the first packet of a flow; none for a transport of which none is made here.
fn frame(uplink: &Uplink, client: Ipv4Addr, protocol: u8, port: u16) -> Option<Vec<u8>> {
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
    let addresses = [client.octets(), uplink.address.octets()].concat();
    let length = transport.len() as u8;
    let sum = checksum(&[&addresses[..], &[0, protocol, 0, length], &transport].concat());
    transport[sum_at..sum_at + 2].copy_from_slice(&sum);
    let mut header = vec![0x45, 0, 0, 20 + length, 0, 0, 0x40, 0, 64, protocol, 0, 0];
    header.extend(&addresses);
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum);
    let ethernet = [&uplink.mac[..], &[0x02, 0xca, 0x57, 0, 0, 1], &[0x08, 0x00]].concat();
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

fn load(name: &str, instructions: &[bpf_insn]) -> std::io::Result<OwnedFd> {
    let kind = (bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS, bpf_attach_type::BPF_TCX_EGRESS);
    sys::load_program(name, kind, instructions, c"Dual MIT/GPL")
}

fn instruction(code: u8, registers: (u8, u8), offset: i16, immediate: i32) -> bpf_insn {
    let (to, from) = registers;
    bpf_insn {
        code,
        _bitfield_align_1: [],
        _bitfield_1: bpf_insn::new_bitfield_1(to, from),
        off: offset,
        imm: immediate,
    }
}

const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const JUMP_UNLESS_EQUAL: u8 = 0x55;
const LOAD_HALF: u8 = 0x28;
const LOAD_WORD: u8 = 0x20;
/// linux/bpf.h.
const TCX_NEXT: i32 = -1;

/// `bpf_clone_redirect(packet, index, BPF_F_INGRESS)`.
fn inject(index: u32) -> [bpf_insn; 5] {
    const CLONE_REDIRECT: i32 = 13;
    const INGRESS: i32 = 1;
    [
        instruction(MOVE, (2, 0), 0, index as i32),
        instruction(MOVE, (3, 0), 0, INGRESS),
        instruction(CALL, (0, 0), 0, CLONE_REDIRECT),
        instruction(MOVE, (0, 0), 0, 0),
        instruction(EXIT, (0, 0), 0, 0),
    ]
}

/// The next program sees all.
fn pass() -> [bpf_insn; 2] {
    [instruction(MOVE, (0, 0), 0, TCX_NEXT), instruction(EXIT, (0, 0), 0, 0)]
}

/// Drops what is for that address, or asks for it (ARP); the next program sees the rest.
fn silence(client: Ipv4Addr) -> [bpf_insn; 12] {
    const TC_ACT_SHOT: i32 = 2;
    const IPV4: i32 = 0x0800;
    const ARP: i32 = 0x0806;
    let client = u32::from(client) as i32;
    [
        // The loads of packets' bytes take the context there.
        instruction(MOVE_REGISTER, (6, 1), 0, 0),
        instruction(LOAD_HALF, (0, 0), 0, 12),
        instruction(JUMP_UNLESS_EQUAL, (0, 0), 2, IPV4),
        instruction(LOAD_WORD, (0, 0), 0, 30),
        instruction(0x05, (0, 0), 2, 0),
        instruction(JUMP_UNLESS_EQUAL, (0, 0), 4, ARP),
        instruction(LOAD_WORD, (0, 0), 0, 38),
        // 32 bits: what was loaded is not extended by its sign.
        instruction(0x56, (0, 0), 2, client),
        instruction(MOVE, (0, 0), 0, TC_ACT_SHOT),
        instruction(EXIT, (0, 0), 0, 0),
        instruction(MOVE, (0, 0), 0, TCX_NEXT),
        instruction(EXIT, (0, 0), 0, 0),
    ]
}
