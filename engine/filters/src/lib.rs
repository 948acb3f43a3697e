//! Docker's `filters` argument (Engine API 1.51), as lists, prunes and events take it.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod until;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use libnetwork_model::{ErrorKind, HasKind};
use regex::Regex;
use serde::Deserialize;

/// A filter that cannot be used. The words are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    #[error("invalid filter")]
    Syntax,
    #[error("invalid filter '{0}'")]
    Key(String),
    /// As Go prints a list of strings: `dangling=[x y]`.
    #[error("invalid filter '{key}=[{}]'", values.join(" "))]
    Value { key: String, values: Vec<String> },
    #[error("failed to parse value as time or duration: {0:?}")]
    Moment(String),
    #[error("more than one until filter specified")]
    SeveralUntil,
}

impl HasKind for FilterError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// Values by key. Several values of a key mean any of them, except where the key says that all must hold (labels).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, BTreeSet<String>>);

impl Filters {
    /// From the query's JSON text, in either of Docker's forms: `{"key": ["value"]}` and `{"key": {"value": true}}`, where
    /// false is as good as true.
    /// An empty text means no filter.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
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
            serde_json::from_str(text).map_err(|_| FilterError::Syntax)?;
        let values = |values| match values {
            Values::List(list) => list.into_iter().collect(),
            Values::Set(set) => set.into_keys().collect(),
        };
        Ok(Self(map.unwrap_or_default().into_iter().map(|(key, of)| (key, values(of))).collect()))
    }

    /// Refuses keys other than these.
    pub fn allow(&self, keys: &[&str]) -> Result<(), FilterError> {
        match self.0.keys().find(|key| !keys.contains(&key.as_str())) {
            Some(key) => Err(FilterError::Key(key.clone())),
            None => Ok(()),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a key narrows anything: one without values does not, as in Docker.
    pub fn contains(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(|values| !values.is_empty())
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

    /// A key that is absent, or one of whose values is this or, as a regular expression, is found in it. One that is no
    /// regular expression is found nowhere.
    pub fn matches(&self, key: &str, text: &str) -> bool {
        self.any(key, |wanted| {
            wanted == text || Regex::new(wanted).is_ok_and(|expression| expression.is_match(text))
        })
    }

    /// Whether these labels have all that `label` names (`name` or `name=value`), and not all that `label!` does.
    pub fn labels<'a>(&self, labels: impl Fn(&str) -> Option<&'a str>) -> bool {
        let all = |key: &str| {
            self.values(key).all(|wanted| match wanted.split_once('=') {
                Some((name, value)) => labels(name) == Some(value),
                None => labels(wanted).is_some(),
            })
        };
        all("label") && !(self.contains("label!") && all("label!"))
    }

    /// A key that is a yes or no; none when it is absent.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, FilterError> {
        let Some(values) = self.0.get(key) else { return Ok(None) };
        let has = |words: [&str; 2]| words.iter().any(|word| values.contains(*word));
        match (has(["1", "true"]), has(["0", "false"])) {
            (true, false) => Ok(Some(true)),
            (false, true) => Ok(Some(false)),
            _ => Err(self.refuse(key)),
        }
    }

    /// The moment that `until` names: a length of time before `now`, Unix seconds, or a date with or without its time
    /// and zone (then UTC).
    pub fn until(&self, now: Timestamp) -> Result<Option<Timestamp>, FilterError> {
        let mut values = self.values("until");
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(text), None) => {
                until::moment(text, now).map(Some).ok_or_else(|| FilterError::Moment(text.to_owned()))
            }
            _ => Err(FilterError::SeveralUntil),
        }
    }

    /// For a value that its reader cannot use.
    pub fn refuse(&self, key: &str) -> FilterError {
        FilterError::Value { key: key.to_owned(), values: self.values(key).map(str::to_owned).collect() }
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Filters {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut filters = Self::default();
        for (key, value) in pairs {
            filters.add(&key.into(), value);
        }
        filters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_mean_the_same() {
        let list = Filters::parse(r#"{"label":["a=b"],"name":["x","y"]}"#).unwrap();
        let set = Filters::parse(r#"{"label":{"a=b":true},"name":{"x":true,"y":false}}"#).unwrap();
        assert_eq!(list, set);
        assert!(Filters::parse("").unwrap().is_empty());
        assert!(Filters::parse("null").unwrap().is_empty());
        assert!(Filters::parse("[1]").is_err());
    }

    #[test]
    fn labels_must_all_hold() {
        let full = |name: &str| match name {
            "a" => Some("b"),
            "c" => Some(""),
            _ => None,
        };
        let only_a = |name: &str| (name == "a").then_some("b");
        let wanted = Filters::parse(r#"{"label":["a=b","c"]}"#).unwrap();
        assert!(wanted.labels(full) && !wanted.labels(only_a));
        let unwanted = Filters::parse(r#"{"label!":["a=b","c"]}"#).unwrap();
        assert!(!unwanted.labels(full) && unwanted.labels(only_a));
        assert!(Filters::default().labels(|_| None));
    }

    #[test]
    fn an_unknown_key_is_named() {
        let filters = Filters::parse(r#"{"foo":["x"]}"#).unwrap();
        assert_eq!(filters.allow(&["label"]).unwrap_err().to_string(), "invalid filter 'foo'");
    }

    #[test]
    fn a_key_without_values_narrows_nothing() {
        let filters = Filters::parse(r#"{"name":[],"driver":{}}"#).unwrap();
        assert!(filters.matches("name", "web") && filters.exact("driver", "bridge"));
        assert!(filters.allow(&["name"]).is_err());
    }

    #[test]
    fn a_flag_is_a_yes_or_a_no() {
        let flag = |text: &str| Filters::parse(text).unwrap().flag("dangling");
        assert_eq!(flag("{}"), Ok(None));
        assert_eq!(flag(r#"{"dangling":["1"]}"#), Ok(Some(true)));
        assert_eq!(flag(r#"{"dangling":["false","0"]}"#), Ok(Some(false)));
        for bad in [r#"{"dangling":[]}"#, r#"{"dangling":["1","0"]}"#] {
            assert!(flag(bad).is_err(), "{bad}");
        }
        let said = flag(r#"{"dangling":["x","y"]}"#).unwrap_err().to_string();
        assert_eq!(said, "invalid filter 'dangling=[x y]'");
    }

    #[test]
    fn names_are_regular_expressions() {
        let matches =
            |pattern: &str, text: &str| Filters::from_iter([("name", pattern)]).matches("name", text);
        for (pattern, text) in [
            ("front", "web-front"),
            ("^web-front$", "web-front"),
            ("^(db|web)-.*t$", "web-front"),
            ("a[", "a["),
        ] {
            assert!(matches(pattern, text), "{pattern}");
        }
        for pattern in ["^front", "web$", "a["] {
            assert!(!matches(pattern, "web-front"), "{pattern}");
        }
    }

    #[test]
    fn there_is_one_until() {
        let now = Timestamp::from_second(10_000).unwrap();
        let until =
            |values: &[&str]| values.iter().map(|value| ("until", *value)).collect::<Filters>().until(now);
        assert_eq!(until(&[]), Ok(None));
        assert_eq!(until(&["1h"]), Ok(Some(Timestamp::from_second(6_400).unwrap())));
        assert_eq!(until(&["1h", "2h"]), Err(FilterError::SeveralUntil));
        assert_eq!(
            until(&["soon"]).unwrap_err().to_string(),
            "failed to parse value as time or duration: \"soon\""
        );
    }
}
