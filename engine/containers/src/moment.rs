use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// A point in time, in nanoseconds since 1970; 0 stands for "never", which Docker writes as the year 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Moment(pub(crate) u64);

impl Moment {
    pub(crate) fn now() -> Self {
        SystemTime::now().into()
    }

    pub(crate) fn is_never(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn seconds(self) -> i64 {
        (self.0 / 1_000_000_000) as i64
    }

    /// How long after `earlier` this is; zero when it is not.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// From RFC 3339, or seconds since 1970 with an optional fraction; none when it is neither.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Ok(timestamp) = text.parse::<jiff::Timestamp>() {
            return u64::try_from(timestamp.as_nanosecond()).ok().map(Self);
        }
        let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
        let seconds: u64 = seconds.parse().ok()?;
        if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let nanos: u64 = format!("{fraction:0<9}").parse().ok()?;
        seconds.checked_mul(1_000_000_000)?.checked_add(nanos).map(Self)
    }
}

impl From<jiff::Timestamp> for Moment {
    fn from(time: jiff::Timestamp) -> Self {
        Self(u64::try_from(time.as_nanosecond()).unwrap_or(0))
    }
}

impl From<SystemTime> for Moment {
    fn from(time: SystemTime) -> Self {
        Self(time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64))
    }
}

impl fmt::Display for Moment {
    /// RFC 3339 with as many digits as are needed, as Docker writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_never() {
            return f.write_str("0001-01-01T00:00:00Z");
        }
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(timestamp) => timestamp.fmt(f),
            Err(_) => f.write_str("0001-01-01T00:00:00Z"),
        }
    }
}

/// A duration as Docker words it for people: `Less than a second`, `5 minutes`, `About an hour`, `3 weeks`.
pub(crate) fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    // Docker rounds hours to the nearest and everything longer down.
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_and_write_as_docker_does() {
        assert_eq!(Moment(0).to_string(), "0001-01-01T00:00:00Z");
        let moment = Moment::parse("2026-11-21T19:47:26.533476324Z").unwrap();
        assert_eq!(moment.to_string(), "2026-11-21T19:47:26.533476324Z");
        assert_eq!(Moment::parse("1795290446.5"), Some(Moment(1_795_290_446_500_000_000)));
        assert_eq!(Moment::parse("1795290446"), Some(Moment(1_795_290_446_000_000_000)));
        assert_eq!(Moment::parse("yesterday"), None);
    }

    #[test]
    fn durations_are_worded_as_docker_words_them() {
        let word = |s| human(Duration::from_secs(s));
        assert_eq!(word(0), "Less than a second");
        assert_eq!(word(59), "59 seconds");
        assert_eq!(word(61), "About a minute");
        assert_eq!(word(3600), "About an hour");
        assert_eq!(word(2 * 3600), "2 hours");
        assert_eq!(word(50 * 3600), "2 days");
        assert_eq!(word(20 * 24 * 3600), "2 weeks");
    }
}
