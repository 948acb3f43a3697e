//! Datagrams that leave by an uplink from an address and port that is published, but are no answers of a flow: of a host
//! process, or of a container behind the host's masquerading, which keeps ports where it can. What answers them is the
//! host's, and begins no flow.

use aya_ebpf::{bindings::tcx_action_base::TCX_NEXT, programs::TcContext};

use crate::{
    UDP, flows,
    layouts::{BACK, FlowKey, TOWARDS},
    maps::SENT,
    packet, ports,
};

/// Seconds in which an answer may come, as long as conntrack waits for more of a stream of datagrams.
const PATIENCE: i32 = 120;

/// At the egress of an uplink. The packet goes on as it is.
#[inline(always)]
pub fn run(ctx: &TcContext, network: u32) -> i32 {
    let Some(packet) = packet::parse(ctx, BACK, network) else { return TCX_NEXT };
    let key = &packet.key;
    if key.protocol != UDP || packet.fragment == packet::LATER {
        return TCX_NEXT;
    }
    if ports::published(UDP, &key.source, key.source_port).is_none() {
        return TCX_NEXT;
    }
    let answer = FlowKey {
        source: key.destination,
        destination: key.source,
        source_port: key.destination_port,
        destination_port: key.source_port,
        protocol: UDP,
        direction: TOWARDS,
        zero: [0; 2],
    };
    if flows::find(&answer).is_none() {
        let _ = SENT.insert(&answer, flows::seconds(), 0);
    }
    TCX_NEXT
}

/// Whether the packet answers what the host sent.
#[inline(always)]
pub fn is_answer(key: &FlowKey, now: u32) -> bool {
    if key.protocol != UDP {
        return false;
    }
    match unsafe { SENT.get(key) } {
        Some(at) => now.wrapping_sub(*at) as i32 <= PATIENCE,
        None => false,
    }
}
