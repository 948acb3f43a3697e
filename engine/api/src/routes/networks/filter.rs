//! `docker network ls --filter`.

use engine_filters::Filters;
use libnetwork_rpc::v1::Network;

use crate::ApiError;

/// The keys that `ls` knows.
pub(super) const KEYS: &[&str] = &["dangling", "driver", "id", "label", "name", "scope", "type"];

/// Which networks are wanted; checked, so that matching cannot fail.
#[derive(Debug)]
pub(super) struct Wanted {
    filters: Filters,
    dangling: Option<bool>,
}

impl Wanted {
    pub(super) fn new(filters: Filters) -> Result<Self, ApiError> {
        if let Some(other) = filters.values("type").find(|kind| !matches!(*kind, "builtin" | "custom")) {
            return Err(ApiError::invalid(format!("invalid filter: 'type'='{other}'")));
        }
        if filters.values("dangling").count() > 1 {
            return Err(ApiError::invalid("got more than one value for filter key \"dangling\""));
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
        let filters = &self.filters;
        let label = |key: &str| network.labels.get(key).map(String::as_str);
        let kind = if network.predefined { "builtin" } else { "custom" };
        let unused = !network.predefined && network.endpoints.is_empty();
        filters.exact("driver", &network.driver)
            && filters.exact("scope", "local")
            && filters.exact("type", kind)
            && filters.matches("id", &network.id)
            && filters.matches("name", &network.name)
            && filters.labels(label)
            && self.dangling.is_none_or(|dangling| dangling == unused)
    }
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
        Wanted::new(filters).unwrap().matches(&network())
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
            assert!(Wanted::new(Filters::parse(text).unwrap()).is_err(), "{text}");
        }
    }
}
