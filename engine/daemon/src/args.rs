//! The command line.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use sha2::{Digest, Sha256};

/// Causeway's container engine: the Docker Engine API.
#[derive(Debug, Parser)]
#[command(
    name = "causeway-engine",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Where images, containers and volumes are kept, below `engine/`
    #[arg(long, value_name = "DIR", required = true)]
    state_dir: Option<PathBuf>,
    /// Where everything is that dies with the boot: the shims, and causewayd's socket
    #[arg(long, value_name = "DIR", required = true)]
    run_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) run: Run,
}

impl Cli {
    /// Both are there when there is no subcommand.
    pub(crate) fn directories(&self) -> Option<Directories> {
        Some(Directories { state_dir: self.state_dir.clone()?, run_dir: self.run_dir.clone()? })
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Remove every container, image and volume; causeway-engine must not be running
    Purge(Directories),
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Where to listen; may be given more than once. Not needed when sockets are handed in (LISTEN_FDS)
    #[arg(short = 'H', long = "host", value_name = "unix://PATH")]
    pub(crate) hosts: Vec<String>,
    /// The certificate (PEM) that TCP sockets are served with; without it they are served in the clear
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Whoever connects by TLS must show a certificate that one of these (PEM) has signed
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// A label that `docker info` shows; may be given more than once
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub(crate) labels: Vec<String>,
    /// What `host-gateway` stands for in `--add-host`, at most one of each family [default: the default bridge's gateway]
    #[arg(long = "host-gateway-ip", value_name = "IP")]
    pub(crate) host_gateways: Vec<std::net::IpAddr>,
    /// The causeway-shim binary [default: the one beside this binary]
    #[arg(long, value_name = "PATH")]
    pub(crate) shim: Option<PathBuf>,
    /// An OCI runtime that `docker run --runtime NAME` may choose; may be given more than once. runc and crun are known
    /// where they are installed
    #[arg(long = "add-runtime", value_name = "NAME=PATH", value_parser = runtime)]
    pub(crate) runtimes: Vec<(String, PathBuf)>,
    /// An argument that such a runtime is always run with; may be given more than once
    #[arg(long = "runtime-arg", value_name = "NAME=ARGUMENT", value_parser = runtime_arg)]
    pub(crate) runtime_args: Vec<(String, String)>,
    /// A resolver for containers that name none; may be given more than once [default: the host's]
    #[arg(long, value_name = "IP")]
    pub(crate) dns: Vec<std::net::IpAddr>,
    /// An option of resolv.conf for containers that name none; may be given more than once [default: the host's]
    #[arg(long, value_name = "OPTION")]
    pub(crate) dns_opt: Vec<String>,
    /// A search domain for containers that name none; may be given more than once [default: the host's]
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) dns_search: Vec<String>,
    /// What daemon.json says about containers, as JSON: init, init-path, no-new-privileges, default-ulimits, log-driver,
    /// log-opts, default-shm-size, default-ipc-mode, default-cgroupns-mode, default-runtime, seccomp-profile
    #[arg(long, value_name = "FILE")]
    pub(crate) container_config: Option<PathBuf>,
    /// What to log: error, warn, info, debug, trace, or a tracing filter
    #[arg(long, default_value = "info")]
    pub(crate) log_level: String,
}

fn runtime(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok((name.to_owned(), path.into())),
        _ => Err("give NAME=PATH, as in runsc=/usr/local/bin/runsc".to_owned()),
    }
}

fn runtime_arg(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').ok_or("give NAME=ARGUMENT, as in runsc=--debug")?;
    Ok((pair.0.to_owned(), pair.1.to_owned()))
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Directories {
    /// The one that causeway-engine ran with
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: PathBuf,
    /// The one that causeway-engine ran with
    #[arg(long, value_name = "DIR")]
    pub(crate) run_dir: PathBuf,
}

impl Directories {
    pub(crate) fn engine(&self) -> PathBuf {
        self.state_dir.join("engine")
    }

    pub(crate) fn network_socket(&self) -> PathBuf {
        self.run_dir.join("causewayd.sock")
    }

    /// The name of the cgroup that all containers' cgroups are below.
    pub(crate) fn cgroup(&self) -> String {
        cgroup(&self.run_dir)
    }
}

/// Several engines on one machine have different run directories, and thus different groups.
fn cgroup(run_dir: &Path) -> String {
    let digest = Sha256::digest(run_dir.as_os_str().as_encoded_bytes());
    format!("causeway-{}", hex::encode(&digest[..4]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroup_is_named_after_the_run_directory() {
        assert_ne!(cgroup(Path::new("/run/a")), cgroup(Path::new("/run/b")));
        assert_eq!(cgroup(Path::new("/run/a")).len(), "causeway-".len() + 8);
    }

    #[test]
    fn the_command_line_is_understood() {
        Cli::command_for_tests();
        let cli = Cli::try_parse_from([
            "causeway-engine",
            "--state-dir",
            "/s",
            "--run-dir",
            "/r",
            "-H",
            "unix:///a",
            "-H",
            "unix:///b",
            "--add-runtime",
            "runsc=/usr/bin/runsc",
        ])
        .unwrap();
        assert_eq!(cli.directories().unwrap().run_dir, Path::new("/r"));
        let run = cli.run;
        assert_eq!(run.hosts.len(), 2);
        assert_eq!(run.runtimes, [("runsc".to_owned(), PathBuf::from("/usr/bin/runsc"))]);
        let bare = Cli::try_parse_from(["causeway-engine", "--state-dir", "/s", "--run-dir", "/r"]).unwrap();
        assert!(bare.directories().is_some());
        assert!(Cli::try_parse_from(["causeway-engine"]).is_err());
        assert!(
            Cli::try_parse_from(["causeway-engine", "purge", "--state-dir", "/s", "--run-dir", "/r"]).is_ok()
        );
    }

    impl Cli {
        fn command_for_tests() {
            <Self as clap::CommandFactory>::command().debug_assert();
        }
    }
}
