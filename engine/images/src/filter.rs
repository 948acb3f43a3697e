//! The filters of `docker images` and `docker image prune`.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp, civil};

use crate::error::{Error, Result};
use crate::options::Filters;

/// Refuses a key that is not among `known`.
pub(crate) fn check_keys(filters: &Filters, known: &[&str]) -> Result<()> {
    match filters.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(Error::InvalidFilter(key.clone())),
        None => Ok(()),
    }
}

/// The values of a key.
pub(crate) fn values<'a>(filters: &'a Filters, key: &str) -> &'a [String] {
    filters.get(key).map(Vec::as_slice).unwrap_or_default()
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
        labels
            .and_then(|labels| labels.get(key))
            .is_some_and(|found| value.is_none_or(|value| value == found))
    };
    values(filters, "label").iter().all(has) && !values(filters, "label!").iter().any(has)
}

/// The moment that `until` names: RFC 3339, a local-less date and time (taken as UTC), Unix seconds, or a Go duration
/// before `now`.
pub(crate) fn until(filters: &Filters, now: Timestamp) -> Result<Option<Timestamp>> {
    match values(filters, "until") {
        [] => Ok(None),
        [text] => {
            parse_moment(text, now).map(Some).ok_or_else(|| Error::InvalidFilter(format!("until={text}")))
        }
        _ => Err(Error::InvalidFilter("more than one until filter specified".to_owned())),
    }
}

fn parse_moment(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Some(moment);
    }
    if let Some(duration) = parse_go_duration(text) {
        return now.checked_sub(duration).ok();
    }
    if let Ok(seconds) = text.parse::<f64>() {
        return Timestamp::from_nanosecond((seconds * 1e9) as i128).ok();
    }
    let local = text
        .parse::<civil::DateTime>()
        .or_else(|_| text.parse::<civil::Date>().map(|date| date.to_datetime(civil::Time::midnight())));
    let offset = jiff::tz::Offset::UTC;
    local.ok().and_then(|local| offset.to_timestamp(local).ok())
}

/// `1h30m`, `10s`, `1.5h`, `300ms`.
fn parse_go_duration(text: &str) -> Option<SignedDuration> {
    let mut rest = text;
    let mut seconds = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit_len = rest[digits..].find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len() - digits);
        let unit = match &rest[digits..digits + unit_len] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        seconds += number * unit;
        rest = &rest[digits + unit_len..];
    }
    SignedDuration::try_from_secs_f64(seconds).ok()
}

/// Go's `path.Match`: `*` and `?` stop at `/`, `[a-z]` and `[^a-z]` are sets, `\` takes the next character as it is.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    glob_at(&pattern, &text)
}

fn glob_at(pattern: &[char], text: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['*', rest @ ..] => {
            (0..=text.len()).take_while(|&n| !text[..n].contains(&'/')).any(|n| glob_at(rest, &text[n..]))
        }
        ['?', rest @ ..] => text.first().is_some_and(|&c| c != '/') && glob_at(rest, &text[1..]),
        ['[', rest @ ..] => {
            let Some((&c, text)) = text.split_first() else { return false };
            let (negated, rest) = match rest {
                ['^', rest @ ..] => (true, rest),
                _ => (false, rest),
            };
            let Some(end) = rest.iter().skip(1).position(|&c| c == ']').map(|n| n + 1) else { return false };
            in_set(&rest[..end], c) != negated && glob_at(&rest[end + 1..], text)
        }
        ['\\', literal, rest @ ..] | [literal, rest @ ..] => {
            text.first() == Some(literal) && glob_at(rest, &text[1..])
        }
    }
}

fn in_set(mut set: &[char], c: char) -> bool {
    while let [first, rest @ ..] = set {
        set = match rest {
            ['-', last, rest @ ..] => {
                if (*first..=*last).contains(&c) {
                    return true;
                }
                rest
            }
            _ => {
                if *first == c {
                    return true;
                }
                rest
            }
        };
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_stop_at_slashes() {
        assert!(glob("ngin*", "nginx"));
        assert!(glob("*/*", "me/app"));
        assert!(!glob("*", "me/app"));
        assert!(glob("a?c[0-9x]", "abc7") && glob("a?c[0-9x]", "abcx") && !glob("a?c[^0-9]", "abc7"));
        assert!(!glob("[", "x") && glob("\\*", "*") && !glob("\\*", "x"));
    }

    #[test]
    fn until_takes_moments_and_durations() {
        let now: Timestamp = "2024-05-01T12:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("2024-01-02T03:04:05Z", "2024-01-02T03:04:05Z"),
            ("2024-01-02", "2024-01-02T00:00:00Z"),
            ("2024-01-02T03:04:05", "2024-01-02T03:04:05Z"),
            ("1h30m", "2024-05-01T10:30:00Z"),
            ("60", "1970-01-01T00:01:00Z"),
        ] {
            assert_eq!(parse_moment(text, now), Some(expected.parse().unwrap()), "{text}");
        }
        assert_eq!(parse_moment("yesterday", now), None);
    }
}
