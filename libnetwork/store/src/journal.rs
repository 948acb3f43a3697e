//! Sandboxes and endpoints, in a file that is only appended to and never synced.
//!
//! A record is its length and checksum (little-endian, 4 and 8 bytes) and a JSON text. The first names the format and
//! the boot; each other holds the mutations of one commit. A record that was cut off or damaged ends the journal: what
//! is read is always a prefix of what was written, commit by commit. One that is whole and not understood is an error: what it
//! says was committed, and is of containers that run.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use libnetwork_core::StoreError;
use libnetwork_model::{Mutation, Revision};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::durable::io;

const FORMAT: u64 = 1;
const FRAME: usize = 12;

#[derive(Serialize, Deserialize)]
struct Header {
    format: u64,
    boot: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) revision: Revision,
    pub(crate) mutations: Vec<Mutation>,
}

pub(crate) struct Journal {
    path: PathBuf,
    boot: String,
    file: File,
    /// The end of the last whole record. Whatever lies behind it was never committed.
    length: u64,
    /// An append failed half way and could not be taken back: only a rewrite makes the file good again.
    broken: bool,
}

impl Journal {
    /// Opens the journal and reads what this boot wrote. Another boot's is begun afresh: its namespaces are gone.
    pub(crate) fn open(path: &Path, boot: &str) -> Result<(Self, Vec<Record>), StoreError> {
        let mut bytes = Vec::new();
        match File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(io("read", path, error)),
        }
        let mut rest = bytes.as_slice();
        let unknown = |record: String, error| StoreError::Corrupt {
            path: path.into(),
            record: format!("{record} ({error}); start the version that wrote it"),
        };
        if let Some(header) = next::<Header>(&mut rest).map_err(|e| unknown("its header".into(), e))? {
            if header.format > FORMAT {
                return Err(StoreError::Newer { path: path.into(), found: header.format, known: FORMAT });
            }
            if header.boot == boot {
                let mut records: Vec<Record> = Vec::new();
                let after = |records: &[Record]| match records.last() {
                    Some(last) => format!("the commit after revision {}", last.revision),
                    None => "its first commit".to_owned(),
                };
                while let Some(record) = next(&mut rest).map_err(|e| unknown(after(&records), e))? {
                    records.push(record);
                }
                let length = (bytes.len() - rest.len()) as u64;
                let file = OpenOptions::new().append(true).open(path).map_err(|e| io("open", path, e))?;
                file.set_len(length).map_err(|e| io("truncate", path, e))?;
                return Ok((
                    Self { path: path.into(), boot: boot.into(), file, length, broken: false },
                    records,
                ));
            }
        }
        let (file, length) = write_afresh(path, boot, None)?;
        Ok((Self { path: path.into(), boot: boot.into(), file, length, broken: false }, Vec::new()))
    }

    /// Bytes in the file.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Whether only a rewrite helps.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Marks the journal as one that lacks a commit.
    pub(crate) fn give_up(&mut self) {
        self.broken = true;
    }

    /// Appends one record with one write. After an error nothing of it is there, or the journal is broken.
    pub(crate) fn append(&mut self, record: &Record) -> Result<(), StoreError> {
        let frame = frame(record, &self.path)?;
        if let Err(error) = self.file.write_all(&frame) {
            self.broken = self.file.set_len(self.length).is_err();
            return Err(io("append to", &self.path, error));
        }
        self.length += frame.len() as u64;
        Ok(())
    }

    /// Replaces the whole journal by one record, with a rename: at every moment one of the two is there.
    pub(crate) fn rewrite(&mut self, record: &Record) -> Result<(), StoreError> {
        let (file, length) = write_afresh(&self.path, &self.boot, Some(record))?;
        (self.file, self.length, self.broken) = (file, length, false);
        Ok(())
    }
}

fn write_afresh(path: &Path, boot: &str, record: Option<&Record>) -> Result<(File, u64), StoreError> {
    let mut bytes = frame(&Header { format: FORMAT, boot: boot.into() }, path)?;
    if let Some(record) = record {
        bytes.extend(frame(record, path)?);
    }
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    // Left by a process that was killed right here; an append to it would not start at its beginning.
    let _ = std::fs::remove_file(&fresh);
    let mut file = OpenOptions::new()
        .append(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)
        .map_err(|e| io("create", &fresh, e))?;
    file.write_all(&bytes).map_err(|e| io("write", &fresh, e))?;
    std::fs::rename(&fresh, path).map_err(|e| io("replace", path, e))?;
    Ok((file, bytes.len() as u64))
}

pub(crate) fn frame<T: Serialize>(value: &T, path: &Path) -> Result<Vec<u8>, StoreError> {
    let mut bytes = vec![0; FRAME];
    serde_json::to_writer(&mut bytes, value).map_err(|e| io("encode for", path, e))?;
    let (head, text) = bytes.split_at_mut(FRAME);
    let length = u32::try_from(text.len()).map_err(|e| io("encode for", path, e))?;
    head[..4].copy_from_slice(&length.to_le_bytes());
    head[4..].copy_from_slice(&checksum(text).to_le_bytes());
    Ok(bytes)
}

/// The next record, if it is whole. `rest` moves behind it, unless it is not understood.
fn next<T: DeserializeOwned>(rest: &mut &[u8]) -> Result<Option<T>, serde_json::Error> {
    let Some((text, after)) = whole(rest) else { return Ok(None) };
    let value = serde_json::from_slice(text)?;
    *rest = after;
    Ok(Some(value))
}

/// The text of the record that these bytes begin with, and what is behind it.
fn whole(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, after) = bytes.split_first_chunk::<4>()?;
    let (sum, after) = after.split_first_chunk::<8>()?;
    let (text, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    (checksum(text) == u64::from_le_bytes(*sum)).then_some((text, after))
}

/// FNV-1a, 64 bits: it has to tell a torn write from a whole one, not to withstand an attacker, who could write a
/// right one anyway.
fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
