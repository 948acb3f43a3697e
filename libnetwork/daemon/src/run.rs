//! Starts everything, and ends it in order.
//!
//! Owns the daemon's root task. SIGTERM or SIGINT cancels the tokens one after the other: first the service (calls that
//! are in are answered, watchers' streams end), then the core (nothing is in hand any more, the reconciler ends between
//! two passes), then the resolvers. What is in the kernel stays.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use dns_server::{DnsServer, Settings};
use driver_bridge::BridgeDriver;
use driver_host::{HostDriver, NoneDriver};
use libnetwork_core::{
    Config, Drivers, HOST, Kernel, NONE, NameServer, Parts, StartError, Store, StoreError,
};
use libnetwork_kernel::LinuxKernel;
use libnetwork_plan::{DNS_PORT, KernelError};
use libnetwork_rpc::v1::libnetwork_server::LibnetworkServer;
use libnetwork_store::EmbeddedStore;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::{
    net::UnixListener,
    signal::unix::{Signal, SignalKind, signal},
};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    args::{Directories, Publish},
    boot, firewall, floods, host_ports, listen,
    listen::Inherited,
    mapper::{Backend, Mapper},
    network_config::{self, ConfigError, Configured},
    notify,
    service::Service,
};

/// How long calls that are in may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(8);

#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("cannot {operation} {}", path.display())]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the network configuration {}", path.display())]
    Config {
        path: PathBuf,
        #[source]
        source: ConfigError,
    },
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    #[error("cannot open the store")]
    Store(#[source] StoreError),
    #[error("cannot open the kernel")]
    Kernel(#[source] Box<KernelError>),
    #[error("the networks cannot be as the configuration has them ({keys})")]
    Networks {
        /// What it says of them.
        keys: String,
        #[source]
        source: Box<StartError>,
    },
    #[error("cannot start the core")]
    Start(#[source] Box<StartError>),
    #[error("cannot serve")]
    Serve(#[source] tonic::transport::Error),
    #[error("a task of the core panicked")]
    Task(#[source] tokio::task::JoinError),
}

pub(crate) fn run(
    directories: &Directories,
    network_config: Option<&Path>,
    publish: Publish,
) -> Result<(), RunError> {
    let configured = network_config::read(network_config).map_err(|source| RunError::Config {
        path: network_config.map(Path::to_owned).unwrap_or_default(),
        source,
    })?;
    let at = |operation, path: PathBuf| move |source| RunError::Io { operation, path, source };
    for directory in [&directories.state_dir, &directories.run_dir] {
        std::fs::create_dir_all(directory).map_err(at("make", directory.clone()))?;
    }
    // Absolute, for they are used from other namespaces and compared with what the kernel says of mounts.
    let absolute = |directory: &PathBuf| directory.canonicalize().map_err(at("resolve", directory.clone()));
    let directories = Directories {
        state_dir: absolute(&directories.state_dir)?,
        run_dir: absolute(&directories.run_dir)?,
    };
    // The lock of the store comes first: a second instance must not get as far as the first one's socket.
    let boot = boot::id().map_err(at("read", "/proc/sys/kernel/random/boot_id".into()))?;
    let store =
        EmbeddedStore::open(&directories.store(), &directories.run_dir, &boot).map_err(RunError::Store)?;
    let inherited_error = at("take the descriptors of", "LISTEN_FDS".into());
    let mut inherited = listen::inherited().map_err(inherited_error)?;
    let listener = listen::listen(&mut inherited, &directories.socket())
        .map_err(at("listen on", directories.socket()))?;
    // Two sockets for each sandbox, one for each question under way: the usual 1,024 are for programs that use select(2).
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        warn!(%error, "cannot raise the number of open files");
    }
    // Two threads are enough for what is mostly waiting for the kernel, and each costs memory.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(16)
        .thread_stack_size(1 << 20)
        .enable_all()
        .build()
        .map_err(RunError::Runtime)?;
    let outcome = runtime.block_on(serve(&directories, configured, publish, store, listener, inherited));
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn serve(
    directories: &Directories,
    configured: Configured,
    publish: Publish,
    mut store: EmbeddedStore,
    listener: std::os::unix::net::UnixListener,
    inherited: Inherited,
) -> Result<(), RunError> {
    // One that comes while we adopt what is there is obeyed after that.
    let mut signals = Signals::new().map_err(RunError::Runtime)?;
    let root = CancellationToken::new();
    let (service_end, core_end, names_end) = (root.child_token(), root.child_token(), root.child_token());
    let random = boot::random().map_err(|source| RunError::Io {
        operation: "open",
        path: "/dev/urandom".into(),
        source,
    })?;
    let mut kernel = LinuxKernel::new(libnetwork_kernel::Config {
        netns_dir: directories.netns(),
        sysctl_record: directories.sysctl_record(),
        resolv_conf: "/etc/resolv.conf".into(),
    })
    .map_err(|error| RunError::Kernel(Box::new(error)))?;
    let names = DnsServer::new(Settings {
        port: DNS_PORT,
        shutdown: names_end.clone(),
        keeper: Some(Arc::new(notify::Store)),
    });
    // Before anything that takes long: in the sandboxes there are questions that wait.
    let (_, intent) = store.load().map_err(RunError::Store)?;
    names.publish(&intent, None);
    names.upstreams(&kernel.host().await.map_err(|error| RunError::Kernel(Box::new(error)))?);
    let adopted = names.adopt(inherited.kept, intent.sandboxes(), &directories.netns()).await;
    info!(adopted, "resolvers kept");

    let own = directories.clone();
    let rules = configured.bridge.ruled == [true; 2];
    let mapper = tokio::task::spawn_blocking(move || Mapper::open(&own, publish, rules));
    let mapper = mapper.await.map_err(RunError::Task)?;
    let (backend, reason) = mapper.backend().describe();
    info!(backend, reason, "published ports");
    if matches!(mapper.backend(), Backend::Bpf(_)) {
        tokio::spawn(floods::report(directories.bpffs(), root.child_token()));
    }
    let publishes = matches!(mapper.backend(), Backend::Nftables { .. });
    let bridge = BridgeDriver { publishes, ..configured.bridge };

    let parts = Parts {
        store,
        kernel,
        mapper,
        names: names.clone(),
        drivers: Drivers::default().with("bridge", bridge).with(HOST, HostDriver).with(NONE, NoneDriver),
    };
    let Configured { defaults, pools, keys, .. } = configured;
    let config =
        Config { pools, defaults, netns: directories.netns(), random, busy: Box::new(host_ports::busy) };
    let (core, running) =
        libnetwork_core::start(config, parts, core_end.clone()).await.map_err(|error| match error {
            StartError::Predefined(_) if !keys.is_empty() => {
                RunError::Networks { keys: keys.join(", "), source: Box::new(error) }
            }
            error => RunError::Start(Box::new(error)),
        })?;

    tokio::spawn(firewall::report(core.watch(), root.child_token()));
    let (revision, intent) = core.intent();
    let (networks, sandboxes) = (intent.networks().count(), intent.sandboxes().count());
    info!(revision, networks, sandboxes, "ready");
    let service =
        Service::new(core, names, Arc::from(directories.netns()), (backend, reason), service_end.clone());
    let service =
        LibnetworkServer::new(service).max_decoding_message_size(libnetwork_rpc::client::MESSAGE_LIMIT);
    let listener = UnixListener::from_std(listener).map_err(|source| RunError::Io {
        operation: "listen on",
        path: directories.socket(),
        source,
    })?;
    // One service: it answers calls of others with UNIMPLEMENTED by itself, and needs no router before it.
    let server = tonic::transport::Server::builder().serve_with_incoming_shutdown(
        service,
        UnixListenerStream::new(listener),
        service_end.clone().cancelled_owned(),
    );
    let mut server = std::pin::pin!(server);
    notify::notify(NotifyState::Ready);

    tokio::select! {
        ended = &mut server => return ended.map_err(RunError::Serve),
        () = signals.received() => {}
    }
    notify::notify(NotifyState::Stopping);
    service_end.cancel();
    match tokio::time::timeout(GRACE, server).await {
        Ok(ended) => ended.map_err(RunError::Serve)?,
        Err(_) => warn!("calls are still open, and are cut off"),
    }
    core_end.cancel();
    running.finished().await.map_err(RunError::Task)?;
    root.cancel();
    info!("ended");
    Ok(())
}

/// SIGTERM and SIGINT, from the moment that this is made.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        let (terminate, interrupt) = (SignalKind::terminate(), SignalKind::interrupt());
        Ok(Self { terminate: signal(terminate)?, interrupt: signal(interrupt)? })
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => info!("SIGTERM"),
            _ = self.interrupt.recv() => info!("SIGINT"),
        }
    }
}
