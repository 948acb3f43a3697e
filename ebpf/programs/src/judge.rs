//! The host's own filter and published ports.
//!
//! The first packet of a flow goes up the host's stack as it came, to the host's own address, so that whatever filters
//! what comes into the host (nftables, iptables, both) says what becomes of it: nothing is copied from its rules. A
//! clone of the packet waits meanwhile, behind this one in the CPU's queue. `judge` comes after every filter, at the very end
//! of the input hook: a packet that it sees has been accepted. It notes that, and takes the packet out of the host's
//! hands; the clone then begins the flow, and every later packet follows it. When the filter dropped or rejected the
//! packet, the clone finds nothing noted and is dropped; whatever answer there was came from the filter.

use core::{mem::zeroed, ptr::read_volatile};

use aya_ebpf::{
    bindings::BPF_F_INGRESS,
    helpers::{bpf_ktime_get_ns, bpf_probe_read_kernel},
    programs::TcContext,
};

use crate::{
    figures,
    layouts::{ACCEPTED, ASKED, FILTER, Judged, OPEN, TOWARDS},
    maps::{GENERATION, JUDGED, SETTINGS, SKB_DATA},
    packet::{self, Bytes, LATER, Packet, WHOLE},
    ports,
};

/// The mark that the waiting clone carries, from one pass of `towards` to the next, and nobody else sees; the low byte is
/// `GENERATION`.
const SECOND_LOOK: u32 = 0xca57_1100;

/// Seconds in which the answer must come, and in which it holds for the packet sent again: a filter may ask user space
/// (NFQUEUE), and then the clone comes too early; and of a datagram in fragments there is no clone.
const PATIENCE: i32 = 60;

/// What to do with a packet that may begin a flow.
pub enum Verdict {
    Accepted,
    Refused,
    /// It goes up the host's stack; the clone will come.
    Asked,
}

/// What a packet is to the filter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Look {
    First,
    /// It is the clone of one that the filter was asked about.
    Second,
    /// The same, for another generation of these programs.
    NotOurs,
}

/// Takes the mark off.
#[inline(always)]
pub fn look(ctx: &TcContext) -> Look {
    let mark = unsafe { (*ctx.skb.skb).mark };
    if mark & !0xff != SECOND_LOOK {
        return Look::First;
    }
    if mark != own_mark() {
        return Look::NotOurs;
    }
    ctx.skb.set_mark(0);
    Look::Second
}

#[inline(always)]
fn own_mark() -> u32 {
    SECOND_LOOK | u32::from(unsafe { read_volatile(&raw const GENERATION) })
}

#[inline(always)]
pub fn ask(ctx: &TcContext, packet: &Packet, second: bool, target: u32, now: u32) -> Verdict {
    if SETTINGS.get(FILTER).copied() == Some(OPEN) {
        return Verdict::Accepted;
    }
    if let Some(judged) = JUDGED.get_ptr_mut(&packet.key) {
        let judged = unsafe { *judged };
        if judged.state == ACCEPTED && judged.target == target && is_fresh(judged.at, now) {
            let _ = JUDGED.remove(&packet.key);
            return Verdict::Accepted;
        }
    }
    if second {
        figures::refused(target);
        return Verdict::Refused;
    }
    // `judge` reads what is linear.
    let headers = packet.transport + 20;
    let length = unsafe { (*ctx.skb.skb).len };
    let _ = ctx.pull_data(if length < headers { length } else { headers });
    if JUDGED.insert(&packet.key, Judged { target, at: now, state: ASKED }, 0).is_err() {
        return Verdict::Refused;
    }
    // The filter sees the datagram when all of it is there (of IPv6 where connection tracking is on), and by then the
    // clone would have come. The next datagram finds the answer.
    if packet.fragment != WHOLE {
        return Verdict::Asked;
    }
    let mark = unsafe { (*ctx.skb.skb).mark };
    ctx.skb.set_mark(own_mark());
    let _ = ctx.clone_redirect(unsafe { (*ctx.skb.skb).ifindex }, u64::from(BPF_F_INGRESS));
    ctx.skb.set_mark(mark);
    Verdict::Asked
}

#[inline(always)]
fn is_fresh(at: u32, now: u32) -> bool {
    // The coarse clock may be a tick behind the fine one.
    now.wrapping_sub(at) as i32 <= PATIENCE
}

/// `struct bpf_nf_ctx`: what a program at a netfilter hook is given.
#[repr(C)]
pub struct NetfilterContext {
    state: *const u8,
    skb: *const u8,
}

pub const DROP: i32 = 0;
pub const ACCEPT: i32 = 1;

struct Bare(*const u8);

impl Bytes for Bare {
    #[inline(always)]
    fn load<T>(&self, offset: usize) -> Option<T> {
        let at = self.0.wrapping_add(offset);
        unsafe { bpf_probe_read_kernel(at.cast()) }.ok()
    }

    #[inline(always)]
    fn load_to<T>(&self, offset: usize, to: *mut T) -> Option<()> {
        let at = self.0.wrapping_add(offset);
        unsafe { *to = bpf_probe_read_kernel(at.cast()).ok()? };
        Some(())
    }
}

/// At the end of the host's input hooks.
#[inline(always)]
pub fn run(ctx: *const NetfilterContext) -> i32 {
    let skb = unsafe { (*ctx).skb };
    let data = skb.wrapping_add(unsafe { read_volatile(&raw const SKB_DATA) } as usize);
    let Ok(data) = (unsafe { bpf_probe_read_kernel::<*const u8>(data.cast()) }) else { return ACCEPT };
    let mut packet: Packet = unsafe { zeroed() };
    packet.key.direction = TOWARDS;
    if packet::parse_bare(&Bare(data), &mut packet).is_none()
        || packet.loopback
        || packet.fragment == LATER
        || !packet::may_begin(&packet)
    {
        return ACCEPT;
    }
    let Some(judged) = JUDGED.get_ptr_mut(&packet.key) else { return ACCEPT };
    let judged = unsafe { &mut *judged };
    // Programs of netfilter do not have the coarse clock.
    let now = (unsafe { bpf_ktime_get_ns() } / 1_000_000_000) as u32;
    if !is_fresh(judged.at, now) || ports::target(judged.target).is_none() {
        return ACCEPT;
    }
    judged.state = ACCEPTED;
    DROP
}
