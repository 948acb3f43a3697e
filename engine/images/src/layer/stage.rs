//! Bytes on their way in: in a temporary file, with their digest taken in passing.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::Digest;
use crate::digest::Hashing;
use crate::error::{Error, Result};

/// A file that is not yet part of the store. Its directory's owner removes it.
#[derive(Debug, Clone)]
pub(crate) struct Staged {
    pub(crate) path: PathBuf,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

impl Staged {
    /// Reads `source` to its end into a new file at `path`.
    pub(crate) fn from_reader(source: impl Read, path: PathBuf) -> Result<Self> {
        let mut source = Hashing::new(source);
        let mut file = File::create_new(&path).map_err(Error::io("create", &path))?;
        // Told apart here, since a sender that breaks off and a full disk are different faults.
        let mut buffer = vec![0; 128 << 10];
        loop {
            match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => io::Write::write_all(&mut file, &buffer[..n]).map_err(Error::io("write", &path))?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Archive(error.to_string())),
            }
        }
        let (_, digest, size) = source.finish();
        Ok(Self { path, digest, size })
    }

    pub(crate) fn open(&self) -> Result<File> {
        File::open(&self.path).map_err(Error::io("open", &self.path))
    }

    /// All of it, for documents; refused when it is larger than any honest one.
    pub(crate) fn read_document(&self, what: &str) -> Result<Vec<u8>> {
        const LIMIT: u64 = 16 << 20;
        if self.size > LIMIT {
            return Err(Error::Archive(format!("{what} is larger than {LIMIT} bytes")));
        }
        fs::read(&self.path).map_err(Error::io("read", &self.path))
    }

    /// Makes it the file `to`, lasting.
    pub(crate) fn publish(&self, to: &Path) -> Result<()> {
        self.open()?.sync_all().map_err(Error::io("sync", &self.path))?;
        // A link, since another layer of the same archive may be the same bytes.
        match fs::hard_link(&self.path, to) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(Error::io("link", to)(error)),
            _ => crate::durable::sync_parent(to),
        }
    }
}
