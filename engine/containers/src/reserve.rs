//! Addresses that a person asked for stay a container's own while it does not run.

use libnetwork_rpc::{client::again, v1};

use crate::{network::endpoint, record::Config, service::Inner};

/// Whether a person asked for an address on any of the container's networks.
pub(crate) fn asks_for_addresses(config: &Config) -> bool {
    config.networks.keys().any(|network| asks(&endpoint(config, network)))
}

fn asks(endpoint: &v1::EndpointSpec) -> bool {
    !endpoint.ipv4.is_empty() || !endpoint.ipv6.is_empty()
}

impl Inner {
    /// Tells causewayd which addresses are the container's, in place of what it was told before. A failure is told in the
    /// log only: the start says whether the address is to be had.
    pub(crate) async fn reserve_addresses(&self, config: &Config) {
        let endpoints =
            config.networks.keys().map(|network| endpoint(config, network)).filter(asks).collect();
        let request = v1::ReserveRequest { id: config.id.clone(), endpoints, preferred: Vec::new() };
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
