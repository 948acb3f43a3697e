//! `docker create`.

use std::{collections::BTreeMap, sync::Arc};

use engine_volumes::CreateVolume;
use libnetwork_model::ErrorKind;

use crate::{
    Containers, Error, Result,
    config::{ContainerConfig, CreateBody, Created, EndpointSettings, HostConfig},
    container::Container,
    endpoint_settings::{given, malformed, predefined, refuse, requested, settled},
    links::are_of_the_bridge,
    log_options, merge,
    moment::Moment,
    mounts, names,
    record::{self, Config, MountRecord, RunState},
    request::{self, Asked},
    service::{Inner, blocking, detached},
    spec, validate,
};

impl Containers {
    /// `docker create`. The name is chosen when none is given.
    /// `api` is the minor version of the API that the client speaks.
    pub async fn create(&self, name: Option<&str>, body: CreateBody, api: u32) -> Result<Created> {
        let inner = self.inner.clone();
        // A start usually follows at once.
        inner.parts.runtime.anticipate();
        let name = name.filter(|name| !name.is_empty()).map(str::to_owned);
        detached(async move { inner.create(name, body, api).await }).await
    }
}

impl Inner {
    async fn create(self: &Arc<Self>, name: Option<String>, body: CreateBody, api: u32) -> Result<Created> {
        let CreateBody { mut config, host_config, networking_config } = body;
        let mut host = host_config.unwrap_or_default();
        let name = name.as_deref().map(names::check).transpose()?;
        if config.image.is_empty() {
            return Err(Error::invalid("no image specified"));
        }
        validate::config(&config)?;
        let mut asked = networking_config.and_then(|asked| asked.endpoints_config).unwrap_or_default();
        let settled = request::settle(&mut host, &mut config, &mut asked, api)?;
        // One snapshot: they may change meanwhile.
        let settings = self.settings();
        let image = self.parts.images.resolve(&config.image).await?;
        merge::with_image(&mut config, &image.config.config)?;
        merge::with_defaults(&mut host, &settings.defaults);
        validate::host(&host, &config, |runtime| spec::knows_runtime(&self.parts.runtime, runtime))?;
        let mut warnings: Vec<String> = log_options::warning(&host.log_config).into_iter().collect();
        if host.network_mode == "host" && host.port_bindings.as_ref().is_some_and(|p| !p.is_empty()) {
            warnings.push("Published ports are discarded when using host network mode".to_owned());
        }
        warnings.extend(settled);
        let mounts = mounts::settle(&config, &host, |reference| {
            let other = self.find(reference).map_err(|error| Error::Invalid(error.to_string()))?;
            Ok(other.config().mounts.clone())
        })?;
        spec::check_security(&host)?;
        let id = names::id()?;
        let networks = self.networks(&mut host, &mut config, asked).await?;
        // On a network with names a link is one more, and whoever it leads to may come later.
        for link in host.links.iter_mut().filter(|_| are_of_the_bridge(&host.network_mode)).flatten() {
            *link = self.new_link(link)?;
        }
        self.hostname(&host, &mut config, &id);
        let name = self.take_name(name, &id)?;
        let config = Config {
            revision: 1,
            id: id.clone(),
            name: name.clone(),
            created: Moment::now(),
            image: image.id,
            no_new_privileges: settings.defaults.no_new_privileges,
            config,
            host,
            networks,
            mounts,
        };
        match self.make(config).await {
            Ok(container) => {
                {
                    // Who removes it as soon as it is there waits until it is whole.
                    let _turn = container.turn().await;
                    self.insert(container.clone());
                    self.reserve_addresses(&container, true).await;
                    self.emit(&container, "create", &[]);
                }
                warnings.extend(self.denials(&container.config()).await);
                Ok(Created { id, warnings })
            }
            Err(error) => {
                self.release(&name);
                Err(error)
            }
        }
    }

    fn take_name(&self, name: Option<&str>, id: &str) -> Result<String> {
        if let Some(name) = name {
            self.reserve(name, id)?;
            return Ok(name.to_owned());
        }
        let mut attempt = 0;
        loop {
            let name = names::random(attempt)?;
            match self.reserve(&name, id) {
                Ok(()) => return Ok(name),
                Err(_) => attempt += 1,
            }
        }
    }

    /// Puts everything on the disk, `config.json` last: a directory without one is what an interrupted creation left,
    /// and is removed at the next start.
    async fn make(&self, mut config: Config) -> Result<Arc<Container>> {
        let id = config.id.clone();
        let dir = self.parts.state_dir.join(&id);
        let made = async {
            self.parts.images.prepare(&id, config.image).await?;
            for mount in config.mounts.iter_mut().filter(|mount| mount.point.r#type == "volume") {
                self.make_volume(mount).await?;
            }
            let (dir, copy) = (dir.clone(), config.clone());
            // One that goes with its first exit has nothing to keep through a power cut.
            let durable = !config.host.auto_remove;
            blocking(move || {
                std::fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
                record::write(&dir, record::CONFIG, &copy, durable)
            })
            .await
        }
        .await;
        if let Err(error) = made {
            self.remove_files(&id, &dir, &config.mounts).await.unwrap_or_else(|failure| {
                tracing::warn!(
                    container = id,
                    error = crate::error::chain(&failure),
                    "cannot undo a failed creation"
                );
            });
            return Err(error);
        }
        Ok(Arc::new(Container::new(dir, config, RunState::default())))
    }

    async fn make_volume(&self, mount: &mut MountRecord) -> Result<()> {
        let options = mount.spec.as_ref().and_then(|spec| spec.volume_options.clone()).unwrap_or_default();
        let driver = options.driver_config.unwrap_or_default();
        let (volume, made) = self
            .parts
            .volumes
            .create(CreateVolume {
                name: mount.point.name.clone(),
                driver: driver.name,
                driver_opts: driver.options,
                labels: options.labels,
            })
            .await?;
        mount.point.name = volume.name.clone();
        mount.point.source = volume.mountpoint.clone();
        mount.point.driver.clone_from(&volume.driver);
        if made {
            let attributes = BTreeMap::from([("driver".to_owned(), volume.driver)]);
            self.parts.events.emit("volume", "create", &volume.name, attributes);
        }
        Ok(())
    }

    /// The host name that the container gets when none was asked for.
    fn hostname(&self, host: &HostConfig, config: &mut ContainerConfig, id: &str) {
        if let Some(other) = host.network_mode.strip_prefix("container:") {
            if let Ok(other) = self.find(other) {
                name_as(config, &other.config().config);
            }
        } else if config.hostname.is_empty() {
            let own = || nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
            config.hostname = match host.network_mode == "host" || host.uts_mode == "host" {
                true => own().unwrap_or_else(|| id[..12].to_owned()),
                false => id[..12].to_owned(),
            };
        }
    }

    /// The networks by name: those that were asked for and no other, as in Docker, else the one that `NetworkMode` names.
    /// One that does not exist is left for the start to complain about.
    async fn networks(
        &self,
        host: &mut HostConfig,
        config: &mut ContainerConfig,
        asked: Asked,
    ) -> Result<BTreeMap<String, EndpointSettings>> {
        if let Some(other) = host.network_mode.strip_prefix("container:") {
            let other = self.find(other);
            for (reference, settings) in asked {
                let settings = requested(given(&reference, settings)?);
                match reference.starts_with("container:") {
                    true => _ = predefined(reference, settings)?,
                    false => _ = self.check_endpoint(reference, settings).await?,
                }
            }
            if let Ok(other) = other {
                host.network_mode = format!("container:{}", other.id);
            }
            config.mac_address.clear();
            return Ok(BTreeMap::new());
        }
        let mut networks = BTreeMap::new();
        for (reference, settings) in asked {
            let reference = if reference == "default" { "bridge".to_owned() } else { reference };
            let settings = requested(given(&reference, settings)?);
            let (name, settings) = self.check_endpoint(reference, settings).await?;
            networks.insert(name, settings);
        }
        let mut main = host.network_mode.clone();
        if !networks.contains_key(&main) {
            let (name, settings) = self.check_endpoint(main, EndpointSettings::default()).await?;
            let predefined = matches!(name.as_str(), "bridge" | "host" | "none");
            if predefined {
                host.network_mode.clone_from(&name);
            }
            // Who has the host's network can have no other, and what is not there cannot be had: the start says so.
            let absent = !predefined && settings.network_id.is_empty();
            if networks.is_empty() || name == "host" || absent {
                networks.entry(name.clone()).or_insert(settings);
            }
            main = name;
        }
        // Inspect shows the endpoint's. The two networks without interfaces have none.
        let mac = std::mem::take(&mut config.mac_address);
        if !mac.is_empty() && !networks.contains_key(&main) {
            return Err(Error::invalid(
                "if a container-wide MAC address is supplied, HostConfig.NetworkMode must match the identity of a network in \
                 NetworkSettings.Networks",
            ));
        }
        if !mac.is_empty()
            && !matches!(main.as_str(), "host" | "none")
            && let Some(settings) = networks.get_mut(&main)
        {
            if settings.mac_address.is_empty() {
                if mac.parse::<libnetwork_model::MacAddress>().is_err() {
                    return Err(refuse(&main, &[format!("invalid MAC address: {mac}")]));
                }
                settings.mac_address = mac;
            } else if settings.mac_address != mac {
                return Err(Error::invalid(
                    "the container-wide MAC address must match the endpoint-specific MAC address for the main network, \
                     or be left empty",
                ));
            }
        }
        // What is asked for is judged all the same.
        Ok(if config.network_disabled { BTreeMap::new() } else { networks })
    }

    /// The network's own name, and the settings, checked against it when it exists.
    pub(crate) async fn check_endpoint(
        &self,
        reference: String,
        settings: EndpointSettings,
    ) -> Result<(String, EndpointSettings)> {
        // Those are always there.
        let found = match reference.as_str() {
            "bridge" | "host" | "none" => return predefined(reference, settings),
            _ => self.network(&reference).await,
        };
        match found {
            Ok(network) => settled(&network, settings),
            Err(Error::Network { kind: ErrorKind::NotFound, .. }) => {
                let problems = malformed(&settings);
                if problems.is_empty() {
                    Ok((reference, settings))
                } else {
                    Err(refuse(&reference, &problems))
                }
            }
            Err(error) => Err(error),
        }
    }
}

/// Who shares another container's network has its host name.
pub(crate) fn name_as(config: &mut ContainerConfig, other: &ContainerConfig) {
    config.hostname.clone_from(&other.hostname);
    config.domainname.clone_from(&other.domainname);
}
