//! `causeway up`: both daemons in the foreground, on sockets that outlive them.

mod listen;
mod notify;
mod supervise;

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
};

use nix::fcntl::{Flock, FlockArg};

use crate::{
    Outcome,
    args::Up,
    host,
    paths::{self, PathError},
};
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

pub(crate) fn run(args: &Up) -> Outcome {
    if !nix::unistd::geteuid().is_root() {
        return Err(UpError::NotRoot.into());
    }
    host::leave_hidden_mounts()?;
    let run_dir = paths::make_private(&args.directories.run_dir)?;
    let state_dir = paths::make_private(&args.directories.state_dir)?;
    let _lock = lock(&run_dir)?;

    let hosts = match args.hosts.as_slice() {
        [] => vec![format!("unix://{}", paths::docker_socket(&run_dir).display())],
        hosts => hosts.to_vec(),
    };
    let network = listen::unix(&paths::network_socket(&run_dir), 0o600)?;
    let docker = hosts.iter().map(|host| listen::host(host)).collect::<Result<Vec<_>, _>>()?;

    let common = |program: &str| -> Result<Vec<String>, PathError> {
        Ok(vec![
            paths::sibling(program)?.display().to_string(),
            "--state-dir".into(),
            state_dir.display().to_string(),
            "--run-dir".into(),
            run_dir.display().to_string(),
            "--log-level".into(),
            args.log_level.clone(),
        ])
    };
    let mut engine = common("causeway-engine")?;
    for host in &hosts {
        engine.extend(["-H".into(), host.clone()]);
    }
    let mut causewayd = common("causewayd")?;
    causewayd.extend(["--published-ports".into(), args.published_ports.clone()]);
    let daemons = vec![
        Daemon::new("causewayd", causewayd, vec![network], &run_dir)?,
        Daemon::new("causeway-engine", engine, docker, &run_dir)?,
    ];
    supervise::run(daemons, || {
        for host in &hosts {
            println!("causeway: ready: DOCKER_HOST={host}");
        }
    })?;
    Ok(())
}

/// Holds the run directory for this process; another supervisor on it would fight over the same sockets.
fn lock(run_dir: &Path) -> Result<Flock<File>, Box<dyn std::error::Error>> {
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
