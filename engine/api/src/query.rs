//! Query parameters, read the way Docker reads them.

use std::collections::BTreeMap;

use axum::extract::{FromRequestParts, Query};
use http::request::Parts;
use serde_json::Value;

use crate::ApiError;

/// Values by filter key.
pub(crate) type Filters = BTreeMap<String, Vec<String>>;

/// The query's parameters in their order.
#[derive(Debug, Default)]
pub(crate) struct Params(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map(|Query(pairs)| Self(pairs))
            .map_err(|error| ApiError::invalid(format!("invalid query: {error}")))
    }
}

impl Params {
    /// The first value of a parameter, or "".
    pub(crate) fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }

    /// All values of a parameter.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    }

    /// Docker's `BoolValue`: everything is true but "", 0, no, false and none.
    pub(crate) fn flag(&self, name: &str) -> bool {
        let value = self.text(name).trim().to_ascii_lowercase();
        !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// A flag that has a default for when the parameter is missing.
    pub(crate) fn flag_or(&self, name: &str, default: bool) -> bool {
        if self.has(name) { self.flag(name) } else { default }
    }

    /// A whole number, or none where it is missing or empty.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let text = self.text(name);
        if text.is_empty() {
            return Ok(None);
        }
        text.parse()
            .map(Some)
            .map_err(|_| ApiError::invalid(format!("invalid value for {name}: {text:?} is not a number in range")))
    }

    /// The `filters` parameter, in today's form (`{"label":["a"]}`) or the old one (`{"label":{"a":true}}`). Keys that
    /// are not in `accepted` are refused by name.
    pub(crate) fn filters(&self, accepted: &[&str]) -> Result<Filters, ApiError> {
        let filters = self.any_filters()?;
        match filters.keys().find(|key| !accepted.contains(&key.as_str())) {
            Some(key) => Err(ApiError::invalid(format!("invalid filter '{key}'"))),
            None => Ok(filters),
        }
    }

    /// [`Params::filters`] whose keys the crate below checks.
    pub(crate) fn any_filters(&self) -> Result<Filters, ApiError> {
        let text = self.text("filters");
        if text.is_empty() {
            return Ok(Filters::new());
        }
        serde_json::from_str(text)
            .ok()
            .and_then(|value: Value| match value {
                Value::Null => Some(Filters::new()),
                Value::Object(keys) => keys.into_iter().map(|(key, v)| Some((key, values(v)?))).collect(),
                _ => None,
            })
            .ok_or_else(|| ApiError::invalid("invalid filter"))
    }
}

fn values(value: Value) -> Option<Vec<String>> {
    match value {
        Value::Array(items) => items
            .into_iter()
            .map(|item| match item {
                Value::String(text) => Some(text),
                _ => None,
            })
            .collect(),
        Value::Object(set) => set
            .into_iter()
            .map(|(text, on)| on.as_bool().map(|on| (text, on)))
            .filter(|pair| !matches!(pair, Some((_, false))))
            .map(|pair| pair.map(|(text, _)| text))
            .collect(),
        Value::Null => Some(Vec::new()),
        _ => None,
    }
}

/// The one boolean that a filter such as `dangling` has, or none where it was not given.
pub(crate) fn filter_flag(filters: &Filters, key: &str) -> Result<Option<bool>, ApiError> {
    let Some(values) = filters.get(key).filter(|values| !values.is_empty()) else { return Ok(None) };
    let all = |accepted: [&str; 2]| values.iter().all(|value| accepted.contains(&value.as_str()));
    if all(["1", "true"]) {
        Ok(Some(true))
    } else if all(["0", "false"]) {
        Ok(Some(false))
    } else {
        Err(ApiError::invalid(format!(
            "invalid value for filter '{key}', must be \"true\" (or \"1\"), or \"false\" (or \"0\")"
        )))
    }
}

/// Whether labels satisfy the filters `label` (every `key` or `key=value` holds) and `label!` (none of them does).
pub(crate) fn labels_match<'a>(filters: &Filters, get: impl Fn(&str) -> Option<&'a str>) -> bool {
    let holds = |wanted: &String| match wanted.split_once('=') {
        Some((key, value)) => get(key) == Some(value),
        None => get(wanted).is_some(),
    };
    let wanted = |key| filters.get(key).into_iter().flatten();
    wanted("label").all(holds) && !wanted("label!").any(holds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Params {
        let uri = format!("/x?{query}").parse().unwrap();
        let Query(pairs) = Query::try_from_uri(&uri).unwrap();
        Params(pairs)
    }

    #[test]
    fn flags_are_dockers() {
        for (text, expected) in
            [("", false), ("0", false), ("no", false), ("False", false), ("none", false), ("1", true), ("yes", true)]
        {
            assert_eq!(params(&format!("a={text}")).flag("a"), expected, "{text:?}");
        }
        assert!(!params("").flag("a"));
        assert!(params("").flag_or("a", true));
        assert!(!params("a=0").flag_or("a", true));
    }

    #[test]
    fn both_forms_of_filters_are_read() {
        let list = params("filters=%7B%22name%22%3A%5B%22a%22%5D%7D").any_filters().unwrap();
        let map = params("filters=%7B%22name%22%3A%7B%22a%22%3Atrue%2C%22b%22%3Afalse%7D%7D").any_filters().unwrap();
        assert_eq!(list, Filters::from([("name".to_owned(), vec!["a".to_owned()])]));
        assert_eq!(list, map);
    }

    #[test]
    fn an_unknown_filter_is_named_and_no_json_is_refused() {
        let bogus = params("filters=%7B%22bogus%22%3A%5B%22a%22%5D%7D");
        assert_eq!(bogus.filters(&["name"]).unwrap_err().message, "invalid filter 'bogus'");
        assert_eq!(params("filters=zz").any_filters().unwrap_err().message, "invalid filter");
        assert_eq!(params("filters=%5B1%5D").any_filters().unwrap_err().message, "invalid filter");
    }

    #[test]
    fn a_number_that_is_none_is_named() {
        assert_eq!(params("h=24").number::<u16>("h").unwrap(), Some(24));
        assert_eq!(params("").number::<u16>("h").unwrap(), None);
        assert!(params("h=x").number::<u16>("h").unwrap_err().message.contains('h'));
    }

    #[test]
    fn labels_all_hold_and_excluded_ones_do_not() {
        let get = |key: &str| (key == "a").then_some("1");
        let filters = |key: &str, value: &str| Filters::from([(key.to_owned(), vec![value.to_owned()])]);
        assert!(labels_match(&filters("label", "a"), get));
        assert!(labels_match(&filters("label", "a=1"), get));
        assert!(!labels_match(&filters("label", "a=2"), get));
        assert!(!labels_match(&filters("label!", "a"), get));
        assert!(labels_match(&filters("label!", "b"), get));
    }
}
