use std::{
    collections::BTreeSet,
    fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::{
    mount::{MntFlags, umount2},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    Api, Finished, Namespace, Running, binary, docker_cli, eventually, has_ended, rootfs_tar, run, until,
};

/// One of the processes that `causeway up` starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Daemon {
    Network,
    Engine,
}

impl Daemon {
    fn program(self) -> &'static str {
        match self {
            Daemon::Network => "causewayd",
            Daemon::Engine => "causeway-engine",
        }
    }
}

/// Causeway in a network namespace of its own (its "host"), joined by a veth pair to a client outside.
///
/// | | host | client |
/// |---|---|---|
/// | link | `uplink` | `wire` |
/// | IPv4 | 192.0.2.1/24 | 192.0.2.2/24 |
/// | IPv6 | 2001:db8::1/64 | 2001:db8::2/64 |
pub struct Host {
    pub host: Namespace,
    pub client: Namespace,
    directory: TempDir,
    up: Option<Running>,
    /// More arguments for `causeway up`.
    arguments: Vec<String>,
    /// The command that starts it.
    wrapper: Vec<String>,
    log_level: &'static str,
}

/// All that is ours, and of the libraries no more than what went wrong.
const DEBUG: &str = "debug,h2=info,hyper=info,tower=info";

impl Host {
    pub const ADDRESS: &'static str = "192.0.2.1";
    pub const ADDRESS6: &'static str = "2001:db8::1";
    pub const CLIENT: &'static str = "192.0.2.2";
    pub const CLIENT6: &'static str = "2001:db8::2";

    /// A host on which Causeway runs.
    pub fn up() -> Self {
        let mut host = Self::new();
        host.start();
        host
    }

    /// [`Host::up`] with the image `box`: a static busybox with a shell.
    pub fn with_image() -> Self {
        let host = Self::up();
        host.import("box");
        host
    }

    /// A host on which nothing runs yet.
    pub fn new() -> Self {
        let (host, client) = (Namespace::new("host"), Namespace::new("client"));
        let own = ["192.0.2.1/24", "2001:db8::1/64"];
        host.join("uplink", &own, &client, "wire", &["192.0.2.2/24", "2001:db8::2/64"]);
        host.ip(&format!("route add default via {}", Self::CLIENT));
        host.ip(&format!("-6 route add default via {}", Self::CLIENT6));
        // Socket paths have 108 bytes (unix(7)).
        let directory = tempfile::Builder::new().prefix("cwt").tempdir_in("/tmp").unwrap();
        Self {
            host,
            client,
            directory,
            up: None,
            arguments: Vec::new(),
            wrapper: Vec::new(),
            log_level: DEBUG,
        }
    }

    /// Starts with more arguments from now on.
    pub fn with_arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        self
    }

    /// Logs as much as an operator's does: for what is measured.
    pub fn with_everyday_logs(mut self) -> Self {
        self.log_level = "info";
        self
    }

    pub fn state_dir(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    pub fn run_dir(&self) -> PathBuf {
        self.directory.path().join("run")
    }

    /// A directory for what the test itself keeps.
    pub fn scratch(&self) -> &Path {
        self.directory.path()
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("docker.sock")
    }

    pub fn docker_host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// `causeway ARGS` in the host's namespace.
    pub fn causeway(&self, args: &[&str]) -> Finished {
        run(self.causeway_command(args), b"")
    }

    fn causeway_command(&self, args: &[&str]) -> Command {
        let mut command = self.host.command(binary("causeway").to_str().unwrap());
        command.args(args);
        command
    }

    fn directories(&self) -> [String; 4] {
        let path = |p: PathBuf| p.display().to_string();
        ["--state-dir".into(), path(self.state_dir()), "--run-dir".into(), path(self.run_dir())]
    }

    /// Runs `causeway up` until both daemons are ready.
    pub fn start(&mut self) {
        // The word "ready" must be this start's.
        let _ = fs::rename(self.log(), self.directory.path().join("up.log.old"));
        let log = fs::File::options().create(true).append(true).open(self.log()).unwrap();
        let causeway = binary("causeway").display().to_string();
        let line: Vec<&str> = self.wrapper.iter().chain([&causeway]).map(String::as_str).collect();
        let mut command = self.host.command(line[0]);
        command.args(&line[1..]).args(["up", "--log-level", self.log_level]).args(self.directories());
        command.args(["-H", &self.docker_host()]).args(&self.arguments);
        command.stdin(Stdio::null());
        // Its own group: a Ctrl-C at the terminal that runs the tests leaves the cleaning up to us.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.stderr(log.try_clone().unwrap()).stdout(log);
        // As a script that starts it in the background does: none of it may reach a container.
        // SAFETY: signal(2) is async-signal-safe.
        unsafe {
            std::os::unix::process::CommandExt::pre_exec(&mut command, || {
                libc::signal(libc::SIGINT, libc::SIG_IGN);
                libc::signal(libc::SIGHUP, libc::SIG_IGN);
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        self.up = Some(Running::adopt("causeway up", child));
        until("causeway answers", || {
            if let Some(status) = self.up.as_mut().and_then(|up| up.child.try_wait().unwrap()) {
                panic!("causeway up ended with {status}:\n{}", self.log_tail());
            }
            self.ready().then_some(())
        });
    }

    /// Starts by way of another command from now on.
    pub(crate) fn start_by(&mut self, wrapper: &[&str]) {
        self.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
    }

    /// Kills `causeway up`, if it runs.
    pub(crate) fn forget_supervisor(&mut self) {
        self.up = None;
    }

    fn ready(&self) -> bool {
        std::os::unix::net::UnixStream::connect(self.socket()).is_ok()
            && fs::read_to_string(self.log()).unwrap_or_default().contains("causeway: ready")
            && self.api().get("/networks").status == 200
    }

    /// Ends `causeway up` by SIGTERM, as an operator does; containers go on.
    pub fn stop(&mut self) {
        let Some(mut up) = self.up.take() else { return };
        let pid = Pid::from_raw(up.child.id() as i32);
        kill(pid, Signal::SIGTERM).unwrap();
        let status = until("causeway up ends", || up.child.try_wait().unwrap());
        assert!(status.success(), "causeway up ended with {status}:\n{}", self.log_tail());
    }

    /// SIGKILL to one of the daemons; the supervisor starts it again.
    pub fn kill(&self, daemon: Daemon) {
        if let Some(pid) = self.pid(daemon) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    /// The process id of a daemon; none while it is being started.
    pub fn pid(&self, daemon: Daemon) -> Option<i32> {
        let all = self.processes();
        let mut pids =
            all.iter().filter(|(_, line)| line[0].ends_with(daemon.program())).map(|(pid, _)| *pid);
        // What it starts has its command line until it is another program, and may have the lower number of the two.
        pids.find(|pid| {
            !all.iter()
                .any(|(other, line)| parent(*pid) == Some(*other) && line[0].ends_with(daemon.program()))
        })
    }

    /// All processes that were started with a path of this host, with their command lines.
    pub fn processes(&self) -> Vec<(i32, Vec<String>)> {
        let mine = self.directory.path().display().to_string();
        fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| {
                let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
                let line = fs::read(entry.path().join("cmdline")).ok()?;
                let words: Vec<String> =
                    line.split(|&b| b == 0).map(|w| String::from_utf8_lossy(w).into_owned()).collect();
                let program = words.first()?.rsplit('/').next()?;
                (program.starts_with("causeway") && words.iter().any(|w| w.contains(&mine)))
                    .then_some((pid, words))
            })
            .collect()
    }

    /// Kills all of [`Host::processes`], and waits until they have closed what they had open.
    pub(crate) fn end_all(&self) {
        let mut killed = BTreeSet::new();
        eventually("our processes have ended", || {
            let all: Vec<i32> = self.processes().into_iter().map(|(pid, _)| pid).collect();
            for pid in &all {
                let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
            }
            killed.extend(&all);
            killed.retain(|pid| !has_ended(*pid));
            all.is_empty() && killed.is_empty()
        });
    }

    /// `docker ARGS`.
    pub fn docker(&self, args: &[&str]) -> Finished {
        self.docker_with_input(args, b"")
    }

    /// `docker ARGS`, the arguments split at spaces, which must succeed.
    #[track_caller]
    pub fn d(&self, line: &str) -> String {
        self.docker(&line.split_whitespace().collect::<Vec<_>>()).ok()
    }

    pub fn docker_with_input(&self, args: &[&str], input: &[u8]) -> Finished {
        let mut command = self.docker_command();
        command.args(args);
        run(command, input)
    }

    /// The docker CLI in the host's namespace, with a configuration directory of its own.
    pub fn docker_command(&self) -> Command {
        let mut command = self.host.command(docker_cli().to_str().unwrap());
        command.env("DOCKER_HOST", self.docker_host());
        command.env("DOCKER_CONFIG", self.directory.path().join("docker-config"));
        command.env_remove("DOCKER_CONTEXT");
        command
    }

    pub fn api(&self) -> Api {
        Api::at(&self.socket())
    }

    /// Imports the busybox root directory under a name.
    pub fn import(&self, name: &str) {
        self.docker_with_input(&["import", "-", name], rootfs_tar()).ok();
    }

    /// `docker inspect` of one thing, as JSON.
    #[track_caller]
    pub fn inspect(&self, name: &str) -> Value {
        let text = self.docker(&["inspect", name]).ok();
        serde_json::from_str::<Value>(&text).unwrap()[0].take()
    }

    /// The address a container has on a network.
    #[track_caller]
    pub fn address(&self, container: &str, network: &str) -> String {
        let inspect = self.inspect(container);
        inspect["NetworkSettings"]["Networks"][network]["IPAddress"].as_str().unwrap().to_owned()
    }

    /// `causeway down --purge`; afterwards nothing runs.
    pub fn purge(&mut self) -> Finished {
        let mut command = self.causeway_command(&["down", "--purge"]);
        command.args(self.directories());
        let finished = run(command, b"");
        self.up = None;
        finished
    }

    /// What the daemons logged.
    pub fn log(&self) -> PathBuf {
        self.directory.path().join("up.log")
    }

    pub fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the last of what causeway logged ---\n{}\n---", self.log_tail());
        }
        // A panic while another one unwinds would abort the process, and leave what all its other tests have.
        let purged = catch_unwind(AssertUnwindSafe(|| {
            let purged = self.run_dir().exists().then(|| self.purge());
            // A dockerd's, of a test that failed.
            if self.dockerd_ran() {
                self.purge_dockerd();
            }
            // What a failed purge left would disturb the tests that follow.
            self.end_all();
            purged
        }));
        for mount in self.mounts().iter().rev() {
            let _ = umount2(mount.as_path(), MntFlags::MNT_DETACH);
        }
        if std::thread::panicking() {
            return;
        }
        match purged {
            Ok(purged) => assert!(purged.as_ref().is_none_or(|p| p.status.success()), "{}", purged.unwrap()),
            Err(panic) => resume_unwind(panic),
        }
    }
}

/// Of a process that is there.
fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may have any character (proc_pid_stat(5)); behind it are the state and the parent.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

impl Host {
    /// The mount points below this host's directories, in the order they were mounted.
    pub fn mounts(&self) -> Vec<PathBuf> {
        let text = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
        let points = text.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
        points.filter(|point| point.starts_with(self.directory.path())).collect()
    }
}
