//! One container, and the processes executed in it.

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use engine_protocol::{
    ExecProcess, Exit, Failure, FailureCause, Reply, Request, State, Target, TerminalSize,
    cgroup::{Group, Hierarchies},
    layout,
};
use oci_spec::runtime::Spec;

use super::{
    connection::{Connection, done},
    runtime::blocking,
    stats, update,
};
use crate::{Attach, AttachOptions, ExecSpec, Resources, RuntimeError, Stats, purge, spec};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitStatus {
    /// The exit code; 128 plus the signal's number when a signal ended it.
    pub code: i32,
    pub signal: Option<i32>,
    /// The OOM killer was at work in the container's cgroup.
    pub oom_killed: bool,
    pub finished_at: SystemTime,
}

impl From<Exit> for ExitStatus {
    fn from(exit: Exit) -> Self {
        let finished_at = SystemTime::UNIX_EPOCH + Duration::from_nanos(exit.finished_at);
        Self { code: exit.code, signal: exit.signal, oom_killed: exit.oom_killed, finished_at }
    }
}

/// A handle on a container's shim. Cheap to clone; dropping it leaves the container alone.
#[derive(Debug, Clone)]
pub struct Task {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: String,
    directory: PathBuf,
    cgroup: String,
    pid: i32,
    link: Link,
}

#[derive(Debug)]
enum Link {
    Live(Connection),
    /// The shim has ended before; this is what it left.
    Ended(Box<State>),
}

impl Task {
    pub(super) fn live(
        id: &str,
        directory: &Path,
        cgroup: &str,
        state: &State,
        connection: Connection,
    ) -> Self {
        Self::new(id, directory, cgroup, state.pid, Link::Live(connection))
    }

    pub(super) fn ended(id: &str, directory: &Path, cgroup: &str, state: State) -> Self {
        Self::new(id, directory, cgroup, state.pid, Link::Ended(Box::new(state)))
    }

    fn new(id: &str, directory: &Path, cgroup: &str, pid: i32, link: Link) -> Self {
        let (id, directory, cgroup) = (id.to_owned(), directory.to_owned(), cgroup.to_owned());
        Self { inner: Arc::new(Inner { id, directory, cgroup, pid, link }) }
    }

    /// The container's id.
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// The container's first process in the engine's PID namespace.
    pub fn pid(&self) -> i32 {
        self.inner.pid
    }

    async fn ask(&self, request: Request) -> Result<Reply, RuntimeError> {
        match &self.inner.link {
            Link::Live(connection) => {
                connection.ask(request).await.ok_or_else(|| RuntimeError::ShimGone(self.inner.id.clone()))
            }
            Link::Ended(_) => Err(RuntimeError::Failed(Failure {
                cause: FailureCause::NoProcess,
                message: format!("container {} is not running", self.inner.id),
            })),
        }
    }

    async fn tell(&self, request: Request) -> Result<(), RuntimeError> {
        done(self.ask(request).await?)
    }

    /// Runs the container's process. Returns once it has been executed; its failure is told by
    /// [`RuntimeError::start_failure`].
    pub async fn start(&self) -> Result<(), RuntimeError> {
        self.tell(Request::Start).await
    }

    /// Sends a signal to the container's first process. [`engine_protocol::FailureCause::NoProcess`] when it has
    /// gone.
    pub async fn kill(&self, signal: i32) -> Result<(), RuntimeError> {
        self.tell(Request::Signal { target: Target::Init, signal, all: false }).await
    }

    /// Waits until the container has exited and all its output is in the log. May be called any number of times.
    pub async fn wait(&self) -> Result<ExitStatus, RuntimeError> {
        self.wait_for(Target::Init).await
    }

    async fn wait_for(&self, target: Target) -> Result<ExitStatus, RuntimeError> {
        if let Link::Live(connection) = &self.inner.link {
            match connection.ask(Request::Wait { target: target.clone() }).await {
                Some(Reply::Exited(exit)) => return Ok(exit.into()),
                Some(Reply::Failed(failure)) => return Err(RuntimeError::Failed(failure)),
                _ => {}
            }
        }
        let state = self.last_state().await?;
        let exit = match &target {
            Target::Init => state.exit,
            Target::Exec(exec) => state.execs.get(exec).and_then(|exec| exec.exit),
        };
        exit.map(Into::into).ok_or_else(|| RuntimeError::ShimGone(self.inner.id.clone()))
    }

    /// What a shim that has gone left.
    async fn last_state(&self) -> Result<State, RuntimeError> {
        if let Link::Ended(state) = &self.inner.link {
            return Ok((**state).clone());
        }
        let (directory, id) = (self.inner.directory.clone(), self.inner.id.clone());
        blocking(move || purge::exit_state(&directory).ok_or(RuntimeError::ShimGone(id))).await
    }

    /// Sets the terminal's size.
    pub async fn resize(&self, size: TerminalSize) -> Result<(), RuntimeError> {
        self.tell(Request::Resize { target: Target::Init, size }).await
    }

    /// Connects to the container's stdio. Sees what is written from then on; attached before [`Task::start`], all.
    pub async fn attach(&self, options: AttachOptions) -> Result<Attach, RuntimeError> {
        Attach::connect(&self.inner.id, &self.inner.directory, Target::Init, options).await
    }

    /// Closes the container's standard input, whoever is attached.
    pub async fn close_stdin(&self) -> Result<(), RuntimeError> {
        self.tell(Request::CloseStdin { target: Target::Init }).await
    }

    /// Prepares a process to run in the container under an id of the caller's choice, unique in the container.
    /// It runs when [`ExecTask::start`] is called, so that attaching first misses nothing.
    pub async fn exec(&self, exec_id: &str, exec: &ExecSpec) -> Result<ExecTask, RuntimeError> {
        let (path, wanted) = (self.inner.directory.join(layout::SPEC), exec.clone());
        let terminal = exec.tty.then(|| exec.terminal_size.unwrap_or(TerminalSize { rows: 24, columns: 80 }));
        let (process, uid) = blocking(move || {
            let file = File::open(&path).map_err(RuntimeError::io("open", &path))?;
            let spec: Spec = serde_json::from_reader(BufReader::new(file))
                .map_err(|error| RuntimeError::io("parse", &path)(error.into()))?;
            spec::exec_process(&spec, &wanted, terminal)
        })
        .await?;
        let process = ExecProcess { process, uid, stdin: exec.stdin, terminal };
        self.tell(Request::ExecCreate { exec: exec_id.to_owned(), process }).await?;
        Ok(self.exec_by_id(exec_id))
    }

    /// An exec that was prepared before, e.g. by an earlier engine; [`State::execs`] lists them.
    pub fn exec_by_id(&self, exec_id: &str) -> ExecTask {
        ExecTask { task: self.clone(), exec_id: exec_id.to_owned() }
    }

    /// Does something with the container's cgroup, off the async workers.
    async fn with_cgroup<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Group<'_>) -> Result<T, RuntimeError> + Send + 'static,
    ) -> Result<T, RuntimeError> {
        let cgroup = self.inner.cgroup.clone();
        blocking(move || {
            let hierarchies =
                Hierarchies::detect().map_err(RuntimeError::io("find the cgroups for", &cgroup))?;
            work(&hierarchies.group(&cgroup))
        })
        .await
    }

    /// The processes of the container, as the engine's PID namespace numbers them.
    pub async fn pids(&self) -> Result<Vec<i32>, RuntimeError> {
        self.with_cgroup(|group| Ok(group.processes())).await
    }

    /// Freezes all processes of the container.
    pub async fn pause(&self) -> Result<(), RuntimeError> {
        self.freeze(true).await
    }

    /// Lets a paused container go on.
    pub async fn resume(&self) -> Result<(), RuntimeError> {
        self.freeze(false).await
    }

    async fn freeze(&self, frozen: bool) -> Result<(), RuntimeError> {
        let path = self.inner.cgroup.clone();
        self.with_cgroup(move |group| {
            group.set_frozen(frozen).map_err(RuntimeError::io(if frozen { "freeze" } else { "thaw" }, path))
        })
        .await
    }

    /// Changes the limits that are given, and no other.
    pub async fn update(&self, resources: &Resources) -> Result<(), RuntimeError> {
        let resources = resources.clone();
        self.with_cgroup(move |group| update::update(group, &resources)).await
    }

    /// What the cgroup counts.
    pub async fn stats(&self) -> Result<Stats, RuntimeError> {
        self.with_cgroup(|group| Ok(stats::read(group))).await
    }

    /// What the shim knows of the container.
    pub async fn state(&self) -> Result<State, RuntimeError> {
        if let Link::Live(connection) = &self.inner.link
            && let Some(Reply::State(state)) = connection.ask(Request::State).await
        {
            return Ok(state);
        }
        self.last_state().await
    }

    /// Makes the shim open its log file anew, after the file was renamed or removed. (A truncated one needs
    /// nothing.)
    pub async fn reopen_log(&self) -> Result<(), RuntimeError> {
        self.tell(Request::ReopenLog).await
    }

    /// Kills what runs, removes the cgroup, the shim and its directory. The rootfs is not touched.
    pub async fn delete(&self) -> Result<(), RuntimeError> {
        if let Link::Live(connection) = &self.inner.link {
            // A shim that has gone is as good as one that did it: the rest makes sure.
            let _ = connection.ask(Request::Delete).await;
        }
        let (directory, cgroup, id) =
            (self.inner.directory.clone(), self.inner.cgroup.clone(), self.inner.id.clone());
        blocking(move || purge::remove_directory(&directory, &cgroup, &id)).await
    }
}

/// A handle on a process executed in a container.
#[derive(Debug, Clone)]
pub struct ExecTask {
    task: Task,
    exec_id: String,
}

impl ExecTask {
    /// The id given to [`Task::exec`].
    pub fn exec_id(&self) -> &str {
        &self.exec_id
    }

    fn target(&self) -> Target {
        Target::Exec(self.exec_id.clone())
    }

    /// Runs it; returns its process id once the program has been executed.
    pub async fn start(&self) -> Result<i32, RuntimeError> {
        match self.task.ask(Request::ExecStart { exec: self.exec_id.clone() }).await? {
            Reply::Started { pid } => Ok(pid),
            reply => done(reply).map(|()| 0),
        }
    }

    /// Waits until it has exited. [`ExecTask::forget`] loses the answer.
    pub async fn wait(&self) -> Result<ExitStatus, RuntimeError> {
        self.task.wait_for(self.target()).await
    }

    /// Sends it a signal.
    pub async fn kill(&self, signal: i32) -> Result<(), RuntimeError> {
        self.task.tell(Request::Signal { target: self.target(), signal, all: false }).await
    }

    /// Sets its terminal's size; before its start, the size that the terminal will have.
    pub async fn resize(&self, size: TerminalSize) -> Result<(), RuntimeError> {
        self.task.tell(Request::Resize { target: self.target(), size }).await
    }

    /// See [`Task::attach`]. The input of an exec ends with the attacher that brought it.
    pub async fn attach(&self, options: AttachOptions) -> Result<Attach, RuntimeError> {
        let inner = &self.task.inner;
        Attach::connect(&inner.id, &inner.directory, self.target(), options).await
    }

    /// Makes the shim forget it. It must not run.
    pub async fn forget(&self) -> Result<(), RuntimeError> {
        self.task.tell(Request::ExecForget { exec: self.exec_id.clone() }).await
    }
}
