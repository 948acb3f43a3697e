//! A causewayd that is watched, on its own thread.

use std::{
    os::unix::process::ExitStatusExt,
    process::ExitStatus,
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use integration_testkit::{Call, Verdict, Watched};
use libnetwork_rpc::{client::Client, v1};

use crate::{
    changes::{CALLS, outlives},
    host::{Host, network},
};

/// Is asked before each change.
type Judge = Box<dyn FnMut(&Call<'_>) -> Verdict + Send>;

pub(crate) struct Process {
    thread: JoinHandle<ExitStatus>,
    judge: Arc<Mutex<Judge>>,
}

impl Process {
    /// That has to ask before each of these system calls.
    pub(crate) fn asking(
        host: &Host,
        calls: &'static [i64],
        judge: impl FnMut(&Call<'_>) -> Verdict + Send + 'static,
    ) -> Self {
        let mut command = host.causewayd(&[]);
        let log = std::fs::File::options().create(true).append(true).open(host.log()).unwrap();
        command.args(["--log-level", "info,libnetwork_core=debug"]).stderr(log);
        let judge: Arc<Mutex<Judge>> = Arc::new(Mutex::new(Box::new(judge)));
        let asked = judge.clone();
        let thread = std::thread::spawn(move || {
            Watched::start(command, calls)
                .run(|call| if outlives(call) { asked.lock().unwrap()(call) } else { Verdict::Proceed })
        });
        Process { thread, judge }
    }

    /// That has to ask before each change.
    pub(crate) fn start(host: &Host, judge: impl FnMut(&Call<'_>) -> Verdict + Send + 'static) -> Self {
        Self::asking(host, CALLS, judge)
    }

    /// From here on.
    pub(crate) fn judge(&self, judge: impl FnMut(&Call<'_>) -> Verdict + Send + 'static) {
        *self.judge.lock().unwrap() = Box::new(judge);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    pub(crate) fn killed(self) -> bool {
        self.thread.join().unwrap().signal() == Some(libc::SIGKILL)
    }

    /// Whether it is killed before it answers. It is, in either case, when this returns.
    pub(crate) async fn dies_starting(self, host: &Host) -> bool {
        let mut client = host.client();
        let answer = tokio::spawn(async move { client.get_info(v1::GetInfoRequest {}).await });
        let mut started = false;
        while !self.has_ended() {
            if answer.is_finished() {
                started = true;
                // The next thing that it does is its last.
                self.judge(kill_before(0));
                let mut client = host.client();
                let _lost = client.create_network(network("last")).await;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        answer.abort();
        self.killed() && !started
    }
}

/// The daemon is up: it answers.
pub(crate) async fn ready(host: &Host) -> Client {
    host.listens();
    let mut client = host.client();
    client.get_info(v1::GetInfoRequest {}).await.unwrap();
    client
}

pub(crate) fn proceed(_: &Call<'_>) -> Verdict {
    Verdict::Proceed
}

/// Before the change of this number.
pub(crate) fn kill_before(mut number: usize) -> impl FnMut(&Call<'_>) -> Verdict + Send {
    move |_| match number.checked_sub(1) {
        Some(left) => {
            number = left;
            Verdict::Proceed
        }
        None => Verdict::Kill,
    }
}
