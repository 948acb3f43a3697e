//! One line of a `json-file`.

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use serde::Deserialize;

use crate::{LogOptions, LogRecord, StdStream, moment::Moment};

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, default)]
    log: Cow<'a, str>,
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
    #[serde(borrow, default)]
    time: Cow<'a, str>,
}

/// What becomes of a line.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Show(LogRecord),
    /// Filtered out, or not a record at all: a crash may have left half a line.
    Skip,
    /// Later than `until`: nothing that follows is wanted.
    End,
}

/// Formats a line as the options want it.
pub(super) fn judge(line: &[u8], options: &LogOptions) -> Verdict {
    let Ok(parsed) = serde_json::from_slice::<Line<'_>>(line) else { return Verdict::Skip };
    let stream = match &*parsed.stream {
        "stderr" => StdStream::Stderr,
        _ => StdStream::Stdout,
    };
    let wanted = match stream {
        StdStream::Stdout => options.stdout,
        StdStream::Stderr => options.stderr,
    };
    let time = Moment::parse(&parsed.time).unwrap_or_default();
    if options.until.is_some_and(|until| time > until.into()) {
        return Verdict::End;
    }
    if !wanted || options.since.is_some_and(|since| time < since.into()) {
        return Verdict::Skip;
    }
    let mut text = String::with_capacity(parsed.log.len() + 40);
    if options.timestamps {
        text.push_str(&nine_digits(time));
        text.push(' ');
    }
    if options.details {
        let attributes: Vec<String> =
            parsed.attrs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        text.push_str(&attributes.join(","));
        text.push(' ');
    }
    text.push_str(&parsed.log);
    Verdict::Show(LogRecord { stream, data: Bytes::from(text) })
}

/// All nine digits, so that columns line up: what Docker prints with `--timestamps`.
fn nine_digits(time: Moment) -> String {
    let whole = Moment(time.0 - time.0 % 1_000_000_000).to_string();
    let seconds = whole.strip_suffix('Z').unwrap_or(&whole);
    format!("{seconds}.{:09}Z", time.0 % 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    const LINE: &[u8] = br#"{"log":"h\u00e9llo\n","stream":"stderr","time":"2026-11-21T19:47:26.5Z"}"#;

    fn both() -> LogOptions {
        LogOptions { stdout: true, stderr: true, ..LogOptions::default() }
    }

    fn text(verdict: Verdict) -> String {
        match verdict {
            Verdict::Show(record) => String::from_utf8(record.data.to_vec()).unwrap(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_line_is_shown_as_asked_for() {
        assert_eq!(text(judge(LINE, &both())), "héllo\n");
        let stamped = LogOptions { timestamps: true, ..both() };
        assert_eq!(text(judge(LINE, &stamped)), "2026-11-21T19:47:26.500000000Z héllo\n");
        assert_eq!(judge(LINE, &LogOptions { stderr: false, ..both() }), Verdict::Skip);
        assert_eq!(judge(b"{\"log\":\"to", &both()), Verdict::Skip);
    }

    #[test]
    fn time_limits_hold() {
        let at = UNIX_EPOCH + Duration::from_nanos(Moment::parse("2026-11-21T19:47:26.5Z").unwrap().0);
        let second = Duration::from_secs(1);
        assert_eq!(judge(LINE, &LogOptions { since: Some(at + second), ..both() }), Verdict::Skip);
        assert_eq!(judge(LINE, &LogOptions { until: Some(at - second), ..both() }), Verdict::End);
        assert_eq!(text(judge(LINE, &LogOptions { since: Some(at), until: Some(at), ..both() })), "héllo\n");
    }
}
