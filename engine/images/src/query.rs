//! `docker images`, `inspect`, `history` and the images' part of `system df`.

use std::collections::{BTreeMap, BTreeSet};

use engine_filters::Filters;
use jiff::Timestamp;

use crate::Digest;
use crate::catalog::Catalog;
use crate::config::ConfigFile;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::glob::glob;
use crate::options::{ListOptions, ResolvedImage};
use crate::reference::Reference;
use crate::wire::{DiskUsage, GraphDriver, HistoryItem, ImageInspect, ImageSummary, Metadata, RootFs};

/// What Go prints for a time that was never set.
const ZERO_TIME: &str = "0001-01-01T00:00:00Z";
const LIST_FILTERS: [&str; 7] = ["reference", "dangling", "label", "label!", "before", "since", "until"];

impl Core {
    pub(crate) fn list(&self, options: &ListOptions) -> Result<Vec<ImageSummary>> {
        options.filters.allow(&LIST_FILTERS)?;
        let catalog = self.catalog();
        let bounds = self.bounds(&catalog, &options.filters)?;
        let dangling = options.filters.flag("dangling")?;
        let shared = if options.shared_size { Some(layers_in_several(&catalog)) } else { None };
        let mut list = Vec::new();
        for (id, image) in &catalog.images {
            let names = catalog.references_to(*id);
            if names.is_empty() && catalog.has_children(*id) && (!options.all || dangling == Some(true)) {
                continue;
            }
            if dangling.is_some_and(|wanted| wanted != names.is_empty()) {
                continue;
            }
            let names: Vec<&Reference> =
                names.into_iter().filter(|name| name_matches(&options.filters, name)).collect();
            if names.is_empty() && options.filters.contains("reference") {
                continue;
            }
            let config = match self.config(*id) {
                Err(Error::NoSuchImage(_)) => continue,
                config => config?,
            };
            if !bounds.admit(created(&config)) || !labelled(&options.filters, &config) {
                continue;
            }
            let (digests, tags): (Vec<&Reference>, Vec<&Reference>) =
                names.into_iter().partition(|name| name.is_digested());
            let shared_size = shared.as_ref().map(|shared| {
                let layers: BTreeSet<Digest> = image.layers.iter().copied().collect();
                catalog.layers_size(layers.intersection(shared).copied().collect())
            });
            list.push(ImageSummary {
                id: id.to_string(),
                parent_id: image.parent.map(|id| id.to_string()).unwrap_or_default(),
                repo_tags: tags.into_iter().map(Reference::familiar).collect(),
                repo_digests: digests.into_iter().map(Reference::familiar).collect(),
                created: created(&config).map_or(0, Timestamp::as_second),
                size: catalog.size(*id),
                shared_size: shared_size.map_or(-1, |size| i64::try_from(size).unwrap_or(i64::MAX)),
                labels: config.config.labels,
                containers: -1,
            });
        }
        list.sort_by(|a, b| (b.created, &a.repo_tags).cmp(&(a.created, &b.repo_tags)));
        Ok(list)
    }

    /// `before` and `since` name images, `until` a moment.
    fn bounds(&self, catalog: &Catalog, filters: &Filters) -> Result<Bounds> {
        let mut bounds = Bounds { after: None, before: filters.until(Timestamp::now())? };
        for word in filters.values("before") {
            let moment = created(&self.config(catalog.find(word)?)?);
            bounds.before = bounds.before.min(moment).or(bounds.before).or(moment);
        }
        for word in filters.values("since") {
            bounds.after = bounds.after.max(created(&self.config(catalog.find(word)?)?));
        }
        Ok(bounds)
    }

    pub(crate) fn resolve(&self, word: &str) -> Result<ResolvedImage> {
        let catalog = self.catalog();
        let id = catalog.find(word)?;
        Ok(ResolvedImage { id, config: self.config(id)?, names: catalog.tags(id) })
    }

    pub(crate) fn inspect(&self, word: &str) -> Result<ImageInspect> {
        let catalog = self.catalog();
        let id = catalog.find(word)?;
        let config = self.config(id)?;
        let record = catalog.images.get(&id).cloned().unwrap_or_default();
        let mut dirs =
            record.layers.iter().rev().map(|layer| self.layer_dir(*layer).to_string_lossy().into_owned());
        let mut data = BTreeMap::new();
        if let Some(top) = dirs.next() {
            let base = top.trim_end_matches("diff").to_owned();
            data.insert("MergedDir".to_owned(), format!("{base}merged"));
            data.insert("WorkDir".to_owned(), format!("{base}work"));
            data.insert("UpperDir".to_owned(), top);
        }
        let lower: Vec<String> = dirs.collect();
        if !lower.is_empty() {
            data.insert("LowerDir".to_owned(), lower.join(":"));
        }
        Ok(ImageInspect {
            id: id.to_string(),
            repo_tags: catalog.tags(id),
            repo_digests: catalog.digests(id),
            parent: record.parent.map(|id| id.to_string()).unwrap_or_default(),
            comment: comment(&config),
            created: config.created,
            docker_version: config.docker_version,
            author: config.author,
            config: config.config,
            architecture: config.architecture,
            variant: config.variant,
            os: config.os,
            os_version: config.os_version,
            size: catalog.size(id),
            graph_driver: GraphDriver { data, name: "overlay2".to_owned() },
            root_fs: RootFs {
                kind: "layers".to_owned(),
                layers: record.layers.iter().map(Digest::to_string).collect(),
            },
            metadata: Metadata { last_tag_time: record.last_tagged.unwrap_or_else(|| ZERO_TIME.to_owned()) },
        })
    }

    pub(crate) fn history(&self, word: &str) -> Result<Vec<HistoryItem>> {
        let catalog = self.catalog();
        let id = catalog.find(word)?;
        let config = self.config(id)?;
        let mut layers = config.rootfs.diff_ids.iter();
        let mut items: Vec<HistoryItem> = (config.history.into_iter())
            .map(|step| {
                let layer = if step.empty_layer { None } else { layers.next() };
                HistoryItem {
                    id: "<missing>".to_owned(),
                    created: parse(step.created.as_deref()).map_or(0, Timestamp::as_second),
                    created_by: step.created_by,
                    tags: None,
                    size: layer.and_then(|layer| catalog.layers.get(layer)).map_or(0, |layer| layer.size),
                    comment: step.comment,
                }
            })
            .collect();
        items.reverse();
        // Steps whose image is still here carry its id and names.
        let mut image = Some(id);
        for item in &mut items {
            let Some(id) = image else { break };
            item.id = id.to_string();
            item.tags = Some(catalog.tags(id)).filter(|tags| !tags.is_empty());
            image = catalog.images.get(&id).and_then(|record| record.parent);
        }
        Ok(items)
    }

    pub(crate) fn disk_usage(&self) -> Result<DiskUsage> {
        let images = self.list(&ListOptions { all: true, shared_size: true, ..ListOptions::default() })?;
        Ok(DiskUsage { layers_size: self.catalog().total_size(), images })
    }
}

struct Bounds {
    after: Option<Timestamp>,
    before: Option<Timestamp>,
}

impl Bounds {
    fn admit(&self, created: Option<Timestamp>) -> bool {
        let created = created.unwrap_or(Timestamp::UNIX_EPOCH);
        self.after.is_none_or(|after| created > after) && self.before.is_none_or(|before| created < before)
    }
}

pub(crate) fn labelled(filters: &Filters, config: &ConfigFile) -> bool {
    let labels = config.config.labels.as_ref();
    filters.labels(|name| labels.and_then(|labels| labels.get(name)).map(String::as_str))
}

/// When an image was made, if its config says so intelligibly.
pub(crate) fn created(config: &ConfigFile) -> Option<Timestamp> {
    parse(config.created.as_deref())
}

fn parse(text: Option<&str>) -> Option<Timestamp> {
    text?.parse().ok()
}

/// Docker falls back on the last step's comment.
fn comment(config: &ConfigFile) -> String {
    match config.history.last() {
        Some(step) if config.comment.is_empty() => step.comment.clone(),
        _ => config.comment.clone(),
    }
}

fn name_matches(filters: &Filters, name: &Reference) -> bool {
    filters
        .any("reference", |pattern| glob(pattern, &name.familiar()) || glob(pattern, &name.familiar_name()))
}

fn layers_in_several(catalog: &Catalog) -> BTreeSet<Digest> {
    let mut count: BTreeMap<Digest, usize> = BTreeMap::new();
    for image in catalog.images.values() {
        for layer in image.layers.iter().collect::<BTreeSet<_>>() {
            *count.entry(*layer).or_default() += 1;
        }
    }
    count.into_iter().filter(|(_, n)| *n > 1).map(|(layer, _)| layer).collect()
}
