//! `docker network ls --filter`.

use std::time::Duration;

use engine_containers::Filters;
use jiff::Timestamp;
use libnetwork_rpc::v1::Network;

use crate::ApiError;

/// The keys that `ls` knows.
pub(super) const KEYS: &[&str] = &["dangling", "driver", "id", "label", "label!", "name", "scope", "type"];

/// Which networks are wanted; checked, so that matching cannot fail.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    filters: &'a Filters,
    dangling: Option<bool>,
}

impl<'a> Wanted<'a> {
    pub(super) fn new(filters: &'a Filters) -> Result<Self, ApiError> {
        if let Some(other) = filters.values("type").find(|kind| !matches!(*kind, "builtin" | "custom")) {
            return Err(ApiError::invalid(format!("invalid filter: 'type'='{other}'")));
        }
        let mut dangling = None;
        for value in filters.values("dangling") {
            dangling = match value {
                "true" | "1" => Some(true),
                "false" | "0" => Some(false),
                _ => {
                    return Err(ApiError::invalid(
                        "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\")",
                    ));
                }
            };
        }
        Ok(Self { filters, dangling })
    }

    pub(super) fn matches(&self, network: &Network) -> bool {
        let filters = self.filters;
        let label = |key: &str| network.labels.get(key).map(String::as_str);
        let kind = if network.predefined { "builtin" } else { "custom" };
        let unused = !network.predefined && network.endpoints.is_empty();
        filters.exact("driver", &network.driver)
            && filters.exact("scope", "local")
            && filters.exact("type", kind)
            && filters.any("id", |pattern| found(pattern, &network.id))
            && filters.any("name", |pattern| found(pattern, &network.name))
            && filters.labels("label", label)
            && !(filters.contains("label!") && filters.labels("label!", label))
            && self.dangling.is_none_or(|dangling| dangling == unused)
    }
}

/// Docker takes names and ids for regular expressions; of those, people use `^` and `$`.
fn found(pattern: &str, text: &str) -> bool {
    let (start, pattern) = match pattern.strip_prefix('^') {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    let (end, pattern) = match pattern.strip_suffix('$') {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    match (start, end) {
        (true, true) => text == pattern,
        (true, false) => text.starts_with(pattern),
        (false, true) => text.ends_with(pattern),
        (false, false) => text.contains(pattern),
    }
}

/// The moment that the filter `until` names (since 1970): a Unix time, RFC 3339, or an age such as `10m` or `24h`.
pub(super) fn until(filters: &Filters, now: Duration) -> Result<Option<Duration>, ApiError> {
    let mut values = filters.values("until");
    let Some(text) = values.next() else { return Ok(None) };
    let refuse = || ApiError::invalid(format!("invalid filter 'until={text}'"));
    if values.next().is_some() {
        return Err(ApiError::invalid("more than one until filter specified"));
    }
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map(Some).map_err(|_| refuse());
    }
    if let Some(age) = age(text) {
        return Ok(Some(now.saturating_sub(age)));
    }
    let moment: Timestamp = text.parse().map_err(|_| refuse())?;
    u64::try_from(moment.as_millisecond()).map(|ms| Some(Duration::from_millis(ms))).map_err(|_| refuse())
}

/// Go's durations: `1h30m`, `90s`, `1.5h`.
fn age(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        total += number
            * match &rest[..unit] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    Duration::try_from_secs_f64(total).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        Network {
            id: "ab12".repeat(16),
            name: "web-front".into(),
            driver: "bridge".into(),
            labels: [("env".to_owned(), "prod".to_owned())].into(),
            ..Default::default()
        }
    }

    fn matches(filters: &str) -> bool {
        let filters = Filters::parse(filters).unwrap();
        Wanted::new(&filters).unwrap().matches(&network())
    }

    #[test]
    fn every_key_selects() {
        for yes in [
            r#"{}"#,
            r#"{"name":["front"]}"#,
            r#"{"name":["^web-front$"]}"#,
            r#"{"id":["ab12"]}"#,
            r#"{"driver":["bridge","host"]}"#,
            r#"{"scope":["local"]}"#,
            r#"{"type":["custom"]}"#,
            r#"{"label":["env=prod"]}"#,
            r#"{"dangling":["true"]}"#,
        ] {
            assert!(matches(yes), "{yes}");
        }
        for no in [
            r#"{"name":["^front"]}"#,
            r#"{"id":["^b12"]}"#,
            r#"{"driver":["host"]}"#,
            r#"{"scope":["swarm"]}"#,
            r#"{"type":["builtin"]}"#,
            r#"{"label":["env=test"]}"#,
            r#"{"label!":["env"]}"#,
            r#"{"dangling":["0"]}"#,
        ] {
            assert!(!matches(no), "{no}");
        }
    }

    #[test]
    fn bad_values_are_refused() {
        for text in [r#"{"type":["x"]}"#, r#"{"dangling":["x"]}"#] {
            assert!(Wanted::new(&Filters::parse(text).unwrap()).is_err(), "{text}");
        }
    }

    #[test]
    fn until_takes_times_and_ages() {
        let now = Duration::from_secs(10_000);
        let at = |text: &str| until(&Filters::parse(&format!(r#"{{"until":["{text}"]}}"#)).unwrap(), now);
        assert_eq!(at("500").unwrap(), Some(Duration::from_secs(500)));
        assert_eq!(at("1h30m").unwrap(), Some(Duration::from_secs(4_600)));
        assert_eq!(at("1970-01-01T00:10:00Z").unwrap(), Some(Duration::from_secs(600)));
        assert!(at("yesterday").is_err());
        assert_eq!(until(&Filters::default(), now).unwrap(), None);
    }
}
