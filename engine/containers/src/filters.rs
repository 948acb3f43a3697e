//! Docker's `filters` argument.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::{Error, Result};

/// Values by key. Several values of a key mean any of them, except where the key says that all must hold (labels).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, BTreeSet<String>>);

impl Filters {
    /// From the query's JSON text, in either of Docker's forms: `{"key": ["value"]}` and `{"key": {"value": true}}`.
    /// An empty text means no filter.
    pub fn parse(text: &str) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Values {
            List(Vec<String>),
            Set(BTreeMap<String, bool>),
        }
        if text.is_empty() {
            return Ok(Self::default());
        }
        let map: Option<BTreeMap<String, Values>> =
            serde_json::from_str(text).map_err(|_| Error::invalid("invalid filter"))?;
        Ok(Self(
            map.unwrap_or_default()
                .into_iter()
                .map(|(key, values)| {
                    let values = match values {
                        Values::List(list) => list.into_iter().collect(),
                        Values::Set(set) => set.into_iter().filter(|(_, on)| *on).map(|(v, _)| v).collect(),
                    };
                    (key, values)
                })
                .collect(),
        ))
    }

    /// Refuses keys other than these: `invalid filter 'key'`.
    pub fn allow(&self, keys: &[&str]) -> Result<()> {
        match self.0.keys().find(|key| !keys.contains(&key.as_str())) {
            Some(key) => Err(Error::Invalid(format!("invalid filter '{key}'"))),
            None => Ok(()),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn contains(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    pub fn add(&mut self, key: &str, value: impl Into<String>) {
        self.0.entry(key.to_owned()).or_default().insert(value.into());
    }

    /// The values of a key, sorted; none when the key is absent.
    pub fn values(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.get(key).into_iter().flatten().map(String::as_str)
    }

    /// A key that is absent, or one of whose values is this exactly.
    pub fn exact(&self, key: &str, value: &str) -> bool {
        self.any(key, |wanted| wanted == value)
    }

    /// A key that is absent, or one of whose values passes.
    pub fn any(&self, key: &str, passes: impl FnMut(&str) -> bool) -> bool {
        !self.contains(key) || self.values(key).any(passes)
    }

    /// A key whose values, `name` or `name=value`, all hold for these labels.
    pub fn labels<'a>(&self, key: &str, labels: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.values(key).all(|wanted| match wanted.split_once('=') {
            Some((name, value)) => labels(name) == Some(value),
            None => labels(wanted).is_some(),
        })
    }

    /// A key that is a yes or no; `default` when absent.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        let mut result = None;
        for value in self.values(key) {
            let parsed = match value {
                "1" | "true" | "True" | "TRUE" | "t" | "T" => true,
                "0" | "false" | "False" | "FALSE" | "f" | "F" => false,
                other => return Err(Error::Invalid(format!("invalid filter '{key}={other}'"))),
            };
            if result.is_some_and(|r| r != parsed) {
                return Err(Error::Invalid(format!("invalid filter '{key}'")));
            }
            result = Some(parsed);
        }
        Ok(result.unwrap_or(default))
    }

    /// For the image and volume stores, which take plain maps.
    pub fn to_map(&self) -> BTreeMap<String, Vec<String>> {
        self.0.iter().map(|(key, values)| (key.clone(), values.iter().cloned().collect())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_mean_the_same() {
        let list = Filters::parse(r#"{"label":["a=b"],"name":["x","y"]}"#).unwrap();
        let set = Filters::parse(r#"{"label":{"a=b":true},"name":{"x":true,"y":true,"z":false}}"#).unwrap();
        assert_eq!(list, set);
        assert!(Filters::parse("").unwrap().is_empty());
        assert!(Filters::parse("null").unwrap().is_empty());
        assert!(Filters::parse("[1]").is_err());
    }

    #[test]
    fn labels_must_all_hold() {
        let filters = Filters::parse(r#"{"label":["a=b","c"]}"#).unwrap();
        let full = |name: &str| match name {
            "a" => Some("b"),
            "c" => Some(""),
            _ => None,
        };
        assert!(filters.labels("label", full));
        assert!(!filters.labels("label", |name| (name == "a").then_some("b")));
    }

    #[test]
    fn an_unknown_key_is_named() {
        let filters = Filters::parse(r#"{"foo":["x"]}"#).unwrap();
        assert_eq!(filters.allow(&["label"]).unwrap_err().to_string(), "invalid filter 'foo'");
    }
}
