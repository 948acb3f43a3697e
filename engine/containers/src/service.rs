//! The service as its users see it.

use std::{io, path::PathBuf, pin::Pin};

use bytes::Bytes;
use engine_images::{Digest, ImageStore, ImageUse};
use engine_runtime::{Output, Runtime, TerminalSize};
use engine_volumes::VolumeStore;
use futures_util::Stream;
use libnetwork_rpc::client::Client;
use tokio::io::AsyncRead;

use crate::{
    AttachOptions, CommitOptions, Counts, ExecCreate, ExecStart, Filters, ListOptions, LogOptions, LogRecord,
    Outcome, PutOptions, RemoveOptions, Result, WaitCondition, config::*, events::Events,
};

/// A stream of a body's bytes.
pub type ByteStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;
/// A stream of a process's output.
pub type OutputStream = Pin<Box<dyn Stream<Item = io::Result<Output>> + Send>>;
/// A container's log, oldest first.
pub type Logs = Pin<Box<dyn Stream<Item = Result<LogRecord>> + Send>>;
/// Resolves to how the container ended.
pub type Wait = Pin<Box<dyn Future<Output = WaitResult> + Send>>;

/// What the service is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// `STATE/engine/containers`.
    pub state_dir: PathBuf,
    /// The engine's run directory.
    pub run_dir: PathBuf,
    pub images: ImageStore,
    pub volumes: VolumeStore,
    pub runtime: Runtime,
    pub network: Client,
    pub events: Events,
}

/// All containers. Cheap to clone.
///
/// A container is named by its full id, its name (with or without a slash in front), or an unambiguous id prefix, in
/// this order.
#[derive(Debug, Clone)]
pub struct Containers {}

/// A connection to a process's stdio.
pub struct Attached {
    /// The process has a terminal: the output is raw, not multiplexed.
    pub tty: bool,
    /// Ends when the process has ended, or when the client detached with the keys.
    pub output: OutputStream,
    /// None when no input was asked for.
    pub input: Option<Input>,
}

/// The way to a process's standard input. Dropping it is a client that vanished.
pub struct Input {}

impl Input {
    /// Passes input on; waits while the process does not read. Looks for the detach keys: once they were seen nothing
    /// more is taken, the output ends, and this returns `BrokenPipe`.
    pub async fn write(&mut self, data: &[u8]) -> io::Result<()> {
        let _ = data;
        todo!()
    }

    /// No more input will come; output goes on.
    pub async fn end(&mut self) -> io::Result<()> {
        todo!()
    }
}

impl Containers {
    /// Reads what is on disk, adopts what runs, finishes or removes what was half done, and applies restart policies.
    pub async fn load(parts: Parts) -> Result<Self> {
        let _ = parts;
        todo!()
    }

    /// The bus that containers' events are told on; the others' events belong there too.
    pub fn events(&self) -> &Events {
        todo!()
    }

    pub fn counts(&self) -> Counts {
        todo!()
    }

    /// The full id of a container by any of its names.
    pub fn resolve(&self, reference: &str) -> Result<String> {
        let _ = reference;
        todo!()
    }

    /// The container's name without a slash.
    pub fn name(&self, reference: &str) -> Result<String> {
        let _ = reference;
        todo!()
    }

    /// Which containers use which image, for removing images.
    pub fn image_uses(&self) -> Vec<ImageUse> {
        todo!()
    }

    /// The ids of the containers, running or not, that mount a volume.
    pub fn volume_users(&self, volume: &str) -> Vec<String> {
        let _ = volume;
        todo!()
    }

    /// `docker ps`, newest first.
    pub async fn list(&self, options: ListOptions) -> Result<Vec<Summary>> {
        let _ = options;
        todo!()
    }

    /// `docker create`. The name is chosen when none is given.
    pub async fn create(&self, name: Option<&str>, body: CreateBody) -> Result<Created> {
        let _ = (name, body);
        todo!()
    }

    /// `docker inspect`; `size` computes the sizes.
    pub async fn inspect(&self, reference: &str, size: bool) -> Result<Inspect> {
        let _ = (reference, size);
        todo!()
    }

    /// Unchanged when it runs already.
    pub async fn start(&self, reference: &str) -> Result<Outcome> {
        let _ = reference;
        todo!()
    }

    /// Sends the stop signal (the container's when none is given), waits `timeout` seconds (the container's when none
    /// is given; negative means forever), then kills. Unchanged when it does not run.
    pub async fn stop(&self, reference: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<Outcome> {
        let _ = (reference, signal, timeout);
        todo!()
    }

    /// Sends a signal, by name or number; `KILL` when none is given.
    pub async fn kill(&self, reference: &str, signal: Option<&str>) -> Result<()> {
        let _ = (reference, signal);
        todo!()
    }

    /// Stops it, if it runs, and starts it.
    pub async fn restart(&self, reference: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<()> {
        let _ = (reference, signal, timeout);
        todo!()
    }

    pub async fn pause(&self, reference: &str) -> Result<()> {
        let _ = reference;
        todo!()
    }

    pub async fn unpause(&self, reference: &str) -> Result<()> {
        let _ = reference;
        todo!()
    }

    pub async fn remove(&self, reference: &str, options: RemoveOptions) -> Result<()> {
        let _ = (reference, options);
        todo!()
    }

    /// Returns at once with a future that resolves as the condition says. From then on no exit is missed, so a client
    /// may be told that the wait stands (Docker sends the header at once) before it starts the container.
    pub async fn wait(&self, reference: &str, condition: WaitCondition) -> Result<Wait> {
        let _ = (reference, condition);
        todo!()
    }

    pub async fn rename(&self, reference: &str, name: &str) -> Result<()> {
        let _ = (reference, name);
        todo!()
    }

    pub async fn update(&self, reference: &str, body: UpdateBody) -> Result<Updated> {
        let _ = (reference, body);
        todo!()
    }

    /// `docker container prune`. Filters: `until`, `label`, `label!`.
    pub async fn prune(&self, filters: &Filters) -> Result<Pruned> {
        let _ = filters;
        todo!()
    }

    /// The container's log, and whether it has a terminal (then the stream is raw, not multiplexed).
    pub async fn logs(&self, reference: &str, options: LogOptions) -> Result<(bool, Logs)> {
        let _ = (reference, options);
        todo!()
    }

    /// Connects to the container's stdio. One that does not run yet is waited for: what it writes from its first
    /// byte on is seen.
    pub async fn attach(&self, reference: &str, options: AttachOptions) -> Result<Attached> {
        let _ = (reference, options);
        todo!()
    }

    /// Sets the size of the container's terminal.
    pub async fn resize(&self, reference: &str, size: TerminalSize) -> Result<()> {
        let _ = (reference, size);
        todo!()
    }

    /// Prepares a process in a running container; returns its id.
    pub async fn exec_create(&self, reference: &str, body: ExecCreate) -> Result<String> {
        let _ = (reference, body);
        todo!()
    }

    /// Starts it. None when detached: it runs then.
    pub async fn exec_start(&self, exec: &str, body: ExecStart) -> Result<Option<Attached>> {
        let _ = (exec, body);
        todo!()
    }

    pub async fn exec_inspect(&self, exec: &str) -> Result<ExecInspect> {
        let _ = exec;
        todo!()
    }

    pub async fn exec_resize(&self, exec: &str, size: TerminalSize) -> Result<()> {
        let _ = (exec, size);
        todo!()
    }

    /// `docker top`; `ps_args` are ps(1)'s, `-ef` when empty.
    pub async fn top(&self, reference: &str, ps_args: &str) -> Result<Top> {
        let _ = (reference, ps_args);
        todo!()
    }

    /// One reading of a container's counters, in Docker's JSON; with `one_shot` without a previous one to compare to.
    /// The stream gives one a second.
    pub async fn stats(
        &self,
        reference: &str,
        stream: bool,
        one_shot: bool,
    ) -> Result<Pin<Box<dyn Stream<Item = Result<serde_json::Value>> + Send>>> {
        let _ = (reference, stream, one_shot);
        todo!()
    }

    /// `docker diff`.
    pub async fn changes(&self, reference: &str) -> Result<Vec<engine_images::wire::Change>> {
        let _ = reference;
        todo!()
    }

    /// `docker export`: the root filesystem as a tar.
    pub async fn export(&self, reference: &str) -> Result<ByteStream> {
        let _ = reference;
        todo!()
    }

    /// `docker commit`; returns the image's id.
    pub async fn commit(&self, reference: &str, options: CommitOptions) -> Result<Digest> {
        let _ = (reference, options);
        todo!()
    }

    /// What is at a path in the container.
    pub async fn archive_stat(&self, reference: &str, path: &str) -> Result<PathStat> {
        let _ = (reference, path);
        todo!()
    }

    /// What is at a path in the container, as a tar.
    pub async fn archive_get(&self, reference: &str, path: &str) -> Result<(PathStat, ByteStream)> {
        let _ = (reference, path);
        todo!()
    }

    /// Unpacks a tar (plain, gzip or zstd) into a directory in the container.
    pub async fn archive_put<R>(&self, reference: &str, path: &str, tar: R, options: PutOptions) -> Result<()>
    where
        R: AsyncRead + Send + Unpin + 'static,
    {
        let _ = (reference, path, tar, options);
        todo!()
    }

    /// `docker network connect`: `network` is an id, a name or an id prefix. On a running container it takes effect at
    /// once, on another with its next start.
    pub async fn network_connect(
        &self,
        network: &str,
        reference: &str,
        settings: Option<EndpointSettings>,
    ) -> Result<()> {
        let _ = (network, reference, settings);
        todo!()
    }

    /// `docker network disconnect`. With `force` a container that does not exist is no error.
    pub async fn network_disconnect(&self, network: &str, reference: &str, force: bool) -> Result<()> {
        let _ = (network, reference, force);
        todo!()
    }
}
