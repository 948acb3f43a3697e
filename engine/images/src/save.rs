//! `docker save`: an OCI layout that carries manifest.json too, so that both kinds of loader read it.
//!
//! Layers go out as they came in, and configs byte for byte, so that an image keeps its id and its layers' digests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use tar::{Builder, EntryType, Header};

use crate::Digest;
use crate::catalog::Catalog;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::oci::{self, ArchiveImage, Descriptor, Index, Manifest, PlatformSpec};
use crate::reference::{AnyReference, Reference};

/// What will be written, with every file open: images that are removed meanwhile are still saved whole.
pub(crate) struct Plan {
    documents: Vec<(String, Vec<u8>)>,
    blobs: Vec<(PathBuf, String, File)>,
}

impl Core {
    pub(crate) fn plan_save(&self, words: &[String]) -> Result<Plan> {
        let catalog = self.catalog();
        let chosen = choose(&catalog, words)?;
        let mut plan = Plan { documents: Vec::new(), blobs: Vec::new() };
        let mut written = BTreeSet::new();
        let (mut index, mut list) = (Vec::new(), Vec::new());
        let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for (id, names) in chosen {
            let config = self.config(id)?;
            let config_path = self.blob(id);
            let config_file = File::open(&config_path).map_err(Error::io("open", &config_path))?;
            let config_size = config_file.metadata().map_err(Error::io("stat", &config_path))?.len();
            let mut layers = Vec::new();
            for diff_id in &config.rootfs.diff_ids {
                let Some(layer) = catalog.layers.get(diff_id) else {
                    let missing = io::Error::from(io::ErrorKind::NotFound);
                    return Err(Error::io("open layer", self.layer_dir(*diff_id))(missing));
                };
                layers.push(descriptor(layer.compression.layer_media_type(), layer.blob, layer.blob_size));
                if written.insert(layer.blob) {
                    plan.add(self.blob(layer.blob), layer.blob)?;
                }
            }
            if written.insert(id) {
                plan.blobs.push((config_path, blob_name(id), config_file));
            }
            let paths: Vec<String> = layers.iter().map(|layer| blob_name(layer.digest)).collect();
            let manifest = json(&Manifest {
                schema_version: 2,
                media_type: oci::MANIFEST.to_owned(),
                config: descriptor(oci::CONFIG, id, config_size),
                layers,
            })?;
            let digest = Digest::of(&manifest);
            let mut described = descriptor(oci::MANIFEST, digest, manifest.len() as u64);
            described.platform =
                Some(PlatformSpec { architecture: config.architecture.clone(), os: config.os.clone() });
            if written.insert(digest) {
                plan.documents.push((blob_name(digest), manifest));
            }
            for name in &names {
                let tag = name.tag().unwrap_or_default().to_owned();
                let mut named = described.clone();
                named.annotations.insert(oci::NAME.to_owned(), name.to_string());
                named.annotations.insert(oci::REF_NAME.to_owned(), tag.clone());
                index.push(named);
                if let Some(top) = paths.last() {
                    let top = top.rsplit('/').next().unwrap_or_default().to_owned();
                    repositories.entry(name.familiar_name()).or_default().insert(tag, top);
                }
            }
            if names.is_empty() {
                index.push(described);
            }
            let tags: Vec<String> = names.iter().map(Reference::familiar).collect();
            list.push(ArchiveImage {
                config: blob_name(id),
                repo_tags: (!tags.is_empty()).then_some(tags),
                layers: Some(paths),
            });
        }
        let index = Index { schema_version: 2, media_type: oci::INDEX.to_owned(), manifests: index };
        plan.documents.push(("index.json".to_owned(), json(&index)?));
        plan.documents.push(("manifest.json".to_owned(), json(&list)?));
        plan.documents.push(("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
        if !repositories.is_empty() {
            plan.documents.push(("repositories".to_owned(), json(&repositories)?));
        }
        Ok(plan)
    }
}

impl Plan {
    fn add(&mut self, path: PathBuf, digest: Digest) -> Result<()> {
        let file = File::open(&path).map_err(Error::io("open", &path))?;
        self.blobs.push((path, blob_name(digest), file));
        Ok(())
    }

    pub(crate) fn write(self, out: impl Write) -> io::Result<()> {
        let mut tar = Builder::new(out);
        for dir in ["blobs/", "blobs/sha256/"] {
            tar.append(&header(dir, EntryType::Directory, 0o755, 0)?, io::empty())?;
        }
        for (path, name, file) in self.blobs {
            let size = file.metadata()?.len();
            tar.append(&header(&name, EntryType::Regular, 0o644, size)?, file.take(size))
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        }
        for (name, bytes) in self.documents {
            let header = header(&name, EntryType::Regular, 0o644, bytes.len() as u64)?;
            tar.append(&header, bytes.as_slice())?;
        }
        tar.into_inner()?.flush()
    }
}

/// The images that the words mean, in their order, each once, with the names to save it under.
fn choose(catalog: &Catalog, words: &[String]) -> Result<Vec<(Digest, Vec<Reference>)>> {
    let mut chosen: Vec<(Digest, Vec<Reference>)> = Vec::new();
    let mut add = |id: Digest, name: Option<Reference>| {
        let position = chosen.iter().position(|(known, _)| *known == id).unwrap_or_else(|| {
            chosen.push((id, Vec::new()));
            chosen.len() - 1
        });
        let names = &mut chosen[position].1;
        names.extend(name.filter(|name| !names.contains(name)));
    };
    for word in words {
        if let Ok(AnyReference::Named(name)) = AnyReference::parse(word) {
            if name.is_name_only() {
                let all = catalog.references.iter();
                let all: Vec<_> =
                    all.filter(|(known, _)| known.name() == name.name() && known.tag().is_some()).collect();
                if !all.is_empty() {
                    all.into_iter().for_each(|(name, id)| add(*id, Some(name.clone())));
                    continue;
                }
            } else if let Some(id) = catalog.references.get(&name.key()) {
                add(*id, Some(name.key()).filter(|name| !name.is_digested()));
                continue;
            }
        }
        add(catalog.find(word)?, None);
    }
    Ok(chosen)
}

fn descriptor(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest,
        size,
        annotations: BTreeMap::new(),
        platform: None,
    }
}

fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value)
        .map_err(|source| Error::Corrupt { path: PathBuf::from("manifest.json"), source })
}

/// The time is left at 0: the same images give the same bytes.
fn header(name: &str, kind: EntryType, mode: u32, size: u64) -> io::Result<Header> {
    let mut header = Header::new_ustar();
    header.set_path(name)?;
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    Ok(header)
}
