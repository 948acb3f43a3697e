//! The filters of `docker volume ls` and `prune`.

use std::collections::BTreeMap;

use crate::Filters;
use crate::error::{Error, Result};

/// Refuses a key that is not among `known`.
pub(crate) fn check_keys(filters: &Filters, known: &[&str]) -> Result<()> {
    match filters.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(Error::InvalidFilter(key.clone())),
        None => Ok(()),
    }
}

fn values<'a>(filters: &'a Filters, key: &str) -> &'a [String] {
    filters.get(key).map(Vec::as_slice).unwrap_or_default()
}

/// Whether the filter is absent or one of its values fits.
pub(crate) fn any(filters: &Filters, key: &str, fits: impl Fn(&str) -> bool) -> bool {
    let values = values(filters, key);
    values.is_empty() || values.iter().any(|value| fits(value))
}

/// A yes-or-no filter; `None` when it is not given.
pub(crate) fn flag(filters: &Filters, key: &str) -> Result<Option<bool>> {
    let mut answer = None;
    for value in values(filters, key) {
        let value = match value.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
            "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
            _ => return Err(Error::InvalidFilter(format!("{key}={value}"))),
        };
        if answer.is_some_and(|before| before != value) {
            return Err(Error::InvalidFilter(format!("{key}={value}")));
        }
        answer = Some(value);
    }
    Ok(answer)
}

/// Whether `labels` satisfy every `label` and no `label!` filter. A filter is `key` or `key=value`.
pub(crate) fn labels_match(filters: &Filters, labels: Option<&BTreeMap<String, String>>) -> bool {
    let has = |wanted: &String| {
        let (key, value) = match wanted.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (wanted.as_str(), None),
        };
        let found = labels.and_then(|labels| labels.get(key));
        found.is_some_and(|found| value.is_none_or(|value| value == found))
    };
    values(filters, "label").iter().all(has) && !values(filters, "label!").iter().any(has)
}
