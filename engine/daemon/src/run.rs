//! Starts everything, and ends it in order.
//!
//! Owns the daemon's root task, one that relays causewayd's events, one that trims the heaps, and one that takes new settings on
//! SIGHUP. SIGTERM or SIGINT cancels the token: requests in
//! flight get a few seconds, streams are cut. Containers run on; the next start adopts them.

use std::{
    env,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use engine_api::{Engine, Tls, TlsError, TlsFiles};
use engine_containers::{Containers, Parts, events::Events};
use engine_images::ImageStore;
use engine_runtime::{Runtime, RuntimeConfig};
use engine_volumes::VolumeStore;
use nix::fcntl::{Flock, FlockArg};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    args::{Directories, Run},
    boot, listen, memory,
    notify::notify,
    reload::{self, Configured, Level, Reloaded, SettingsError},
};

/// How long an orderly end waits for the disk; less than a supervisor waits for the end.
const SETTLING: Duration = Duration::from_secs(3);

#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("cannot {operation} {}", path.display())]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("another causeway-engine runs with the state directory {state}")]
    Running { state: String },
    #[error(transparent)]
    Listen(#[from] listen::ListenError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("cannot start the runtime")]
    Tokio(#[source] io::Error),
    #[error("cannot open the image store")]
    Images(#[source] engine_images::Error),
    #[error("cannot open the volume store")]
    Volumes(#[source] engine_volumes::Error),
    #[error("cannot open the container runtime")]
    Runtime(#[source] engine_runtime::RuntimeError),
    #[error("cannot load the containers")]
    Containers(#[source] engine_containers::Error),
}

fn at(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RunError {
    let path = path.to_owned();
    move |source| RunError::Io { operation, path, source }
}

pub(crate) fn run(args: &Run, directories: &Directories, level: Level) -> Result<(), RunError> {
    // Before anything is begun: what is wrong with it would be with the next start.
    let tls = tls(args)?;
    let directories = prepare(directories)?;
    let configured = reload::read(args, &directories.run_dir)?;
    // The lock comes before the sockets: a second instance must not get as far as the first one's.
    let _lock = lock(&directories.engine())?;
    let sockets = listen::listen(&args.hosts)?;
    let shim = match &args.shim {
        Some(path) => path.clone(),
        None => env::current_exe()
            .map_err(at("find", Path::new("causeway-engine")))?
            .with_file_name("causeway-shim"),
    };
    shim.metadata().map_err(at("find", &shim))?;
    // Two threads are enough for what is mostly waiting, and each costs memory.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(32)
        .thread_stack_size(1 << 20)
        .enable_all()
        .build()
        .map_err(RunError::Tokio)?;
    let outcome = runtime.block_on(serve(&directories, shim, sockets, tls, configured, level));
    // What still waits for containers waits for ever.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

fn tls(args: &Run) -> Result<Option<Tls>, TlsError> {
    let (Some(certificate), Some(key)) = (args.tls_cert.clone(), args.tls_key.clone()) else {
        return Ok(None);
    };
    Tls::load(&TlsFiles { certificate, key, client_authority: args.tls_ca.clone() }).map(Some)
}

/// Makes the directories; absolute, for they are used from other namespaces.
fn prepare(directories: &Directories) -> Result<Directories, RunError> {
    let ready = |directory: &PathBuf| {
        fs::create_dir_all(directory).map_err(at("make", directory))?;
        directory.canonicalize().map_err(at("resolve", directory))
    };
    let directories =
        Directories { state_dir: ready(&directories.state_dir)?, run_dir: ready(&directories.run_dir)? };
    ready(&directories.engine())?;
    Ok(directories)
}

/// Held for as long as this process lives.
pub(crate) fn lock(engine_dir: &Path) -> Result<Flock<File>, RunError> {
    let path = engine_dir.join("lock");
    let file =
        File::options().create(true).truncate(false).write(true).open(&path).map_err(at("open", &path))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| RunError::Running { state: engine_dir.display().to_string() })
}

async fn serve(
    directories: &Directories,
    shim: PathBuf,
    sockets: Vec<listen::Bound>,
    tls: Option<Tls>,
    configured: Configured,
    level: Level,
) -> Result<(), RunError> {
    // One that comes while we find what is there is obeyed after that.
    let hangups = signal(SignalKind::hangup()).map_err(RunError::Tokio)?;
    let listener = |socket: listen::Bound| socket.listener(tls.as_ref());
    let listeners = sockets.into_iter().map(listener).collect::<Result<Vec<_>, _>>()?;
    let end = CancellationToken::new();
    let engine_dir = directories.engine();
    let containers_dir = engine_dir.join("containers");
    let images = ImageStore::open(engine_dir.join("images"), containers_dir.clone())
        .await
        .map_err(RunError::Images)?;
    let volumes = VolumeStore::open(engine_dir.join("volumes")).await.map_err(RunError::Volumes)?;
    let runtime = Runtime::new(RuntimeConfig {
        run_dir: directories.run_dir.clone(),
        shim_binary: shim,
        cgroup_parent: directories.cgroup(),
        runtimes: configured.runtimes,
    })
    .map_err(RunError::Runtime)?;
    let settings = watch::Sender::new(Arc::new(configured.settings));
    let network = libnetwork_rpc::client::connect(&directories.network_socket());
    let events = Events::default();
    let fresh_boot = boot::is_fresh(&engine_dir).map_err(at("read the boot's id for", &engine_dir))?;
    let containers = Containers::load(Parts {
        state_dir: containers_dir,
        run_dir: directories.run_dir.clone(),
        images: images.clone(),
        volumes: volumes.clone(),
        runtime: runtime.clone(),
        network: network.clone(),
        events: events.clone(),
        fresh_boot,
        settings: settings.subscribe(),
    })
    .await
    .map_err(RunError::Containers)?;
    tokio::spawn(memory::give_back_when_idle(events.clone()));
    tokio::spawn(engine_api::relay_network_events(network.clone(), containers.clone(), end.child_token()));
    let counts = containers.counts();
    info!(running = counts.running, paused = counts.paused, stopped = counts.stopped, "ready");
    let settling = images.clone();
    let router =
        engine_api::router(Engine { containers, images, volumes, network, state_dir: engine_dir.clone() });
    tokio::spawn(reload::follow(
        hangups,
        directories.run_dir.clone(),
        Reloaded { settings, runtime, events, level, id: engine_api::identity(&engine_dir) },
    ));
    let server = engine_api::serve(listeners, router, end.clone());
    let signals = async {
        asked_to_end().await;
        notify("STOPPING=1");
        end.cancel();
    };
    notify("READY=1");
    tokio::join!(server, signals);
    // What was removed last may still be on its way off the disk. What is not by then, the next start finishes.
    match tokio::time::timeout(SETTLING, settling.settle()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(error = crate::chain(&error), "cannot finish removing what was unmounted"),
        Err(_) => warn!("the disk takes long; the next start finishes removing what was unmounted"),
    }
    info!("ended");
    Ok(())
}

async fn asked_to_end() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => info!("SIGTERM"),
        _ = interrupt.recv() => info!("SIGINT"),
    }
}
