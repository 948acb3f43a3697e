//! `docker logs`: reading the `json-file` that the shim writes.
//!
//! A thread that may block reads what is there; following it is done by the same thread's successor, a task that sleeps
//! until the kernel (inotify) says that the file has grown or the container has ended. The task ends with its reader.

mod files;
mod follow;
mod record;
mod watch;

pub(crate) use self::watch::Watchers;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::{Containers, Error, LogOptions, LogRecord, Logs, Result, spec};

/// Records on their way to a client, at most.
const QUEUE: usize = 64;

type Sender = mpsc::Sender<Result<LogRecord>>;

impl Containers {
    /// The container's log, and whether it has a terminal (then the stream is raw, not multiplexed).
    pub async fn logs(&self, reference: &str, options: LogOptions) -> Result<(bool, Logs)> {
        let container = self.inner.find(reference)?;
        if !options.stdout && !options.stderr {
            return Err(Error::invalid("Bad parameters: you must choose at least one stream"));
        }
        let config = container.config();
        if config.host.log_config.r#type == "none" {
            return Err(Error::Unimplemented("configured logging driver does not support reading".into()));
        }
        let path = spec::log_path(&container.dir, &config.id);
        let (sender, receiver) = mpsc::channel(QUEUE);
        let watch = container.watch();
        let follow = options.follow && watch.borrow().state.is_running();
        // Watched from before the first read: what is written in between is not missed.
        let watcher = if follow { Some(self.inner.logs.watch(&container.dir)?) } else { None };
        tokio::spawn(async move {
            let (copy, path_copy, options_copy) = (sender.clone(), path.clone(), options.clone());
            let backlog = tokio::task::spawn_blocking(move || {
                files::read_backlog(&path_copy, &options_copy, |record| copy.blocking_send(record).is_ok())
            });
            match (backlog.await, watcher) {
                (Ok(Ok(Some(position))), Some(watcher)) => {
                    follow::follow(&path, position, &options, watcher, watch, sender).await;
                }
                (Ok(Err(error)), _) => {
                    // Nobody listens any more: nobody to tell.
                    let _ = sender.send(Err(error)).await;
                }
                _ => {}
            }
        });
        Ok((config.config.tty, Box::pin(ReceiverStream::new(receiver))))
    }
}
