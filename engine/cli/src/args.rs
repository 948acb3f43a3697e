use std::path::PathBuf;

use clap::{Args as Group, Parser, Subcommand, ValueEnum};

/// A container engine built network first.
#[derive(Parser)]
#[command(name = "causeway", version, propagate_version = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run the engine and the network daemon in the foreground
    ///
    /// Adopts the containers and networks that an earlier run left running. A daemon that dies is started again at
    /// once. SIGTERM or Ctrl-C ends both daemons and leaves containers and their network running.
    Up(Up),
    /// Stop the daemons; with --purge, remove all that is ours
    Down(Down),
    /// Show the host, its networks, endpoints, addresses and published ports as a tree
    Topology(Topology),
    /// Change networks while containers use them
    Network {
        #[command(subcommand)]
        command: Network,
    },
    /// Show and change what containers publish, also while they run
    Ports {
        #[command(subcommand)]
        command: Ports,
    },
    /// Ask what containers are told for names, and why
    Dns {
        #[command(subcommand)]
        command: Dns,
    },
    /// Print a completion script for a shell
    Completion {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a directory
    Man { directory: PathBuf },
}

/// Where everything is. Several engines run side by side on one machine when these differ and each runs in a network
/// namespace of its own.
#[derive(Group)]
pub(crate) struct Directories {
    /// Networks, images, volumes, containers: what outlives a reboot
    #[arg(long, value_name = "DIR", default_value = "/var/lib/causeway")]
    pub(crate) state_dir: PathBuf,
    /// Sockets, namespaces, BPF pins: what dies with the kernel
    #[arg(long, value_name = "DIR", default_value = "/run/causeway")]
    pub(crate) run_dir: PathBuf,
}

#[derive(Group)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) directories: Directories,
    /// Where the Docker API listens, unix://PATH or tcp://ADDRESS:PORT [default: unix://RUN_DIR/docker.sock]; may be given
    /// more than once. TCP is served in the clear: who reaches it is root
    #[arg(short = 'H', long = "host", value_name = "URL")]
    pub(crate) hosts: Vec<String>,
    /// Whom published ports let in: whom the host's own firewall lets in (obey), or everyone (open)
    #[arg(long, value_parser = ["obey", "open"], default_value = "obey")]
    pub(crate) published_ports: String,
    /// What leads clients to published ports: BPF programs, rules of nftables, or whichever the kernel can do
    #[arg(long, value_parser = ["auto", "ebpf", "nftables"], default_value = "auto")]
    pub(crate) publish_backend: String,
    /// How much the daemons log, as a tracing filter
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub(crate) log_level: String,
}

#[derive(Group)]
pub(crate) struct Down {
    #[command(flatten)]
    pub(crate) directories: Directories,
    /// Also remove every container, image, volume and network, and what they hold in the kernel
    #[arg(long)]
    pub(crate) purge: bool,
}

#[derive(Group)]
pub(crate) struct Topology {
    /// Sockets, namespaces, BPF pins: the run directory that `causeway up` was given
    #[arg(long, value_name = "DIR", default_value = "/run/causeway")]
    pub(crate) run_dir: PathBuf,
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Subcommand)]
pub(crate) enum Network {
    /// Change settings of a network, all of them or none: icc, mtu, masquerade, internal, gateway-mode-ipv4,
    /// gateway-mode-ipv6, label.NAME
    ///
    /// Running containers keep their connections where the setting allows them. An empty value takes a setting back to
    /// what it is by itself. Subnets and gateways cannot be changed. Of the default bridge only labels can: the rest is
    /// said by daemon.json.
    Set {
        /// Sockets, namespaces, BPF pins: the run directory that `causeway up` was given
        #[arg(long, value_name = "DIR", default_value = "/run/causeway")]
        run_dir: PathBuf,
        /// Its name, id, or the start of its id
        network: String,
        #[arg(required = true, value_name = "KEY=VALUE")]
        settings: Vec<String>,
    },
}

#[derive(Subcommand)]
pub(crate) enum Ports {
    /// List a container's published ports with what went through them
    Ls {
        #[command(flatten)]
        of: PortsOf,
    },
    /// Publish more ports of a container, all or none, at once if it runs
    Add {
        #[command(flatten)]
        of: PortsOf,
        /// As `docker run -p` takes them: [HOST_IP:][HOST_PORT[-LAST]:]PORT[-LAST][/PROTOCOL]
        #[arg(required = true, value_name = "PORT")]
        ports: Vec<String>,
    },
    /// Take published ports of a container back, all or none, at once if it runs
    Rm {
        #[command(flatten)]
        of: PortsOf,
        /// As for add; without a host port all places where the container's port is published
        #[arg(required = true, value_name = "PORT")]
        ports: Vec<String>,
    },
}

#[derive(Group)]
pub(crate) struct PortsOf {
    /// The engine: unix://PATH or tcp://HOST:PORT [default: $DOCKER_HOST, or else RUN_DIR/docker.sock]
    #[arg(short = 'H', long, value_name = "URL")]
    pub(crate) host: Option<String>,
    /// The run directory that `causeway up` was given
    #[arg(long, value_name = "DIR", default_value = "/run/causeway")]
    pub(crate) run_dir: PathBuf,
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: TableFormat,
    /// Name, id, or unambiguous beginning of the id
    pub(crate) container: String,
}

#[derive(Subcommand)]
pub(crate) enum Dns {
    /// Ask what a running container would be told for a name, and why: which network, alias, upstream server or kept
    /// answer
    ///
    /// The name is taken as it is: no search domain of the container is tried. What is not known here is asked of the
    /// container's upstream servers.
    Query {
        /// Sockets, namespaces, BPF pins: the run directory that `causeway up` was given
        #[arg(long, value_name = "DIR", default_value = "/run/causeway")]
        run_dir: PathBuf,
        /// The container that asks: its name, id, or unambiguous beginning of the id
        #[arg(long, value_name = "CONTAINER")]
        from: String,
        /// The type of record: A, AAAA, PTR, MX, SRV, TXT, ...
        #[arg(long = "type", value_name = "TYPE", default_value = "A")]
        kind: String,
        #[arg(long, value_enum, default_value_t)]
        format: LookupFormat,
        name: String,
    },
    /// Follow the questions of containers and their answers until Ctrl-C
    Log {
        /// Sockets, namespaces, BPF pins: the run directory that `causeway up` was given
        #[arg(long, value_name = "DIR", default_value = "/run/causeway")]
        run_dir: PathBuf,
        /// Only this container, whether it runs already or will: its name, or the beginning of its id
        #[arg(long)]
        container: Option<String>,
        #[arg(long, value_enum, default_value_t)]
        format: LookupFormat,
    },
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LookupFormat {
    /// Lines for people
    #[default]
    Text,
    /// A JSON object for each lookup
    Json,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum TableFormat {
    /// Columns for people
    #[default]
    Table,
    /// The engine's own JSON document
    Json,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A tree for people
    #[default]
    Tree,
    /// One JSON document
    Json,
}
