//! `docker load`: archives of images, in either format.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use jiff::Timestamp;
use tar::EntryType;

use crate::Digest;
use crate::catalog::{ImageRecord, LayerRecord};
use crate::compression::decompress;
use crate::config::ConfigFile;
use crate::core::{Core, MAX_LAYERS};
use crate::error::{Error, Result};
use crate::import::Platform;
use crate::layer::Staged;
use crate::oci::{self, ArchiveImage, Descriptor, Index, Manifest};
use crate::options::Loaded;
use crate::progress::{Progress, ProgressItem};
use crate::reference::Reference;

impl Core {
    pub(crate) fn load(&self, source: impl Read, quiet: bool, progress: &Progress) -> Result<Vec<Loaded>> {
        let bars = if quiet { Progress::none() } else { progress.clone() };
        self.bring_in(|| {
            let workspace = self.workspace()?;
            let archive = Archive::read(source, workspace.path())?;
            let images = archive.images()?;
            let mut ready = Vec::new();
            for image in &images {
                ready.push(self.take_in(image, &bars)?);
            }
            let loaded = self.enter(&images, ready, progress)?;
            for image in &loaded {
                for name in &image.names {
                    progress.say(ProgressItem::stream(format!("Loaded image: {name}\n")));
                }
                if image.names.is_empty() {
                    progress.say(ProgressItem::stream(format!("Loaded image ID: {}\n", image.id)));
                }
            }
            Ok(loaded)
        })
    }

    /// Verifies an image against its config and brings its content in.
    fn take_in(
        &self,
        image: &ImageInArchive,
        bars: &Progress,
    ) -> Result<(Digest, Vec<(Digest, LayerRecord)>)> {
        let bytes = image.config.read_document("image config")?;
        let config: ConfigFile = serde_json::from_slice(&bytes)
            .map_err(|error| Error::Archive(format!("image config {}: {error}", image.config.digest)))?;
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != image.layers.len() {
            return Err(Error::Archive(format!(
                "invalid manifest, layers length mismatch: expected {}, got {}",
                diff_ids.len(),
                image.layers.len()
            )));
        }
        if diff_ids.len() > MAX_LAYERS {
            return Err(Error::Archive("max depth exceeded".to_owned()));
        }
        let mut layers: Vec<(Digest, LayerRecord)> = Vec::new();
        for (n, (staged, diff_id)) in image.layers.iter().zip(diff_ids).enumerate() {
            // Before the commit the catalog does not know of a layer that comes twice.
            if layers.iter().any(|(known, _)| known == diff_id) {
                continue;
            }
            layers.push(self.add_layer(
                staged,
                Some(*diff_id),
                &format!("invalid diffID for layer {n}"),
                bars,
            )?);
        }
        self.put_blob(&bytes)?;
        Ok((image.config.digest, layers))
    }

    /// One commit for the whole archive.
    fn enter(
        &self,
        images: &[ImageInArchive],
        ready: Vec<(Digest, Vec<(Digest, LayerRecord)>)>,
        progress: &Progress,
    ) -> Result<Vec<Loaded>> {
        let mut stacks = Vec::new();
        for (id, _) in &ready {
            stacks.push(self.config(*id)?.rootfs.diff_ids);
        }
        self.commit(|catalog| {
            let now = Timestamp::now().to_string();
            let mut loaded = Vec::new();
            for ((image, (id, layers)), stack) in images.iter().zip(ready).zip(stacks) {
                catalog.layers.extend(layers);
                catalog
                    .images
                    .entry(id)
                    .or_insert(ImageRecord { layers: stack, parent: None, last_tagged: None });
                for name in &image.names {
                    if let Some(before) = catalog.tag(name, id, &now) {
                        progress.say(ProgressItem::stream(format!(
                            "The image {} already exists, renaming the old one with ID {before} to empty string\n",
                            name.familiar()
                        )));
                    }
                }
                loaded.push(Loaded { id, names: image.names.iter().map(Reference::familiar).collect() });
            }
            Ok(loaded)
        })
    }
}

/// What an archive says about one image, whatever its format.
struct ImageInArchive {
    config: Staged,
    layers: Vec<Staged>,
    names: Vec<Reference>,
}

/// An archive's files, spooled, by their normalised names.
#[derive(Default)]
struct Archive {
    files: BTreeMap<String, Staged>,
    /// Old `docker save`s link layers that several images share.
    links: BTreeMap<String, String>,
}

impl Archive {
    fn read(source: impl Read, into: &Path) -> Result<Self> {
        let broken = |error: std::io::Error| Error::Archive(error.to_string());
        let (_, mut plain) = decompress(source).map_err(broken)?;
        let mut archive = Self::default();
        let mut tar = tar::Archive::new(&mut plain);
        for (n, entry) in tar.entries().map_err(broken)?.enumerate() {
            let entry = entry.map_err(broken)?;
            let name = clean("", &String::from_utf8_lossy(&entry.path_bytes()))?;
            let link = entry.link_name_bytes().map(|link| String::from_utf8_lossy(&link).into_owned());
            match (entry.header().entry_type(), link) {
                (EntryType::Regular | EntryType::Continuous, _) => {
                    let size = entry.size();
                    let staged = Staged::from_reader(entry, into.join(n.to_string()))?;
                    if staged.size != size {
                        return Err(Error::Archive(format!("unexpected end of archive in {name}")));
                    }
                    archive.files.insert(name, staged);
                }
                (EntryType::Symlink, Some(link)) => {
                    let base = name.rsplit_once('/').map(|(dir, _)| dir).unwrap_or_default();
                    archive.links.insert(name.clone(), clean(base, &link)?);
                }
                (EntryType::Link, Some(link)) => {
                    archive.links.insert(name, clean("", &link)?);
                }
                _ => {}
            }
        }
        // Read to the end, so that a truncated compressed stream is noticed.
        std::io::copy(&mut plain, &mut std::io::sink()).map_err(broken)?;
        Ok(archive)
    }

    fn file(&self, name: &str) -> Option<&Staged> {
        let mut name = clean("", name).ok()?;
        // More links than files can only be a circle.
        for _ in 0..=self.links.len() {
            match self.links.get(&name) {
                Some(target) => name = target.clone(),
                None => return self.files.get(&name),
            }
        }
        None
    }

    fn need(&self, name: &str) -> Result<Staged> {
        self.file(name).cloned().ok_or_else(|| Error::Archive(format!("{name} is missing")))
    }

    /// A blob of an OCI layout, verified by its digest.
    fn blob(&self, descriptor: &Descriptor) -> Result<Staged> {
        let staged = self.need(&format!("blobs/sha256/{}", descriptor.digest.hex()))?;
        if staged.digest != descriptor.digest {
            return Err(Error::DigestMismatch {
                what: format!("blob {}", descriptor.digest.short()),
                expected: descriptor.digest.to_string(),
                actual: staged.digest.to_string(),
            });
        }
        Ok(staged)
    }

    fn images(&self) -> Result<Vec<ImageInArchive>> {
        if let Some(manifest) = self.file("manifest.json") {
            return self.docker_images(manifest);
        }
        if let Some(index) = self.file("index.json") {
            let index: Index = document(index, "index.json")?;
            let mut images = Vec::new();
            for descriptor in &index.manifests {
                images.extend(self.oci_image(descriptor, &names_of(descriptor)?, 0)?);
            }
            return if images.is_empty() {
                Err(Error::Archive("index.json names no image for this platform".to_owned()))
            } else {
                Ok(images)
            };
        }
        Err(Error::Archive("neither manifest.json nor index.json is in it: not an image archive".to_owned()))
    }

    fn docker_images(&self, manifest: &Staged) -> Result<Vec<ImageInArchive>> {
        let list: Vec<ArchiveImage> = document(manifest, "manifest.json")?;
        list.into_iter()
            .map(|image| {
                let config = self.need(&image.config)?;
                // The file is named after its digest by every tool since Docker 1.10; then it has to be true.
                let stem = image.config.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
                if let Ok(expected) = format!("sha256:{stem}").parse::<Digest>()
                    && expected != config.digest
                {
                    return Err(Error::DigestMismatch {
                        what: "image config".to_owned(),
                        expected: expected.to_string(),
                        actual: config.digest.to_string(),
                    });
                }
                let layers = image.layers.unwrap_or_default();
                let layers = layers.iter().map(|layer| self.need(layer)).collect::<Result<_>>()?;
                let names = image.repo_tags.unwrap_or_default();
                let names = names.iter().map(|name| name_of(name)).collect::<Result<_>>()?;
                Ok(ImageInArchive { config, layers, names })
            })
            .collect()
    }

    /// The image behind a descriptor: a manifest, or through an index the one for this platform.
    fn oci_image(
        &self,
        descriptor: &Descriptor,
        names: &[Reference],
        depth: usize,
    ) -> Result<Option<ImageInArchive>> {
        const DEEPEST_INDEX: usize = 4;
        let document_file = self.blob(descriptor)?;
        if matches!(descriptor.media_type.as_str(), oci::INDEX | oci::DOCKER_LIST) {
            if depth == DEEPEST_INDEX {
                return Err(Error::Archive("indexes are nested too deeply".to_owned()));
            }
            let index: Index = document(&document_file, "image index")?;
            let host = Platform::parse(None)?;
            let fits = |descriptor: &&Descriptor| match &descriptor.platform {
                Some(platform) => platform.os == host.os && platform.architecture == host.architecture,
                None => true,
            };
            // An archive may hold one platform's content of an index that lists many.
            let here = |descriptor: &&Descriptor| self.blob(descriptor).is_ok();
            return match index.manifests.iter().filter(fits).find(here) {
                Some(descriptor) => self.oci_image(descriptor, names, depth + 1),
                None => Ok(None),
            };
        }
        let manifest: Manifest = document(&document_file, "image manifest")?;
        let layers = manifest.layers.iter().map(|layer| self.blob(layer)).collect::<Result<_>>()?;
        Ok(Some(ImageInArchive { config: self.blob(&manifest.config)?, layers, names: names.to_vec() }))
    }
}

fn document<T: serde::de::DeserializeOwned>(staged: &Staged, what: &str) -> Result<T> {
    serde_json::from_slice(&staged.read_document(what)?)
        .map_err(|error| Error::Archive(format!("{what}: {error}")))
}

fn name_of(text: &str) -> Result<Reference> {
    let name = Reference::parse(text)?;
    if name.is_digested() {
        return Err(Error::Archive(format!("invalid tag {text:?}")));
    }
    Ok(name.or_latest())
}

/// The name in a descriptor's annotations. A bare tag (what `org.opencontainers.image.ref.name` is by its
/// specification) names no repository, and the image stays without a name.
fn names_of(descriptor: &Descriptor) -> Result<Vec<Reference>> {
    if let Some(name) = descriptor.annotations.get(oci::NAME) {
        return Ok(vec![name_of(name)?]);
    }
    match descriptor.annotations.get(oci::REF_NAME) {
        Some(name) if name.contains(['/', ':']) => Ok(vec![name_of(name)?]),
        _ => Ok(Vec::new()),
    }
}

/// A name in the archive without `.` and `..`, relative to `base`.
fn clean(base: &str, name: &str) -> Result<String> {
    let mut parts: Vec<&str> = if name.starts_with('/') { Vec::new() } else { base.split('/').collect() };
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop().ok_or_else(|| Error::Archive(format!("{name:?} is outside of the archive")))?;
            }
            part => parts.push(part),
        }
    }
    parts.retain(|part| !part.is_empty());
    Ok(parts.join("/"))
}
