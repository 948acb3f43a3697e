//! Children that end, and what is done about it.

use std::{
    fs,
    time::{Duration, Instant},
};

use engine_protocol::{Exit, OciRuntime, Reply, cgroup::Group, layout};
use nix::{errno::Errno, libc};

use crate::{
    clock,
    helper::Purpose,
    shim::{INIT, Phase, Shim},
};

/// How long what is left in the cgroup may take to die, and the kernel to let the group go.
const CLEANUP: Duration = Duration::from_secs(2);

impl Shim {
    /// Collects every child that has ended.
    pub(crate) fn reap(&mut self) {
        while let Ok(Some(_)) = self.signals_read() {}
        loop {
            let mut status = 0;
            // SAFETY: the kernel writes the status, which outlives the call.
            match Errno::result(unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) }) {
                Ok(0) | Err(Errno::ECHILD) => return,
                Ok(pid) => self.ended(pid, status),
                Err(_) => {}
            }
        }
    }

    fn ended(&mut self, pid: i32, status: i32) {
        if self.helpers.iter().any(|helper| helper.pid == pid && !helper.exited) {
            return self.helper_exited(pid);
        }
        // What the helper has said about it by now comes first.
        let helpers: Vec<i32> = self.helpers.iter().map(|helper| helper.pid).collect();
        for helper in helpers {
            self.hear(helper);
        }
        let key = self.processes.iter().find(|(_, p)| p.pid == pid && !p.has_ended()).map(|(key, _)| *key);
        match key {
            Some(key) => self.exited(key, status),
            None if !self.helpers.is_empty() => self.strays.push((pid, status)),
            // An orphan of the container's.
            None => {}
        }
    }

    /// The process turned out to have ended already.
    pub(crate) fn claim_stray(&mut self, key: u32, pid: i32) {
        if let Some(index) = self.strays.iter().position(|(stray, _)| *stray == pid) {
            let (_, status) = self.strays.swap_remove(index);
            self.exited(key, status);
        }
    }

    fn exited(&mut self, key: u32, status: i32) {
        if self.processes.get(&key).is_some_and(|process| process.phase == Phase::Starting) {
            // It cannot have ended without having been started, and whoever started it learns that first.
            self.running(key);
        }
        let hierarchies = self.hierarchies.clone();
        let group = hierarchies.group(&self.config.cgroup);
        if key == INIT && !self.config.private_pids {
            // With a PID namespace of its own the kernel has killed the others before.
            group.kill_all(Instant::now() + CLEANUP);
        }
        // All who could write have gone, or, with an exec, the one who counts: what is in the pipes is all.
        self.read_rest(key);
        let exit = exit(status, &group);
        if let Some(process) = self.processes.get_mut(&key) {
            process.phase = Phase::Exited(exit);
        }
        if key == INIT {
            if let Some(log) = &mut self.log
                && let Err(error) = log.finish()
            {
                eprintln!("the log is incomplete: {error}");
            }
            if let Err(error) = self.write_exit() {
                eprintln!("{}: {error}", layout::EXIT);
            }
        }
        let waiters =
            self.processes.get_mut(&key).map(|p| std::mem::take(&mut p.waiters)).unwrap_or_default();
        self.reply_all(waiters, &Reply::Exited(exit));
    }

    /// Before anybody is told. The file outlives this process, not the machine, which the container does not outlive
    /// either: so it is renamed into place, not synced.
    fn write_exit(&self) -> std::io::Result<()> {
        let temporary = "exit.json.tmp";
        fs::write(temporary, serde_json::to_vec(&self.state())?)?;
        fs::rename(temporary, layout::EXIT)
    }

    /// Removes what the container leaves in the kernel, once it has ended.
    pub(crate) fn clean_up(&mut self) {
        let creating = self.helper_at_work(Purpose::Create) && self.create_failure.is_some();
        if self.cleaned || creating || !self.processes[&INIT].has_ended() {
            return;
        }
        if let OciRuntime::Binary(path) = self.config.runtime.clone() {
            if self.helper_at_work(Purpose::Cleanup) {
                return;
            }
            // Once; the rest does not depend on it.
            if std::path::Path::new(layout::RUNTIME_ROOT).join(&self.config.id).exists()
                && !self.cleanup_tried
            {
                self.cleanup_tried = true;
                match self.spawn_cleanup(&path) {
                    Ok(()) => return,
                    Err(error) => eprintln!("clean up: {error}"),
                }
            }
        }
        let deadline = Instant::now() + CLEANUP;
        let hierarchies = self.hierarchies.clone();
        let group = hierarchies.group(&self.config.cgroup);
        group.kill_all(deadline);
        if let Err(error) = group.remove(deadline) {
            eprintln!("remove the cgroup: {error}");
        }
        let _ = fs::remove_dir_all(layout::RUNTIME_ROOT);
        self.cleaned = true;
        if let Some(deleter) = self.deleter {
            self.reply(deleter, &Reply::Done);
        }
    }
}

fn exit(status: i32, group: &Group<'_>) -> Exit {
    let signal = libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status));
    let code = signal.map_or_else(|| libc::WEXITSTATUS(status), |signal| 128 + signal);
    Exit { code, signal, oom_killed: group.oom_kills() > 0, finished_at: clock::now() }
}
