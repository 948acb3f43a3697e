//! What went through published ranges.

use std::{collections::BTreeMap, io, mem, net::IpAddr};

use ebpf_layouts::{ANY_IPV4, ANY_IPV6, Target};
use libnetwork_core::{PortError, PortFigures};
use libnetwork_model::{Protocol, PublishedPort};

use crate::{
    error::OnError,
    host,
    tables::{Sandbox, Tables},
};

/// Seconds after which a stream of datagrams is over, as the programs have it.
pub(crate) const UDP_IDLE: u32 = 120;

/// In the order of `ports`. Reads the whole table of flows, once.
pub(crate) fn of(
    tables: &Tables,
    sandbox: &Sandbox,
    ports: &[PublishedPort],
) -> Result<Vec<PortFigures>, PortError> {
    let targets = tables.of_sandbox(sandbox);
    let now = seconds().on("read", "the clock")?;
    let mut open: BTreeMap<u32, u64> = targets.keys().map(|id| (*id, 0)).collect();
    tables.each_flow(|key, flow| {
        let idle = now.saturating_sub(flow.seen);
        if let Some(count) = open.get_mut(&flow.target)
            && (key.protocol != Protocol::Udp.number() || idle <= UDP_IDLE)
        {
            *count += 1;
        }
    })?;
    ports
        .iter()
        .map(|port| {
            let mut sum = PortFigures::default();
            for (id, _) in targets.iter().filter(|(_, target)| leads(target, port)) {
                let figures = tables.figures(*id)?;
                sum.packets += figures.packets_in + figures.packets_out;
                sum.bytes += figures.bytes_in + figures.bytes_out;
                sum.open_flows += open.get(id).copied().unwrap_or_default();
                sum.refusals += figures.refused + figures.no_place;
            }
            Ok(sum)
        })
        .collect()
}

/// Whether the target is the range's, or that of one of its families.
fn leads(target: &Target, port: &PublishedPort) -> bool {
    let on = |ip: IpAddr| target.host == host::address(ip);
    let any = || target.host == ANY_IPV4 || target.host == ANY_IPV6;
    (target.protocol, target.container_port) == (port.protocol.number(), port.container_port)
        && (target.first, target.last) == (port.host_ports.first(), port.host_ports.last())
        && port.host_ip.map_or_else(any, on)
}

/// Of the clock that the programs read.
pub(crate) fn seconds() -> io::Result<u32> {
    // SAFETY: integers, for which zeros are a value; the call fills them in.
    let (result, time) = unsafe {
        let mut time: libc::timespec = mem::zeroed();
        (libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time), time)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(time.tv_sec as u32) }
}
