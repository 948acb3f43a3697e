//! The `host` and `none` drivers: a sandbox on them is the host itself, or has nothing but its loopback. Neither needs
//! anything of the kernel.
#![forbid(unsafe_code)]

use libnetwork_model::{Endpoint, HostFacts, Network};
use libnetwork_plan::{Desired, Driver, DriverError};

/// `--network host`: the sandbox is the namespace that causewayd runs in.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostDriver;

/// `--network none`: the sandbox has a namespace of its own and no way out of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoneDriver;

impl Driver for HostDriver {
    fn validate(&self, network: &Network, _host: &HostFacts) -> Result<(), DriverError> {
        nothing_to_configure("host", network)
    }

    fn network_objects(&self, _network: &Network, _host: &HostFacts, _out: &mut Desired) {}

    fn endpoint_objects(&self, _: &Network, _: &Endpoint, _: &HostFacts, _: &mut Desired) {}

    fn leases_addresses(&self) -> bool {
        false
    }
}

impl Driver for NoneDriver {
    fn validate(&self, network: &Network, _host: &HostFacts) -> Result<(), DriverError> {
        nothing_to_configure("none", network)
    }

    fn network_objects(&self, _network: &Network, _host: &HostFacts, _out: &mut Desired) {}

    fn endpoint_objects(&self, _: &Network, _: &Endpoint, _: &HostFacts, _: &mut Desired) {}

    fn leases_addresses(&self) -> bool {
        false
    }
}

fn nothing_to_configure(driver: &'static str, network: &Network) -> Result<(), DriverError> {
    if !network.subnets.is_empty() {
        let what = format!("network {} of driver {driver} cannot have subnets", network.name);
        return Err(DriverError::Contradiction { what });
    }
    let ours = |option: &&String| {
        option.starts_with("com.docker.network.bridge.") || option.starts_with("com.docker.network.driver.")
    };
    match network.options.keys().find(ours) {
        Some(option) => Err(DriverError::UnknownOption { driver, option: option.clone(), known: Vec::new() }),
        None => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use libnetwork_model::NetworkId;

    use super::*;

    fn network(options: &[(&str, &str)]) -> Network {
        Network {
            id: NetworkId::from_bytes([7; 32]),
            name: "host".into(),
            driver: "host".into(),
            created_ns: 0,
            ipv4: true,
            ipv6: false,
            internal: false,
            attachable: false,
            predefined: true,
            config_only: false,
            config_from: None,
            foreign_link: false,
            subnets: Vec::new(),
            idle_subnets: Vec::new(),
            labels: Default::default(),
            options: options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
            ipam_options: Default::default(),
        }
    }

    #[test]
    fn nothing_is_wanted_of_the_kernel() {
        let mut out = Desired::new();
        let network = network(&[("anything", "else")]);
        HostDriver.validate(&network, &HostFacts::default()).unwrap();
        HostDriver.network_objects(&network, &HostFacts::default(), &mut out);
        NoneDriver.network_objects(&network, &HostFacts::default(), &mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn options_of_other_drivers_are_refused_by_name() {
        let network = network(&[("com.docker.network.driver.mtu", "1400")]);
        let error = NoneDriver.validate(&network, &HostFacts::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown option \"com.docker.network.driver.mtu\" of driver none; it knows none"
        );
    }
}
