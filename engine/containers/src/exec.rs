//! `docker exec`.

use std::{io, sync::Arc, time::Duration};

use engine_protocol::FailureCause;
use engine_runtime::{ExecSpec, ExecState, ExecTask, RuntimeError, StartFailure, TerminalSize};
use futures_util::{StreamExt, stream};
use tokio::sync::watch;

use crate::{
    Attached, Containers, Error, ExecCreate, ExecStart, Result,
    attach::{attached_to, saying},
    config::{ContainerConfig, ExecInspect, ExecProcessConfig, Status},
    container::Container,
    names,
    service::{Inner, detached},
};

/// How long an exec that has ended can still be asked for its exit code. Docker's own sweep is as long.
const KEPT: Duration = Duration::from_secs(300);

/// A process executed in a container.
#[derive(Debug)]
pub(crate) struct Exec {
    id: String,
    body: ExecCreate,
    live: watch::Sender<ExecLive>,
}

#[derive(Debug, Clone, Copy, Default)]
struct ExecLive {
    started: bool,
    running: bool,
    pid: i32,
    exit_code: Option<i32>,
}

impl Exec {
    /// One that an earlier engine started. What it was asked to run is forgotten; what it is, the shim knows.
    pub(crate) fn adopted(id: String, state: &ExecState) -> Self {
        let live = ExecLive {
            started: state.pid != 0,
            running: state.running,
            pid: state.pid,
            exit_code: state.exit.map(|exit| exit.code),
        };
        Self { id, body: ExecCreate::default(), live: watch::Sender::new(live) }
    }

    pub(crate) fn runs(&self) -> bool {
        self.live.borrow().running
    }

    /// The program, and its arguments.
    fn words(&self) -> (String, Vec<String>) {
        let mut words = self.body.cmd.iter().flatten().cloned();
        (words.next().unwrap_or_default(), words.collect())
    }

    fn command(&self) -> String {
        let (program, arguments) = self.words();
        format!("{program} {}", arguments.join(" "))
    }

    fn ended(&self, code: i32) {
        self.live.send_modify(|live| {
            live.started = true;
            live.running = false;
            live.exit_code = Some(code);
        });
    }
}

impl Containers {
    /// Prepares a process in a running container; returns its id.
    pub async fn exec_create(&self, reference: &str, body: ExecCreate) -> Result<String> {
        let container = self.inner.find(reference)?;
        if body.cmd.as_ref().is_none_or(Vec::is_empty) {
            return Err(Error::invalid("No exec command specified"));
        }
        executable(&container)?;
        let id = names::id()?;
        let config = container.config();
        let mut env = self.inner.environment(&config);
        if !config.config.hostname.is_empty() {
            env.insert(0, format!("HOSTNAME={}", config.config.hostname));
        }
        let spec = exec_spec(&config.config, env, &body);
        // Prepared by the shim now, so that what cannot be (an unknown user) is told now, as Docker does.
        self.inner.live_task(&container)?.exec(&id, &spec).await?;
        let exec = Arc::new(Exec { id: id.clone(), body, live: watch::Sender::new(ExecLive::default()) });
        self.inner.insert_exec(&id, &container.id);
        let action = format!("exec_create: {}", exec.command());
        container.execs(|execs| execs.insert(id.clone(), exec));
        self.inner.emit(&container, &action, &[("execID", id.clone())]);
        Ok(id)
    }

    /// Starts it. None when detached: it runs then.
    pub async fn exec_start(&self, exec: &str, body: ExecStart) -> Result<Option<Attached>> {
        let (container, exec) = self.inner.exec(exec)?;
        let inner = self.inner.clone();
        detached(async move { inner.exec_start(&container, exec, body).await }).await
    }

    pub async fn exec_inspect(&self, exec: &str) -> Result<ExecInspect> {
        let (container, exec) = self.inner.exec(exec)?;
        let live = *exec.live.borrow();
        let (entrypoint, arguments) = exec.words();
        Ok(ExecInspect {
            id: exec.id.clone(),
            running: live.running,
            exit_code: live.exit_code,
            process_config: ExecProcessConfig {
                tty: exec.body.tty,
                entrypoint,
                arguments,
                privileged: Some(exec.body.privileged),
                user: exec.body.user.clone().unwrap_or_default(),
            },
            open_stdin: exec.body.attach_stdin,
            open_stderr: exec.body.attach_stderr,
            open_stdout: exec.body.attach_stdout,
            can_remove: live.exit_code.is_some(),
            container_id: container.id.clone(),
            detach_keys: exec.body.detach_keys.clone().unwrap_or_default(),
            pid: live.pid,
        })
    }

    pub async fn exec_resize(&self, exec: &str, size: TerminalSize) -> Result<()> {
        let (container, exec) = self.inner.exec(exec)?;
        // The CLI sends its size right after the start, often before the program runs.
        let mut watch = exec.live.subscribe();
        let started = async { watch.wait_for(|live| live.started).await.is_ok_and(|live| live.running) };
        let runs = tokio::time::timeout(Duration::from_secs(10), started).await;
        if !matches!(runs, Ok(true)) {
            return Err(Error::Conflict(format!("exec {} is not running", exec.id)));
        }
        self.inner.live_task(&container)?.exec_by_id(&exec.id).resize(size).await?;
        Ok(())
    }
}

/// Whether a process may be executed in it.
fn executable(container: &Container) -> Result<()> {
    match container.status() {
        Status::Running => Ok(()),
        Status::Paused => Err(Error::Paused(container.id.clone())),
        Status::Restarting => Err(Error::Restarting(container.id.clone())),
        _ => Err(Error::NotRunning(container.id.clone())),
    }
}

impl Inner {
    fn exec(&self, id: &str) -> Result<(Arc<Container>, Arc<Exec>)> {
        let missing = || Error::NoSuchExec(id.to_owned());
        let container = self.exec_container(id).ok_or_else(missing)?;
        let exec = container.execs(|execs| execs.get(id).cloned()).ok_or_else(missing)?;
        Ok((container, exec))
    }

    async fn exec_start(
        self: &Arc<Self>,
        container: &Arc<Container>,
        exec: Arc<Exec>,
        start: ExecStart,
    ) -> Result<Option<Attached>> {
        executable(container)?;
        let mut first = false;
        exec.live.send_if_modified(|live| {
            first = !live.started && !live.running;
            live.running = true;
            first
        });
        if !first {
            return Err(Error::Conflict(format!("Error: Exec command {} has already run", exec.id)));
        }
        self.emit(container, &format!("exec_start: {}", exec.command()), &[("execID", exec.id.clone())]);
        let task = self.live_task(container)?.exec_by_id(&exec.id);
        let attached = match start.detach {
            true => None,
            false => match connect(&task, &exec.body).await {
                Ok(attached) => Some(attached),
                Err(error) => {
                    exec.ended(126);
                    self.forget_later(container, &exec);
                    return Err(error);
                }
            },
        };
        match task.start().await {
            Ok(pid) => {
                exec.live.send_modify(|live| {
                    live.started = true;
                    live.pid = pid;
                });
                if let Some(size) =
                    start.size().filter(|size| exec.body.tty && size.rows > 0 && size.columns > 0)
                    && let Err(error) = task.resize(size).await
                {
                    tracing::debug!(
                        exec = exec.id,
                        error = crate::error::chain(&error),
                        "cannot set the size"
                    );
                }
                self.follow_exec(container.clone(), exec.clone(), task);
            }
            Err(error) => {
                exec.ended(failure_code(&error));
                self.forget_later(container, &exec);
                if let Err(error) = task.forget().await {
                    tracing::debug!(
                        exec = exec.id,
                        error = crate::error::chain(&error),
                        "cannot forget an exec"
                    );
                }
                let message = error.docker_exec_message();
                // An attached client reads of it in the stream, and then asks for the exit code.
                return match start.detach {
                    true => {
                        Err(Error::Start { kind: libnetwork_model::ErrorKind::Invalid, code: 126, message })
                    }
                    false => Ok(Some(saying(exec.body.tty, &message))),
                };
            }
        }
        Ok(attached.map(|attached| until_recorded(attached, &exec)))
    }

    /// Waits for its end in a task of its own, and keeps the exit code for a while.
    pub(crate) fn follow_exec(self: &Arc<Self>, container: Arc<Container>, exec: Arc<Exec>, task: ExecTask) {
        let inner = self.clone();
        tokio::spawn(async move {
            let code = match task.wait().await {
                Ok(status) => status.code,
                // The container went, and the exec with it.
                Err(_) => 137,
            };
            exec.ended(code);
            let attributes = [("execID", exec.id.clone()), ("exitCode", code.to_string())];
            inner.emit(&container, "exec_die", &attributes);
            if let Err(error) = task.forget().await {
                tracing::debug!(exec = exec.id, error = crate::error::chain(&error), "cannot forget an exec");
            }
            inner.forget_later(&container, &exec);
        });
    }

    fn forget_later(self: &Arc<Self>, container: &Arc<Container>, exec: &Exec) {
        let (inner, container, id) = (Arc::downgrade(self), Arc::downgrade(container), exec.id.clone());
        tokio::spawn(async move {
            tokio::time::sleep(KEPT).await;
            if let Some(container) = container.upgrade() {
                container.execs(|execs| execs.remove(&id));
            }
            if let Some(inner) = inner.upgrade() {
                inner.forget_exec(&id);
            }
        });
    }

    /// The container's processes have ended, all of them.
    pub(crate) fn end_execs(self: &Arc<Self>, container: &Arc<Container>) {
        let execs: Vec<Arc<Exec>> = container.execs(|execs| execs.values().cloned().collect());
        for exec in execs {
            if !exec.live.borrow().started {
                self.forget_exec(&exec.id);
                container.execs(|execs| execs.remove(&exec.id));
            }
        }
    }
}

/// What to run: the container's environment, directory and user, with the exec's on top.
fn exec_spec(config: &ContainerConfig, own: Vec<String>, body: &ExecCreate) -> ExecSpec {
    // The last of a name counts.
    let mut env: Vec<String> = Vec::with_capacity(own.len());
    for entry in own.iter().chain(body.env.iter().flatten()) {
        let name = entry.split_once('=').map_or(entry.as_str(), |(name, _)| name);
        env.retain(|known| known.split_once('=').map_or(known.as_str(), |(name, _)| name) != name);
        if entry.contains('=') {
            env.push(entry.clone());
        }
    }
    let or = |asked: &Option<String>, own: &str| {
        asked.as_deref().filter(|text| !text.is_empty()).unwrap_or(own).to_owned()
    };
    let size = body.console_size.map(|[rows, columns]| TerminalSize { rows, columns });
    ExecSpec {
        args: body.cmd.clone().unwrap_or_default(),
        env,
        cwd: or(&body.working_dir, &config.working_dir),
        user: or(&body.user, &config.user),
        tty: body.tty,
        terminal_size: size.filter(|size| size.rows > 0 && size.columns > 0),
        privileged: body.privileged,
        stdin: body.attach_stdin,
    }
}

async fn connect(task: &ExecTask, body: &ExecCreate) -> Result<Attached> {
    let options = engine_runtime::AttachOptions {
        stdin: body.attach_stdin,
        stdout: body.attach_stdout,
        stderr: body.attach_stderr,
    };
    let attach = task.attach(options).await?;
    attached_to(body.tty, body.attach_stdin, attach, body.detach_keys.as_deref())
}

/// The stream ends when the exit code can be asked for, which is what the CLI does next.
fn until_recorded(attached: Attached, exec: &Arc<Exec>) -> Attached {
    let mut watch = exec.live.subscribe();
    let recorded = stream::once(async move {
        // An error means that the exec is forgotten, thus ended.
        let _ = watch.wait_for(|live| !live.running).await;
    })
    .filter_map(|()| async { None::<io::Result<crate::Output>> });
    let Attached { tty, output, input } = attached;
    Attached { tty, output: Box::pin(output.chain(recorded)), input }
}

/// The exit code that Docker gives an exec that did not start.
fn failure_code(error: &RuntimeError) -> i32 {
    match error {
        RuntimeError::Failed(failure) if failure.cause == FailureCause::WorkingDirectory => 127,
        error => match error.start_failure() {
            StartFailure::NotFound => 127,
            StartFailure::NotExecutable | StartFailure::Other => 126,
        },
    }
}
