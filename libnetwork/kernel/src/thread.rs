//! Work inside another network namespace, on one thread that does nothing else: no thread that anything else runs on ever
//! changes its namespace.
//!
//! It ends when its [`Visitor`] is dropped.

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    path::Path,
    sync::mpsc::{Sender, channel},
    thread::Builder,
    time::Duration,
};

use libnetwork_plan::Cause;
use nix::sched::{CloneFlags, setns};

/// Small: the thread makes a handful of system calls.
const STACK: usize = 128 * 1024;

/// Between attempts, when the kernel refuses.
const PAUSE: Duration = Duration::from_millis(100);

type Job = Box<dyn FnOnce() + Send>;

/// Goes into namespaces, and comes back after each job: one who stayed would keep a removed namespace alive.
#[derive(Debug)]
pub(crate) struct Visitor {
    jobs: Sender<Job>,
}

impl Visitor {
    /// At home in the namespace of the calling thread.
    pub(crate) fn start() -> Result<Self, Cause> {
        let home = open(Path::new("/proc/thread-self/ns/net"))?;
        let (jobs, queue) = channel::<Job>();
        let work = move || {
            for job in queue {
                job();
                // For want of memory, which passes; whoever comes next must not start out from where this one was.
                while let Err(errno) = setns(&home, CloneFlags::CLONE_NEWNET) {
                    tracing::error!(%errno, "cannot return from a sandbox's namespace; trying again");
                    std::thread::sleep(PAUSE);
                }
            }
        };
        Builder::new().name("netns".into()).stack_size(STACK).spawn(work).map_err(cause)?;
        Ok(Self { jobs })
    }

    /// Runs `work` in a namespace.
    pub(crate) fn inside<T: Send + 'static>(
        &self,
        namespace: OwnedFd,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Cause> {
        self.away(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|errno| Cause::Errno(errno as i32))?;
            Ok(work())
        })
    }

    /// Runs `work`, which may go into whatever namespaces it likes.
    pub(crate) fn away<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Cause> + Send + 'static,
    ) -> Result<T, Cause> {
        let (reply, answer) = channel();
        let job: Job = Box::new(move || {
            // Whoever asked waits for it.
            let _waits = reply.send(work());
        });
        let ended = || Cause::Answer("the thread that enters namespaces has ended".into());
        self.jobs.send(job).map_err(|_| ended())?;
        answer.recv().map_err(|_| ended())?
    }
}

/// An open namespace.
pub(crate) fn open(path: &Path) -> Result<OwnedFd, Cause> {
    File::open(path).map(OwnedFd::from).map_err(cause)
}

pub(crate) fn cause(error: io::Error) -> Cause {
    match error.raw_os_error() {
        Some(errno) => Cause::Errno(errno),
        None => Cause::Answer(error.to_string()),
    }
}
