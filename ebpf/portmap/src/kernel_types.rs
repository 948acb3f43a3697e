//! Where the running kernel has a member of one of its structs, from the type information (BTF) that it shows of itself.
//! Documentation/bpf/btf.rst says how that is laid out.

use std::{fs, io};

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
const MAGIC: u16 = 0xeb9f;
const STRUCT: u32 = 4;

/// The offset, in bytes.
pub(crate) fn member_offset(structure: &str, member: &str) -> io::Result<u64> {
    let types = fs::read(VMLINUX)?;
    find(&types, structure, member).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("the kernel's type information has no {structure}.{member}"),
        )
    })
}

fn find(btf: &[u8], structure: &str, member: &str) -> Option<u64> {
    if u16::from_ne_bytes(btf.get(..2)?.try_into().ok()?) != MAGIC {
        return None;
    }
    let word = |at: usize| Some(u32::from_ne_bytes(btf.get(at..at + 4)?.try_into().ok()?));
    let header = word(4)? as usize;
    let (types, length, strings) = (word(8)? as usize, word(12)? as usize, word(16)? as usize);
    let is_named = |name: u32, wanted: &str| {
        let at = header + strings + name as usize;
        btf.get(at..at + wanted.len()) == Some(wanted.as_bytes()) && btf.get(at + wanted.len()) == Some(&0)
    };
    let mut at = header + types;
    let end = at + length;
    while at < end {
        let (name, info) = (word(at)?, word(at + 4)?);
        let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        at += 12;
        if kind == STRUCT && is_named(name, structure) {
            for entry in (0..count).map(|i| at + 12 * i) {
                if is_named(word(entry)?, member) {
                    // With the flag, the upper byte is the size of a bit field.
                    let bits = word(entry + 8)? & if info >> 31 == 1 { 0x00ff_ffff } else { u32::MAX };
                    return Some(u64::from(bits / 8));
                }
            }
        }
        at += match kind {
            1 | 14 | 17 => 4,
            3 => 12,
            4 | 5 | 15 | 19 => 12 * count,
            6 | 13 => 8 * count,
            _ => 0,
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_of_a_struct_of_this_kernel_is_found() {
        // struct list_head { struct list_head *next, *prev; }
        assert_eq!(member_offset("list_head", "next").unwrap(), 0);
        assert_eq!(member_offset("list_head", "prev").unwrap(), size_of::<usize>() as u64);
        assert!(member_offset("sk_buff", "data").unwrap() > 0);
        assert!(member_offset("sk_buff", "no such member").is_err());
        assert_eq!(find(b"\x9f\xeb", "a", "b"), None);
    }
}
