//! `docker network connect` and `disconnect`: of a running container at once, of another with its next start.

use std::sync::Arc;

use libnetwork_model::{ErrorKind, HasKind};
use libnetwork_rpc::v1;

use crate::{
    Containers, Error, Result,
    config::EndpointSettings,
    container::{Container, Live},
    endpoint_settings::{requested, settled},
    follow::is_on,
    links::BRIDGE,
    record::{self, Config},
    request::GATEWAY_PRIORITIES,
    reserve::held,
    service::{Inner, StagedConfig, blocking, detached},
};

impl Containers {
    /// `docker network connect`: `network` is an id, a name or an id prefix. On a running container it takes effect at
    /// once, on another with its next start. `api` is the minor version of the API that the client speaks.
    pub async fn network_connect(
        &self,
        network: &str,
        reference: &str,
        settings: Option<EndpointSettings>,
        api: u32,
    ) -> Result<()> {
        let mut settings = settings.unwrap_or_default();
        if api < GATEWAY_PRIORITIES {
            settings.gw_priority = 0;
        }
        let (inner, network, reference) = (self.inner.clone(), network.to_owned(), reference.to_owned());
        detached(async move { inner.connect(&network, &reference, settings).await }).await
    }

    /// `docker network disconnect`. With `force` an endpoint goes also when its container is gone.
    pub async fn network_disconnect(&self, network: &str, reference: &str, force: bool) -> Result<()> {
        let (inner, network, reference) = (self.inner.clone(), network.to_owned(), reference.to_owned());
        detached(async move { inner.disconnect(&network, &reference, force).await }).await
    }
}

impl Inner {
    async fn connect(
        self: &Arc<Self>,
        network: &str,
        reference: &str,
        settings: EndpointSettings,
    ) -> Result<()> {
        let container = self.find(reference)?;
        let network = self.network(network).await?;
        let _turn = container.turn().await;
        let mut config = (*container.config()).clone();
        container.stays("connected")?;
        refuse_connection(&config, &network)?;
        let running = container.read(|live| live.state.has_process());
        let attached = config.networks.contains_key(&network.name);
        if attached && running {
            return Err(Error::Forbidden(format!(
                "endpoint with name {} already exists in network {}",
                config.name, network.name
            )));
        }
        let (name, mut settings) = settled(&network, requested(settings))?;
        if attached {
            // As in Docker, what was asked for before stays.
            return Ok(());
        }
        settings.network_id.clone_from(&network.id);
        config.networks.insert(name.clone(), settings);
        if running {
            if name == BRIDGE {
                self.check_reach(&config)?;
            }
            let before = container.live();
            let (attached, staged) =
                tokio::join!(self.attach(&config, &name), self.stage_config(&container, config.clone()));
            self.change_live(&container, &before, attached, staged).await?;
            if name == BRIDGE {
                self.tell_linked(&container.id).await;
            }
            return Ok(());
        }
        self.save_config(&container, config).await?;
        self.reserve_addresses(&container, false).await;
        Ok(())
    }

    /// Changes the networks of a container that runs: its sandbox has changed, and its record follows, or the sandbox is
    /// changed back. `before`: as it was when its sandbox was not changed yet. Where causewayd ended in between, whoever
    /// hears of its return may know the changed sandbox first, and the files do not.
    async fn change_live(
        &self,
        container: &Container,
        before: &Live,
        sandbox: Result<v1::Sandbox>,
        staged: Result<StagedConfig>,
    ) -> Result<()> {
        let sandbox = match sandbox {
            Ok(sandbox) => Arc::new(sandbox),
            Err(error) => {
                if error.kind() == ErrorKind::Unavailable {
                    self.return_to_record(container).await;
                }
                return Err(error);
            }
        };
        let kept = self.keep(container, before, sandbox, staged).await;
        if kept.is_err() {
            self.follow_record(container).await;
        }
        kept
    }

    async fn keep(
        &self,
        container: &Container,
        before: &Live,
        sandbox: Arc<v1::Sandbox>,
        staged: Result<StagedConfig>,
    ) -> Result<()> {
        container.change(|live| {
            live.state.addresses = held(Some(&sandbox));
            live.sandbox = Some(sandbox.clone());
        });
        let StagedConfig { file, config } = staged?;
        let refresh = self.refreshed_files(container, before, &config, Some(&sandbox)).await;
        let (dir, state) = (container.dir.clone(), container.read(|live| live.state.clone()));
        // One after another: they are short, and threads that do them at once wait for the same disk.
        let (committed, files, remembered) = blocking(move || {
            let files = refresh.and_then(|refresh| refresh());
            Ok((file.commit(), files, record::write(&dir, record::STATE, &state, false)))
        })
        .await?;
        if let Err(error) = remembered {
            let error = crate::error::chain(&error);
            tracing::warn!(container = config.id, error, "cannot remember its addresses");
        }
        if let Err(error) = files {
            let error = crate::error::chain(&error);
            tracing::warn!(container = config.id, error, "cannot refresh the hosts file");
        }
        committed?;
        container.change(|live| live.config = config);
        Ok(())
    }

    async fn disconnect(self: &Arc<Self>, network: &str, reference: &str, force: bool) -> Result<()> {
        let container = match self.find(reference) {
            Err(Error::NoSuchContainer(_)) if force => return self.cut_off(network, reference).await,
            found => found?,
        };
        let found = self.network(network).await;
        let _turn = container.turn().await;
        container.stays("disconnected")?;
        let mut config = (*container.config()).clone();
        let name = match found {
            Ok(network) => network.name,
            // A network that is gone, or never was: who does not run and was to be on it is freed of it.
            Err(error) => match named(&config, network) {
                Some(name) if !container.read(|live| live.state.has_process()) => name,
                _ => return Err(error),
            },
        };
        if name == "host" && config.host.network_mode == "host" {
            return Err(Error::Invalid(
                "cannot disconnect container from host network - container was created in host network mode"
                    .into(),
            ));
        }
        let running = container.read(|live| live.state.has_process());
        if config.networks.remove(&name).is_none() && !(running && self.strays(&config.id, &name).await?) {
            return Err(Error::Conflict(format!(
                "container {} is not connected to the network {name}",
                config.id
            )));
        }
        if running {
            // One after the other: what is taken away would come back with another address.
            let before = container.live();
            let staged = self.stage_config(&container, config).await?;
            let detached = self.detach(&container.id, &name).await;
            return self.change_live(&container, &before, detached, Ok(staged)).await;
        }
        self.save_config(&container, config).await?;
        self.reserve_addresses(&container, false).await;
        Ok(())
    }

    /// Whether a sandbox is on a network that its container's record does not have.
    async fn strays(&self, id: &str, network: &str) -> Result<bool> {
        Ok(self.sandbox(id).await?.is_some_and(|sandbox| is_on(&sandbox, network)))
    }

    /// Takes away an endpoint whose container is gone; its sandbox goes with it.
    async fn cut_off(&self, network: &str, reference: &str) -> Result<()> {
        let mut client = self.parts.network.clone();
        let request = v1::GetNetworkRequest { reference: network.to_owned(), brief: false };
        let network = client.get_network(request).await?.into_inner();
        let own =
            |endpoint: &v1::Endpoint| endpoint.sandbox_name == reference || endpoint.sandbox_id == reference;
        match network.endpoints.into_iter().find(own) {
            Some(endpoint) => self.leave(&endpoint.sandbox_id, false).await,
            None => Err(Error::NotFound(format!("endpoint {reference} not found"))),
        }
    }
}

/// By which name a container's record knows a network: its name, or the id that it had.
fn named(config: &Config, reference: &str) -> Option<String> {
    let by_id = |(_, settings): &(&String, &EndpointSettings)| settings.network_id == reference;
    let mut networks = config.networks.iter();
    match config.networks.contains_key(reference) {
        true => Some(reference.to_owned()),
        false => networks.find(by_id).map(|(name, _)| name.clone()),
    }
}

fn refuse_connection(config: &Config, network: &v1::Network) -> Result<()> {
    let mode = config.host.network_mode.as_str();
    if mode == "host" || mode.starts_with("container:") {
        let what = if mode == "host" { "host" } else { "container" };
        return Err(Error::Invalid(format!(
            "container sharing network namespace with another container or host cannot be connected to any other \
             network (its mode is {what})"
        )));
    }
    if config.config.network_disabled {
        let name = &config.name;
        return Err(Error::Conflict(format!(
            "container {name} was created without networking (NetworkDisabled)"
        )));
    }
    match network.name.as_str() {
        "host" => Err(Error::Invalid(
            "cannot connect container to host network - container must be created in host network mode".into(),
        )),
        "none" => Err(Error::Invalid("container cannot be connected to multiple networks with one of the networks in private (none) mode".into())),
        _ if mode == "none" && config.networks.contains_key("none") => Err(Error::Invalid(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode".into(),
        )),
        _ => Ok(()),
    }
}
