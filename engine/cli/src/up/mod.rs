//! `causeway up`: both daemons in the foreground, on sockets that outlive them.

pub(crate) mod listen;
mod notify;
mod reload;
mod supervise;

use std::{
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    io::Write,
    os::fd::OwnedFd,
    path::PathBuf,
};

use nix::fcntl::{Flock, FlockArg};

use crate::{
    Outcome,
    args::Up,
    host,
    paths::{self, PathError},
};
use reload::Reload;
use supervise::Daemon;

#[derive(Debug, thiserror::Error)]
enum UpError {
    #[error("run causeway as root: it makes namespaces, bridges and BPF programs")]
    NotRoot,
    #[error(
        "causeway already runs with the run directory {run_dir} (pid {pid}); end it, or give another --run-dir"
    )]
    Running { run_dir: String, pid: String },
}

/// What is to run.
pub(crate) struct Plan {
    pub(crate) state_dir: PathBuf,
    pub(crate) run_dir: PathBuf,
    /// Where the Docker API listens, in the Docker CLI's notation.
    pub(crate) hosts: Vec<String>,
    /// Sockets for the Docker API that somebody else has opened.
    pub(crate) inherited: Vec<OwnedFd>,
    /// The group that may use the Docker API's sockets; one that does not exist is passed over, as Docker does.
    pub(crate) group: Option<String>,
    pub(crate) log_level: String,
    /// Whom published ports let in: `obey` or `open`.
    pub(crate) published_ports: String,
    /// What leads clients to them: `auto`, `ebpf` or `nftables`.
    pub(crate) publish_backend: String,
    /// More arguments for causeway-engine.
    pub(crate) engine: Vec<String>,
    /// The file for causewayd's `--network-config`.
    pub(crate) network: Option<serde_json::Value>,
    /// The file for causeway-engine's `--container-config`.
    pub(crate) containers: Option<serde_json::Value>,
    /// TCP sockets speak TLS.
    pub(crate) tls: bool,
    /// Called when both daemons are ready.
    pub(crate) ready: Box<dyn FnOnce()>,
    /// What is to run from now on, asked for on SIGHUP: of it the arguments of the daemons are read. None where nothing
    /// says so.
    pub(crate) reread: Option<Box<dyn FnMut() -> Option<Plan>>>,
}

/// Docker's port, in the clear.
pub(crate) const PORT: u16 = 2375;

pub(crate) fn run(args: &Up) -> Outcome {
    start(Plan {
        state_dir: args.directories.state_dir.clone(),
        run_dir: args.directories.run_dir.clone(),
        hosts: args.hosts.iter().map(|host| listen::canonical(host, PORT)).collect::<Result<_, _>>()?,
        inherited: Vec::new(),
        group: None,
        log_level: args.log_level.clone(),
        published_ports: args.published_ports.clone(),
        publish_backend: args.publish_backend.clone(),
        engine: Vec::new(),
        network: None,
        containers: None,
        tls: false,
        ready: Box::new(|| {}),
        reread: None,
    })
}

pub(crate) fn start(mut plan: Plan) -> Outcome {
    if !nix::unistd::geteuid().is_root() {
        return Err(UpError::NotRoot.into());
    }
    host::leave_hidden_mounts()?;
    let run_dir = paths::make_private(&plan.run_dir)?;
    let state_dir = paths::make_private(&plan.state_dir)?;
    let _lock = lock(&run_dir)?;

    let hosts = match plan.hosts.as_slice() {
        [] if plan.inherited.is_empty() => {
            vec![format!("unix://{}", paths::docker_socket(&run_dir).display())]
        }
        hosts => hosts.to_vec(),
    };
    let network = listen::unix(&paths::network_socket(&run_dir), 0o600)?;
    let mut docker = std::mem::take(&mut plan.inherited);
    listen::remember(&run_dir, &hosts)?;
    for host in &hosts {
        docker.push(listen::host(host)?);
        if let Some(group) = &plan.group {
            listen::give_to_group(host, group)?;
        }
        if !plan.tls && listen::is_exposed(host) {
            eprintln!(
                "causeway: the API is accessible on {host} without encryption and without a password: who reaches it is \
                 root on this host"
            );
        }
    }

    let directories = Directories { state_dir, run_dir: run_dir.clone() };
    let [causewayd, engine] = directories.commands(&plan, &hosts)?;
    let daemons = vec![
        // Nobody's stream is cut when this one is started again.
        Daemon::new("causewayd", causewayd, vec![network], &run_dir, None)?,
        Daemon::new("causeway-engine", engine, docker, &run_dir, Some(Reload::of_engine(&run_dir)))?,
    ];
    let ready = plan.ready;
    let mut reread = plan.reread;
    let ended = supervise::run(
        daemons,
        || {
            for host in &hosts {
                println!("causeway: ready: DOCKER_HOST={host}");
            }
            ready();
        },
        || {
            let Some(plan) = reread.as_mut().and_then(|reread| reread()) else { return Vec::new() };
            match directories.commands(&plan, &hosts) {
                Ok(commands) => commands.into(),
                Err(error) => {
                    eprintln!("causeway: nothing is changed: {}", crate::chain(&error));
                    Vec::new()
                }
            }
        },
    );
    listen::remove_remembered(&run_dir)?;
    Ok(ended?)
}

struct Directories {
    state_dir: PathBuf,
    run_dir: PathBuf,
}

impl Directories {
    /// The command lines of causewayd and of causeway-engine.
    fn commands(&self, plan: &Plan, hosts: &[String]) -> Result<[Vec<String>; 2], PathError> {
        let common = |program: &str| -> Result<Vec<String>, PathError> {
            Ok(vec![
                paths::sibling(program)?.display().to_string(),
                "--state-dir".into(),
                self.state_dir.display().to_string(),
                "--run-dir".into(),
                self.run_dir.display().to_string(),
                "--log-level".into(),
                plan.log_level.clone(),
            ])
        };
        let mut causewayd = common("causewayd")?;
        causewayd.extend(["--published-ports".into(), plan.published_ports.clone()]);
        causewayd.extend(["--publish-backend".into(), plan.publish_backend.clone()]);
        if let Some(settings) = &plan.network {
            causewayd.extend(["--network-config".into(), self.keep("network", &settings.to_string())?]);
        }
        let mut engine = common("causeway-engine")?;
        for host in hosts {
            engine.extend(["-H".into(), host.clone()]);
        }
        engine.extend(plan.engine.iter().cloned());
        if let Some(settings) = &plan.containers {
            engine.extend(["--container-config".into(), self.keep("containers", &settings.to_string())?]);
        }
        Ok([causewayd, engine])
    }

    /// A file with this text, whose name says it: other settings are another file, so that those that turn out wrong do not
    /// overwrite the ones before.
    fn keep(&self, what: &str, text: &str) -> Result<String, PathError> {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let path = self.run_dir.join(format!("{what}-{:016x}.json", hasher.finish()));
        fs::write(&path, text).map_err(PathError::at("write", &path))?;
        Ok(path.display().to_string())
    }
}

/// Holds the run directory for this process; another supervisor on it would fight over the same sockets.
fn lock(run_dir: &std::path::Path) -> Result<Flock<File>, Box<dyn std::error::Error>> {
    let path = paths::pid_file(run_dir);
    let file = File::options()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .map_err(PathError::at("open", &path))?;
    let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => lock,
        Err(_) => {
            let pid = fs::read_to_string(&path).unwrap_or_default().trim().to_owned();
            return Err(UpError::Running { run_dir: run_dir.display().to_string(), pid }.into());
        }
    };
    lock.set_len(0).map_err(PathError::at("write", &path))?;
    writeln!(lock, "{}", std::process::id()).map_err(PathError::at("write", &path))?;
    Ok(lock)
}
