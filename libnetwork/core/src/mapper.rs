//! The port mapper on a thread of its own.
//!
//! Owns one thread: it may block in the kernel, and ends when the [`Mapper`] is dropped, after the call it is in.

use std::{io, sync::mpsc, thread};

use tokio::sync::oneshot;

use crate::PortMapper;

type Job<M> = Box<dyn FnOnce(&mut M) + Send>;

pub(crate) struct Mapper<M> {
    jobs: mpsc::Sender<Job<M>>,
}

impl<M: PortMapper> Mapper<M> {
    pub(crate) fn start(mut mapper: M) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job<M>>();
        thread::Builder::new().name("portmap".into()).spawn(move || {
            for job in queue {
                job(&mut mapper);
            }
        })?;
        Ok(Self { jobs })
    }

    /// What the mapper answers. None when its thread died of a panic, which in a release build ends the process.
    pub(crate) async fn call<R: Send + 'static>(
        &self,
        call: impl FnOnce(&mut M) -> R + Send + 'static,
    ) -> Option<R> {
        let (sender, receiver) = oneshot::channel();
        let job: Job<M> = Box::new(move |mapper| {
            let _ = sender.send(call(mapper));
        });
        self.jobs.send(job).ok()?;
        receiver.await.ok()
    }
}
