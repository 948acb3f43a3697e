//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Causeway's network daemon: keeps the kernel as the intent says, and answers causewayd.sock.
#[derive(Debug, Parser)]
#[command(
    name = "causewayd",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Where networks are kept, below `network/`
    #[arg(long, value_name = "DIR", required = true)]
    state_dir: Option<PathBuf>,
    /// Where everything is that dies with the boot: socket, namespaces, BPF pins, endpoints
    #[arg(long, value_name = "DIR", required = true)]
    run_dir: Option<PathBuf>,
    /// What daemon.json says about networks, as JSON: bip, bip6, fixed-cidr, fixed-cidr-v6, default-gateway,
    /// default-gateway-v6, default-address-pools, icc, ip, ip-masq, mtu, ipv6, bridge, ip-forward,
    /// ip-forward-no-drop, iptables, ip6tables, allow-direct-routing, default-network-opts
    #[arg(long, value_name = "FILE")]
    pub(crate) network_config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) publish: Publish,
    /// What to log: error, warn, info, debug, trace, or a tracing filter
    #[arg(long, default_value = "info")]
    pub(crate) log_level: String,
}

/// How ports are published.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Publish {
    /// Who may come in by a published port: whom the host's own firewall lets in, or everyone
    #[arg(long = "published-ports", value_enum, default_value_t = PublishedPorts::Obey)]
    pub(crate) ports: PublishedPorts,
    /// What leads clients to published ports: BPF programs, rules of nftables, or whichever the kernel can do, in this
    /// order
    #[arg(long = "publish-backend", value_enum, default_value_t = PublishBackend::Auto)]
    pub(crate) backend: PublishBackend,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum PublishBackend {
    Auto,
    Ebpf,
    Nftables,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum PublishedPorts {
    /// A published port is denied where the host's input rules deny it
    Obey,
    /// What is published is open, whatever the host's rules say
    Open,
}

impl Cli {
    /// Both are there when there is no subcommand.
    pub(crate) fn directories(&self) -> Option<Directories> {
        Some(Directories { state_dir: self.state_dir.clone()?, run_dir: self.run_dir.clone()? })
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Remove all that is ours from the kernel and both directories; causewayd must not be running
    Purge(Directories),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Directories {
    /// The one that causewayd ran with
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: PathBuf,
    /// The one that causewayd ran with
    #[arg(long, value_name = "DIR")]
    pub(crate) run_dir: PathBuf,
}

impl Directories {
    pub(crate) fn store(&self) -> PathBuf {
        self.state_dir.join("network")
    }

    pub(crate) fn netns(&self) -> PathBuf {
        self.run_dir.join("netns")
    }

    /// In the run directory: settings end with the boot.
    pub(crate) fn sysctl_record(&self) -> PathBuf {
        self.run_dir.join("sysctl-before")
    }

    /// Which of the host's reserved ports are ours.
    pub(crate) fn reserved_ports(&self) -> PathBuf {
        self.run_dir.join("reserved-ports")
    }

    pub(crate) fn bpffs(&self) -> PathBuf {
        self.run_dir.join("bpf")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.run_dir.join("causewayd.sock")
    }
}
