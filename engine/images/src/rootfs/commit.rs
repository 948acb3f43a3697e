//! `docker commit`: the upper directory as a layer on top of the container's image.

use std::fs::File;
use std::io::BufWriter;

use jiff::Timestamp;

use crate::Digest;
use crate::change;
use crate::config::History;
use crate::core::{Core, MAX_LAYERS};
use crate::digest::Hashing;
use crate::error::{Error, Result};
use crate::layer::{Staged, Style, pack};
use crate::options::CommitOptions;
use crate::progress::Progress;
use crate::reference::Reference;

impl Core {
    pub(crate) fn commit_container(&self, container_id: &str, options: &CommitOptions) -> Result<Digest> {
        let name = options.reference.as_deref().filter(|name| !name.is_empty());
        let name = name.map(Reference::parse).transpose()?;
        if name.as_ref().is_some_and(Reference::is_digested) {
            return Err(Error::InvalidReference(
                "refusing to create a tag with a digest reference".to_owned(),
            ));
        }
        let mut config = options.config.clone();
        change::apply(&mut config, &options.changes)?;
        let dir = self.rootfs_dir(container_id)?;
        let record = self.record(container_id, &dir)?;
        if record.layers.len() >= MAX_LAYERS {
            return Err(Error::InvalidOption("max depth exceeded".to_owned()));
        }
        self.bring_in(|| {
            let workspace = self.workspace()?;
            let path = workspace.path().join("layer");
            let file = File::create_new(&path).map_err(Error::io("create", &path))?;
            let mut out = Hashing::new(BufWriter::new(file));
            let upper = dir.join("upper");
            pack(&upper, Style::Layer, &mut out).map_err(Error::io("pack", &upper))?;
            let (_, digest, size) = out.finish();
            let staged = Staged { path, digest, size };
            let (diff_id, layer) = self.add_layer(&staged, Some(digest), "layer", &Progress::none())?;
            let catalog = self.catalog();
            // The image may have been removed by force; its layers are here as long as the container is.
            let parent = Some(record.image).filter(|image| catalog.images.contains_key(image));
            let mut file = match parent {
                Some(parent) => self.config(parent)?,
                None => self.orphan(&record.layers)?,
            };
            let created = Some(Timestamp::now().to_string());
            file.rootfs.diff_ids.push(diff_id);
            file.history.push(History {
                created: created.clone(),
                created_by: options.created_by.clone(),
                author: options.author.clone(),
                comment: options.comment.clone(),
                empty_layer: false,
            });
            file.created = created;
            file.author = options.author.clone();
            file.comment = options.comment.clone();
            file.config = config;
            let mut layers = vec![(diff_id, layer)];
            layers.extend(
                record
                    .layers
                    .iter()
                    .filter_map(|id| catalog.layers.get(id).map(|layer| (*id, layer.clone()))),
            );
            self.add_image(&file, parent, layers, name.as_ref())
        })
    }

    /// A config for layers whose image is gone.
    fn orphan(&self, layers: &[Digest]) -> Result<crate::config::ConfigFile> {
        let platform = crate::import::Platform::parse(None)?;
        let history = layers.iter().map(|_| History::default()).collect();
        Ok(crate::config::ConfigFile {
            architecture: platform.architecture,
            os: platform.os,
            history,
            rootfs: crate::config::RootFsSpec { kind: "layers".to_owned(), diff_ids: layers.to_vec() },
            ..Default::default()
        })
    }
}
