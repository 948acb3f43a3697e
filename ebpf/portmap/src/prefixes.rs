//! Ranges of ports as prefixes, the way the kernel's longest-prefix trie holds them.

/// The fewest prefixes that together hold the ports from `first` to `last` and no other, as their first port and their
/// number of fixed bits (16: one port). At most [`ebpf_layouts::MAX_PREFIXES`].
pub(crate) fn prefixes(first: u16, last: u16) -> Vec<(u16, u32)> {
    let (mut at, end) = (u32::from(first), u32::from(last) + 1);
    let mut found = Vec::new();
    while at < end {
        // The largest block that begins here: by alignment, and by what is left.
        let aligned = if at == 0 { 16 } else { at.trailing_zeros().min(16) };
        let free = aligned.min((end - at).ilog2());
        found.push((at as u16, 16 - free));
        at += 1 << free;
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn holds((port, bits): (u16, u32), candidate: u16) -> bool {
        bits == 0 || (port ^ candidate) >> (16 - bits) == 0
    }

    #[test]
    fn one_port_is_one_prefix_and_all_ports_are_sixteen() {
        assert_eq!(prefixes(80, 80), [(80, 16)]);
        assert_eq!(prefixes(8000, 8007), [(8000, 13)]);
        assert_eq!(prefixes(1, 65535).len(), 16);
        assert_eq!(prefixes(0, 65535), [(0, 0)]);
    }

    proptest! {
        #[test]
        fn prefixes_hold_the_range_and_nothing_else(a: u16, b: u16, candidate: u16) {
            let (first, last) = (a.min(b), a.max(b));
            let found = prefixes(first, last);
            prop_assert!(found.len() <= ebpf_layouts::MAX_PREFIXES);
            for port in [candidate, first, last, first.wrapping_sub(1), last.wrapping_add(1)] {
                let held = found.iter().filter(|p| holds(**p, port)).count();
                prop_assert_eq!(held, usize::from((first..=last).contains(&port)));
            }
        }
    }
}
