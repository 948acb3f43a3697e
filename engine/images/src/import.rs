//! `docker import`: a root filesystem as a tar becomes an image of one layer.

use std::io::Read;

use jiff::Timestamp;

use crate::Digest;
use crate::catalog::{ImageRecord, LayerRecord};
use crate::change;
use crate::config::{ConfigFile, History, ImageConfig, RootFsSpec};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::layer::Staged;
use crate::options::ImportOptions;
use crate::progress::{Progress, ProgressItem};
use crate::reference::Reference;

impl Core {
    pub(crate) fn import(
        &self,
        source: impl Read,
        options: &ImportOptions,
        progress: &Progress,
    ) -> Result<Digest> {
        // All that the request says is checked before its body is read.
        let name = options.reference.as_deref().filter(|name| !name.is_empty());
        let name = name.map(Reference::parse).transpose()?;
        if name.as_ref().is_some_and(Reference::is_digested) {
            return Err(Error::InvalidReference("cannot import digest reference".to_owned()));
        }
        let platform = Platform::parse(options.platform.as_deref())?;
        let mut config = ImageConfig::default();
        change::apply(&mut config, &options.changes)?;
        let comment = match (options.message.as_str(), options.source.as_str()) {
            ("", "") => "Imported from -".to_owned(),
            ("", source) => format!("Imported from {source}"),
            (message, _) => message.to_owned(),
        };
        self.bring_in(|| {
            let workspace = self.workspace()?;
            let staged = Staged::from_reader(source, workspace.path().join("layer"))?;
            let (diff_id, layer) = self.add_layer(&staged, None, "layer", &Progress::none())?;
            let created = Some(Timestamp::now().to_string());
            let file = ConfigFile {
                architecture: platform.architecture,
                variant: platform.variant,
                os: platform.os,
                config,
                comment: comment.clone(),
                created: created.clone(),
                history: vec![History { created, comment, ..History::default() }],
                rootfs: RootFsSpec { kind: "layers".to_owned(), diff_ids: vec![diff_id] },
                ..ConfigFile::default()
            };
            let id = self.add_image(&file, None, vec![(diff_id, layer)], name.as_ref())?;
            progress.say(ProgressItem::status(id.to_string()));
            Ok(id)
        })
    }

    /// Stores a config made here and enters the image, its layers and its name in one commit.
    pub(crate) fn add_image(
        &self,
        file: &ConfigFile,
        parent: Option<Digest>,
        layers: Vec<(Digest, LayerRecord)>,
        name: Option<&Reference>,
    ) -> Result<Digest> {
        let bytes = serde_json::to_vec(file)
            .map_err(|source| Error::Corrupt { path: self.images.join("blobs"), source })?;
        let id = self.put_blob(&bytes)?;
        let diff_ids = file.rootfs.diff_ids.clone();
        self.commit(|catalog| {
            catalog.layers.extend(layers);
            catalog.images.entry(id).or_insert(ImageRecord { layers: diff_ids, parent, last_tagged: None });
            if let Some(name) = name {
                catalog.tag(name, id, &Timestamp::now().to_string());
            }
            Ok(id)
        })
    }
}

/// What an image runs on, in Go's words.
pub(crate) struct Platform {
    pub(crate) os: String,
    pub(crate) architecture: String,
    pub(crate) variant: String,
}

impl Platform {
    /// `os[/arch[/variant]]`; what is left out is the host's.
    pub(crate) fn parse(text: Option<&str>) -> Result<Self> {
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return Ok(Self::host());
        };
        let invalid = || Error::InvalidOption(format!("{text:?} is an invalid platform"));
        let mut parts = text.split('/');
        let word = |part: Option<&str>| match part {
            Some(part)
                if part.is_empty()
                    || !part.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c)) =>
            {
                Err(invalid())
            }
            part => Ok(part.map(str::to_ascii_lowercase)),
        };
        let os = word(parts.next())?.unwrap_or_default();
        let (architecture, variant) = (word(parts.next())?, word(parts.next())?);
        if parts.next().is_some() {
            return Err(invalid());
        }
        if os != "linux" {
            return Err(Error::InvalidOption(format!("operating system is not supported: {os}")));
        }
        let architecture = match architecture.as_deref() {
            None => Self::host().architecture,
            Some("x86_64" | "x86-64") => "amd64".to_owned(),
            Some("aarch64") => "arm64".to_owned(),
            Some(other) => other.to_owned(),
        };
        Ok(Self { os, architecture, variant: variant.unwrap_or_default() })
    }

    fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: String::new() }
    }
}
