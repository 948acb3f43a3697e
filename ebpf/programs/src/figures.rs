//! What passes through each target. Figures are per CPU, so that counting costs no shared cache line.

use aya_ebpf::bindings::BPF_NOEXIST;

use crate::{
    layouts::{Figures, TOWARDS},
    maps::FIGURES,
    packet::Packet,
};

const NONE: Figures =
    Figures { packets_in: 0, bytes_in: 0, packets_out: 0, bytes_out: 0, begun: 0, refused: 0, no_place: 0 };

#[inline(always)]
fn of(target: u32) -> Option<&'static mut Figures> {
    if let Some(figures) = FIGURES.get_ptr_mut(target) {
        return Some(unsafe { &mut *figures });
    }
    let _ = FIGURES.insert(target, NONE, BPF_NOEXIST.into());
    FIGURES.get_ptr_mut(target).map(|figures| unsafe { &mut *figures })
}

#[inline(always)]
pub fn passed(packet: &Packet, bytes: u32) {
    if let Some(figures) = of(packet.to.target) {
        if packet.key.direction == TOWARDS {
            figures.packets_in += 1;
            figures.bytes_in += u64::from(bytes);
        } else {
            figures.packets_out += 1;
            figures.bytes_out += u64::from(bytes);
        }
    }
}

#[inline(always)]
pub fn begun(target: u32) {
    if let Some(figures) = of(target) {
        figures.begun += 1;
    }
}

#[inline(always)]
pub fn refused(target: u32) {
    if let Some(figures) = of(target) {
        figures.refused += 1;
    }
}

#[inline(always)]
pub fn no_place(target: u32) {
    if let Some(figures) = of(target) {
        figures.no_place += 1;
    }
}
