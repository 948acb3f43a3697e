//! How containers log where their creator does not say: what of Docker's drivers becomes of them here.

use serde_json::{Map, Value};

/// Those that there are.
const OURS: [&str; 3] = ["json-file", "local", "none"];
/// Those that Docker has besides.
const DOCKERS: [&str; 9] =
    ["awslogs", "etwlogs", "fluentd", "gcplogs", "gelf", "journald", "splunk", "syslog", "logentries"];
/// Where they would all go to: bounded, and what `docker logs` reads.
const INSTEAD: &str = "local";

pub(super) fn is_known(driver: &str) -> bool {
    OURS.contains(&driver) || DOCKERS.contains(&driver)
}

/// Puts a driver that there is in the place of one that there is not, whose options go with it; says which that was.
pub(super) fn replace(settings: &mut Map<String, Value>) -> Option<String> {
    let driver = settings.get("log-driver")?.as_str()?.to_owned();
    if !DOCKERS.contains(&driver.as_str()) {
        return None;
    }
    settings.remove("log-opts");
    settings.insert("log-driver".to_owned(), INSTEAD.into());
    Some(driver)
}

/// The line that tells of it.
pub(super) fn replaced(driver: &str) -> String {
    format!(
        "log-driver {driver} has no effect: this version sends logs nowhere; containers log by the driver {INSTEAD}, which \
         docker logs reads"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_that_would_be_sent_away_stay_here() {
        let settings = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap();
        let mut away = settings(
            r#"{"log-driver": "syslog", "log-opts": {"syslog-address": "udp://x:514"}, "init": true}"#,
        );
        assert_eq!(replace(&mut away).as_deref(), Some("syslog"));
        assert_eq!(away, settings(r#"{"log-driver": "local", "init": true}"#));
        let mut ours = settings(r#"{"log-driver": "json-file", "log-opts": {"max-size": "1m"}}"#);
        assert_eq!(replace(&mut ours), None);
        assert_eq!(ours.len(), 2);
    }
}
