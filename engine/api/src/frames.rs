//! How output of two channels shares one stream (Docker's stdcopy): a header of 8 bytes, the channel and the length of
//! what follows, big endian.

use bytes::{BufMut, Bytes, BytesMut};
use engine_containers::StdStream;

/// The header of a frame with `length` bytes.
pub(crate) fn header(stream: StdStream, length: usize) -> [u8; 8] {
    let channel = match stream {
        StdStream::Stdout => 1,
        StdStream::Stderr => 2,
    };
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [channel, 0, 0, 0, a, b, c, d]
}

/// A whole frame; the bare data where there is a terminal.
pub(crate) fn frame(stream: StdStream, data: Bytes, tty: bool) -> Bytes {
    if tty {
        return data;
    }
    let mut frame = BytesMut::with_capacity(8 + data.len());
    frame.put_slice(&header(stream, data.len()));
    frame.put_slice(&data);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_says_its_channel_and_length() {
        let data = Bytes::from_static(b"hello");
        assert_eq!(frame(StdStream::Stderr, data.clone(), false), &b"\x02\0\0\0\0\0\0\x05hello"[..]);
        assert_eq!(frame(StdStream::Stdout, data, true), &b"hello"[..]);
    }
}
