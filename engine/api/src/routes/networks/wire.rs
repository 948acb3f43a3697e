//! Networks as the API 1.51 writes them.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use libnetwork_rpc::v1;
use serde::{Deserialize, Serialize};

use crate::ApiError;

type Texts = BTreeMap<String, String>;

/// `POST /networks/create`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct CreateNetwork {
    pub(super) name: String,
    pub(super) driver: String,
    pub(super) scope: String,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: Option<bool>,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: Option<bool>,
    #[serde(rename = "IPAM")]
    ipam: Option<Ipam>,
    internal: bool,
    attachable: bool,
    ingress: bool,
    config_only: bool,
    config_from: Option<ConfigFrom>,
    options: Option<Texts>,
    labels: Option<Texts>,
}

/// How a network's addresses are managed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Ipam {
    driver: String,
    options: Option<Texts>,
    config: Option<Vec<IpamConfig>>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct IpamConfig {
    #[serde(skip_serializing_if = "String::is_empty")]
    subnet: String,
    #[serde(rename = "IPRange", skip_serializing_if = "String::is_empty")]
    ip_range: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    gateway: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    auxiliary_addresses: Option<Texts>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ConfigFrom {
    network: String,
}

impl CreateNetwork {
    /// The request to causewayd, which checks what it says; what has no word there is refused here.
    pub(super) fn into_request(self) -> Result<v1::CreateNetworkRequest, ApiError> {
        if self.name.trim().is_empty() {
            return Err(ApiError::invalid("invalid name: name is empty"));
        }
        if self.config_only && !self.scope.is_empty() {
            let message = "configuration network can only contain network specific fields. Network operator fields like \
                           [ ingress | internal | attachable | scope ] are not supported.";
            return Err(ApiError::new(libnetwork_model::ErrorKind::InUse, message));
        }
        match self.scope.as_str() {
            "" | "local" => {}
            "swarm" | "global" => {
                let message = "cannot create a swarm scoped network when swarm is not active";
                return Err(ApiError::new(libnetwork_model::ErrorKind::InUse, message));
            }
            other => return Err(ApiError::invalid(format!("invalid scope {other:?}"))),
        }
        if self.ingress {
            let message = "Ingress network can only be global scope network";
            return Err(ApiError::new(libnetwork_model::ErrorKind::InUse, message));
        }
        let ipam = self.ipam.unwrap_or_default();
        Ok(v1::CreateNetworkRequest {
            name: self.name,
            driver: self.driver,
            ipv4: self.enable_ipv4,
            ipv6: self.enable_ipv6,
            internal: self.internal,
            attachable: self.attachable,
            subnets: ipam.config.unwrap_or_default().into_iter().map(IpamConfig::into_subnet).collect(),
            labels: map(self.labels),
            options: map(self.options),
            ipam_driver: ipam.driver,
            ipam_options: map(ipam.options),
            config_only: self.config_only,
            config_from: self.config_from.unwrap_or_default().network,
        })
    }
}

impl IpamConfig {
    fn into_subnet(self) -> v1::Subnet {
        v1::Subnet {
            subnet: self.subnet,
            gateway: self.gateway,
            gateway_unsaid: false,
            idle: false,
            from_pool: false,
            ip_range: self.ip_range,
            auxiliary: map(self.auxiliary_addresses),
        }
    }
}

fn map(texts: Option<Texts>) -> HashMap<String, String> {
    texts.unwrap_or_default().into_iter().collect()
}

/// What `create` answers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Created {
    pub(super) id: String,
    pub(super) warning: String,
}

/// A network, as `inspect` and `ls` show it.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Network {
    name: String,
    id: String,
    created: String,
    scope: &'static str,
    driver: String,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: bool,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: bool,
    #[serde(rename = "IPAM")]
    ipam: Ipam,
    internal: bool,
    attachable: bool,
    ingress: bool,
    config_from: ConfigFrom,
    config_only: bool,
    containers: BTreeMap<String, Member>,
    options: Texts,
    labels: Texts,
}

/// One container on a network.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Member {
    name: String,
    #[serde(rename = "EndpointID")]
    endpoint_id: String,
    mac_address: String,
    #[serde(rename = "IPv4Address")]
    ipv4_address: String,
    #[serde(rename = "IPv6Address")]
    ipv6_address: String,
}

impl Network {
    /// With its containers, as `inspect` shows it; `ls` leaves them out.
    pub(super) fn with_members(network: v1::Network) -> Self {
        let endpoints = network.endpoints.clone();
        let mut result = Self::without_members(network);
        result.containers = endpoints
            .into_iter()
            .map(|endpoint| {
                let member = Member {
                    name: endpoint.sandbox_name,
                    endpoint_id: endpoint.id,
                    mac_address: endpoint.mac,
                    ipv4_address: endpoint.ipv4,
                    ipv6_address: endpoint.ipv6,
                };
                (endpoint.sandbox_id, member)
            })
            .collect();
        result
    }

    pub(super) fn without_members(network: v1::Network) -> Self {
        let config: Vec<_> = network
            .subnets
            .into_iter()
            .map(|subnet| IpamConfig {
                subnet: subnet.subnet,
                ip_range: subnet.ip_range,
                gateway: if subnet.gateway_unsaid { String::new() } else { subnet.gateway },
                auxiliary_addresses: (!subnet.auxiliary.is_empty())
                    .then(|| subnet.auxiliary.into_iter().collect()),
            })
            .collect();
        Self {
            name: network.name,
            id: network.id,
            created: created(network.created_ns),
            scope: "local",
            driver: network.driver,
            enable_ipv4: network.ipv4,
            enable_ipv6: network.ipv6,
            ipam: Ipam {
                driver: "default".to_owned(),
                // Only networks that somebody made may have any.
                options: (!network.predefined || !network.ipam_options.is_empty())
                    .then(|| network.ipam_options.into_iter().collect()),
                config: (!config.is_empty()).then_some(config),
            },
            internal: network.internal,
            attachable: network.attachable,
            ingress: false,
            config_from: ConfigFrom { network: network.config_from },
            config_only: network.config_only,
            containers: BTreeMap::new(),
            options: network.options.into_iter().collect(),
            labels: network.labels.into_iter().collect(),
        }
    }
}

/// RFC 3339 with nanoseconds.
fn created(nanoseconds: u64) -> String {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

/// What `prune` answers.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Pruned {
    /// Names; null where nothing went, as in Docker.
    pub(super) networks_deleted: Option<Vec<String>>,
}

/// The body of connect.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Connect {
    pub(super) container: String,
    pub(super) endpoint_config: Option<engine_containers::config::EndpointSettings>,
}

/// The body of disconnect.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Disconnect {
    pub(super) container: String,
    pub(super) force: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gojson;

    fn request(text: &str) -> Result<v1::CreateNetworkRequest, ApiError> {
        gojson::from_slice::<CreateNetwork>(text.as_bytes())?.into_request()
    }

    #[test]
    fn what_the_cli_sends_is_understood() {
        let text = r#"{"CheckDuplicate":true,"Name":"web","Driver":"bridge","Scope":"","EnableIPv4":null,
            "EnableIPv6":true,"IPAM":{"Driver":"default","Options":{},"Config":[{"Subnet":"10.1.0.0/16",
            "IPRange":"10.1.2.0/24","Gateway":"10.1.0.1","AuxiliaryAddresses":{"a":"10.1.0.5"}}]},"Internal":true,
            "Attachable":false,"Ingress":false,"ConfigOnly":false,"ConfigFrom":null,"Options":{"x":"y"},
            "Labels":{"l":""}}"#;
        let request = request(text).unwrap();
        assert_eq!((request.name.as_str(), request.driver.as_str()), ("web", "bridge"));
        assert_eq!((request.ipv4, request.ipv6, request.internal), (None, Some(true), true));
        assert_eq!(request.subnets[0].subnet, "10.1.0.0/16");
        assert_eq!(request.subnets[0].ip_range, "10.1.2.0/24");
        assert_eq!(request.subnets[0].auxiliary["a"], "10.1.0.5");
        assert_eq!(request.options["x"], "y");
    }

    #[test]
    fn what_one_host_cannot_have_is_refused() {
        for (text, status) in [
            (r#"{}"#, 400),
            (r#"{"Name":"a","Scope":"swarm"}"#, 403),
            (r#"{"Name":"a","Scope":"galaxy"}"#, 400),
            (r#"{"Name":"a","Ingress":true}"#, 403),
            (r#"{"Name":"a","Scope":"local","ConfigOnly":true}"#, 403),
        ] {
            assert_eq!(request(text).unwrap_err().status.as_u16(), status, "{text}");
        }
        assert!(!request(r#"{"Name":"a","ConfigFrom":{"Network":""}}"#).unwrap().config_only);
        assert!(request(r#"{"Name":"a","ConfigOnly":true}"#).unwrap().config_only);
        assert_eq!(request(r#"{"Name":"a","ConfigFrom":{"Network":"b"}}"#).unwrap().config_from, "b");
    }

    #[test]
    fn a_network_is_written_as_docker_writes_it() {
        let network = v1::Network {
            id: "9".repeat(64),
            name: "n1".into(),
            driver: "bridge".into(),
            created_ns: 1_795_290_429_274_867_478,
            ipv4: true,
            internal: true,
            subnets: vec![v1::Subnet {
                subnet: "10.77.0.0/16".into(),
                gateway: "10.77.0.1".into(),
                ..Default::default()
            }],
            labels: HashMap::from([("l".into(), "1".into())]),
            endpoints: vec![v1::Endpoint {
                id: "e".repeat(64),
                sandbox_id: "c".repeat(64),
                sandbox_name: "c1".into(),
                mac: "52:4c:2d:bf:b7:8b".into(),
                ipv4: "10.77.0.2/16".into(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let text = serde_json::to_string(&Network::with_members(network.clone())).unwrap();
        assert_eq!(
            text,
            format!(
                concat!(
                    r#"{{"Name":"n1","Id":"{}","Created":"2026-11-21T19:47:09.274867478Z","Scope":"local","#,
                    r#""Driver":"bridge","EnableIPv4":true,"EnableIPv6":false,"IPAM":{{"Driver":"default","#,
                    r#""Options":{{}},"Config":[{{"Subnet":"10.77.0.0/16","Gateway":"10.77.0.1"}}]}},"#,
                    r#""Internal":true,"Attachable":false,"Ingress":false,"ConfigFrom":{{"Network":""}},"#,
                    r#""ConfigOnly":false,"Containers":{{"{}":{{"Name":"c1","EndpointID":"{}","#,
                    r#""MacAddress":"52:4c:2d:bf:b7:8b","IPv4Address":"10.77.0.2/16","IPv6Address":""}}}},"#,
                    r#""Options":{{}},"Labels":{{"l":"1"}}}}"#
                ),
                "9".repeat(64),
                "c".repeat(64),
                "e".repeat(64)
            )
        );
        let predefined = v1::Network { predefined: true, ..network.clone() };
        assert_eq!(Network::without_members(predefined).ipam.options, None);
        let list = serde_json::to_string(&Network::without_members(network)).unwrap();
        assert!(list.contains(r#""Containers":{}"#), "{list}");
    }
}
