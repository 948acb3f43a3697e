//! What the command line says that may change while the engine runs: read at the start, and again on SIGHUP from where
//! the supervisor wrote the new one. No request and no stream is disturbed.
//!
//! Owns one task, which ends with the process.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Parser;
use engine_containers::{Defaults, DefaultsError, DnsOptions, Settings, events::Events};
use engine_runtime::Runtime;
use tokio::{signal::unix::Signal, sync::watch};
use tracing::{info, warn};

use crate::{
    args::{Cli, Run},
    notify::notify,
    runtimes,
};

/// Below the run directory: the command line, as a JSON list, that is to hold from now on.
const ARGUMENTS: &str = "causeway-engine.arguments";

/// Changes what is logged.
pub(crate) type Level = Box<dyn Fn(&str) + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("cannot run containers as configured (in {})", path.display())]
    Defaults {
        path: PathBuf,
        #[source]
        source: DefaultsError,
    },
    #[error("cannot {operation} {}", path.display())]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot understand {}", path.display())]
    Parse {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("cannot understand the new command line")]
    Arguments(#[source] Box<clap::Error>),
}

fn at(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SettingsError {
    let path = path.to_owned();
    move |source| SettingsError::Io { operation, path, source }
}

/// What the command line comes to.
pub(crate) struct Configured {
    pub(crate) settings: Settings,
    /// With the scripts that add their arguments.
    pub(crate) runtimes: BTreeMap<String, PathBuf>,
}

/// Blocking: reads files, and writes those of the runtimes.
pub(crate) fn read(args: &Run, run_dir: &Path) -> Result<Configured, SettingsError> {
    let defaults = defaults(args)?;
    if let Some(problem) = defaults.missing_init() {
        warn!(problem, "containers are to have an init, and will not start without it");
    }
    let wrappers = run_dir.join("runtimes");
    let runtimes = runtimes::with_arguments(runtimes::all(&args.runtimes), &args.runtime_args, &wrappers)
        .map_err(at("write the runtimes below", &wrappers))?;
    let settings = Settings {
        defaults,
        dns: DnsOptions {
            servers: args.dns.iter().map(ToString::to_string).collect(),
            search: args.dns_search.clone(),
            options: args.dns_opt.clone(),
        },
        host_gateways: args.host_gateways.clone(),
        labels: args.labels.clone(),
        runtimes: runtimes::shown(&runtimes),
    };
    Ok(Configured { settings, runtimes })
}

/// What containers get that have it no other way.
fn defaults(args: &Run) -> Result<Defaults, SettingsError> {
    let Some(path) = &args.container_config else { return Ok(Defaults::default()) };
    let text = fs::read(path).map_err(at("read", path))?;
    let runtimes = runtimes::all(&args.runtimes);
    Defaults::read(&text, |name| runtimes.contains_key(name))
        .map_err(|source| SettingsError::Defaults { path: path.clone(), source })
}

/// What takes the new settings.
pub(crate) struct Reloaded {
    pub(crate) settings: watch::Sender<Arc<Settings>>,
    pub(crate) runtime: Runtime,
    pub(crate) events: Events,
    pub(crate) level: Level,
    /// Of the daemon.
    pub(crate) id: String,
}

/// Takes the new command line on each SIGHUP, or stays with the one before, with the reason in the log.
pub(crate) async fn follow(mut hangups: Signal, run_dir: PathBuf, parts: Reloaded) {
    while hangups.recv().await.is_some() {
        let directory = run_dir.clone();
        let read = tokio::task::spawn_blocking(move || reread(&directory)).await;
        match read.unwrap_or_else(|error| Err(at("run", &run_dir)(io::Error::other(error)))) {
            Err(error) => warn!(error = crate::chain(&error), "goes on with the settings that it had"),
            Ok((args, configured)) => {
                (parts.level)(&args.log_level);
                parts.runtime.set_runtimes(configured.runtimes);
                tell(&parts, &args, &configured.settings);
                parts.settings.send_replace(Arc::new(configured.settings));
                info!("took the new settings");
                notify("READY=1");
            }
        }
    }
}

fn reread(run_dir: &Path) -> Result<(Run, Configured), SettingsError> {
    let path = run_dir.join(ARGUMENTS);
    let text = fs::read(&path).map_err(at("read", &path))?;
    let words: Vec<String> =
        serde_json::from_slice(&text).map_err(|source| SettingsError::Parse { path, source })?;
    let args = Cli::try_parse_from(words).map_err(|error| SettingsError::Arguments(Box::new(error)))?.run;
    let configured = read(&args, run_dir)?;
    Ok((args, configured))
}

/// As Docker tells of it.
fn tell(parts: &Reloaded, args: &Run, settings: &Settings) {
    let name = nix::sys::utsname::uname().map(|host| host.nodename().to_string_lossy().into_owned());
    let list = |words: &[String]| serde_json::to_string(words).unwrap_or_default();
    let defaults = &settings.defaults;
    let attributes = [
        ("default-ipc-mode", defaults.ipc_mode.clone()),
        ("default-shm-size", defaults.shm_size.to_string()),
        ("name", name.unwrap_or_default()),
        ("debug", matches!(args.log_level.as_str(), "debug" | "trace").to_string()),
        ("default-runtime", defaults.runtime.clone()),
        ("labels", list(&settings.labels)),
        ("live-restore", "true".to_owned()),
        ("runtimes", settings.runtimes.keys().cloned().collect::<Vec<_>>().join(" ")),
    ];
    let attributes = attributes.map(|(key, value)| (key.to_owned(), value));
    parts.events.emit("daemon", "reload", &parts.id, attributes.into());
}
