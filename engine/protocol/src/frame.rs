//! The bytes on the socket: a kind (1 byte), a length (4 bytes, big endian), then that many bytes.

use serde::{Serialize, de::DeserializeOwned};

/// The header's length in bytes.
pub const HEADER: usize = 5;
/// The longest payload accepted, in bytes: a request that carries an exec's environment fits many times over.
pub const MAX_PAYLOAD: usize = 4 << 20;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A request's id (8 bytes, big endian), then a [`crate::Request`] as JSON. Engine to shim.
    Request = 1,
    /// The request's id, then a [`crate::Reply`] as JSON. Shim to engine.
    Reply = 2,
    /// Bytes for the process's standard input. Engine to shim.
    Stdin = 3,
    /// No more input will come from this attacher. Engine to shim.
    StdinEnd = 4,
    /// Bytes from standard output, or from the terminal. Shim to engine.
    Stdout = 5,
    /// Bytes from standard error. Shim to engine.
    Stderr = 6,
    /// The process's output has ended; nothing follows. Shim to engine.
    End = 7,
    /// This attacher leaves on purpose: its input must stay open even for [`crate::Stdin::Once`]. Engine to shim.
    Detach = 8,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Request,
            2 => Self::Reply,
            3 => Self::Stdin,
            4 => Self::StdinEnd,
            5 => Self::Stdout,
            6 => Self::Stderr,
            7 => Self::End,
            8 => Self::Detach,
            _ => return None,
        })
    }
}

/// One frame, its payload borrowed from the reader.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub kind: Kind,
    pub payload: &'a [u8],
}

/// Why a peer's bytes make no sense. The connection is of no further use.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of unknown kind {0}")]
    UnknownKind(u8),
    #[error("a frame of {0} bytes, longer than allowed")]
    TooLong(usize),
    #[error("a request or reply without its id")]
    NoId,
    #[error("a message that does not parse")]
    Json(#[from] serde_json::Error),
}

/// The header of a frame whose payload is sent separately.
pub fn header(kind: Kind, length: usize) -> [u8; HEADER] {
    let length = (length as u32).to_be_bytes();
    [kind as u8, length[0], length[1], length[2], length[3]]
}

/// Appends a whole frame to `out`.
pub fn put(out: &mut Vec<u8>, kind: Kind, payload: &[u8]) {
    out.extend_from_slice(&header(kind, payload.len()));
    out.extend_from_slice(payload);
}

/// Appends a request or reply to `out`.
pub fn put_message<T: Serialize>(
    out: &mut Vec<u8>,
    kind: Kind,
    id: u64,
    message: &T,
) -> Result<(), FrameError> {
    let start = out.len();
    out.extend_from_slice(&header(kind, 0));
    out.extend_from_slice(&id.to_be_bytes());
    if let Err(error) = serde_json::to_writer(&mut *out, message) {
        out.truncate(start);
        return Err(error.into());
    }
    let length = out.len() - start - HEADER;
    out[start..start + HEADER].copy_from_slice(&header(kind, length));
    Ok(())
}

/// Takes a request or reply apart.
pub fn message<T: DeserializeOwned>(payload: &[u8]) -> Result<(u64, T), FrameError> {
    let (id, json) = payload.split_first_chunk::<8>().ok_or(FrameError::NoId)?;
    Ok((u64::from_be_bytes(*id), serde_json::from_slice(json)?))
}

/// Cuts a byte stream into frames.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: Vec<u8>,
    /// How much of the front of `buffer` has been handed out.
    used: usize,
}

impl FrameReader {
    /// Takes in bytes as they came from the socket.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.used == self.buffer.len() {
            self.buffer.clear();
            self.used = 0;
        } else if self.used > 64 << 10 {
            self.buffer.drain(..self.used);
            self.used = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, or none until more bytes are fed.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        let rest = &self.buffer[self.used..];
        let Some((header, rest)) = rest.split_first_chunk::<HEADER>() else { return Ok(None) };
        let kind = Kind::from_byte(header[0]).ok_or(FrameError::UnknownKind(header[0]))?;
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        if length > MAX_PAYLOAD {
            return Err(FrameError::TooLong(length));
        }
        if rest.len() < length {
            return Ok(None);
        }
        let start = self.used + HEADER;
        self.used = start + length;
        Ok(Some(Frame { kind, payload: &self.buffer[start..start + length] }))
    }

    /// How many bytes were fed that are not part of a frame handed out yet.
    pub fn pending(&self) -> usize {
        self.buffer.len() - self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_whole_however_the_bytes_arrive() {
        let mut bytes = Vec::new();
        put(&mut bytes, Kind::Stdout, b"hello");
        put(&mut bytes, Kind::End, b"");
        put_message(&mut bytes, Kind::Request, 7, &crate::Request::State).unwrap();
        let mut reader = FrameReader::default();
        let mut seen = Vec::new();
        for byte in bytes {
            reader.feed(&[byte]);
            while let Some(frame) = reader.next_frame().unwrap() {
                seen.push((frame.kind, frame.payload.to_vec()));
            }
        }
        assert_eq!(reader.pending(), 0);
        assert_eq!(seen.len(), 3);
        assert_eq!(seen[0], (Kind::Stdout, b"hello".to_vec()));
        assert_eq!(seen[1], (Kind::End, Vec::new()));
        let (id, request) = message::<crate::Request>(&seen[2].1).unwrap();
        assert_eq!(id, 7);
        assert!(matches!(request, crate::Request::State));
    }

    #[test]
    fn nonsense_is_refused() {
        let mut reader = FrameReader::default();
        reader.feed(&[99, 0, 0, 0, 0]);
        assert!(matches!(reader.next_frame(), Err(FrameError::UnknownKind(99))));
        let mut reader = FrameReader::default();
        reader.feed(&header(Kind::Stdin, MAX_PAYLOAD + 1));
        assert!(matches!(reader.next_frame(), Err(FrameError::TooLong(_))));
    }
}
