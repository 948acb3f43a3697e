//! What waits to be written to a connection that does not take it.
//!
//! An attacher that reads slowly must neither hold up the container nor lose output, and the shim must stay small:
//! the first part waits in memory, the rest in an unlinked file beside the log.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{
        fd::AsFd,
        unix::fs::{FileExt, OpenOptionsExt},
    },
    path::Path,
};

use nix::errno::Errno;

/// Bytes that wait in memory.
const IN_MEMORY: usize = 64 << 10;
/// Bytes that wait in the file; beyond, the connection is [`Fullness::Over`].
const IN_FILE: u64 = 1 << 30;

/// How far behind the other side is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fullness {
    Empty,
    Waiting,
    /// So far behind that the output should wait for it.
    Over,
}

#[derive(Default)]
pub(crate) struct Outbox {
    memory: Vec<u8>,
    /// How much of `memory` has been written.
    written: usize,
    /// What comes after `memory`: the file, and the range of it that waits.
    file: Option<(File, u64, u64)>,
}

impl Outbox {
    /// Puts bytes behind what waits already. `spill` is a directory for the file.
    pub(crate) fn push(&mut self, bytes: &[u8], spill: &Path) -> io::Result<()> {
        if self.file.is_none() && self.memory.len() - self.written + bytes.len() <= IN_MEMORY {
            if self.written > 0 {
                self.memory.drain(..self.written);
                self.written = 0;
            }
            self.memory.extend_from_slice(bytes);
            return Ok(());
        }
        if self.file.is_none() {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .mode(0o600)
                .custom_flags(nix::libc::O_TMPFILE)
                .open(spill)?;
            self.file = Some((file, 0, 0));
        }
        if let Some((file, _, end)) = &mut self.file {
            file.write_all_at(bytes, *end)?;
            *end += bytes.len() as u64;
        }
        Ok(())
    }

    pub(crate) fn fullness(&self) -> Fullness {
        match &self.file {
            Some((_, start, end)) if end - start > IN_FILE => Fullness::Over,
            Some(_) => Fullness::Waiting,
            None if self.memory.len() > self.written => Fullness::Waiting,
            None => Fullness::Empty,
        }
    }

    /// Writes as much as the connection takes; how many bytes that was.
    pub(crate) fn drain(&mut self, connection: impl AsFd) -> nix::Result<usize> {
        let mut total = 0;
        loop {
            if self.written == self.memory.len() {
                self.refill().map_err(|_| Errno::EIO)?;
                if self.memory.is_empty() {
                    return Ok(total);
                }
            }
            match nix::unistd::write(connection.as_fd(), &self.memory[self.written..]) {
                Ok(count) => {
                    self.written += count;
                    total += count;
                }
                Err(Errno::EAGAIN) => return Ok(total),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn refill(&mut self) -> io::Result<()> {
        self.memory.clear();
        self.written = 0;
        let Some((file, start, end)) = &mut self.file else {
            self.memory.shrink_to(0);
            return Ok(());
        };
        let length = (*end - *start).min(IN_MEMORY as u64) as usize;
        self.memory.resize(length, 0);
        file.read_exact_at(&mut self.memory, *start)?;
        *start += length as u64;
        if start == end {
            self.file = None;
        }
        Ok(())
    }
}

/// Appends to a vector what is to be pushed in one piece.
pub(crate) fn frame(kind: engine_protocol::Kind, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(engine_protocol::frame::HEADER + payload.len());
    // Writing to a Vec does not fail.
    let _ = out.write_all(&engine_protocol::frame::header(kind, payload.len()));
    out.extend_from_slice(payload);
    out
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::unix::net::UnixStream};

    use super::*;

    #[test]
    fn a_reader_that_comes_late_misses_nothing() {
        let (mut reader, writer) = UnixStream::pair().unwrap();
        writer.set_nonblocking(true).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::default();
        let mut expected = Vec::new();
        for number in 0..200_000_u32 {
            let bytes = number.to_be_bytes();
            expected.extend_from_slice(&bytes);
            outbox.push(&bytes, directory.path()).unwrap();
            if number % 1000 == 0 {
                outbox.drain(&writer).unwrap();
            }
        }
        assert_eq!(outbox.fullness(), Fullness::Waiting);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "the file has no name");
        let mut found = Vec::new();
        let mut buffer = [0; 5000];
        while found.len() < expected.len() {
            outbox.drain(&writer).unwrap();
            let count = reader.read(&mut buffer).unwrap();
            found.extend_from_slice(&buffer[..count]);
        }
        assert_eq!(found, expected);
        assert_eq!(outbox.fullness(), Fullness::Empty);
    }
}
