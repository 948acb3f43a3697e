//! What one source may have of the table of flows, and how flows come and stay.

use core::arch::asm;

use crate::{
    layouts::{Address, Pressure, SHARE, source},
    maps::{PRESSURE, SETTINGS, SOURCES},
};

/// Takes a place of the client's share. False: it has none left.
#[inline(always)]
pub fn take(client: &Address) -> bool {
    let share = u64::from(SETTINGS.get(SHARE).copied().unwrap_or(0));
    let source = source(client);
    match SOURCES.get_ptr_mut(&source) {
        Some(count) => {
            if unsafe { *count } >= share {
                return false;
            }
            add(count, 1);
            true
        }
        None => share > 0 && SOURCES.insert(&source, 1, 0).is_ok(),
    }
}

#[inline(always)]
pub fn give_back(client: &Address) {
    if let Some(count) = SOURCES.get_ptr_mut(&source(client))
        && unsafe { *count } > 0
    {
        add(count, -1);
    }
}

/// Other CPUs count too. Rust has no atomic arithmetic for this target, though the machine has it.
#[inline(always)]
fn add(count: *mut u64, difference: i64) {
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) count, in(reg) difference) };
}

#[inline(always)]
fn pressure() -> Option<&'static mut Pressure> {
    PRESSURE.get_ptr_mut(0).map(|pressure| unsafe { &mut *pressure })
}

#[inline(always)]
pub fn begun() {
    if let Some(pressure) = pressure() {
        pressure.begun += 1;
    }
}

#[inline(always)]
pub fn confirmed() {
    if let Some(pressure) = pressure() {
        pressure.confirmed += 1;
    }
}

#[inline(always)]
pub fn held_back() {
    if let Some(pressure) = pressure() {
        pressure.confirmed += 1;
        pressure.held_back += 1;
    }
}
