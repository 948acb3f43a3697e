//! A container's addresses stay its own while it does not run: those that a person asked for, whatever happens, and those
//! that it had last, unless its network has no others left.

use std::collections::BTreeMap;

use libnetwork_rpc::{client::again, v1};

use crate::{
    container::Container,
    network::endpoint,
    record::{Addresses, Config, RunState},
    service::Inner,
};

fn asked_for(config: &Config) -> Vec<v1::EndpointSpec> {
    let asks = |endpoint: &v1::EndpointSpec| !endpoint.ipv4.is_empty() || !endpoint.ipv6.is_empty();
    config.networks.keys().map(|network| endpoint(config, network)).filter(asks).collect()
}

/// The addresses that it had last, on the networks that it is still on.
fn had_last(config: &Config, state: &RunState) -> Vec<v1::EndpointSpec> {
    // One that goes with its end does not come back for them.
    if config.host.auto_remove {
        return Vec::new();
    }
    let there = state.addresses.iter().filter(|(network, _)| config.networks.contains_key(*network));
    let spec = |(network, addresses): (&String, &Addresses)| v1::EndpointSpec {
        network: network.clone(),
        ipv4: addresses.ipv4.clone(),
        ipv6: addresses.ipv6.clone(),
        ..v1::EndpointSpec::default()
    };
    there.map(spec).collect()
}

/// What a running container has, to be remembered.
pub(crate) fn held(sandbox: Option<&v1::Sandbox>) -> BTreeMap<String, Addresses> {
    let plain = |cidr: &str| cidr.split('/').next().unwrap_or_default().to_owned();
    let endpoints = sandbox.into_iter().flat_map(|sandbox| &sandbox.endpoints);
    let addressed = endpoints.filter(|endpoint| !endpoint.ipv4.is_empty() || !endpoint.ipv6.is_empty());
    addressed
        .map(|endpoint| {
            let addresses = Addresses { ipv4: plain(&endpoint.ipv4), ipv6: plain(&endpoint.ipv6) };
            (endpoint.network_name.clone(), addresses)
        })
        .collect()
}

impl Inner {
    /// Tells causewayd which addresses are the container's, in place of what it was told before; nothing when there are
    /// none and `anew` says that it knows of none. A failure is told in the log only: the start says whether the address
    /// is to be had.
    pub(crate) async fn reserve_addresses(&self, container: &Container, anew: bool) {
        let (config, state) = container.read(|live| (live.config.clone(), live.state.clone()));
        let (endpoints, preferred) = (asked_for(&config), had_last(&config, &state));
        if anew && endpoints.is_empty() && preferred.is_empty() {
            return;
        }
        let request = v1::ReserveRequest { id: config.id.clone(), endpoints, preferred };
        let call = || {
            let (mut client, request) = (self.parts.network.clone(), request.clone());
            async move { client.reserve(request).await }
        };
        if let Err(status) = again(call).await {
            tracing::warn!(
                container = config.id,
                error = status.message(),
                "cannot reserve its addresses while it stands still"
            );
        }
    }
}
