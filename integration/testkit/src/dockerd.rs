use std::{fs, os::unix::fs::symlink, process::Command};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{Finished, Host, Running, binary, eventually, run};

/// Causeway under Docker's name, with everything below the host's own directory.
impl Host {
    /// `dockerd ARGS`.
    pub fn dockerd(&self, args: &[&str]) -> Command {
        let link = self.scratch().join("dockerd");
        if !link.exists() {
            symlink(binary("causeway"), &link).unwrap();
        }
        let at = |name: &str| self.scratch().join(name).display().to_string();
        let mut command = self.host.command(link.to_str().unwrap());
        command.args(["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid")]);
        command.args(["-H", &self.docker_host()]).args(args);
        command
    }

    /// `dockerd ARGS`, until it answers.
    pub fn run_dockerd(&self, args: &[&str]) -> Running {
        let mut running = Running::start(self.dockerd(args));
        eventually("dockerd answers", || {
            let ended = running.child.try_wait().unwrap();
            assert_eq!(ended, None, "dockerd ended: {}", running.complained());
            self.docker(&["version"]).status.success()
        });
        running
    }

    /// `dockerd --config-file`, until it answers.
    pub fn run_dockerd_by(&self, daemon_json: &str) -> Running {
        self.run_dockerd(&["--config-file", &self.daemon_json(daemon_json)])
    }

    /// Writes the file, and tells its path.
    pub fn daemon_json(&self, text: &str) -> String {
        let file = self.scratch().join("daemon.json");
        fs::write(&file, text).unwrap();
        file.display().to_string()
    }

    /// What a dockerd complains about that does not start.
    #[track_caller]
    pub fn dockerd_refuses(&self, args: &[&str]) -> String {
        run(self.dockerd(args), b"").err()
    }

    /// Whether there is something of dockerd's to remove.
    pub(crate) fn dockerd_ran(&self) -> bool {
        self.scratch().join("exec/causeway").exists()
    }

    /// Removes what dockerd had.
    pub fn purge_dockerd(&self) -> Finished {
        let at = |name: &str| self.scratch().join(name).join("causeway").display().to_string();
        self.causeway(&["down", "--purge", "--state-dir", &at("data"), "--run-dir", &at("exec")])
    }
}

impl Running {
    /// SIGTERM, and what it said in its life.
    pub fn end(self) -> Finished {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).unwrap();
        self.finish()
    }
}
