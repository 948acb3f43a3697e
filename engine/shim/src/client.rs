//! One connection to the shim.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
    time::{Duration, Instant},
};

use engine_protocol::{FrameReader, Kind, Reply, frame};
use nix::{errno::Errno, sys::socket};

use crate::{
    log::Source,
    outbox::{self, Fullness, Outbox},
};

/// An attacher that is too far behind and takes nothing for this long is cut off.
const PATIENCE: Duration = Duration::from_secs(10);

/// What an attacher gets and gives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attached {
    /// The process, by its key in [`crate::shim::Shim`].
    pub(crate) process: u32,
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    /// It has said that no more input comes, or that it leaves on purpose.
    pub(crate) input_ended: bool,
}

pub(crate) struct Client {
    pub(crate) socket: OwnedFd,
    pub(crate) reader: FrameReader,
    pub(crate) attached: Option<Attached>,
    outbox: Outbox,
    /// When it last took something, while it is behind.
    progress: Instant,
    /// It sends no more, though it may still take output.
    pub(crate) read_closed: bool,
    /// Close once all has been written.
    pub(crate) last_word: bool,
    /// Of no further use.
    pub(crate) gone: bool,
}

impl Client {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            reader: FrameReader::default(),
            attached: None,
            outbox: Outbox::default(),
            progress: Instant::now(),
            read_closed: false,
            last_word: false,
            gone: false,
        }
    }

    pub(crate) fn reply(&mut self, id: u64, reply: &Reply, spill: &Path) {
        let mut bytes = Vec::new();
        if frame::put_message(&mut bytes, Kind::Reply, id, reply).is_ok() {
            self.send(&bytes, spill);
        }
    }

    /// Output of the process that this client is attached to.
    pub(crate) fn output(&mut self, process: u32, source: Source, data: &[u8], spill: &Path) {
        let Some(attached) = self.attached.filter(|attached| attached.process == process) else { return };
        let (wanted, kind) = match source {
            Source::Stdout => (attached.stdout, Kind::Stdout),
            Source::Stderr => (attached.stderr, Kind::Stderr),
        };
        if wanted && !self.last_word {
            self.send(&outbox::frame(kind, data), spill);
        }
    }

    /// The process's output has ended.
    pub(crate) fn end(&mut self, spill: &Path) {
        if !self.last_word {
            self.send(&outbox::frame(Kind::End, &[]), spill);
            self.last_word = true;
        }
    }

    fn send(&mut self, bytes: &[u8], spill: &Path) {
        if self.gone {
            return;
        }
        if self.outbox.fullness() == Fullness::Empty {
            self.progress = Instant::now();
        }
        if let Err(error) = self.outbox.push(bytes, spill) {
            eprintln!("a client is cut off: no room for what it does not take: {error}");
            self.gone = true;
            return;
        }
        self.drain();
    }

    /// Writes what the socket takes.
    pub(crate) fn drain(&mut self) {
        match self.outbox.drain(&self.socket) {
            Ok(0) => {}
            Ok(_) => self.progress = Instant::now(),
            Err(_) => self.gone = true,
        }
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.outbox.fullness() == Fullness::Empty
    }

    /// The output of the process must wait for this client.
    pub(crate) fn holds_up(&self, process: u32) -> bool {
        self.attached.is_some_and(|a| a.process == process)
            && self.outbox.fullness() == Fullness::Over
            && !self.gone
    }

    /// Gives up on a client that holds up a process without taking anything.
    pub(crate) fn check_patience(&mut self) {
        if self.outbox.fullness() == Fullness::Over && self.progress.elapsed() > PATIENCE {
            eprintln!("a client is cut off: it takes no output");
            self.gone = true;
        }
    }

    /// Reads what has come into the frame reader; false when nothing more will come.
    pub(crate) fn receive(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
        loop {
            use std::os::fd::AsRawFd;
            match socket::recv(self.socket.as_fd().as_raw_fd(), &mut buffer, socket::MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return false,
                Ok(count) => {
                    self.reader.feed(&buffer[..count]);
                    return true;
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return true,
                Err(_) => return false,
            }
        }
    }
}
