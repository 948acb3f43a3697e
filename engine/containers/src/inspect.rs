//! `docker inspect`.

use crate::{
    Containers, Result,
    config::{ContainerConfig, GraphDriver, HostConfig, Inspect, MountPoint, State, Status},
    container::Live,
    files, network,
    record::Config,
    spec,
};

impl Containers {
    /// `docker inspect`; `size` computes the sizes.
    pub async fn inspect(&self, reference: &str, size: bool) -> Result<Inspect> {
        let found = self.inner.find(reference);
        let container = found.or_else(|error| self.inner.by_link(reference).ok_or(error))?;
        let live = container.live();
        let config = &live.config;
        let (path, args) = command(config);
        let sizes = match size {
            true => Some(self.inner.parts.images.rootfs_size(&container.id).await?),
            false => None,
        };
        let graph_driver = match self.inner.parts.images.rootfs(&container.id).await {
            Ok(rootfs) => graph_driver(&container.id, &rootfs),
            // Being removed.
            Err(_) => GraphDriver { name: "overlay2".into(), ..GraphDriver::default() },
        };
        let execs = container.execs(|execs| {
            let running = execs.iter().filter(|(_, exec)| exec.runs()).map(|(id, _)| id.clone());
            running.collect::<Vec<_>>()
        });
        // Written with the first start.
        let started = !live.state.started_at.is_never();
        let file_dir = match config.host.network_mode.strip_prefix("container:") {
            Some(other) => self.inner.find(other).map(|other| other.dir.clone()).ok(),
            None => Some(container.dir.clone()),
        };
        let file = |name: &str| match &file_dir {
            Some(dir) if started => dir.join(name).display().to_string(),
            _ => String::new(),
        };
        Ok(Inspect {
            id: config.id.clone(),
            created: config.created.to_string(),
            path,
            args,
            state: state(&live),
            image: config.image.to_string(),
            resolv_conf_path: file(files::RESOLV),
            hostname_path: file(files::HOSTNAME),
            hosts_path: file(files::HOSTS),
            log_path: match started && config.host.log_config.r#type != "none" {
                true => spec::log_path(&container.dir, &config.id).display().to_string(),
                false => String::new(),
            },
            name: format!("/{}", config.name),
            restart_count: live.state.restart_count,
            driver: "overlay2".into(),
            platform: "linux".into(),
            mount_label: String::new(),
            process_label: String::new(),
            app_armor_profile: String::new(),
            exec_ids: (!execs.is_empty()).then_some(execs),
            host_config: HostConfig { links: self.inner.shown_links(config), ..config.host.clone() },
            graph_driver,
            size_rw: sizes.map(|size| size.rw as i64),
            size_root_fs: sizes.map(|size| size.root_fs as i64),
            mounts: shown_mounts(config),
            config: shown_config(config),
            network_settings: network::settings(&live),
        })
    }
}

impl Inspect {
    /// As the API before 1.45 has it: all names that others find a container by are aliases.
    pub fn name_by_aliases(&mut self) {
        let (short, hostname) = (self.id[..12].to_owned(), &self.config.hostname);
        let networks = self.network_settings.networks.iter_mut();
        for (_, settings) in networks.filter(|(network, _)| network::has_names(network)) {
            let aliases = settings.aliases.iter().flatten();
            settings.aliases = Some(network::distinct(aliases.chain([&short, hostname])));
        }
    }
}

/// The program and its arguments.
fn command(config: &Config) -> (String, Vec<String>) {
    let mut words = config.config.entrypoint.iter().chain(&config.config.cmd).flatten().cloned();
    (words.next().unwrap_or_default(), words.collect())
}

/// With the MAC address that was asked for on the main network.
fn shown_config(config: &Config) -> ContainerConfig {
    let main = network::main(config).and_then(|name| config.networks.get(name));
    let mac_address = main.map(|settings| settings.mac_address.clone()).unwrap_or_default();
    ContainerConfig { mac_address, ..config.config.clone() }
}

/// The mounts as people see them.
pub(crate) fn shown_mounts(config: &Config) -> Vec<MountPoint> {
    config.mounts.iter().map(|mount| mount.point.clone()).collect()
}

fn state(live: &Live) -> State {
    let state = &live.state;
    State {
        status: state.status,
        running: state.is_running(),
        paused: state.status == Status::Paused,
        restarting: state.status == Status::Restarting,
        oom_killed: state.oom_killed,
        dead: state.status == Status::Dead,
        pid: state.pid,
        exit_code: state.exit_code,
        error: state.error.clone(),
        started_at: state.started_at.to_string(),
        finished_at: state.finished_at.to_string(),
        health: live.health.clone(),
    }
}

fn graph_driver(id: &str, rootfs: &engine_images::Rootfs) -> GraphDriver {
    let lower = rootfs.lower.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(":");
    let data = [
        ("ID".to_owned(), id.to_owned()),
        ("LowerDir".to_owned(), lower),
        ("MergedDir".to_owned(), rootfs.merged.display().to_string()),
        ("UpperDir".to_owned(), rootfs.upper.display().to_string()),
        ("WorkDir".to_owned(), rootfs.work.display().to_string()),
    ];
    GraphDriver { data: data.into(), name: "overlay2".into() }
}
