//! The metadata: which images, layers and names there are. A plain value; `store` keeps it on disk.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::Digest;
use crate::compression::Compression;
use crate::error::{Error, Result};
use crate::reference::{AnyReference, Reference};

/// Everything that is known, besides the content itself. What it does not mention is garbage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Catalog {
    pub(crate) images: BTreeMap<Digest, ImageRecord>,
    /// By diff id. Those of removed images stay while a container's root filesystem needs them.
    pub(crate) layers: BTreeMap<Digest, LayerRecord>,
    pub(crate) references: BTreeMap<Reference, Digest>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ImageRecord {
    /// Diff ids, lowest first.
    pub(crate) layers: Vec<Digest>,
    /// The image whose container was committed.
    pub(crate) parent: Option<Digest>,
    /// RFC 3339.
    pub(crate) last_tagged: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    /// Bytes in its files, unpacked.
    pub(crate) size: u64,
    /// Whether the tar had an entry for `/` itself, and so says its mode and owner.
    pub(crate) has_root: bool,
    /// The tar as it came.
    pub(crate) blob: Digest,
    pub(crate) blob_size: u64,
    pub(crate) compression: Compression,
}

impl Catalog {
    /// The image that a user's word stands for: a name first, then an id or a prefix of one, as Docker looks.
    pub(crate) fn find(&self, word: &str) -> Result<Digest> {
        let parsed = AnyReference::parse(word);
        match &parsed {
            Ok(AnyReference::Id(id)) => {
                return match self.images.contains_key(id) {
                    true => Ok(*id),
                    false => Err(Error::NoSuchImage(word.to_owned())),
                };
            }
            Ok(AnyReference::Named(name)) => {
                if let Some(id) = self.references.get(&name.clone().or_latest().key()) {
                    return Ok(*id);
                }
            }
            Err(_) => {}
        }
        if let Some(id) = self.find_prefix(word)? {
            return Ok(id);
        }
        match parsed? {
            AnyReference::Named(name) => Err(Error::NoSuchImage(name.or_latest().familiar())),
            AnyReference::Id(_) => Err(Error::NoSuchImage(word.to_owned())),
        }
    }

    fn find_prefix(&self, word: &str) -> Result<Option<Digest>> {
        let prefix = word.strip_prefix("sha256:").unwrap_or(word);
        if prefix.is_empty()
            || prefix.len() > 64
            || !prefix.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        {
            return Ok(None);
        }
        let mut fits = self.images.keys().filter(|id| id.hex().starts_with(prefix));
        match (fits.next(), fits.next()) {
            (Some(_), Some(_)) => Err(Error::AmbiguousId(word.to_owned())),
            (only, _) => Ok(only.copied()),
        }
    }

    /// All names and digests of an image, sorted.
    pub(crate) fn references_to(&self, id: Digest) -> Vec<&Reference> {
        self.references.iter().filter(|(_, target)| **target == id).map(|(name, _)| name).collect()
    }

    /// Familiar names with tags.
    pub(crate) fn tags(&self, id: Digest) -> Vec<String> {
        let names = self.references_to(id).into_iter();
        names.filter(|name| !name.is_digested()).map(Reference::familiar).collect()
    }

    /// Familiar names with digests.
    pub(crate) fn digests(&self, id: Digest) -> Vec<String> {
        let names = self.references_to(id).into_iter();
        names.filter(|name| name.is_digested()).map(Reference::familiar).collect()
    }

    pub(crate) fn has_children(&self, id: Digest) -> bool {
        self.images.values().any(|image| image.parent == Some(id))
    }

    /// Names an image, taking the name from another; returns that one.
    pub(crate) fn tag(&mut self, name: &Reference, id: Digest, now: &str) -> Option<Digest> {
        if let Some(image) = self.images.get_mut(&id) {
            image.last_tagged = Some(now.to_owned());
        }
        self.references.insert(name.clone().or_latest().key(), id).filter(|before| *before != id)
    }

    /// Bytes of an image's layers, each once.
    pub(crate) fn size(&self, id: Digest) -> u64 {
        let layers = self.images.get(&id).map(|image| image.layers.as_slice()).unwrap_or_default();
        self.layers_size(layers.iter().copied().collect())
    }

    /// Bytes of the layers of all images.
    pub(crate) fn total_size(&self) -> u64 {
        self.layers_size(self.images.values().flat_map(|image| image.layers.iter().copied()).collect())
    }

    pub(crate) fn layers_size(&self, layers: BTreeSet<Digest>) -> u64 {
        layers.iter().filter_map(|id| self.layers.get(id)).map(|layer| layer.size).sum()
    }
}

/// The chain ids of a stack of layers, lowest first (OCI image spec, "Layer ChainID").
pub(crate) fn chain_ids(layers: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(layers.len());
    for layer in layers {
        chain.push(match chain.last() {
            None => *layer,
            Some(below) => Digest::of(format!("{below} {layer}").as_bytes()),
        });
    }
    chain
}
