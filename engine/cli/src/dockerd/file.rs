//! Docker's configuration file, and what is left when it is laid over the command line.

use std::{collections::BTreeMap, fs, io, path::Path};

use serde_json::{Map, Value};

use super::{
    settings::{SETTINGS, Setting},
    values,
};

/// Given settings by their name; see [`Setting::name`].
pub(super) type Given = BTreeMap<&'static str, Value>;

/// Why dockerd does not start, in its words where it has some.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigError {
    #[error("unable to configure the Docker daemon with file {file}: {problem}")]
    File { file: String, problem: String },
    #[error("merged configuration validation from file and command line flags failed: {0}")]
    Values(String),
    #[error("invalid value for --{flag}: {problem}")]
    Flag { flag: &'static str, problem: String },
}

/// Everything that was set, by flag or file. A file that was not named need not exist.
pub(super) fn merge(flags: Given, file: &Path, named: bool) -> Result<Given, ConfigError> {
    let problem = |problem: String| ConfigError::File { file: file.display().to_string(), problem };
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !named => String::new(),
        Err(error) => {
            return Err(problem(format!("open {}: {error}", file.display())));
        }
        Ok(text) => text,
    };
    let mut given = read(&text, &flags).map_err(problem)?;
    given.extend(flags);
    values::judge(&given).map_err(ConfigError::Values)?;
    Ok(given)
}

fn read(text: &str, flags: &Given) -> Result<Given, String> {
    // Docker takes an empty file for an empty object.
    if text.trim().is_empty() {
        return Ok(Given::new());
    }
    let mut object: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| format!("invalid JSON: {error}"))?;
    gateway_before_28_1(&mut object)?;
    // null is what was not given.
    object.retain(|_, value| !value.is_null());
    let by_key = |key: &str| SETTINGS.iter().find(|setting| setting.key == key && !key.is_empty());
    let by_flag = |key: &str| SETTINGS.iter().find(|setting| setting.flag == key && !key.is_empty());
    let unknown = object.keys().map(String::as_str).filter(|key| by_key(key).or(by_flag(key)).is_none());
    let unknown: Vec<&str> = unknown.collect();
    if !unknown.is_empty() {
        return Err(format!(
            "the following directives don't match any configuration option: {}",
            unknown.join(", ")
        ));
    }
    let twice: Vec<String> = object
        .iter()
        .filter_map(|(key, value)| {
            let flag = flags.get(key.as_str())?;
            Some(format!("{key}: (from flag: {}, from file: {})", plain(flag), plain(value)))
        })
        .collect();
    if !twice.is_empty() {
        return Err(format!(
            "the following directives are specified both as a flag and in the configuration file: {}",
            twice.join(", ")
        ));
    }
    let mut given = Given::new();
    for (key, value) in object {
        let Some(setting) = by_key(&key) else {
            // As in Docker, where it goes unsaid.
            match by_flag(&key).map(|setting| setting.key).filter(|key| !key.is_empty()) {
                Some(right) => eprintln!("dockerd: {key} has no effect: in the file its name is {right}"),
                None => eprintln!("dockerd: {key} has no effect: it is for the command line alone"),
            }
            continue;
        };
        let fits = |setting: &Setting| setting.check(&value).and_then(|()| setting.refuse(&value));
        fits(setting).map_err(|problem| format!("{key}: {problem}"))?;
        given.insert(setting.name(), value);
    }
    Ok(given)
}

/// `host-gateway-ip`, one address: what was there before `host-gateway-ips`, and what Docker still takes.
fn gateway_before_28_1(object: &mut Map<String, Value>) -> Result<(), String> {
    let Some(value) = object.remove("host-gateway-ip") else { return Ok(()) };
    let Some(address) = value.as_str() else {
        return Err(format!("host-gateway-ip: {value} is not an IP address"));
    };
    if object.contains_key("host-gateway-ips") {
        return Err(
            "host-gateway-ip and host-gateway-ips must not both be specified in the config file".to_owned()
        );
    }
    if !address.is_empty() {
        object.insert("host-gateway-ips".to_owned(), vec![address].into());
    }
    Ok(())
}

/// A text without its quotes, as Docker shows it.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        read(text, &Given::from([("debug", Value::Bool(true))])).unwrap_err()
    }

    #[test]
    fn a_wrong_key_or_value_is_named() {
        assert_eq!(
            problem(r#"{"bipp":"1","mtu":1500,"x":2}"#),
            "the following directives don't match any configuration option: bipp, x"
        );
        assert_eq!(problem(r#"{"mtu":"big"}"#), "mtu: \"big\" is not a whole number");
        assert_eq!(problem(r#"{"dns":["nope"]}"#), "dns: [\"nope\"] is not a list of IP addresses");
        assert_eq!(problem(r#"{"icc":1}"#), "icc: 1 is not true or false");
        assert!(
            problem(r#"{"userns-remap":"default"}"#).starts_with("userns-remap: this version of causeway")
        );
        assert_eq!(
            problem(r#"{"features":{"x":1}}"#),
            "features: {\"x\":1} is not an object of true and false"
        );
        assert!(
            problem(r#"{"default-ulimits":["nofile=1"]}"#)
                .starts_with("default-ulimits: [\"nofile=1\"] is not")
        );
        assert!(
            problem(r#"{"bip":"10.0.0.300/24"}"#).starts_with("bip: \"10.0.0.300/24\" is not an address")
        );
        assert!(
            problem(r#"{"default-address-pools":[{"base":"x"}]}"#).starts_with("default-address-pools: ")
        );
        assert_eq!(
            problem(r#"{"host-gateway-ip":"nope"}"#),
            "host-gateway-ips: [\"nope\"] is not a list of IP addresses"
        );
        assert!(problem(r#"{"host-gateway-ip":"1.1.1.1","host-gateway-ips":[]}"#).contains("must not both"));
        assert!(problem(r#"{"mtu":1400,}"#).starts_with("invalid JSON: "));
        assert_eq!(
            problem(r#"{"debug":false}"#),
            "the following directives are specified both as a flag and in the configuration file: debug: (from \
             flag: true, from file: false)"
        );
    }

    #[test]
    fn files_made_for_docker_are_taken() {
        let text = r#"{"data-root":"/srv","hosts":["unix:///x"],"dns":["1.1.1.1"],"userland-proxy":false,
            "log-opts":{"max-size":"10m"},"live-restore":true,"mtu":1500,"storage-driver":"overlay2",
            "runtimes":{"runsc":{"path":"/usr/bin/runsc"}},"features":{"containerd-snapshotter":true}}"#;
        let given = read(text, &Given::new()).unwrap();
        assert_eq!(given.len(), 10);
        assert!(read("", &Given::new()).unwrap().is_empty());
        let given = read(r#"{"host-gateway-ip":"10.0.0.1"}"#, &Given::new()).unwrap();
        assert_eq!(given, Given::from([("host-gateway-ips", serde_json::json!(["10.0.0.1"]))]));
        assert!(read(r#"{"host-gateway-ip":""}"#, &Given::new()).unwrap().is_empty());
    }

    #[test]
    fn what_docker_takes_without_effect_is_taken_so() {
        let text = r#"{"mtu":null,"init":null,"label":["a=b"],"insecure-registry":["x"],"labels":["c=d"]}"#;
        let given = read(text, &Given::new()).unwrap();
        assert_eq!(given, Given::from([("labels", serde_json::json!(["c=d"]))]));
    }

    #[test]
    fn only_a_named_file_must_exist() {
        let missing = Path::new("/nonexistent/daemon.json");
        assert!(merge(Given::new(), missing, false).unwrap().is_empty());
        assert!(merge(Given::new(), missing, true).is_err());
    }
}
