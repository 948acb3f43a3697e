//! The handle that the core holds, and the thread behind it.
//!
//! Netlink requests are carried out by the kernel before `sendmsg` returns, some of them for milliseconds: they are made on
//! a thread of their own, which owns every socket. It ends when the handle is dropped.

use std::{
    os::fd::{BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::mpsc as jobs,
    thread::Builder,
};

use futures_util::future::select_all;
use libnetwork_core::Kernel;
use libnetwork_model::{HostFacts, SandboxId};
use libnetwork_plan::{Cause, Drift, KernelError, Ns, Observed, Operation, Scope};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{mpsc, oneshot},
};

use crate::{state::State, thread::cause};

type Job = Box<dyn FnOnce(&mut State) + Send>;

/// Where things are.
#[derive(Debug, Clone)]
pub struct Config {
    /// Namespaces of sandboxes are kept here, each a bind mount named after its sandbox's id. Made when missing.
    pub netns_dir: PathBuf,
    /// Remembers what the host's settings were before the first change, for [`purge`](crate::purge).
    pub sysctl_record: PathBuf,
    /// The host's resolv.conf.
    pub resolv_conf: PathBuf,
}

/// The kernel, with the network namespace of the thread that made this value as [`Ns::Host`].
pub struct LinuxKernel {
    jobs: jobs::Sender<Job>,
    drifts: mpsc::UnboundedReceiver<Drift>,
    /// Readable when a notification came, in whichever namespace.
    ears: Vec<AsyncFd<OwnedFd>>,
}

impl LinuxKernel {
    /// Starts the thread that talks to the kernel. Within a tokio runtime with I/O enabled.
    pub fn new(config: Config) -> Result<Self, KernelError> {
        let error = |cause: Cause| KernelError { operation: "open", namespace: Ns::Host, key: None, cause };
        allow_many_files();
        let (tell, drifts) = mpsc::unbounded_channel();
        let state = State::open(config, tell)?;
        let ears: Result<Vec<_>, Cause> = state.ears().into_iter().map(listen).collect();
        let ears = ears.map_err(error)?;
        let (jobs, queue) = jobs::channel();
        let thread = Builder::new().name("kernel".into()).spawn(move || serve(state, &queue));
        thread.map_err(|e| error(cause(e)))?;
        Ok(LinuxKernel { jobs, drifts, ears })
    }

    /// Where the namespace of a sandbox is kept, to `setns` to.
    pub fn namespace_path(netns_dir: &Path, sandbox: &SandboxId) -> PathBuf {
        netns_dir.join(sandbox.as_str())
    }

    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut State) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, result) = oneshot::channel();
        let job: Job = Box::new(move |state| {
            // Whoever asked may have stopped waiting.
            let _unwanted = answer.send(work(state));
        });
        self.jobs.send(job).ok()?;
        result.await.ok()
    }
}

fn listen(socket: BorrowedFd<'_>) -> Result<AsyncFd<OwnedFd>, Cause> {
    let socket = socket.try_clone_to_owned().map_err(cause)?;
    // SAFETY: an OwnedFd stays open, and stays the same, for as long as the AsyncFd owns it.
    let ear = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
    ear.map_err(|refused| cause(refused.into_parts().1))
}

/// Every sandbox takes a socket: as many as we may open. Where that is refused, the limit stays and says so in time.
fn allow_many_files() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _as_it_was = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

fn serve(mut state: State, queue: &jobs::Receiver<Job>) {
    while let Ok(job) = queue.recv() {
        job(&mut state);
    }
}

fn ended(operation: &'static str) -> KernelError {
    let cause = Cause::Answer("the thread that talks to the kernel has ended".into());
    KernelError { operation, namespace: Ns::Host, key: None, cause }
}

impl Kernel for LinuxKernel {
    async fn observe(&mut self, scope: &Scope) -> Result<Observed, KernelError> {
        let scope = scope.clone();
        self.call(move |state| state.observe(&scope)).await.unwrap_or_else(|| Err(ended("observe")))
    }

    async fn apply(&mut self, operations: &[Operation]) -> Vec<Result<(), KernelError>> {
        let (list, count) = (operations.to_vec(), operations.len());
        let (answer, result) = oneshot::channel();
        let job: Job = Box::new(move |state| {
            // Whoever asked may have stopped waiting.
            let _unwanted = answer.send(state.apply(&list));
            state.applied(&list);
        });
        let sent = self.jobs.send(job).is_ok();
        let results = if sent { result.await.ok() } else { None };
        results.unwrap_or_else(|| vec![Err(ended("apply")); count])
    }

    async fn host(&mut self) -> Result<HostFacts, KernelError> {
        self.call(State::host).await.unwrap_or_else(|| Err(ended("observe")))
    }

    async fn changed(&mut self) -> Drift {
        loop {
            let anything = self.ears.iter().map(|ear| Box::pin(ear.readable()));
            let ready = tokio::select! {
                biased;
                drift = self.drifts.recv() => match drift {
                    Some(drift) => return drift,
                    None => std::future::pending().await,
                },
                (ready, ..) = select_all(anything) => ready,
            };
            // What comes while the thread reads makes it readable again.
            if let Ok(mut ready) = ready {
                ready.clear_ready();
            }
            let hear: Job = Box::new(State::hear);
            let _ended = self.jobs.send(hear);
        }
    }
}
