//! Log drivers and their options.

use crate::{Result, config::LogConfig, validate::refuse};

/// Docker's drivers that send logs away. Here their containers log as by `local`: bounded, and read by `docker logs`.
const AWAY: [&str; 9] =
    ["awslogs", "etwlogs", "fluentd", "gcplogs", "gelf", "journald", "logentries", "splunk", "syslog"];

/// Whether a driver would send logs away.
pub(crate) fn sends_away(driver: &str) -> bool {
    AWAY.contains(&driver)
}

/// What whoever makes a container by such a driver is told.
pub(crate) fn warning(log: &LogConfig) -> Option<String> {
    let driver = &log.r#type;
    let said = || {
        format!(
            "log driver {driver} sends nothing in this version: the container's logs stay on this host, bounded as by the \
             driver local, and docker logs reads them"
        )
    };
    sends_away(driver).then(said)
}

/// Whether there is such a driver, and whether it takes these options.
pub(crate) fn check(log: &LogConfig) -> Result<()> {
    let driver = log.r#type.as_str();
    let known: &[&str] = match driver {
        "" | "json-file" => {
            &["max-file", "max-size", "compress", "labels", "labels-regex", "env", "env-regex", "tag"]
        }
        "local" => &["max-file", "max-size", "compress"],
        // Docker does not look at them.
        "none" => return Ok(()),
        // Their options are about where logs go.
        away if sends_away(away) => return Ok(()),
        other => {
            return refuse(format!("error looking up logging plugin {other}: plugin \"{other}\" not found"));
        }
    };
    for (option, value) in log.config.iter().flatten() {
        // Docker's own, about blocking: every driver takes them.
        if !known.contains(&option.as_str()) && !matches!(option.as_str(), "mode" | "max-buffer-size") {
            return refuse(format!("unknown log opt '{option}' for {driver} log driver"));
        }
        let fine = match option.as_str() {
            "max-size" => size(value).is_some(),
            "max-file" => value.parse::<u32>().is_ok_and(|n| n > 0),
            _ => true,
        };
        if !fine {
            return refuse(format!("invalid value for {option}: {value}"));
        }
    }
    Ok(())
}

/// Bytes from `10m`, `1g`, `64MiB`, `512 kB`, `1.5g`, `1000`; none when it is no size.
pub(crate) fn size(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let bare = lower.strip_suffix('b').unwrap_or(&lower);
    let bare = bare.strip_suffix('i').unwrap_or(bare);
    let units = ['k', 'm', 'g', 't', 'p'];
    let unit = units.iter().position(|unit| bare.ends_with(*unit));
    let (digits, power) = unit.map_or((bare, 0), |at| (&bare[..bare.len() - 1], at + 1));
    let digits = digits.strip_suffix(' ').unwrap_or(digits);
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let factor = 1_u64 << (10 * power);
    match digits.split_once('.') {
        None if plain(digits) => digits.parse::<u64>().ok()?.checked_mul(factor),
        // Docker cuts what is less than a byte.
        Some((whole, part)) if plain(whole) && plain(part) => {
            Some((digits.parse::<f64>().ok()? * factor as f64) as u64)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_dockers_units() {
        assert_eq!(size("10m"), Some(10 << 20));
        assert_eq!(size("1GB"), Some(1 << 30));
        assert_eq!(size("7"), Some(7));
        assert_eq!(size("64MiB"), Some(64 << 20));
        assert_eq!(size("1.5 g"), Some(3 << 29));
        assert_eq!(size("1..5g"), None);
        assert_eq!(size("x"), None);
        assert_eq!(size(""), None);
    }
}
