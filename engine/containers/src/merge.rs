//! What a container takes over from its image, and Docker's defaults for what nobody said.

use engine_images::ImageConfig;

use crate::{
    Error, Result,
    config::{ContainerConfig, Empty, HealthConfig, HostConfig},
    defaults::Defaults,
};

const MASKED_PATHS: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

const READONLY_PATHS: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Fills what the client left open from the image.
pub(crate) fn with_image(config: &mut ContainerConfig, image: &ImageConfig) -> Result<()> {
    if config.user.is_empty() {
        config.user.clone_from(&image.user);
    }
    if config.working_dir.is_empty() {
        config.working_dir.clone_from(&image.working_dir);
    }
    if config.stop_signal.is_empty() {
        config.stop_signal.clone_from(&image.stop_signal);
    }
    for port in image.exposed_ports.keys() {
        config.exposed_ports.get_or_insert_default().insert(port);
    }
    for path in image.volumes.keys() {
        config.volumes.get_or_insert_default().entry(path.clone()).or_insert(Empty {});
    }
    config.volumes.take_if(|volumes| volumes.is_empty());
    config.env = merged_env(config.env.take(), &image.env);
    let labels = config.labels.get_or_insert_default();
    for (name, value) in image.labels.iter().flatten() {
        labels.entry(name.clone()).or_insert_with(|| value.clone());
    }
    // An entrypoint of the client's own makes the image's command meaningless.
    if config.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        if config.cmd.as_ref().is_none_or(Vec::is_empty) {
            config.cmd = image.cmd.clone().or(config.cmd.take());
        }
        // One empty word is how a client takes the image's entrypoint away.
        if config.entrypoint.is_none() {
            config.entrypoint = image.entrypoint.clone();
        }
    }
    if config.entrypoint.as_deref() == Some(&[String::new()]) {
        config.entrypoint = None;
    }
    if config.shell.is_none() && !image.shell.is_empty() {
        config.shell = Some(image.shell.clone());
    }
    merge_health(config, image);
    if config.entrypoint.iter().chain(&config.cmd).all(Vec::is_empty) {
        return Err(Error::invalid("no command specified"));
    }
    Ok(())
}

fn merged_env(own: Option<Vec<String>>, image: &[String]) -> Option<Vec<String>> {
    let mut own = own;
    for entry in image {
        let name = entry.split_once('=').map_or(entry.as_str(), |(name, _)| name);
        let has = |e: &String| e.split_once('=').map_or(e.as_str(), |(n, _)| n) == name;
        if !own.iter().flatten().any(has) {
            own.get_or_insert_default().push(entry.clone());
        }
    }
    own
}

fn merge_health(config: &mut ContainerConfig, image: &ImageConfig) {
    let Some(inherited) = &image.healthcheck else { return };
    let health = config.healthcheck.get_or_insert_with(HealthConfig::default);
    if health.test.as_ref().is_none_or(Vec::is_empty) && !inherited.test.is_empty() {
        health.test = Some(inherited.test.clone());
    }
    for (own, theirs) in [
        (&mut health.interval, inherited.interval),
        (&mut health.timeout, inherited.timeout),
        (&mut health.start_period, inherited.start_period),
        (&mut health.start_interval, inherited.start_interval),
        (&mut health.retries, inherited.retries),
    ] {
        if *own == 0 {
            *own = theirs;
        }
    }
}

/// Fills what the client left open, from the daemon's configuration and with what is the same for every daemon.
pub(crate) fn with_defaults(host: &mut HostConfig, defaults: &Defaults) {
    if matches!(host.network_mode.as_str(), "" | "default") {
        host.network_mode = "bridge".into();
    }
    defaults.fill(host);
    if host.restart_policy.name.is_empty() {
        host.restart_policy.name = "no".into();
    }
    if !host.privileged {
        let list = |paths: &[&str]| Some(paths.iter().map(|p| (*p).to_owned()).collect());
        if host.masked_paths.is_none() {
            host.masked_paths = list(MASKED_PATHS);
        }
        if host.readonly_paths.is_none() {
            host.readonly_paths = list(READONLY_PATHS);
        }
    }
    let resources = &mut host.resources;
    resources.oom_kill_disable.get_or_insert(false);
    // What the docker CLI sends where nothing was asked for.
    resources.memory_swappiness = resources.memory_swappiness.filter(|swappiness| *swappiness != -1);
    // Docker: a memory limit alone allows as much swap again.
    if resources.memory > 0 && resources.memory_swap == 0 {
        resources.memory_swap = resources.memory * 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> ImageConfig {
        ImageConfig {
            env: vec!["PATH=/bin".into(), "A=1".into()],
            entrypoint: Some(vec!["/entry".into()]),
            cmd: Some(vec!["serve".into()]),
            ..ImageConfig::default()
        }
    }

    #[test]
    fn command_and_entrypoint_combine_as_docker_combines_them() {
        type Words = &'static [&'static str];
        let cases: &[(Option<Words>, Option<Words>, Words)] = &[
            (None, None, &["/entry", "serve"]),
            (None, Some(&["x"]), &["/entry", "x"]),
            (Some(&["sh"]), None, &["sh"]),
            (Some(&["sh"]), Some(&["-c"]), &["sh", "-c"]),
            (Some(&[""]), Some(&["x"]), &["x"]),
        ];
        let owned = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        for (entrypoint, cmd, expected) in cases {
            let mut config = ContainerConfig {
                entrypoint: entrypoint.map(owned),
                cmd: cmd.map(owned),
                ..ContainerConfig::default()
            };
            with_image(&mut config, &image()).unwrap();
            let all: Vec<String> = config.entrypoint.into_iter().chain(config.cmd).flatten().collect();
            assert_eq!(all, *expected, "{entrypoint:?} {cmd:?}");
        }
    }

    #[test]
    fn the_clients_environment_wins() {
        let mut config =
            ContainerConfig { env: Some(vec!["A=2".into(), "B=3".into()]), ..ContainerConfig::default() };
        with_image(&mut config, &image()).unwrap();
        assert_eq!(config.env.unwrap(), ["A=2", "B=3", "PATH=/bin"]);
    }

    #[test]
    fn nothing_to_run_is_refused() {
        let error = with_image(&mut ContainerConfig::default(), &ImageConfig::default()).unwrap_err();
        assert_eq!(error.to_string(), "no command specified");
    }
}
