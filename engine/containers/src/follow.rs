//! A container that runs has a record, of what a person asked for and was answered, and a sandbox. A change of its networks
//! or its name changes both, and either daemon may end in between, or the disk be full: whoever asked was told nothing then,
//! or that it failed. So the record counts, and the sandbox follows it.

use std::sync::Arc;

use libnetwork_model::{ErrorKind, HasKind};
use libnetwork_rpc::{client::again, kind, v1};

use crate::{
    Result,
    container::Container,
    record::Config,
    reserve::held,
    service::{Inner, blocking},
};

impl Inner {
    /// What causewayd has of a container.
    pub(crate) async fn sandbox(&self, id: &str) -> Result<Option<v1::Sandbox>> {
        let mut all = self.sandboxes().await?;
        Ok(all.remove(id))
    }

    /// Puts a container's sandbox on one more network of its record.
    pub(crate) async fn attach(&self, config: &Config, network: &str) -> Result<v1::Sandbox> {
        let endpoint = Some(self.endpoint(config, network));
        let request = v1::ConnectRequest { sandbox_id: config.id.clone(), endpoint };
        let call = || {
            let (mut client, request) = (self.parts.network.clone(), request.clone());
            async move { client.connect(request).await }
        };
        match again(call).await {
            // It may be on it by a call whose answer was lost, this one or one before, and not as it is wanted now.
            Err(status) if kind(&status) == ErrorKind::InUse => {
                self.detach(&config.id, network).await?;
                Ok(again(call).await?)
            }
            reply => Ok(reply?),
        }
    }

    /// Takes a sandbox off a network. One that is off it already is what was asked for.
    pub(crate) async fn detach(&self, id: &str, network: &str) -> Result<v1::Sandbox> {
        let call = || {
            let (mut client, sandbox_id) = (self.parts.network.clone(), id.to_owned());
            let request = v1::DisconnectRequest { sandbox_id, network: network.to_owned() };
            async move { client.disconnect(request).await }
        };
        match again(call).await {
            Err(status) if kind(&status) == ErrorKind::NotFound => {
                let sandbox = self.sandbox(id).await?;
                Ok(sandbox.filter(|sandbox| !is_on(sandbox, network)).ok_or(status)?)
            }
            reply => Ok(reply?),
        }
    }

    /// Gives a container's sandbox the name of its record.
    pub(crate) async fn rename_sandbox(&self, config: &Config) -> Result<v1::Sandbox> {
        let call = || {
            let (mut client, sandbox_id) = (self.parts.network.clone(), config.id.clone());
            let request = v1::RenameRequest { sandbox_id, name: config.name.clone() };
            async move { client.rename(request).await }
        };
        Ok(again(call).await?)
    }

    /// [`Inner::follow_record`] where it is not known what the sandbox has become.
    pub(crate) async fn return_to_record(&self, container: &Container) {
        match self.sandbox(&container.id).await {
            Ok(Some(sandbox)) => {
                container.change(|live| live.sandbox = Some(Arc::new(sandbox)));
                self.follow_record(container).await;
            }
            Ok(None) => {}
            Err(error) => complain(container, &error, "cannot learn what became of its sandbox"),
        }
    }

    /// Makes the sandbox of a container what its record says: its name, its networks, its published ports. The caller has
    /// the turn. What cannot be done is told in the log, and tried again by the next change or the engine's next start.
    pub(crate) async fn follow_record(&self, container: &Container) {
        let before = container.live();
        let (config, Some(known)) = (&before.config, &before.sandbox) else { return };
        let mut steps = Vec::new();
        if known.name != config.name {
            steps.push(self.rename_sandbox(config).await);
        }
        // Who has the host's network has no other.
        if !known.namespace.is_empty() {
            for endpoint in known.endpoints.iter().filter(|endpoint| !asked_for(config, endpoint)) {
                steps.push(self.detach(&config.id, &endpoint.network_id).await);
            }
            let disabled = config.config.network_disabled;
            for network in config.networks.keys().filter(|network| !disabled && !has(known, config, network))
            {
                match self.attach(config, network).await {
                    // It was started without one that is not there, the default bridge of `bridge: none`.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    step => steps.push(step),
                }
            }
        }
        let changed = !steps.is_empty();
        for step in steps {
            match step {
                Ok(sandbox) => container.change(|live| {
                    live.state.addresses = held(Some(&sandbox));
                    live.sandbox = Some(Arc::new(sandbox));
                }),
                Err(error) => complain(container, &error, "cannot make its sandbox what its record says"),
            }
        }
        if changed {
            let sandbox = container.live().sandbox;
            let refreshed = async {
                blocking(self.refreshed_files(container, &before, config, sandbox.as_deref()).await?).await?;
                self.save_state(container).await
            };
            if let Err(error) = refreshed.await {
                complain(container, &error, "cannot bring its files up to date");
            }
        }
        if let Err(error) = self.follow_links(container).await {
            complain(container, &error, "cannot open or close what its links lead to");
        }
        self.follow_ports(container).await;
    }
}

fn complain(container: &Container, error: &crate::Error, what: &str) {
    tracing::warn!(container = container.id, error = crate::error::chain(error), "{what}");
}

/// Whether a sandbox has an endpoint on a network.
pub(crate) fn is_on(sandbox: &v1::Sandbox, network: &str) -> bool {
    let named = |endpoint: &v1::Endpoint| endpoint.network_name == network || endpoint.network_id == network;
    sandbox.endpoints.iter().any(named)
}

/// Whether an endpoint is of this network of the record, which knows a network that was not there yet by what it was called.
fn is_of(endpoint: &v1::Endpoint, config: &Config, network: &str) -> bool {
    let id = config.networks.get(network).map_or("", |settings| settings.network_id.as_str());
    endpoint.network_name == network
        || if id.is_empty() { endpoint.network_id.starts_with(network) } else { endpoint.network_id == id }
}

fn asked_for(config: &Config, endpoint: &v1::Endpoint) -> bool {
    config.networks.keys().any(|network| is_of(endpoint, config, network))
}

fn has(sandbox: &v1::Sandbox, config: &Config, network: &str) -> bool {
    sandbox.endpoints.iter().any(|endpoint| is_of(endpoint, config, network))
}
