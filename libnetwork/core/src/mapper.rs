//! The port mapper, off the async threads.
//!
//! Owns no task: each call runs on a thread of the runtime's blocking pool, one at a time, and is waited for. A call that
//! nobody waits for any more still comes to its end there.

use tokio::task::spawn_blocking;

use crate::PortMapper;

/// None when a call panicked, which in a release build ends the process.
pub(crate) struct Mapper<M>(Option<M>);

impl<M: PortMapper> Mapper<M> {
    pub(crate) fn new(mapper: M) -> Self {
        Self(Some(mapper))
    }

    pub(crate) async fn call<R: Send + 'static>(
        &mut self,
        call: impl FnOnce(&mut M) -> R + Send + 'static,
    ) -> Option<R> {
        let mut mapper = self.0.take()?;
        let work = spawn_blocking(move || {
            let answer = call(&mut mapper);
            (mapper, answer)
        });
        let (mapper, answer) = work.await.ok()?;
        self.0 = Some(mapper);
        Some(answer)
    }
}
