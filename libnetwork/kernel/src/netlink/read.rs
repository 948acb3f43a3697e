//! Reading what the kernel says: what is too short reads as nothing.

/// The attributes in a payload, by type without its flags.
pub(crate) fn attributes(mut payload: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(payload, 0)?);
        let kind = u16_at(payload, 2)? & libc::NLA_TYPE_MASK as u16;
        let value = payload.get(4..length)?;
        payload = payload.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

pub(crate) fn bytes<const N: usize>(payload: &[u8], at: usize) -> Option<[u8; N]> {
    payload.get(at..at + N)?.try_into().ok()
}

pub(crate) fn u8(payload: &[u8]) -> u8 {
    payload.first().copied().unwrap_or(0)
}

pub(crate) fn u16_at(payload: &[u8], at: usize) -> Option<u16> {
    bytes(payload, at).map(u16::from_ne_bytes)
}

pub(crate) fn u32_at(payload: &[u8], at: usize) -> Option<u32> {
    bytes(payload, at).map(u32::from_ne_bytes)
}

pub(crate) fn i32_at(payload: &[u8], at: usize) -> Option<i32> {
    bytes(payload, at).map(i32::from_ne_bytes)
}

pub(crate) fn be_u32(payload: &[u8]) -> Option<u32> {
    bytes(payload, 0).map(u32::from_be_bytes)
}

/// Up to the final zero; what is not UTF-8 is nothing of ours.
pub(crate) fn text(payload: &[u8]) -> &str {
    let end = payload.iter().position(|b| *b == 0).unwrap_or(payload.len());
    std::str::from_utf8(&payload[..end]).unwrap_or_default()
}
