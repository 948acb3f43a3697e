//! Networks, in redb: every commit is synced.

use std::{
    error::Error,
    path::{Path, PathBuf},
    sync::Arc,
};

use libnetwork_core::StoreError;
use libnetwork_model::{Mutation, Network, Revision};
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

pub(crate) struct Durable {
    database: Database,
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

impl Durable {
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let database =
            Database::builder().set_cache_size(CACHE).create(path).map_err(|error| match error {
                DatabaseError::DatabaseAlreadyOpen => StoreError::Locked { path: path.into() },
                DatabaseError::UpgradeRequired(found) => StoreError::Corrupt {
                    path: path.into(),
                    record: format!("a file of redb's format {found}"),
                },
                error => io("open", path, error),
            })?;
        let this = Self { database, path: path.into() };
        this.prepare()?;
        Ok(this)
    }

    /// Makes the tables of a fresh file; refuses the file of a newer version before anything in it is read.
    fn prepare(&self) -> Result<(), StoreError> {
        match self.format()? {
            Some(found) if found > FORMAT => {
                Err(StoreError::Newer { path: self.path.clone(), found, known: FORMAT })
            }
            Some(_) => Ok(()),
            None => {
                let write = self.database.begin_write().map_err(self.failed("prepare"))?;
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
        let read = self.database.begin_read().map_err(self.failed("read"))?;
        match read.open_table(META) {
            Ok(meta) => Ok(meta.get("format").map_err(self.failed("read"))?.map(|row| row.value())),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(io("read", &self.path, error)),
        }
    }

    pub(crate) fn load(&self) -> Result<Loaded, StoreError> {
        let read = self.database.begin_read().map_err(self.failed("read"))?;
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
        let write = self.database.begin_write().map_err(self.failed("write"))?;
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
