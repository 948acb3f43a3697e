//! A host of its own for one causewayd: network and mount namespaces and directories, gone with the value.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use std::{
    os::unix::{net::UnixStream, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use integration_testkit::{Namespace, eventually, run, until};
use libnetwork_rpc::{
    client::{self, Client},
    v1,
};
use tempfile::TempDir;

pub(crate) struct Host {
    pub(crate) network: Namespace,
    directory: TempDir,
    /// Keeps the mount namespace: what is mounted in it goes when this process and causewayd have ended.
    holder: Child,
    daemon: Option<Child>,
}

impl Host {
    pub(crate) fn new(role: &str) -> Self {
        let network = Namespace::new(role);
        let mut command = network.command("unshare");
        command.args(["--mount", "--propagation", "private", "--", "sleep", "infinity"]);
        let holder = command.stdin(Stdio::null()).spawn().unwrap();
        let own = std::fs::read_link("/proc/self/ns/mnt").unwrap();
        let theirs = format!("/proc/{}/ns/mnt", holder.id());
        eventually("a mount namespace", || std::fs::read_link(&theirs).is_ok_and(|link| link != own));
        Self { network, directory: TempDir::new().unwrap(), holder, daemon: None }
    }

    pub(crate) fn started(role: &str) -> Self {
        let mut host = Self::new(role);
        host.start();
        host.listens();
        host
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.directory.path().join("run")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.run_dir().join("causewayd.sock")
    }

    /// A command on this host.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--mount", "--net", "--"]).arg(program);
        command
    }

    pub(crate) fn causewayd(&self, subcommand: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_causewayd"));
        command.args(subcommand);
        command.arg("--state-dir").arg(self.state()).arg("--run-dir").arg(self.run_dir());
        command
    }

    pub(crate) fn start(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.log()).unwrap();
        let mut command = self.causewayd(&[]);
        command.args(["--log-level", "debug,h2=info,hyper=info"]).stdin(Stdio::null()).stderr(log);
        self.daemon = Some(command.spawn().unwrap());
    }

    /// Waits until it does: on a slow machine a start takes longer than a client is patient.
    pub(crate) fn listens(&self) {
        eventually("causewayd listens", || UnixStream::connect(self.socket()).is_ok());
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.directory.path().join("causewayd.log")
    }

    pub(crate) fn log_text(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    pub(crate) fn client(&self) -> Client {
        client::connect(&self.socket())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().id()
    }

    /// The daemon, dead at once.
    pub(crate) fn kill(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        let status = daemon.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "it ended by itself: {status}\n{}", self.log_text());
    }

    /// The daemon, asked to end.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        let mut daemon = self.daemon.take().unwrap();
        run(signal("TERM", daemon.id()), b"").ok();
        until("causewayd has ended", || daemon.try_wait().unwrap())
    }

    /// A shell line on the host itself.
    pub(crate) fn sh(&self, line: &str) -> String {
        let mut command = self.command("sh");
        command.args(["-c", line]);
        run(command, b"").ok()
    }

    /// A command in a sandbox, by the namespace path that causewayd answered with.
    pub(crate) fn inside(&self, namespace: &str, words: &[&str]) -> Command {
        let mut command = self.command("nsenter");
        command.arg(format!("--net={namespace}")).arg("--").args(words);
        command
    }

    /// Whether a sandbox gets an answer from an address in the end: a link's carrier may be noticed late, and a machine that
    /// stands still for a moment loses what was asked.
    pub(crate) fn reaches(&self, namespace: &str, target: &str) -> bool {
        let words = ["busybox", "ping", "-c1", "-W1", target];
        (0..20).any(|_| run(self.inside(namespace, &words), b"").code() == 0)
    }

    /// A path of this host's, as it is seen from outside its mount namespace.
    pub(crate) fn seen_from_outside(&self, path: &str) -> PathBuf {
        format!("/proc/{}/root{path}", self.holder.id()).into()
    }

    /// The host's links that are not loopback, by name.
    pub(crate) fn links(&self) -> Vec<String> {
        let listing = self.network.ip("-o link show");
        let name = |line: &str| line.split(": ").nth(1).unwrap().split('@').next().unwrap().to_owned();
        listing.lines().map(name).filter(|name| name != "lo").collect()
    }

    /// What is mounted below the directories.
    pub(crate) fn mounts(&self) -> Vec<String> {
        let text = std::fs::read_to_string(format!("/proc/{}/mountinfo", self.holder.id())).unwrap();
        let below = self.directory.path().display().to_string();
        let point = |line: &str| line.split(' ').nth(4).unwrap().to_owned();
        text.lines().map(point).filter(|point| point.starts_with(&below)).collect()
    }

    pub(crate) fn exists(&self, path: &Path) -> bool {
        path.exists()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = self.log_text();
            let tail = text.len().saturating_sub(6000);
            eprintln!("causewayd's log: …{}", text.get(tail..).unwrap_or(&text));
        }
        for child in self.daemon.iter_mut().chain([&mut self.holder]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) fn signal(name: &str, pid: u32) -> Command {
    let mut command = Command::new("kill");
    command.args(["-s", name, &pid.to_string()]);
    command
}

pub(crate) fn id(n: u32) -> String {
    format!("{n:064x}")
}

pub(crate) fn network(name: &str) -> v1::CreateNetworkRequest {
    v1::CreateNetworkRequest { name: name.into(), ..Default::default() }
}

pub(crate) fn join(n: u32, networks: &[&str]) -> v1::JoinRequest {
    let endpoint = |network: &&str| v1::EndpointSpec { network: (*network).to_owned(), ..Default::default() };
    v1::JoinRequest {
        id: id(n),
        name: format!("box{n}"),
        endpoints: networks.iter().map(endpoint).collect(),
        ..Default::default()
    }
}

/// An address without its prefix length.
pub(crate) fn bare(cidr: &str) -> &str {
    cidr.split('/').next().unwrap()
}
