//! The handle that the core holds, and the thread behind it.
//!
//! Netlink requests are carried out by the kernel before `sendmsg` returns, some of them for milliseconds: they are made on
//! a thread of their own, which owns every socket. It ends when the handle is dropped.
//!
//! That thread also waits for what the kernel tells of changes. Nobody else does: what it does itself is told, too, and
//! would wake whoever waits some twenty times for each link, in the middle of the kernel's work.

use std::{
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::mpsc as jobs,
    thread::Builder,
    time::Duration,
};

use libnetwork_core::Kernel;
use libnetwork_model::{HostFacts, SandboxId};
use libnetwork_plan::{Cause, Drift, KernelError, Ns, Observed, Operation, Scope};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::resource::{Resource, getrlimit, setrlimit},
};
use tokio::sync::{mpsc, oneshot};

use crate::{state::State, thread::cause};

/// Before waiting again, when the kernel refuses.
const PAUSE: Duration = Duration::from_millis(100);

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
    jobs: Jobs,
    drifts: mpsc::UnboundedReceiver<Drift>,
}

/// The way to the thread. The fields go in this order: it is woken, and finds that there will be no more.
struct Jobs {
    queue: jobs::Sender<Job>,
    /// A byte for each job, for one who polls.
    bell: PipeWriter,
}

impl Jobs {
    /// False when the thread has ended.
    fn send(&self, job: Job) -> bool {
        let sent = self.queue.send(job).is_ok();
        // A full pipe has woken it already.
        let _rung = (&self.bell).write(&[0]);
        sent
    }
}

impl LinuxKernel {
    /// Starts the thread that talks to the kernel.
    pub fn new(config: Config) -> Result<Self, KernelError> {
        let error = |cause: Cause| KernelError { operation: "open", namespace: Ns::Host, key: None, cause };
        allow_many_files();
        let (tell, drifts) = mpsc::unbounded_channel();
        let state = State::open(config, tell)?;
        let (rung, bell) = io::pipe().map_err(|e| error(cause(e)))?;
        for end in [rung.as_fd(), bell.as_fd()] {
            let set = fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
            set.map_err(|errno| error(Cause::Errno(errno as i32)))?;
        }
        let (sender, queue) = jobs::channel();
        let thread = Builder::new().name("kernel".into()).spawn(move || serve(state, &queue, &rung));
        thread.map_err(|e| error(cause(e)))?;
        Ok(LinuxKernel { jobs: Jobs { queue: sender, bell }, drifts })
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
        if !self.jobs.send(job) {
            return None;
        }
        result.await.ok()
    }
}

/// Every sandbox takes a socket: as many as we may open. Where that is refused, the limit stays and says so in time.
fn allow_many_files() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _as_it_was = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

fn serve(mut state: State, queue: &jobs::Receiver<Job>, bell: &PipeReader) {
    loop {
        match queue.try_recv() {
            Ok(job) => job(&mut state),
            Err(jobs::TryRecvError::Empty) => wait(&mut state, bell),
            Err(jobs::TryRecvError::Disconnected) => return,
        }
    }
}

/// Until there is a job; or something to hear, which is heard.
fn wait(state: &mut State, mut bell: &PipeReader) {
    let ears = state.ears();
    let places = [bell.as_fd()].into_iter().chain(ears);
    let mut places: Vec<PollFd<'_>> = places.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    match poll(&mut places, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => {}
        // There is no memory: whoever calls this asks again.
        Err(error) => {
            tracing::warn!(%error, "cannot wait for the kernel's notifications");
            std::thread::sleep(PAUSE);
        }
    }
    let mut ready = places.iter().map(|place| place.any() == Some(true));
    let (rung, heard) = (ready.next() == Some(true), ready.any(|ready| ready));
    if rung {
        // Each byte is for a job that is in the queue by now. There may be none: a job is found as well without it.
        let _empty = bell.read(&mut [0; 64]);
    }
    if heard {
        state.hear();
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
        let sent = self.jobs.send(job);
        let results = if sent { result.await.ok() } else { None };
        results.unwrap_or_else(|| vec![Err(ended("apply")); count])
    }

    async fn host(&mut self) -> Result<HostFacts, KernelError> {
        self.call(State::host).await.unwrap_or_else(|| Err(ended("observe")))
    }

    async fn changed(&mut self) -> Drift {
        match self.drifts.recv().await {
            Some(drift) => drift,
            None => std::future::pending().await,
        }
    }
}
