//! What `--link` opens on a default bridge whose containers are kept apart (`icc` false): the ports that the target exposes.

use std::{collections::BTreeMap, sync::Arc};

use libnetwork_rpc::{client::again, v1};

use crate::{
    Result,
    config::{PortSet, port_set::Ports},
    container::Container,
    links::BRIDGE,
    network::{endpoint, main},
    ports,
    record::Config,
    service::Inner,
};

impl Inner {
    /// All endpoints, the network that `NetworkMode` names first. None where it was asked to be without any.
    pub(crate) fn endpoints(&self, config: &Config) -> Vec<v1::EndpointSpec> {
        if config.config.network_disabled {
            return Vec::new();
        }
        let main = main(config);
        let first = config.networks.keys().filter(|name| Some(*name) == main);
        let rest = config.networks.keys().filter(|name| Some(*name) != main);
        first.chain(rest).map(|name| self.endpoint(config, name)).collect()
    }

    /// An endpoint as causewayd is asked for it.
    pub(crate) fn endpoint(&self, config: &Config, network: &str) -> v1::EndpointSpec {
        let openings = if network == BRIDGE { self.openings(config) } else { Vec::new() };
        v1::EndpointSpec { openings, ..endpoint(config, network) }
    }

    /// In the order and with the ranges that causewayd has them in: as few as can be.
    fn openings(&self, config: &Config) -> Vec<v1::Opening> {
        let mut opened: BTreeMap<String, PortSet> = BTreeMap::new();
        for target in self.linked_to(config) {
            let exposed = ports::exposed(&target.config().config.exposed_ports).unwrap_or_default();
            opened.entry(target.id.clone()).or_default().extend(exposed.into_iter().map(Ports::one));
        }
        let opening = |id: &str, ports: &Ports| v1::Opening {
            sandbox_id: id.to_owned(),
            protocol: ports.protocol.to_string(),
            first: ports.first.into(),
            last: ports.last.into(),
        };
        let all =
            opened.iter().flat_map(|(id, set)| set.ranges().iter().map(move |ports| opening(id, ports)));
        all.collect()
    }

    /// [`Inner::follow_links`] for those that link to a container, which exposes something else now.
    pub(crate) async fn follow_links_to(&self, id: &str) {
        for other in self.all() {
            let leads_here = |config: &Config| self.linked_to(config).iter().any(|target| target.id == id);
            if other.id == id || !leads_here(&other.config()) {
                continue;
            }
            let _turn = other.turn().await;
            if let Err(error) = self.follow_links(&other).await {
                let error = crate::error::chain(&error);
                tracing::warn!(container = other.id, error, "cannot open or close what its links lead to");
            }
        }
    }

    /// Makes what a container that runs reaches by its links what its record says.
    pub(crate) async fn follow_links(&self, container: &Container) -> Result<()> {
        let live = container.live();
        let on = |endpoint: &&v1::Endpoint| endpoint.network_name == BRIDGE;
        let Some(endpoint) = live.sandbox.as_ref().and_then(|sandbox| sandbox.endpoints.iter().find(on))
        else {
            return Ok(());
        };
        let openings = self.openings(&live.config);
        if endpoint.openings == openings {
            return Ok(());
        }
        let request = v1::SetOpeningsRequest {
            sandbox_id: container.id.clone(),
            network: endpoint.network_id.clone(),
            openings,
        };
        let call = || {
            let (mut client, request) = (self.parts.network.clone(), request.clone());
            async move { client.set_openings(request).await }
        };
        let sandbox = again(call).await?;
        container.change(|live| live.sandbox = Some(Arc::new(sandbox)));
        Ok(())
    }
}
