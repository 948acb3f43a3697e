//! Networks, in redb: every commit is synced.

use std::{
    error::Error,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use libnetwork_core::StoreError;
use libnetwork_model::{Intent, Mutation, Network, Revision};
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use serde::{Deserialize, Serialize};

/// Networks by id, as JSON.
const NETWORKS: TableDefinition<&str, &[u8]> = TableDefinition::new("networks");
/// `format` and `revision`.
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// At most one row: the part of the last durable commit that belongs into the journal, see [`Tail`].
const TAIL: TableDefinition<&str, &[u8]> = TableDefinition::new("tail");

/// The layout of the tables above. A change that an older version would misread raises it.
const FORMAT: u64 = 1;

/// Bytes of pages that redb keeps in memory. A network is about 1 KiB; the intent itself is held by the core.
const CACHE: usize = 256 << 10;

/// Bytes of redb's magic number, at the beginning of a file.
const MAGIC_LENGTH: usize = 9;

pub(crate) struct Durable {
    /// None after a commit that failed: redb takes no other on a database that met an I/O error (a disk that was full
    /// for a moment), and what the failed one left in the file is not known until it is opened again.
    database: Option<Database>,
    path: PathBuf,
}

/// The mortal mutations of a commit that has durable ones as well. They are written with it, so that the commit is
/// whole on the disk before the journal has it; a journal that already reached `revision` makes them void.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Tail {
    pub(crate) boot: String,
    pub(crate) revision: Revision,
    pub(crate) mutations: Vec<Mutation>,
}

pub(crate) struct Loaded {
    pub(crate) revision: Revision,
    pub(crate) networks: Vec<Mutation>,
    pub(crate) tail: Option<Tail>,
}

/// redb writes its magic number last: a file without it is one whose making was cut off, and nothing was ever in it. Makes such
/// a file an empty one, which redb takes, and tells whether it was one.
fn forget_unborn(path: &Path) -> std::io::Result<bool> {
    let mut file = File::options().read(true).write(true).open(path)?;
    // Somebody else may be making it right now; redb holds the same lock.
    if file.try_lock().is_err() {
        return Ok(false);
    }
    let mut magic = [0; MAGIC_LENGTH];
    let unborn = file.metadata()?.len() < MAGIC_LENGTH as u64 || {
        file.read_exact(&mut magic)?;
        magic == [0; MAGIC_LENGTH]
    };
    if unborn {
        file.set_len(0)?;
    }
    Ok(unborn)
}

impl Durable {
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let this = Self { database: Some(Self::database(path)?), path: path.into() };
        this.prepare()?;
        Ok(this)
    }

    fn database(path: &Path) -> Result<Database, StoreError> {
        let create = || Database::builder().set_cache_size(CACHE).create(path);
        let created = match create() {
            Err(DatabaseError::Storage(_)) if forget_unborn(path).map_err(|e| io("read", path, e))? => {
                create()
            }
            other => other,
        };
        created.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::Locked { path: path.into() },
            DatabaseError::UpgradeRequired(found) => {
                StoreError::Corrupt { path: path.into(), record: format!("a file of redb's format {found}") }
            }
            error => io("open", path, error),
        })
    }

    /// Whether the last commit failed, so that only [`Durable::restore`] helps.
    pub(crate) fn is_broken(&self) -> bool {
        self.database.is_none()
    }

    /// Opens the file again and makes its networks exactly those of `intent`: of a commit that failed all may be in it,
    /// or nothing.
    pub(crate) fn restore(
        &mut self,
        revision: Revision,
        intent: &Intent,
        tail: &Tail,
    ) -> Result<(), StoreError> {
        self.database = Some(Self::database(&self.path)?);
        let networks: Vec<Mutation> = intent.networks().cloned().map(Mutation::PutNetwork).collect();
        // What is in the file is not known until it was read: as broken as before.
        let loaded = self.load().inspect_err(|_| self.database = None)?;
        let surplus = loaded.networks.into_iter().filter_map(|mutation| match mutation {
            Mutation::PutNetwork(network) if intent.network(&network.id).is_none() => {
                Some(Mutation::RemoveNetwork(network.id.clone()))
            }
            _ => None,
        });
        let all: Vec<Mutation> = surplus.chain(networks).collect();
        self.commit(revision, all.iter(), tail)
    }

    /// Makes the tables of a fresh file; refuses the file of a newer version before anything in it is read.
    fn prepare(&self) -> Result<(), StoreError> {
        match self.format()? {
            Some(found) if found > FORMAT => {
                Err(StoreError::Newer { path: self.path.clone(), found, known: FORMAT })
            }
            Some(_) => Ok(()),
            None => {
                let write = self.opened()?.begin_write().map_err(self.failed("prepare"))?;
                {
                    let mut meta = write.open_table(META).map_err(self.failed("prepare"))?;
                    meta.insert("format", FORMAT).map_err(self.failed("prepare"))?;
                    meta.insert("revision", 0).map_err(self.failed("prepare"))?;
                    write.open_table(NETWORKS).map_err(self.failed("prepare"))?;
                    write.open_table(TAIL).map_err(self.failed("prepare"))?;
                }
                write.commit().map_err(self.failed("prepare"))
            }
        }
    }

    fn format(&self) -> Result<Option<u64>, StoreError> {
        let read = self.opened()?.begin_read().map_err(self.failed("read"))?;
        match read.open_table(META) {
            Ok(meta) => Ok(meta.get("format").map_err(self.failed("read"))?.map(|row| row.value())),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(io("read", &self.path, error)),
        }
    }

    pub(crate) fn load(&self) -> Result<Loaded, StoreError> {
        let read = self.opened()?.begin_read().map_err(self.failed("read"))?;
        let meta = read.open_table(META).map_err(self.failed("read"))?;
        let revision = meta.get("revision").map_err(self.failed("read"))?.map_or(0, |row| row.value());

        let mut networks = Vec::new();
        for row in
            read.open_table(NETWORKS).map_err(self.failed("read"))?.iter().map_err(self.failed("read"))?
        {
            let (id, text) = row.map_err(self.failed("read"))?;
            let network: Network = self.parse(text.value(), || format!("network {}", id.value()))?;
            networks.push(Mutation::PutNetwork(Arc::new(network)));
        }
        let tail =
            match read.open_table(TAIL).map_err(self.failed("read"))?.get("").map_err(self.failed("read"))? {
                Some(text) => Some(self.parse(text.value(), || "the tail".to_owned())?),
                None => None,
            };
        Ok(Loaded { revision, networks, tail })
    }

    /// One synced transaction.
    pub(crate) fn commit<'a>(
        &mut self,
        revision: Revision,
        networks: impl Iterator<Item = &'a Mutation>,
        tail: &Tail,
    ) -> Result<(), StoreError> {
        let result = self.write(revision, networks, tail);
        if result.is_err() {
            self.database = None;
        }
        result
    }

    fn write<'a>(
        &self,
        revision: Revision,
        networks: impl Iterator<Item = &'a Mutation>,
        tail: &Tail,
    ) -> Result<(), StoreError> {
        let write = self.opened()?.begin_write().map_err(self.failed("write"))?;
        {
            let mut table = write.open_table(NETWORKS).map_err(self.failed("write"))?;
            for mutation in networks {
                match mutation {
                    Mutation::PutNetwork(network) => {
                        let text = serde_json::to_vec(network).map_err(self.failed("encode"))?;
                        table.insert(network.id.as_str(), text.as_slice()).map_err(self.failed("write"))?;
                    }
                    Mutation::RemoveNetwork(id) => {
                        table.remove(id.as_str()).map_err(self.failed("write"))?;
                    }
                    _ => {}
                }
            }
            let mut table = write.open_table(TAIL).map_err(self.failed("write"))?;
            if tail.mutations.is_empty() {
                table.remove("").map_err(self.failed("write"))?;
            } else {
                let text = serde_json::to_vec(tail).map_err(self.failed("encode"))?;
                table.insert("", text.as_slice()).map_err(self.failed("write"))?;
            }
            let mut meta = write.open_table(META).map_err(self.failed("write"))?;
            meta.insert("revision", revision).map_err(self.failed("write"))?;
        }
        write.commit().map_err(self.failed("write"))
    }

    fn parse<'a, T: Deserialize<'a>>(
        &self,
        text: &'a [u8],
        record: impl Fn() -> String,
    ) -> Result<T, StoreError> {
        serde_json::from_slice(text).map_err(|error| StoreError::Corrupt {
            path: self.path.clone(),
            record: format!("{} ({error})", record()),
        })
    }

    fn opened(&self) -> Result<&Database, StoreError> {
        let closed = || std::io::Error::other("it is closed since a commit to it failed");
        self.database.as_ref().ok_or_else(|| io("use", &self.path, closed()))
    }

    fn failed<E: Error + Send + Sync + 'static>(
        &self,
        operation: &'static str,
    ) -> impl FnOnce(E) -> StoreError {
        let path = self.path.clone();
        move |source| io(operation, &path, source)
    }
}

pub(crate) fn io(
    operation: &'static str,
    path: &Path,
    source: impl Error + Send + Sync + 'static,
) -> StoreError {
    StoreError::Io { operation, path: path.into(), source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_read_is_not_restored_until_it_can_be() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("intent.redb");
        drop(Durable::open(&path).unwrap());
        let write = |row: Option<&[u8]>| {
            let transaction = Durable::database(&path).unwrap().begin_write().unwrap();
            let mut table = transaction.open_table(NETWORKS).unwrap();
            match row {
                Some(row) => _ = table.insert("x", row).unwrap(),
                None => _ = table.remove("x").unwrap(),
            }
            drop(table);
            transaction.commit().unwrap();
        };
        write(Some(b"half of a netw"));
        // As a commit that failed leaves it.
        let mut durable = Durable { database: None, path: path.clone() };
        let intent = Intent::default();
        let tail = Tail { boot: "b1".into(), revision: 1, mutations: Vec::new() };
        for _ in 0..2 {
            let failed = durable.restore(1, &intent, &tail);
            assert!(matches!(failed, Err(StoreError::Corrupt { .. })), "{failed:?}");
            assert!(durable.is_broken(), "the next commit would be made on what nobody has read");
        }
        write(None);
        durable.restore(1, &intent, &tail).unwrap();
        assert!(!durable.is_broken());
        durable.commit(2, std::iter::empty(), &tail).unwrap();
        assert_eq!(durable.load().unwrap().revision, 2);
    }
}
