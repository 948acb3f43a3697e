//! Volumes as directories. A volume exists when `<name>/meta.json` does; it is renamed there whole, and renamed away
//! before it is removed, so that a crash leaves all of a volume or a directory that the next start removes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::mount;
use crate::wire::CreateVolume;

/// Docker's label of volumes that were made without a name.
const ANONYMOUS: &str = "com.docker.volume.anonymous";
/// No volume's name begins with a dot.
const COMING: &str = ".new-";
const GOING: &str = ".gone-";

/// `meta.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) created_at: String,
    pub(crate) labels: Option<BTreeMap<String, String>>,
    pub(crate) options: Option<BTreeMap<String, String>>,
    pub(crate) anonymous: bool,
}

#[derive(Debug)]
pub(crate) struct Disk {
    dir: PathBuf,
}

impl Disk {
    pub(crate) fn open(dir: PathBuf) -> Result<Self> {
        // Others may pass, for the paths are known, but not look around.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o701)
            .create(&dir)
            .map_err(Error::io("create directory", &dir))?;
        let disk = Self { dir };
        for name in disk.names()? {
            if name.starts_with(COMING) || name.starts_with(GOING) {
                mount::unmount(&disk.dir.join(&name).join("_data"))?;
                remove_tree(&disk.dir.join(&name))?;
            }
        }
        Ok(disk)
    }

    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.dir.join(name).join("_data")
    }

    pub(crate) fn create(&self, request: CreateVolume) -> Result<(Record, bool)> {
        if !matches!(request.driver.as_str(), "" | "local") {
            return Err(Error::NoSuchDriver(request.driver));
        }
        let anonymous = request.name.is_empty();
        let name =
            if anonymous { random_hex().map_err(Error::io("read", "/dev/urandom"))? } else { request.name };
        check_name(&name)?;
        let options = request.driver_opts.filter(|options| !options.is_empty());
        if let Some(options) = &options {
            mount::validate(&name, options)?;
        }
        let mut labels = request.labels.filter(|labels| !labels.is_empty());
        if anonymous {
            labels.get_or_insert_default().entry(ANONYMOUS.to_owned()).or_default();
        }
        let anonymous = labels.as_ref().is_some_and(|labels| labels.contains_key(ANONYMOUS));
        let created_at = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let record = Record { name, created_at, labels, options, anonymous };
        match self.record(&record.name) {
            Ok(known) => return same(known, &record),
            Err(Error::NoSuchVolume(_)) => {}
            Err(error) => return Err(error),
        }
        let coming =
            self.dir.join(format!("{COMING}{}", random_hex().map_err(Error::io("read", "/dev/urandom"))?));
        let made = self.make(&coming, &record);
        if made.is_err() {
            let _ = remove_tree(&coming);
        }
        match made {
            // Another request of the same name was faster: a rename onto a directory that is not empty fails.
            Err(_) if self.record(&record.name).is_ok() => {
                self.record(&record.name).and_then(|known| same(known, &record))
            }
            made => made.map(|()| (record, true)),
        }
    }

    fn make(&self, coming: &Path, record: &Record) -> Result<()> {
        fs::DirBuilder::new().mode(0o701).create(coming).map_err(Error::io("create directory", coming))?;
        let data = coming.join("_data");
        fs::create_dir(&data).map_err(Error::io("create directory", &data))?;
        fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).map_err(Error::io("chmod", &data))?;
        let meta = coming.join("meta.json");
        let bytes =
            serde_json::to_vec(record).map_err(|source| Error::Corrupt { path: meta.clone(), source })?;
        let written = File::create(&meta).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()
        });
        written.map_err(Error::io("write", &meta))?;
        let to = self.dir.join(&record.name);
        fs::rename(coming, &to).map_err(Error::io("rename", &to))?;
        self.sync()
    }

    pub(crate) fn record(&self, name: &str) -> Result<Record> {
        if check_name(name).is_err() {
            return Err(Error::NoSuchVolume(name.to_owned()));
        }
        let path = self.dir.join(name).join("meta.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| Error::Corrupt { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Error::NoSuchVolume(name.to_owned()))
            }
            Err(error) => Err(Error::io("read", path)(error)),
        }
    }

    /// All volumes, by name. One that is removed meanwhile is left out.
    pub(crate) fn records(&self) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        for name in self.names()? {
            match self.record(&name) {
                Ok(record) => records.push(record),
                Err(Error::NoSuchVolume(_)) => {}
                Err(error) => return Err(error),
            }
        }
        records.sort_by(|a: &Record, b| a.name.cmp(&b.name));
        Ok(records)
    }

    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        self.record(name)?;
        // A bind of the driver's options would lead the removal into a directory that is not ours.
        mount::unmount(&self.data(name))?;
        let going =
            self.dir.join(format!("{GOING}{}", random_hex().map_err(Error::io("read", "/dev/urandom"))?));
        match fs::rename(self.dir.join(name), &going) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NoSuchVolume(name.to_owned()));
            }
            result => result.map_err(Error::io("rename", self.dir.join(name)))?,
        }
        self.sync()?;
        remove_tree(&going)
    }

    /// Bytes in the volume's files, each once. What driver options mount is not counted, as in Docker.
    pub(crate) fn size(&self, name: &str) -> Result<u64> {
        let data = self.data(name);
        if self.record(name)?.options.is_some() {
            return Ok(0);
        }
        size(&data).map_err(Error::io("measure", data))
    }

    fn names(&self) -> Result<Vec<String>> {
        let entries = fs::read_dir(&self.dir).map_err(Error::io("list", &self.dir))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(Error::io("list", &self.dir))?;
            names.extend(entry.file_name().into_string());
        }
        Ok(names)
    }

    fn sync(&self) -> Result<()> {
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(Error::io("sync", &self.dir))
    }
}

/// The same request again is no error; the same name with other options is.
fn same(known: Record, asked: &Record) -> Result<(Record, bool)> {
    match &asked.options {
        Some(options) if known.options.as_ref() != Some(options) => Err(Error::Exists(known.name)),
        _ => Ok((known, false)),
    }
}

/// Docker's rule for names, and what a directory's name can be.
fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric();
    let fine = name.len() >= 2
        && name.len() <= 255
        && name.starts_with(plain)
        && name.chars().all(|c| plain(c) || matches!(c, '_' | '.' | '-'));
    if fine { Ok(()) } else { Err(Error::InvalidName(name.to_owned())) }
}

fn random_hex() -> io::Result<String> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(hex::encode(bytes))
}

fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Bytes, as Docker counts: each file once, however many names it has, and links by the length of their target.
fn size(dir: &Path) -> io::Result<u64> {
    let mut seen = std::collections::BTreeSet::new();
    let mut total = 0;
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                waiting.push(entry.path());
            } else if metadata.nlink() == 1 || seen.insert((metadata.dev(), metadata.ino())) {
                total += metadata.len();
            }
        }
    }
    Ok(total)
}
