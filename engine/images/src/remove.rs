//! `docker tag`, `docker rmi` and `docker image prune`: Docker's rules for what may go, on the catalog alone.

use std::collections::BTreeSet;

use engine_filters::Filters;
use jiff::Timestamp;

use crate::Digest;
use crate::catalog::{Catalog, chain_ids};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::options::{ImageUse, RemoveOptions};
use crate::query::{created, labelled};
use crate::reference::{AnyReference, Reference};
use crate::wire::{PruneReport, RemovedItem};

impl Core {
    pub(crate) fn tag(&self, source: &str, repo: &str, tag: &str) -> Result<(Digest, String)> {
        let mut name = Reference::parse(repo)?;
        if name.is_digested() {
            return Err(Error::InvalidReference(
                "refusing to create a tag with a digest reference".to_owned(),
            ));
        }
        if !tag.is_empty() {
            name = name.with_tag(tag)?;
        }
        let name = name.or_latest();
        self.commit(|catalog| {
            let id = catalog.find(source)?;
            catalog.tag(&name, id, &Timestamp::now().to_string());
            Ok((id, name.familiar()))
        })
    }

    pub(crate) fn remove(
        &self,
        word: &str,
        options: RemoveOptions,
        in_use: &[ImageUse],
    ) -> Result<Vec<RemovedItem>> {
        let removed = self.commit(|catalog| remove(catalog, word, options, in_use))?;
        self.collect_or_log();
        Ok(removed)
    }

    pub(crate) fn prune(&self, filters: &Filters, in_use: &[ImageUse]) -> Result<PruneReport> {
        filters.allow(&["dangling", "until", "label", "label!"])?;
        let only_dangling = filters.flag("dangling")?.unwrap_or(true);
        let until = filters.until(Timestamp::now())?;
        let mut admitted = Vec::new();
        for id in self.catalog().images.keys() {
            let config = match self.config(*id) {
                Err(Error::NoSuchImage(_)) => continue,
                config => config?,
            };
            let moment = created(&config).unwrap_or(Timestamp::UNIX_EPOCH);
            if until.is_none_or(|until| moment < until) && labelled(filters, &config) {
                admitted.push(*id);
            }
        }
        let report = self.commit(|catalog| {
            let before = catalog.total_size();
            let mut removed = Vec::new();
            for id in admitted {
                let named = !catalog.references_to(id).is_empty();
                let used = in_use.iter().any(|container| container.image == id);
                if (only_dangling && named)
                    || used
                    || !catalog.images.contains_key(&id)
                    || catalog.has_children(id)
                {
                    continue;
                }
                untag_all(catalog, id, &mut removed);
                delete(
                    catalog,
                    id,
                    Deletion { force: false, prune: true, quiet: true },
                    in_use,
                    &mut removed,
                )?;
            }
            let space_reclaimed = before - catalog.total_size();
            Ok(PruneReport { images_deleted: Some(removed).filter(|r| !r.is_empty()), space_reclaimed })
        })?;
        self.collect_or_log();
        Ok(report)
    }
}

fn remove(
    catalog: &mut Catalog,
    word: &str,
    options: RemoveOptions,
    in_use: &[ImageUse],
) -> Result<Vec<RemovedItem>> {
    let id = catalog.find(word)?;
    let mut removed = Vec::new();
    let mut quiet = false;
    // A name wins over an id that begins alike, as in `find`.
    let name = match AnyReference::parse(word) {
        Ok(AnyReference::Named(name)) => Some(name.or_latest().key()),
        _ => None,
    };
    if let Some(name) = name.filter(|name| catalog.references.contains_key(name)) {
        if !options.force
            && is_single_reference(&catalog.references_to(id))
            && let Some(container) = in_use.iter().find(|container| container.image == id)
        {
            return Err(Error::Conflict(format!(
                "conflict: unable to remove repository reference {word:?} (must force) - container {} is using its \
                 referenced image {}",
                short(&container.container_id),
                id.short()
            )));
        }
        untag(catalog, &name, &mut removed);
        // A repository's digests go with its last tag.
        let left: Vec<Reference> = catalog.references_to(id).into_iter().cloned().collect();
        let same: Vec<&Reference> = left.iter().filter(|left| left.name() == name.name()).collect();
        if !name.is_digested() && same.iter().all(|left| left.is_digested()) {
            same.into_iter().for_each(|digest| untag(catalog, digest, &mut removed));
        }
        if !catalog.references_to(id).is_empty() {
            return Ok(removed);
        }
        quiet = true;
    } else if is_single_reference(&catalog.references_to(id)) {
        // An id takes all names with it when they are names in one repository.
        if let Some(conflict) =
            conflict(catalog, id, Checks { names: false, stopped: !options.force }, in_use)
        {
            return Err(conflict.error(id));
        }
        untag_all(catalog, id, &mut removed);
    }
    delete(
        catalog,
        id,
        Deletion { force: options.force, prune: !options.no_prune, quiet },
        in_use,
        &mut removed,
    )?;
    Ok(removed)
}

#[derive(Clone, Copy)]
struct Deletion {
    force: bool,
    /// Untagged parents go too.
    prune: bool,
    /// A name was removed already, which is success: what keeps the image itself is no error then.
    quiet: bool,
}

fn delete(
    catalog: &mut Catalog,
    id: Digest,
    how: Deletion,
    in_use: &[ImageUse],
    removed: &mut Vec<RemovedItem>,
) -> Result<()> {
    if let Some(conflict) = conflict(catalog, id, Checks { names: !how.force, stopped: !how.force }, in_use) {
        let dangling = catalog.references_to(id).is_empty() && !catalog.has_children(id);
        if how.quiet && (!dangling || conflict.used) {
            return Ok(());
        }
        return Err(conflict.error(id));
    }
    untag_all(catalog, id, removed);
    let Some(record) = catalog.images.remove(&id) else {
        return Ok(());
    };
    removed.push(RemovedItem::Deleted(id.to_string()));
    let kept: BTreeSet<Digest> = catalog.images.values().flat_map(|image| chain_ids(&image.layers)).collect();
    let gone = chain_ids(&record.layers).into_iter().rev().filter(|chain| !kept.contains(chain));
    removed.extend(gone.map(|chain| RemovedItem::Deleted(chain.to_string())));
    match record.parent.filter(|parent| how.prune && catalog.images.contains_key(parent)) {
        Some(parent) => {
            let how = Deletion { force: false, prune: true, quiet: true };
            delete(catalog, parent, how, in_use, removed)
        }
        None => Ok(()),
    }
}

/// Which reasons that `force` overrules are to be looked for.
#[derive(Clone, Copy)]
struct Checks {
    names: bool,
    stopped: bool,
}

struct Conflict {
    hard: bool,
    used: bool,
    reason: String,
}

impl Conflict {
    fn error(&self, id: Digest) -> Error {
        let force = if self.hard { "cannot be forced" } else { "must be forced" };
        Error::Conflict(format!("conflict: unable to delete {} ({force}) - {}", id.short(), self.reason))
    }
}

fn conflict(catalog: &Catalog, id: Digest, checks: Checks, in_use: &[ImageUse]) -> Option<Conflict> {
    if catalog.has_children(id) {
        return Some(Conflict {
            hard: true,
            used: false,
            reason: "image has dependent child images".to_owned(),
        });
    }
    let user =
        |running| in_use.iter().find(|container| container.image == id && container.running == running);
    if let Some(container) = user(true) {
        let reason = format!("image is being used by running container {}", short(&container.container_id));
        return Some(Conflict { hard: true, used: true, reason });
    }
    if checks.names && !catalog.references_to(id).is_empty() {
        let reason = "image is referenced in multiple repositories".to_owned();
        return Some(Conflict { hard: false, used: false, reason });
    }
    if checks.stopped
        && let Some(container) = user(false)
    {
        let reason = format!("image is being used by stopped container {}", short(&container.container_id));
        return Some(Conflict { hard: false, used: true, reason });
    }
    None
}

fn untag(catalog: &mut Catalog, name: &Reference, removed: &mut Vec<RemovedItem>) {
    if catalog.references.remove(name).is_some() {
        removed.push(RemovedItem::Untagged(name.familiar()));
    }
}

fn untag_all(catalog: &mut Catalog, id: Digest, removed: &mut Vec<RemovedItem>) {
    let names: Vec<Reference> = catalog.references_to(id).into_iter().cloned().collect();
    names.iter().for_each(|name| untag(catalog, name, removed));
}

/// At most one tag, and no digest of another repository.
fn is_single_reference(names: &[&Reference]) -> bool {
    let repositories: BTreeSet<String> = names.iter().map(|name| name.name()).collect();
    repositories.len() <= 1 && names.iter().filter(|name| !name.is_digested()).count() <= 1
}

fn short(container_id: &str) -> &str {
    container_id.get(..12).unwrap_or(container_id)
}
