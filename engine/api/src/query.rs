//! Query parameters, read the way Docker reads them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{FromRequestParts, Query};
use engine_filters::Filters;
use http::request::Parts;

use crate::ApiError;

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
        text.parse().map(Some).map_err(|_| {
            ApiError::invalid(format!("invalid value for {name}: {text:?} is not a number in range"))
        })
    }

    /// The `filters` parameter; keys that are not in `accepted` are refused by name.
    pub(crate) fn filters(&self, accepted: &[&str]) -> Result<Filters, ApiError> {
        let filters = self.any_filters()?;
        filters.allow(accepted)?;
        Ok(filters)
    }

    /// [`Params::filters`] whose keys the crate below checks.
    pub(crate) fn any_filters(&self) -> Result<Filters, ApiError> {
        Ok(Filters::parse(self.text("filters"))?)
    }

    /// Unix seconds with an optional fraction, or none where it is missing or empty.
    pub(crate) fn time(&self, name: &str) -> Result<Option<SystemTime>, ApiError> {
        let text = self.text(name);
        if text.is_empty() {
            return Ok(None);
        }
        parse_time(text).map(Some).ok_or_else(|| {
            ApiError::invalid(format!(
                "invalid value for {name}: {text:?} is not a time in seconds since 1970"
            ))
        })
    }
}

fn parse_time(text: &str) -> Option<SystemTime> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos = format!("{fraction:0<9}").parse().ok()?;
    let seconds: i64 = seconds.parse().ok()?;
    // Before 1970 is "from the beginning" as well.
    let since = Duration::new(u64::try_from(seconds).unwrap_or(0), nanos);
    UNIX_EPOCH.checked_add(since)
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
        for (text, expected) in [
            ("", false),
            ("0", false),
            ("no", false),
            ("False", false),
            ("none", false),
            ("1", true),
            ("yes", true),
        ] {
            assert_eq!(params(&format!("a={text}")).flag("a"), expected, "{text:?}");
        }
        assert!(!params("").flag("a"));
        assert!(params("").flag_or("a", true));
        assert!(!params("a=0").flag_or("a", true));
    }

    #[test]
    fn an_unknown_filter_is_named_and_no_json_is_refused() {
        let bogus = params("filters=%7B%22bogus%22%3A%5B%22a%22%5D%7D");
        assert_eq!(bogus.filters(&["name"]).unwrap_err().message, "invalid filter 'bogus'");
        assert_eq!(params("filters=zz").any_filters().unwrap_err().message, "invalid filter");
    }

    #[test]
    fn times_have_nine_decimals() {
        let at = |text: &str| params(&format!("t={text}")).time("t").map(|t| t.map(since_epoch));
        assert_eq!(at("1.5").unwrap(), Some(Duration::new(1, 500_000_000)));
        assert_eq!(at("1795290419.000000042").unwrap(), Some(Duration::new(1_795_290_419, 42)));
        assert_eq!(at("").unwrap(), None);
        assert_eq!(at("-5").unwrap(), Some(Duration::ZERO));
        assert!(at("x").unwrap_err().message.contains("invalid value for t"));
    }

    fn since_epoch(time: SystemTime) -> Duration {
        time.duration_since(UNIX_EPOCH).unwrap()
    }

    #[test]
    fn a_number_that_is_none_is_named() {
        assert_eq!(params("h=24").number::<u16>("h").unwrap(), Some(24));
        assert_eq!(params("").number::<u16>("h").unwrap(), None);
        assert!(params("h=x").number::<u16>("h").unwrap_err().message.contains('h'));
    }
}
